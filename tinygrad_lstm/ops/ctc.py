"""The loss of connectionist temporal classification (CTC): labels of a sequence without their places in time."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray
from tinygrad_lstm.backends.ctc import may_leave_out
from tinygrad_lstm.backends.dtypes import is_integer

from .._tensor import Tensor, as_tensor
from ..arguments import integer
from .define import composite, op
from .elementwise import where
from .indexing import check_range, getitem, getitem_op
from .loss import reduced
from .padding import pad
from .reduction import logsumexp
from .shape import stack

__all__ = ["ctc_loss"]


def _composed(inputs: Sequence[Tensor], labels: Array, lengths: Array, ends: Array, blank: int) -> Tensor:
    (log_probs,) = inputs
    device = log_probs.device
    with device.current():
        xp = device.xp
        allowed, states = may_leave_out(xp, labels, blank), xp.arange(labels.shape[1])
        final = (states == ends[:, None] - 1) | (states == ends[:, None] - 2)
        rows, first = xp.arange(len(labels))[:, None], xp.where(states == 0, 0.0, -math.inf)
        running = xp.arange(len(log_probs))[:, None, None] < lengths[:, None]
        first = xp.broadcast_to(first, labels.shape).astype(log_probs.dtype)
    emitted = getitem_op(log_probs, (slice(None), rows, labels))
    alpha = as_tensor(first, device)  # the state before the first step: the first label may follow
    for t in range(len(log_probs)):
        before = [pad(alpha, (k, 0), value=-math.inf)[:, : labels.shape[1]] for k in (1, 2)]
        leaving_out = where(allowed, before[1], -math.inf)
        alpha = where(running[t], logsumexp(stack([alpha, before[0], leaving_out]), 0) + emitted[t], alpha)
    return -logsumexp(where(final, alpha, -math.inf), 1)


def _rule(
    backend: Any,
    g: Array,
    inputs: Sequence[Array],
    labels: Array,
    lengths: Array,
    ends: Array,
    blank: int,
    saved: tuple[Array, Array],
) -> list[Array]:
    losses, alphas = saved
    g = g.astype(losses.dtype, copy=False)
    return [backend.ctc_backward((*inputs, labels, lengths, ends, g, losses, alphas), blank)]


@op(promotion="float", composed=_composed, fresh=True, inputs=_rule, name="ctc_loss")
def ctc_loss_op(
    backend: Any,
    inputs: Sequence[Array],
    labels: Any,
    lengths: Any,
    ends: Any,
    blank: int,
    saving: bool = False,
) -> tuple[Array, Any]:
    """The loss of each row (N,), given one input, log_probs (T, N, C); `labels` and `ends` as in `backends.ctc`."""
    (log_probs,) = inputs
    losses, alphas = backend.ctc_forward((log_probs, labels, lengths, ends), blank)
    return losses.astype(log_probs.dtype), (losses, alphas)


@composite
def ctc_loss(
    log_probs: Tensor,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability of the targets, summed over all paths in time (Graves et al. 2006).

    The gradient is the derivative for any `log_probs`, normalized or not. After `log_softmax`, it is also PyTorch's.
    The loss is inf if no path is possible, as for a target that is longer than its input; its gradient is 0, where
    PyTorch's is NaN.

    Args:
        log_probs: (T, N, C), logarithms of probabilities as of `log_softmax`; or (T, C), for a loss without N.
        targets: class ids, padded to (N, S), or of all rows after another (sum of target_lengths,).
        input_lengths: the number of time steps of each row, (N,): a list, an array or a tensor. Lengths on a GPU are
            read on the host.
        target_lengths: the number of class ids of each row, (N,).
        blank: the class between labels, which targets do not have.
        reduction: "mean" divides each loss by its target's length, or by 1 if it is empty, and takes the mean.
        zero_infinity: whether infinite losses become 0.

    Raises:
        IndexError: a target is not a class id (targets on a GPU are not checked).
        TypeError: targets, lengths or `blank` are not integers.
        ValueError: the shapes do not match, a length is out of range, a target is `blank`; an unknown `reduction`.

    >>> import tinygrad_lstm as tg
    >>> log_probs = tg.zeros(4, 1, 3).log_softmax(-1)
    >>> tg.ctc_loss(log_probs, [[1, 2]], [4], [2], reduction="sum")  # log 81 / 15: 15 of 81 paths
    tensor(1.686399)
    """
    if log_probs.ndim not in (2, 3):
        raise ValueError(f"ctc_loss: log_probs of shape {log_probs.shape}; expected (T, N, C) or (T, C)")
    batched = log_probs if log_probs.ndim == 3 else log_probs.unsqueeze(1)
    T, N, C = batched.shape
    if not 0 <= integer("ctc_loss", "blank", blank) < C:
        raise ValueError(f"ctc_loss: blank is {blank}; expected one of the {C} classes")
    steps = _lengths("input_lengths", input_lengths, N, T)
    numbers = _lengths("target_lengths", target_lengths, N, None)
    labels = _labels(targets, numbers, blank, batched)
    from_host = log_probs.device.backend.from_host
    losses: Tensor = ctc_loss_op([batched], labels, from_host(steps), from_host(2 * numbers + 1), blank)
    if zero_infinity:
        losses = where(losses == math.inf, 0.0, losses)
    if reduction == "mean":
        losses = losses / as_tensor(np.maximum(numbers, 1).astype(losses.dtype), "cpu").to(losses.device)
    return reduced("ctc_loss", losses if log_probs.ndim == 3 else losses[0], reduction)


