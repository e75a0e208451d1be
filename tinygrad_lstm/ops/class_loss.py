"""Losses of classes, given as ids or as probabilities."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_float, is_integer
from tinygrad_lstm.backends.ordering import put
from tinygrad_lstm.backends.sums import total

from .._tensor import Tensor, as_tensor
from ..arguments import integer
from ..mode import mode
from ._softmax import log_softmax
from .define import composite, op
from .elementwise import where
from .indexing import check_range, getitem, masked_fill
from .loss import beside, reduced, unknown_reduction, weigh
from .reduction import narrowed, widened

__all__ = ["cross_entropy", "nll_loss"]


def _at_dim(ids: Array, dim: int) -> Array:
    return ids.reshape((*ids.shape[:dim], 1, *ids.shape[dim:]))


@op(x=lambda g, ids, x_shape, dim, F: F.placed(g, ids, x_shape[dim], dim))
def picked(xp: Any, x: Array, ids: Array, dim: int) -> Array:
    """The element of each slice of x along `dim` that its id selects. The result has the shape of ids."""
    return xp.take_along_axis(x, _at_dim(ids, dim), axis=dim).reshape(ids.shape)


@op(values=lambda g, ids, dim, F: F.picked(g, ids, dim))
def placed(xp: Any, values: Array, ids: Array, length: int, dim: int) -> Array:
    """Slices of `length` along `dim`, zero except for one value each, at the place that its id selects."""
    return put(xp, _at_dim(values, dim), _at_dim(ids, dim), (*ids.shape[:dim], length, *ids.shape[dim:]), dim)


@composite
def cross_entropy(
    input: Tensor,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input) of the target class; or, for target probabilities p, -Σ p·log softmax(input).

    On a GPU, the loss of an id that is out of range is NaN.

    Args:
        input: logits (C,), (N, C) or (N, C, d1, ...). A sample with a logit of inf has a loss of NaN.
        target: class ids, integers of input's shape without C; or probabilities, floats of input's shape. A class of
            probability 0 adds nothing, even if its logit is -inf.
        weight: (C,), one for each class. With ids, "mean" divides by the sum of the targets' weights: NaN if it is 0.
        ignore_index: targets with this id add nothing and have gradients of 0, whatever the input contains there.
        label_smoothing: ε: the target becomes 1 - ε times itself plus ε / C for each class (Szegedy et al. 2016).

    Raises:
        ValueError: the shapes do not match; an unknown `reduction`; `label_smoothing` is not within [0, 1].
        IndexError: an id is negative, or not below C.
        TypeError: a target of input's shape is not of floats; ids or `ignore_index` are not integers.

    >>> import tinygrad_lstm as tg
    >>> tg.cross_entropy(tg.zeros(3, 4), tg.tensor([0, 3, 1]))
    tensor(1.3862944)
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}; expected a number from 0 to 1")
    ignore_index = integer("cross_entropy", "ignore_index", ignore_index)
    target = beside("cross_entropy", "target", target, input)
    dim = _class_dim("cross_entropy", input)
    if target.shape != input.shape:
        if weight is None and not label_smoothing and input.shape[dim]:
            return _fused(input, target, ignore_index, reduction)
        _check_classes("cross_entropy", input, target, ignore_index)
        logs = log_softmax(_without_ignored(input, target, ignore_index), dim)
        return _of_classes("cross_entropy", logs, target, weight, ignore_index, reduction, label_smoothing)
    if not is_float(target.dtype):
        raise TypeError(
            f"cross_entropy: a target of input's shape {input.shape} holds probabilities, which must be floats, "
            f"got {target.dtype}; class ids have that shape without dim {dim}"
        )
    logs = log_softmax(input, dim)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / input.shape[dim]
    losses = -_weighted("cross_entropy", weigh(target, logs), weight, dim).sum(dim)
    return reduced("cross_entropy", losses, reduction)


@composite
def nll_loss(
    input: Tensor, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-input of the target class: the cross entropy, given log probabilities. Arguments are as for `cross_entropy`."""
    ignore_index = integer("nll_loss", "ignore_index", ignore_index)
    target = beside("nll_loss", "target", target, input)
    _check_classes("nll_loss", input, target, ignore_index)
    return _of_classes("nll_loss", input, target, weight, ignore_index, reduction, 0.0)


