"""Layer normalization."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backends.base import Array
from ..tensor import Tensor, operand
from .define import composite, op
from .reduction import count

__all__ = ["layer_norm"]


def _centred(xp: Any, x: Array, dims: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """x less its mean, and 1 / √(variance + eps), in float32 at least: float16 cannot hold the squares."""
    wide = x.astype(np.result_type(x.dtype, np.float32), copy=False)
    centred = wide - xp.mean(wide, axis=dims, keepdims=True)
    variance = xp.mean(centred * centred, axis=dims, keepdims=True)
    return centred, 1 / xp.sqrt(variance + eps)


def _normalized_rule(g: Any, x: Any, out: Any, dims: tuple[int, ...], eps: float, F: Any) -> Any:
    """Of g, what would change the mean or the scale of x has no effect."""
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
        eps: keeps the divisor from 0; the variance is the biased one.

    Raises:
        ValueError: the shapes do not fit, or there is nothing to normalize over.
    """
    shape = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    if not shape or not math.prod(shape) or x.shape[-len(shape) :] != shape:
        raise ValueError(f"layer_norm: x of shape {x.shape} must end in normalized_shape {shape}, which holds elements")
    out = normalized(x, tuple(range(x.ndim - len(shape), x.ndim)), eps)
    if weight is not None:
        out = out * _of_shape("weight", weight, shape, x)
    if bias is not None:
        out = out + _of_shape("bias", bias, shape, x)
    return out


def _of_shape(what: str, value: Any, shape: tuple[int, ...], x: Tensor) -> Tensor:
    tensor = operand(value, x.device)
    if tensor.shape != shape:
        raise ValueError(f"layer_norm: {what} of shape {tensor.shape} must have normalized_shape {shape}")
    return tensor
