"""Losses of numbers and probabilities.

Every loss has a `reduction`: "mean", "sum", or "none" for the loss of each element or sample. The mean of no losses is
NaN. Inputs and targets of a loss must have one shape: they do not broadcast.
"""

import math
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_float, promoted_dtype, smallest_normal

from .._tensor import Tensor, operand
from .activation import log1pexp
from .clamping import clamp
from .define import composite, op
from .elementwise import abs, exp, log, where
from .one_pass import one_pass
from .reduction import mean, narrowed, widened

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
]


@op(promotion="common", broadcasts=True, x=lambda g, y: g * y, y=lambda g, x: g * x)
def weigh(xp: Any, x: Array, y: Array) -> Array:
    """x·y, the loss y with the weight x; 0 if the weight is 0, for an infinite loss too."""
    return x * xp.where(xp.logical_and(xp.equal(x, 0), xp.isinf(y)), 0, y)


@composite
def mse_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """(input - target)².

    Raises:
        ValueError: the shapes differ; an unknown `reduction`.
    """
    target = of_same_shape("mse_loss", target, input)
    return _in_dtype_of(reduced("mse_loss", _squared_differences(input, target), reduction), input, target)


@one_pass
def _squared_differences(x: Tensor, y: Tensor) -> Tensor:
    difference = widened(x - y)
    return difference * difference


@composite
def l1_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """|input - target|. The derivative is 0 if they are equal.

    Raises:
        ValueError: the shapes differ; an unknown `reduction`.
    """
    return reduced("l1_loss", abs(input - of_same_shape("l1_loss", target, input)), reduction)


