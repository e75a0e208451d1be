"""Pooling; settings have ONNX's names and meaning."""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

from tinygrad_lstm.backends.dtypes import is_float, limits

from .... import ops
from ...._tensor import Tensor
from ....creation import arange, ones
from .indexing import all_but
from .windows import pad_dims, varies, widths_of

__all__ = ["average_pool", "max_pool", "padding_of_pools", "window_sums"]

Widths = Sequence[tuple[int, int]]


def padding_of_pools(
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
    _, widths = padding_of_pools(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
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


# -- sums --------------------------------------------------------------------------------------------------------------


def window_sums(x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    """The sums of windows in the last dimensions, one dimension after the other."""
    for d, (size, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        dim = x.ndim - len(kernel) + d
        last = x.shape[dim] - dilation * (size - 1)
        parts = [x[all_but(dim, slice(k * dilation, k * dilation + last, stride))] for k in range(size)]
        x = functools.reduce(operator.add, parts)
    return x


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
    widths, whole = padding_of_pools(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
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
    counts = window_sums(pad_dims(counted, whole_of_counted, always=always), kernel_shape, strides, dilations)
    return window_sums(pad_dims(x, whole, always=always), kernel_shape, strides, dilations) / counts
