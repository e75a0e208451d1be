"""Quantization: floats as integers with a scale.

Reference: https://onnx.ai/onnx/operators/
"""

from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import checked_dtype, limits

from ..... import ops
from ....._tensor import Tensor
from ...rules import rule
from ...shared.windows import conv

__all__ = ["along", "saturated"]


def along(scale: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """A scale or zero point, of x, of a dimension, or of blocks in a dimension, so that it broadcasts with x."""
    if scale.size == 1 and scale.ndim < 2:
        return scale.reshape(())
    axis %= x.ndim
    if not block_size:
        return scale.reshape((-1, *(1,) * (x.ndim - 1 - axis)))
    return ops.repeat_interleave(scale, block_size, axis)[(*(slice(None),) * axis, slice(0, x.shape[axis]))]


def saturated(x: Tensor, dtype: Any) -> Tensor:
    """Rounded to integers, half to even, within the limits of a dtype."""
    low, high = limits(checked_dtype(dtype))
    return ops.clamp(ops.round(x), low, high).astype(dtype)


@rule("QuantizeLinear", since=10)
def quantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: np.dtype[Any] | None = None,
    precision: np.dtype[Any] | None = None,
    saturate: int = 1,
) -> Tensor:
    dtype = output_dtype or (np.uint8 if zero_point is None else zero_point.dtype)
    scaled = ops.round(x / along(scale, x, axis, block_size))
    shift = 0 if zero_point is None else along(zero_point, x, axis, block_size).astype(scaled.dtype)
    return saturated(scaled + shift, dtype)


@rule("DequantizeLinear", since=10)
def dequantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: np.dtype[Any] | None = None,
) -> Tensor:
    return _floats(x, scale, zero_point, axis, block_size).astype(output_dtype or scale.dtype)


def _floats(x: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int = 1, block_size: int = 0) -> Tensor:
    levels = x.astype(np.float32)
    if zero_point is not None:
        levels = levels - along(zero_point, x, axis, block_size).astype(np.float32)
    return levels * along(scale, x, axis, block_size)


@rule("DynamicQuantizeLinear")
def dynamic_quantize_linear(x: Tensor) -> Any:
    low, high = ops.clamp(ops.amin(x), max=0), ops.clamp(ops.amax(x), min=0)
    scale = (high - low) / 255
    zero_point = saturated(-low / scale, np.uint8)
    return quantize_linear(x, scale, zero_point), scale, zero_point


# -- products ----------------------------------------------------------------------------------------------------------


def _levels(x: Tensor, zero_point: Tensor | None, axis: int) -> Tensor:
    """Integers as floats, of which products and sums are exact and fast."""
    levels = x.astype(np.float64)
    return levels if zero_point is None else levels - along(zero_point, x, axis, 0).astype(np.float64)


@rule("MatMulInteger")
def matmul_integer(
    a: Tensor, b: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None
) -> Tensor:
    return (_levels(a, a_zero_point, -2) @ _levels(b, b_zero_point, -1)).astype(np.int32)


@rule("ConvInteger", attributes_of=conv)
def conv_integer(
    x: Tensor,
    weight: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    **window: Any,
) -> Tensor:
    y: Tensor = conv(_levels(x, x_zero_point, 1), _levels(weight, w_zero_point, 0), **window)
    return y.astype(np.int32)


@rule("QLinearMatMul", since=10)
def qlinear_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    product = _levels(a, a_zero_point, -2) @ _levels(b, b_zero_point, -1)
    scale = along(a_scale, a, -2, 0) * along(b_scale, b, -1, 0) / along(y_scale, product, -2, 0)
    return saturated(product * scale + along(y_zero_point, product, -2, 0), y_zero_point.dtype)


@rule("QLinearConv", attributes_of=conv)
def qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    weight: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    bias: Tensor | None = None,
    **window: Any,
) -> Tensor:
    wide_bias = None if bias is None else bias.astype(np.float64)
    y = conv(_levels(x, x_zero_point, 1), _levels(weight, w_zero_point, 0), wide_bias, **window)
    return saturated(
        y * (along(x_scale, y, 1, 0) * along(w_scale, y, 1, 0) / y_scale) + y_zero_point, y_zero_point.dtype
    )
