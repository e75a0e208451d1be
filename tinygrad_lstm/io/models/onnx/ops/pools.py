"""Pooling.

Reference: https://onnx.ai/onnx/operators/
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

from tinygrad_lstm.backends.dtypes import is_float, limits

from ..... import ops
from ....._tensor import Tensor
from .....creation import arange, ones, zeros
from ...rules import Ints, rule
from ...windows import pad_dims, varies, widths_of
from .indexing import all_but

__all__: list[str] = []

Widths = Sequence[tuple[int, int]]


def _windows(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int] | None,
    auto_pad: str,
    ceil_mode: int,
) -> tuple[Widths, Widths]:
    """The padding of each dimension, and that which also completes the last window, with `ceil_mode`."""
    widths = widths_of(x.shape[2:], kernel, strides, dilations, pads, auto_pad)
    if not ceil_mode or auto_pad.startswith("SAME"):  # with which the last window is complete
        return widths, widths
    whole = []
    for length, size, stride, dilation, (before, after) in zip(
        x.shape[2:], kernel, strides, dilations, widths, strict=True
    ):
        reach = dilation * (size - 1) + 1
        inside = reach - after  # the elements of the last whole window that are not padding
        if inside >= stride:
            count = -(-(length + before - inside) // stride)
        else:  # the last window, which would start in the padding at the end, is left out
            count = -(-(length + before - min(inside, 0)) // stride) - 1
        whole.append((before, count * stride + reach - length - before))
    return widths, whole


# -- the largest -------------------------------------------------------------------------------------------------------


@rule("MaxPool")
def max_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    storage_order: int = 0,
    strides: list[int] | None = None,
    outputs: int,
) -> Any:
    n = len(kernel_shape)
    dilations, strides = dilations or [1] * n, strides or [1] * n
    _, widths = _windows(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    lowest = -math.inf if is_float(x.dtype) else limits(x.dtype)[0]
    y = pad_dims(x, widths, value=lowest, always=bool(ceil_mode) or varies(auto_pad, strides))
    if outputs == 1 and n <= 2:
        return (ops.max_pool1d if n == 1 else ops.max_pool2d)(y, kernel_shape, strides, 0, dilations)
    places = pad_dims(_places(x, storage_order), widths)
    for dim in range(x.ndim - 1, 1, -1):  # rows first, so that the first of equal elements is found
        largest = ops.max_pool1d(
            y.swapaxes(dim, -1).reshape((1, -1, y.shape[dim])),
            kernel_shape[dim - 2],
            strides[dim - 2],
            0,
            dilations[dim - 2],
            return_indices=True,
        )

        shape = (*y.swapaxes(dim, -1).shape[:-1], -1)
        y, index = (each.reshape(shape).swapaxes(dim, -1) for each in largest)
        places = ops.take_along_dim(places, index, dim)
    return y, places


def _places(x: Tensor, storage_order: int) -> Tensor:
    """The number of each element, in row-major order; with storage order 1, column-major in the last dimensions."""
    lengths = x.shape[2:]
    if not storage_order:
        return arange(x.size, device=x.device).reshape(x.shape)
    order = (0, 1, *range(x.ndim - 1, 1, -1))
    return ops.permute(arange(x.size, device=x.device).reshape((*x.shape[:2], *lengths[::-1])), order)


@rule("MaxUnpool")
def max_unpool(
    x: Tensor,
    indices: Tensor,
    output_shape: Ints | None = None,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    n = len(kernel_shape)
    strides, pads = strides or [1] * n, pads or [0] * 2 * n
    lengths = [
        (length - 1) * stride + size - pads[d] - pads[n + d]
        for d, (length, stride, size) in enumerate(zip(x.shape[2:], strides, kernel_shape, strict=True))
    ]
    y = ops.put(zeros((*x.shape[:2], *lengths), dtype=x.dtype, device=x.device), indices, x)
    if output_shape is None:
        return y
    return pad_dims(y, [(0, length - own) for length, own in zip(output_shape[2:], lengths, strict=True)])


# -- sums --------------------------------------------------------------------------------------------------------------


def _sums(x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    """The sums of windows in the last dimensions, one dimension after the other."""
    for d, (size, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        dim = x.ndim - len(kernel) + d
        last = x.shape[dim] - dilation * (size - 1)
        parts = [x[all_but(dim, slice(k * dilation, k * dilation + last, stride))] for k in range(size)]
        x = functools.reduce(operator.add, parts)
    return x


@rule("AveragePool", since=7)
def average_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    n = len(kernel_shape)
    dilations, strides = dilations or [1] * n, strides or [1] * n
    widths, whole = _windows(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    always = bool(ceil_mode) or varies(auto_pad, strides)
    inside = not always and (count_include_pad or all(w == (0, 0) for w in whole))
    if n <= 2 and set(dilations) == {1} and inside:
        return (ops.avg_pool1d if n == 1 else ops.avg_pool2d)(pad_dims(x, whole), kernel_shape, strides)
    counted = ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if count_include_pad:
        counted = pad_dims(counted, widths, value=1, always=always)
        whole_of_counted = [(0, after - own) for (_, own), (_, after) in zip(widths, whole, strict=True)]
    else:
        whole_of_counted = list(whole)
    counts = _sums(pad_dims(counted, whole_of_counted, always=always), kernel_shape, strides, dilations)
    return _sums(pad_dims(x, whole, always=always), kernel_shape, strides, dilations) / counts


@rule("LpPool", since=2)
def lp_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    p: int = 2,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    n = len(kernel_shape)
    dilations, strides = dilations or [1] * n, strides or [1] * n
    _, widths = _windows(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    always = bool(ceil_mode) or varies(auto_pad, strides)
    return _sums(pad_dims(ops.abs(x) ** p, widths, always=always), kernel_shape, strides, dilations) ** (1 / p)


# -- all elements ------------------------------------------------------------------------------------------------------


def _lasts(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@rule("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    return ops.mean(x, _lasts(x), keepdim=True)


@rule("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    return ops.amax(x, _lasts(x), keepdim=True)


@rule("GlobalLpPool", since=2)
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    return ops.norm(x, p, _lasts(x), keepdim=True)
