"""Layer normalization."""

import math
from collections.abc import Sequence
from typing import Any

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import widened_dtype
from tinygrad_lstm.backends.sums import average, inverse_deviations

from .._tensor import Tensor, operand
from ..arguments import integers
from .define import composite, op
from .reduction import count

__all__ = ["layer_norm"]


def _centred(xp: Any, x: Array, dims: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """x minus its mean, and 1 / √(variance + eps), at least in float32: the squares overflow float16."""
    wide = x.astype(widened_dtype(x.dtype), copy=False)
    centred = wide - average(xp, wide, dims, True)
    return centred, inverse_deviations(xp, centred, dims, eps)


def _normalized_rule(g: Any, x: Any, out: Any, dims: tuple[int, ...], eps: float, F: Any) -> Any:
    """The components of g along the mean and along the scale of x are removed."""
    share = 1 / count(x.shape, dims)
    along = (F.sum(g, dims, True) + out * F.sum(g * out, dims, True)) * share
    return (g - along) * F.inverse_deviation(x, dims, eps)


def _inverse_deviation_rule(g: Any, x: Any, out: Any, dims: tuple[int, ...], F: Any) -> Any:
    share = 1 / count(x.shape, dims)
    centred = x - F.sum(x, dims, True) * share
    return g * (out * out * out) * centred * -share


@op(promotion="float", x=_normalized_rule)
def normalized(xp: Any, x: Array, dims: tuple[int, ...], eps: float) -> Array:
    """(x - mean) / √(variance + eps) over `dims`."""
    centred, scale = _centred(xp, x, dims, eps)
    centred *= scale
    return centred.astype(x.dtype, copy=False)


@op(promotion="float", x=_inverse_deviation_rule)
def inverse_deviation(xp: Any, x: Array, dims: tuple[int, ...], eps: float) -> Array:
    """1 / √(variance + eps) over `dims`, which are kept."""
    return _centred(xp, x, dims, eps)[1].astype(x.dtype, copy=False)


def _composed_affine(inputs: Sequence[Tensor | None], shape: tuple[int, ...], eps: float) -> Tensor:
    x, weight, bias = inputs
    assert x is not None
    out: Tensor = normalized(x, tuple(range(x.ndim - len(shape), x.ndim)), eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _affine_rule(
    backend: Any,
    g: Array,
    inputs: Sequence[Array | None],
    saved: tuple[Array, Array],
    shape: tuple[int, ...],
    needs_grad: Sequence[bool],
) -> list[Array | None]:
    x, weight, _ = inputs
    rows = (_rows(array, shape) for array in (g, x))
    gradients = backend.layer_norm_backward((*rows, _rows(weight, ()), *saved), needs_grad)
    return [
        None if gradient is None or like is None else gradient.reshape(like.shape)
        for gradient, like in zip(gradients, inputs, strict=True)
    ]


def _rows(array: Array | None, shape: tuple[int, ...]) -> Array | None:
    """The array with its last dimensions, those of `shape`, flattened; or all dimensions, if the shape is ()."""
    if array is None:
        return None
    return array.reshape(-1, math.prod(shape)) if shape else array.reshape(-1)


@op(promotion="float", composed=_composed_affine, fresh=True, inputs=_affine_rule, name="layer_norm")
def layer_norm_op(
    backend: Any, inputs: Sequence[Array], shape: tuple[int, ...], eps: float, saving: bool = False
) -> tuple[Array, Any]:
    """x (..., *shape) normalized over its last dimensions, times weight, plus bias (each of `shape`, or None)."""
    x, weight, bias = inputs
    out, kept = backend.layer_norm_forward((_rows(x, shape), _rows(weight, ()), _rows(bias, ())), eps)
    return out.reshape(x.shape), kept


@composite
def layer_norm(
    x: Tensor, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / √(variance + eps) · weight + bias, over the last dimensions (Ba et al. 2016).

    Args:
        x: (..., *normalized_shape).
        normalized_shape: the lengths of the dimensions to normalize over.
        weight: of shape `normalized_shape`.
        bias: of shape `normalized_shape`.
        eps: keeps the divisor above 0. The variance is the biased one.

    Raises:
        ValueError: the shapes do not match, there is nothing to normalize over, or `eps` is negative or NaN.
    """
    given = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    shape = integers("layer_norm", "normalized_shape", given, "an integer or several")
    if not shape or not math.prod(shape) or x.shape[-len(shape) :] != shape:
        raise ValueError(f"layer_norm: x of shape {x.shape} must end in normalized_shape {shape}, which holds elements")
    if not eps >= 0:
        raise ValueError(f"layer_norm: eps is {eps}; expected a number of 0 or more")
    affine = [
        None if value is None else _of_shape(what, value, shape, x)
        for what, value in (("weight", weight), ("bias", bias))
    ]
    out: Tensor = layer_norm_op([x, *affine], shape, float(eps))
    return out


def _of_shape(what: str, value: Any, shape: tuple[int, ...], x: Tensor) -> Tensor:
    tensor = operand(value, x.device)
    if tensor.shape != shape:
        raise ValueError(f"layer_norm: {what} of shape {tensor.shape} must have normalized_shape {shape}")
    return tensor