def _lengths(name: str, given: Any, rows: int, longest: int | None) -> HostArray:
    """The lengths (N,) on the host."""
    lengths = given.cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if not (is_integer(lengths.dtype) or not lengths.size):
        raise TypeError(f"ctc_loss: {name} must be integers, got {lengths.dtype}")
    if lengths.size != rows or lengths.ndim > 1:
        raise ValueError(f"ctc_loss: {name} has shape {lengths.shape}; expected {(rows,)}, one for each row")
    wrong = lengths[(lengths < 0) | (lengths > (math.inf if longest is None else longest))]
    if wrong.size:
        raise ValueError(f"ctc_loss: {name} has {wrong.flat[0]}; expected 0 to {'any' if longest is None else longest}")
    return lengths.reshape(rows).astype(np.int64)


def _labels(targets: Any, numbers: HostArray, blank: int, log_probs: Tensor) -> Array:
    """The labels of all states, (N, 2·S + 1) with the longest target's S: class ids with blanks around them."""
    ids = as_tensor(targets) if isinstance(targets, Tensor) else as_tensor(targets, "cpu")
    (_, N, C), device, longest = log_probs.shape, log_probs.device, int(numbers.max(initial=0))
    if ids.size and not is_integer(ids.dtype):
        raise TypeError(f"ctc_loss: targets must be integers, got {ids.dtype} of shape {ids.shape}")
    if ids.device not in (device, "cpu"):
        raise RuntimeError(f"ctc_loss: log_probs on {str(device)!r} but targets on {str(ids.device)!r}")
    fits = ids.shape == (int(numbers.sum()),) if ids.ndim == 1 else len(ids) == N and ids.shape[1] >= longest
    if ids.ndim not in (1, 2) or not fits:
        raise ValueError(
            f"ctc_loss: targets of shape {ids.shape} do not match target_lengths {numbers.tolist()}; expected "
            f"{(N, longest)}, padded, or {(int(numbers.sum()),)}, one after another"
        )
    within = np.arange(longest) < numbers[:, None]
    if ids.ndim == 1:
        places = np.where(within, (np.cumsum(numbers) - numbers)[:, None] + np.arange(longest), 0)
        ids = getitem(ids, places) if ids.size else ids.reshape(N, 0)
    else:
        ids = ids[:, :longest]
    if ids.device == "cpu":
        used = ids._array[within]
        check_range("ctc_loss", used, C, 2, lowest=0)
        if (used == blank).any():
            raise ValueError(f"ctc_loss: a target is the blank {blank}; leave blanks out of the targets")
    array = ids.to(device)._array
    with device.current():
        xp = device.xp
        labels = xp.full((N, 2 * longest + 1), blank, np.int64)
        labels[:, 1::2] = xp.where(device.backend.from_host(within), array, blank)
    return labels
