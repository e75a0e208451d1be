"""Softmax and the losses.

Every loss has a `reduction`: "mean", "sum", or "none" for the loss of each element or sample. The mean of no losses is
NaN.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_float, is_integer, promoted_dtype, smallest_normal, widened_dtype
from tinygrad_lstm.backends.sums import total

from .._tensor import Tensor, as_tensor, operand
from ..arguments import integer
from ..mode import mode
from .activation import log1pexp
from .define import composite, op
from .elementwise import abs, clamp, where
from .indexing import check_range, getitem, masked_fill
from .reduction import Dim, count, dims_of, mean, narrowed, widened

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "l1_loss",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
    "softmax",
]


@op(promotion="common", broadcasts=True, x=lambda g, y: g * y, y=lambda g, x: g * x)
def weigh(xp: Any, x: Array, y: Array) -> Array:
    """x·y, the loss y with the weight x; 0 if the weight is 0, for an infinite loss too."""
    return x * xp.where(xp.logical_and(xp.equal(x, 0), xp.isinf(y)), 0, y)


# -- softmax -----------------------------------------------------------------------------------------------------------


def _below_largest(xp: Any, x: Array, dims: tuple[int, ...]) -> Array:
    """x minus its largest element over `dims`, so that no exponential overflows; at least in float32, for their sum."""
    x = x.astype(widened_dtype(x.dtype), copy=False)
    with np.errstate(over="ignore"):  # the exponential of such differences is 0
        return x - xp.max(x, axis=dims, keepdims=True) if count(x.shape, dims) else x.copy()


@op(promotion="float", x=lambda g, out, dim, F: out * (g - F.sum(g * out, dim, True)), method=True)
def softmax(xp: Any, x: Array, dim: Dim = -1) -> Array:
    """eˣ / Σ eˣ over `dim`, without overflow. A slice with an element of inf is NaN."""
    dims = dims_of("softmax", dim, x.shape)
    out = xp.exp(_below_largest(xp, x, dims))
    out /= total(xp, out, dims, True)
    return out.astype(x.dtype, copy=False)


@op(promotion="float", x=lambda g, out, dim, F: g - F.exp(out) * F.sum(g, dim, True), method=True)
def log_softmax(xp: Any, x: Array, dim: Dim = -1) -> Array:
    """x - log Σ eˣ over `dim`, without overflow; accurate where the softmax itself is 0.

    A slice with an element of inf is NaN.
    """
    dims = dims_of("log_softmax", dim, x.shape)
    out = _below_largest(xp, x, dims)
    if count(x.shape, dims):
        out -= xp.log(total(xp, xp.exp(out), dims, True))
    with np.errstate(over="ignore"):  # float16 overflows to -inf
        return out.astype(x.dtype, copy=False)


# -- classes -----------------------------------------------------------------------------------------------------------


def _at_dim(ids: Array, dim: int) -> Array:
    return ids.reshape((*ids.shape[:dim], 1, *ids.shape[dim:]))


@op(x=lambda g, ids, x_shape, dim, F: F.placed(g, ids, x_shape[dim], dim))
def picked(xp: Any, x: Array, ids: Array, dim: int) -> Array:
    """The element of each slice of x along `dim` that its id selects. The result has the shape of ids."""
    return xp.take_along_axis(x, _at_dim(ids, dim), axis=dim).reshape(ids.shape)


@op(values=lambda g, ids, dim, F: F.picked(g, ids, dim))
def placed(xp: Any, values: Array, ids: Array, length: int, dim: int) -> Array:
    """Slices of `length` along `dim`, zero except for one value each, at the place that its id selects."""
    places = xp.arange(length).reshape([-1 if d == dim else 1 for d in range(len(ids.shape) + 1)])
    return xp.where(_at_dim(ids, dim) == places, _at_dim(values, dim), 0)


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
    target = _beside("cross_entropy", "target", target, input)
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
    target = _beside("nll_loss", "target", target, input)
    _check_classes("nll_loss", input, target, ignore_index)
    logs = _without_ignored(input, target, ignore_index)
    return _of_classes("nll_loss", logs, target, weight, ignore_index, reduction, 0.0)


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

    losses = -picked(logs, ids, dim)
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
        raise _unknown("cross_entropy", reduction)
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
    weights = _beside(name, "weight", weight, logs)
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


# -- numbers -----------------------------------------------------------------------------------------------------------


@composite
def mse_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """(input - target)².

    Raises:
        ValueError: the shapes differ; an unknown `reduction`.
    """
    difference = input - _of_same_shape("mse_loss", target, input)
    wide = widened(difference)
    return narrowed(reduced("mse_loss", wide * wide, reduction), difference)


@composite
def l1_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """|input - target|. The derivative is 0 if they are equal.

    Raises:
        ValueError: the shapes differ; an unknown `reduction`.
    """
    return reduced("l1_loss", abs(input - _of_same_shape("l1_loss", target, input)), reduction)


@composite
def smooth_l1_loss(input: Tensor, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """With d = |input - target|: d² / (2·beta) if d < beta, else d - beta / 2 (Girshick 2015).

    Raises:
        ValueError: the shapes differ; an unknown `reduction`; a negative `beta`.
    """
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta is {beta}; expected zero or more")
    difference = input - _of_same_shape("smooth_l1_loss", target, input)
    computed = promoted_dtype([difference.dtype], needs_float=True)
    if beta < smallest_normal(computed):  # 0, or negligible beside any difference
        return reduced("smooth_l1_loss", abs(difference), reduction)
    # Both cases in one formula, which does not square large numbers or multiply by a large 1 / beta.
    near = clamp(difference, -beta, beta)
    return reduced("smooth_l1_loss", near / beta * (difference - near * 0.5), reduction)


@composite
def binary_cross_entropy_with_logits(
    input: Tensor, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """-(target·log σ(input) + (1 - target)·log(1 - σ(input))), without overflow or cancellation.

    For an infinite logit, 0 if it is right and inf if it is wrong.

    Args:
        input: logits, of any shape.
        target: probabilities, of the same shape.
        weight: of each element; broadcasts to that shape.
        pos_weight: of the first term, the positive class; broadcasts to that shape.

    Raises:
        ValueError: the shapes do not match; an unknown `reduction`.
    """
    name = "binary_cross_entropy_with_logits"
    target = _of_same_shape(name, target, input)
    positive = weigh(target, log1pexp(-input))
    if pos_weight is not None:
        positive = weigh(_broadcastable(name, "pos_weight", pos_weight, input), positive)
    losses = positive + weigh(1 - target, log1pexp(input))
    if weight is not None:
        losses = weigh(_broadcastable(name, "weight", weight, input), losses)
    return reduced(name, losses, reduction)


def reduced(name: str, losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return mean(losses) if losses.size else losses.sum() * math.nan
    raise _unknown(name, reduction)


def _unknown(name: str, reduction: str) -> ValueError:
    return ValueError(f"{name}: reduction is {reduction!r}; expected 'mean', 'sum' or 'none'")


def _beside(name: str, what: str, value: Any, input: Tensor) -> Tensor:
    """`value` as a tensor on input's device."""
    tensor = operand(value, input.device)
    if tensor.device is not input.device:
        raise RuntimeError(
            f"{name}: input on {str(input.device)!r} but {what} on {str(tensor.device)!r}; "
            "move them to one device with .to(device)"
        )
    return tensor


def _of_same_shape(name: str, target: Any, input: Tensor) -> Tensor:
    tensor = _beside(name, "target", target, input)
    if tensor.shape != input.shape:
        raise ValueError(f"{name}: target of shape {tensor.shape} must have input's shape {input.shape}; reshape one")
    return tensor


def _broadcastable(name: str, what: str, value: Any, input: Tensor) -> Tensor:
    tensor = _beside(name, what, value, input)
    try:
        fits = np.broadcast_shapes(tensor.shape, input.shape) == input.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: {what} of shape {tensor.shape} does not broadcast to input's shape {input.shape}")
    return tensor