@composite
def smooth_l1_loss(input: Tensor, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """With d = |input - target|: d² / (2·beta) if d < beta, else d - beta / 2 (Girshick 2015).

    Raises:
        ValueError: the shapes differ; an unknown `reduction`; a negative `beta`.
    """
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta is {beta}; expected zero or more")
    target = of_same_shape("smooth_l1_loss", target, input)
    computed = promoted_dtype([input.dtype, target.dtype], needs_float=True)
    if beta < smallest_normal(computed):  # 0, or negligible beside any difference
        return reduced("smooth_l1_loss", abs(input - target), reduction)
    return reduced("smooth_l1_loss", _smooth_l1(input, target, float(beta)), reduction)


@one_pass
def _smooth_l1(x: Tensor, y: Tensor, beta: float) -> Tensor:
    """Both cases in one formula, which does not square large numbers or multiply by a large 1 / beta."""
    difference = x - y
    near = clamp(difference, -beta, beta)
    return near / beta * (difference - near * 0.5)


@composite
def huber_loss(input: Tensor, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Tensor:
    """With d = |input - target|: d² / 2 if d < delta, else delta·(d - delta / 2) (Huber 1964).

    Args:
        weight: of each element; broadcasts to input's shape.

    Raises:
        ValueError: the shapes do not match; an unknown `reduction`; `delta` is not positive.
    """
    if not delta > 0:
        raise ValueError(f"huber_loss: delta is {delta}; expected a positive number")
    target = of_same_shape("huber_loss", target, input)
    losses = _huber(input, target, float(delta))
    if weight is not None:
        losses = weigh(_broadcastable("huber_loss", "weight", weight, input), losses)
    return _in_dtype_of(reduced("huber_loss", losses, reduction), input, target)


@one_pass
def _huber(x: Tensor, y: Tensor, delta: float) -> Tensor:
    difference = widened(x - y)
    near = clamp(difference, -delta, delta)
    return near * (difference - near * 0.5)


@composite
def gaussian_nll_loss(
    input: Tensor, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log var + (input - target)² / var) / 2: -log of the normal density of the target, without its constant.

    Args:
        input: means.
        var: variances; broadcasts to input's shape, or has that shape without the last dimension. Smaller ones are
            replaced by `eps`, and get the gradient of that variance. A negative one returns NaN.
        full: whether to add the constant, log(2π) / 2.

    Raises:
        ValueError: the shapes do not match; an unknown `reduction`; `eps` is not positive.
    """
    name = "gaussian_nll_loss"
    if not eps > 0:
        raise ValueError(f"{name}: eps is {eps}; expected a positive number")
    difference = input - of_same_shape(name, target, input)
    variances = beside(name, "var", var, input)
    if variances.ndim and variances.shape == input.shape[:-1]:
        variances = variances.unsqueeze(-1)
    wide, variances = widened(difference), widened(_broadcastable(name, "var", variances, input))
    variances = where((variances >= 0) & (variances < eps), variances - variances.detach() + eps, variances)
    losses = (log(variances) + wide * wide / variances) * 0.5
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return narrowed(reduced(name, losses, reduction), difference)


# -- probabilities -----------------------------------------------------------------------------------------------------


@composite
def kl_div(input: Tensor, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target·(log target - input), the Kullback-Leibler divergence of the target from e^input.

    A target probability of 0 adds nothing, even if the input is -inf.

    Args:
        input: logarithms of probabilities.
        target: probabilities, of the same shape.
        reduction: "batchmean" also: the sum divided by the length of dim 0, the mean divergence of a sample. "mean"
            divides by the number of elements.
        log_target: whether the target holds logarithms of probabilities.

    Raises:
        ValueError: the shapes differ; an unknown `reduction`.
    """
    target = of_same_shape("kl_div", target, input)
    shares = exp(target) if log_target else target
    logs = where(shares == 0, 0, target) if log_target else log(where(shares == 0, 1, shares))
    losses = weigh(shares, logs - input)
    if reduction in ("mean", "sum", "none"):
        return reduced("kl_div", losses, reduction)
    if reduction != "batchmean":
        raise unknown_reduction("kl_div", reduction, "'mean', 'sum', 'none' or 'batchmean'")
    wide = widened(losses).sum()
    return narrowed(wide / (input.shape[0] or math.nan) if input.ndim else wide, losses)


def _share(x: Any, F: Any) -> Any:
    """x·(1 - x), or a little more than 0, so that the gradient is finite at 0 and 1."""
    return F.clamp_op(x * (1 - x), max(1e-12, smallest_normal(x.dtype)), None)


def _clamped_logs(xp: Any, x: Array) -> tuple[Array, Array]:
    """log x and log(1 - x), -100 at least."""
    with np.errstate(divide="ignore"):
        return xp.maximum(xp.log(x), -100), xp.maximum(xp.log1p(-x), -100)


@op(promotion="float", x=lambda g, x, F: g / _share(x, F))
def clamped_logit(xp: Any, x: Array) -> Array:
    """log x - log(1 - x), of which each logarithm is -100 at least."""
    logs, logs_of_rest = _clamped_logs(xp, x)
    return logs - logs_of_rest


@op(
    promotion="float",
    x=lambda g, x, target, F: g * ((x - target) / _share(x, F)),
    target=lambda g, x, F: F.neg(g * F.clamped_logit(x)),
    name="binary_cross_entropy",
)
def binary_cross_entropy_op(xp: Any, x: Array, target: Array) -> Array:
    logs, logs_of_rest = _clamped_logs(xp, x)
    logs_of_rest *= 1 - target
    logs *= target
    logs += logs_of_rest
    return xp.negative(logs)


@composite
def binary_cross_entropy(input: Tensor, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """-(target·log input + (1 - target)·log(1 - input)), of which each logarithm is -100 at least.

    The derivative in the input is (input - target) / (input·(1 - input)), whose denominator is 1e-12 at least, as in
    PyTorch. An input outside of [0, 1] returns NaN. Given logits, `binary_cross_entropy_with_logits` keeps more digits.

    Args:
        input: probabilities, of any shape.
        target: probabilities, of the same shape.
        weight: of each element; broadcasts to that shape.

    Raises:
        ValueError: the shapes do not match; an unknown `reduction`.
    """
    losses: Tensor = binary_cross_entropy_op(input, of_same_shape("binary_cross_entropy", target, input))
    if weight is not None:
        losses = losses * _broadcastable("binary_cross_entropy", "weight", weight, input)
    return reduced("binary_cross_entropy", losses, reduction)


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
    target = of_same_shape(name, target, input)
    if pos_weight is not None:
        pos_weight = _broadcastable(name, "pos_weight", pos_weight, input)
    losses = _logistic(input, target, pos_weight)
    if weight is not None:
        losses = weigh(_broadcastable(name, "weight", weight, input), losses)
    return reduced(name, losses, reduction)


@one_pass
def _logistic(x: Tensor, target: Tensor, pos_weight: Tensor | None) -> Tensor:
    positive = weigh(target, log1pexp(-x))
    if pos_weight is not None:
        positive = weigh(pos_weight, positive)
    return positive + weigh(1 - target, log1pexp(x))


def reduced(name: str, losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return mean(losses) if losses.size else losses.sum() * math.nan
    raise unknown_reduction(name, reduction)


def _in_dtype_of(result: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The result in the dtype of x - y, if that is a float."""
    dtype = promoted_dtype([x.dtype, y.dtype], needs_float=False)
    return result.to(dtype=dtype) if is_float(dtype) else result


def unknown_reduction(name: str, reduction: str, expected: str = "'mean', 'sum' or 'none'") -> ValueError:
    return ValueError(f"{name}: reduction is {reduction!r}; expected {expected}")


def beside(name: str, what: str, value: Any, input: Tensor) -> Tensor:
    """`value` as a tensor on input's device."""
    tensor = operand(value, input.device)
    if tensor.device is not input.device:
        raise RuntimeError(
            f"{name}: input on {str(input.device)!r} but {what} on {str(tensor.device)!r}; "
            "move them to one device with .to(device)"
        )
    return tensor


def of_same_shape(name: str, target: Any, input: Tensor, what: str = "target") -> Tensor:
    """`target`, which the message calls `what`, as a tensor of input's shape on its device."""
    tensor = beside(name, what, target, input)
    if tensor.shape != input.shape:
        raise ValueError(f"{name}: {what} of shape {tensor.shape} must have input's shape {input.shape}; reshape one")
    return tensor


def _broadcastable(name: str, what: str, value: Any, input: Tensor) -> Tensor:
    tensor = beside(name, what, value, input)
    try:
        fits = np.broadcast_shapes(tensor.shape, input.shape) == input.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: {what} of shape {tensor.shape} does not broadcast to input's shape {input.shape}")
    return tensor