def _of_classes(
    name: str,
    logs: Tensor,
    target: Tensor,
    weight: Any,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    """The loss of valid class ids, given log probabilities."""
    dim = _class_dim(name, logs)
    classes = logs.shape[dim]
    counts = target != ignore_index
    known = counts
    if logs.device != "cpu":
        known = counts & (target >= 0) & (target < classes)
    ids = where(known, target, 0)

    losses = where(counts, -picked(logs, ids, dim), 0)
    shares = counts
    if weight is not None:
        weights = getitem(_class_weight(name, weight, logs, dim), ids)
        losses = weigh(weights, losses)
        shares = widened(weights)
    if label_smoothing:
        to_all = -widened(_weighted(name, logs, weight, dim)).sum(dim)
        losses = losses * (1 - label_smoothing) + narrowed(to_all * (label_smoothing / classes), losses)
    losses = where(counts, losses, 0)
    if known is not counts:
        losses = masked_fill(losses, counts & ~known, math.nan)
    if reduction != "mean":
        return reduced(name, losses, reduction)
    wide = widened(losses)
    share = where(counts, shares, 0).sum().to(dtype=wide.dtype)
    return narrowed(wide.sum() / where(share == 0, math.nan, share), losses)


def _fused(input: Tensor, target: Tensor, ignore_index: int, reduction: str) -> Tensor:
    """The cross entropy of class ids, without weights and smoothing."""
    _check_classes("cross_entropy", input, target, ignore_index)
    if reduction not in ("mean", "sum", "none"):
        raise unknown_reduction("cross_entropy", reduction)
    logits = input
    if input.ndim != 2:
        dim = _class_dim("cross_entropy", input)
        logits = input.permute([*(d for d in range(input.ndim) if d != dim), dim]).reshape(-1, input.shape[dim])
    # The graph keeps a copy of the ids, so that later changes to the target do not change gradients.
    with target.device.current():
        ids = target._array.reshape(-1).astype(np.int64)
    tracer = mode().value.tracer
    if tracer is not None:
        tracer.see_copy(target, ids)
    losses: Tensor = cross_entropy_op([logits], ids, ignore_index, reduction)
    return losses if reduction != "none" else losses.reshape(target.shape)


def _composed_cross_entropy(inputs: Sequence[Tensor], ids: Array, ignore_index: int, reduction: str) -> Tensor:
    (logits,) = inputs
    target = as_tensor(ids, logits.device)
    logs = log_softmax(_without_ignored(logits, target, ignore_index), 1)
    return _of_classes("cross_entropy", logs, target, None, ignore_index, reduction, 0.0)


def _cross_entropy_rule(
    backend: Any, g: Array, inputs: Sequence[Array], ids: Array, saved: Any, ignore_index: int, reduction: str
) -> list[Array]:
    (logits,) = inputs
    kept, number = saved
    g_rows = backend.xp.empty(ids.shape, kept[0].dtype)
    g_rows[...] = g if number is None else g / number
    return [backend.cross_entropy_backward((logits, ids, g_rows, *kept), ignore_index)]


@op(promotion="float", composed=_composed_cross_entropy, fresh=True, inputs=_cross_entropy_rule, name="cross_entropy")
def cross_entropy_op(
    backend: Any, inputs: Sequence[Array], ids: Any, ignore_index: int, reduction: str, saving: bool = False
) -> tuple[Array, Any]:
    """The cross entropy of ids (N,), given one input, logits (N, C): one loss for each row, or one for all."""
    xp, (logits,) = backend.xp, inputs
    out, kept = backend.cross_entropy_forward((logits, ids), ignore_index)
    number = None
    if reduction != "none":
        out = total(xp, out)
    if reduction == "mean":
        number = xp.sum(ids != ignore_index)
        number = xp.where(number == 0, math.nan, number).astype(out.dtype, copy=False)
        out = out / number
    return out.astype(logits.dtype, copy=False), (kept, number)


def _without_ignored(input: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """The input with zeros where the target is ignored, so that NaN there does not reach values or gradients."""
    return where((target != ignore_index).unsqueeze(_class_dim("cross_entropy", input)), input, 0)


def _check_classes(name: str, input: Tensor, target: Tensor, ignore_index: int) -> None:
    """Raises unless the target is a valid class id for each sample."""
    dim = _class_dim(name, input)
    expected = (*input.shape[:dim], *input.shape[dim + 1 :])
    if target.shape != expected:
        raise ValueError(
            f"{name}: target of shape {target.shape} does not fit input of shape {input.shape}; "
            f"expected class ids of shape {expected}"
            + (f" or probabilities of {input.shape}" if "cross" in name else "")
        )
    if not is_integer(target.dtype):
        raise TypeError(f"{name}: class ids must be integers, got {target.dtype} of shape {target.shape}")
    if input.device == "cpu" and target.size:
        ids, classes = target._array, input.shape[dim]
        if ids.min() < 0 or ids.max() >= classes:
            check_range(name, ids[ids != ignore_index], classes, dim, lowest=0)


def _class_dim(name: str, input: Tensor) -> int:
    if not input.ndim:
        raise ValueError(f"{name}: input of shape () has no classes; expected (C,), (N, C) or (N, C, d1, ...)")
    return 0 if input.ndim == 1 else 1


def _class_weight(name: str, weight: Any, logs: Tensor, dim: int) -> Tensor:
    weights = beside(name, "weight", weight, logs)
    if weights.shape != (logs.shape[dim],):
        raise ValueError(
            f"{name}: weight of shape {weights.shape} does not fit input of shape {logs.shape}; "
            f"expected {(logs.shape[dim],)}, one for each class"
        )
    return weights


def _weighted(name: str, values: Tensor, weight: Any, dim: int) -> Tensor:
    """The values of each class times its weight, if any."""
    if weight is None:
        return values
    weights = _class_weight(name, weight, values, dim)
    return weigh(weights.reshape([-1 if d == dim else 1 for d in range(values.ndim)]), values)
