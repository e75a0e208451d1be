"""Pools: the maximum or the mean of windows. A pool in two dimensions is one along each."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor, operand
from ..arguments import integer
from .convolution import PerDim, per_dim
from .define import composite, op, shown_whole
from .indexing import gather
from .padding import pad
from .reduction import argmax, mean, narrowed, widened
from .shape import stack, swapaxes

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "max_pool1d",
    "max_pool2d",
]


@op(x=lambda g, size, stride, x_shape, F: F.window_sums_back(g, x_shape[-1], size, stride))
def window_sums(xp: Any, x: Array, size: int, stride: int, count: int) -> Array:
    """(..., L) to (..., count): the sum of each window."""
    out = x[..., : (count - 1) * stride + 1 : stride].copy()
    for k in range(1, size):
        out += x[..., k : k + (count - 1) * stride + 1 : stride]
    return out


@op(x=lambda g, size, stride, x_shape, F: F.window_sums(g, size, stride, x_shape[-1]))
def window_sums_back(xp: Any, x: Array, length: int, size: int, stride: int) -> Array:
    """(..., count) to (..., length): adds each element at all places of its window."""
    out = xp.zeros((*x.shape[:-1], length), x.dtype)
    for k in range(size):
        out[..., k : k + (x.shape[-1] - 1) * stride + 1 : stride] += x
    return out


@op()
def window_argmax(xp: Any, x: Array, size: int, stride: int, padding: int, dilation: int, count: int) -> Array:
    """(..., L) to (..., count): the place of the first largest element of each window, or of its first NaN."""
    starts = xp.arange(count) * stride - padding
    best: Any = None
    places: Any = None
    for k in range(size):
        at = starts + k * dilation
        inside = (at >= 0) & (at < x.shape[-1])
        at = xp.where(inside, at, 0)
        values = x[..., at]
        if best is None:
            best, places, known = values, xp.broadcast_to(at, values.shape), inside
            continue
        better = values > best
        if is_float(x.dtype):
            better |= (values != values) & (best == best)
        better = (better | ~known) & inside
        best, places, known = xp.where(better, values, best), xp.where(better, at, places), known | inside
    return places.copy()


def _extent(
    name: str, length: int, size: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> tuple[int, int]:
    """The number of windows along a dimension, and how many elements the last reaches beyond the padded input."""
    reach = dilation * (size - 1) + 1
    if 2 * padding > size:
        raise ValueError(f"{name}: padding is {padding}; expected at most half the window, of {size}")
    room = length + 2 * padding - reach
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= length + padding:
        count -= 1  # the last window would begin in the padding at the end
    if length < 1 or count < 1:
        raise ValueError(f"{name}: a window over {reach} elements does not fit into {length} elements and {padding}")
    return count, max(0, (count - 1) * stride - room)


def _settings(
    name: str, dims: int, x: Tensor, kernel_size: PerDim, stride: PerDim | None, padding: PerDim, dilation: PerDim = 1
) -> list[tuple[int, int, int, int]]:
    """(size, stride, padding, dilation) of each dimension."""
    check_dims(name, dims, x)
    sizes = per_dim(name, "kernel_size", kernel_size, dims)
    strides = sizes if stride is None else per_dim(name, "stride", stride, dims)
    paddings, dilations = per_dim(name, "padding", padding, dims, 0), per_dim(name, "dilation", dilation, dims)
    return list(zip(sizes, strides, paddings, dilations, strict=True))


def check_dims(name: str, dims: int, x: Tensor) -> None:
    if x.ndim not in (dims + 1, dims + 2):
        expected = {1: "(N, C, L) or (C, L)", 2: "(N, C, H, W) or (C, H, W)"}[dims]
        raise ValueError(f"{name}: x of shape {x.shape}; expected {expected}")


def _max_along(x: Tensor, dims: int, places_of: Callable[[Tensor, int], Tensor]) -> tuple[Tensor, Tensor]:
    """Maxima along the last dimensions, and their places in these flattened. `places_of` has those along the last."""
    places = places_of(x, -1)
    out = gather(x, -1, places)
    if dims == 1:
        return out, places
    out = swapaxes(out, -1, -2)
    rows = places_of(out, -2)
    places = rows * x.shape[-1] + gather(swapaxes(places, -1, -2), -1, rows)
    return swapaxes(gather(out, -1, rows), -1, -2), swapaxes(places, -1, -2)


def _max_pool(
    name: str,
    dims: int,
    x: Tensor,
    kernel_size: PerDim,
    stride: PerDim | None,
    padding: PerDim,
    dilation: PerDim,
    ceil_mode: bool,
) -> tuple[Tensor, Tensor]:
    settings = _settings(name, dims, x, kernel_size, stride, padding, dilation)
    counts = [
        _extent(name, length, *each, ceil_mode)[0] for length, each in zip(x.shape[-dims:], settings, strict=True)
    ]
    for length, count, (size, step, width, apart) in zip(x.shape[-dims:], counts, settings, strict=True):
        places = np.arange(count)[:, None] * step - width + np.arange(size) * apart
        if width and apart > 1 and not ((places >= 0) & (places < length)).any(1).all():
            raise ValueError(f"{name}: a window of {size} elements {apart} apart has only padding, of {width}")

    def places_of(x: Tensor, dim: int) -> Tensor:
        return window_argmax(x, *settings[dim], counts[dim])

    return _max_along(x, dims, places_of)


def _avg_pool(
    name: str,
    dims: int,
    x: Tensor,
    kernel_size: PerDim,
    stride: PerDim | None,
    padding: PerDim,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> Tensor:
    settings = _settings(name, dims, x, kernel_size, stride, padding)
    out = widened(x)
    for k, (size, step, width, _) in enumerate(reversed(settings)):
        length = x.shape[-1 - k]
        count, beyond = _extent(name, length, size, step, width, 1, ceil_mode)
        out = out if k == 0 else swapaxes(out, -1, -2)
        out = window_sums(pad(out, (width, width + beyond)) if width or beyond else out, size, step, count)
        if divisor_override is None:
            first = np.arange(count) * step - width
            outer = width if count_include_pad else 0
            numbers = np.minimum(first + size, length + outer) - np.maximum(first, -outer)
            uniform = (numbers == size).all()
            out = out / (size if uniform else operand(numbers.astype(out.dtype), x.device))
        out = out if k == 0 else swapaxes(out, -1, -2)
    return narrowed(out if divisor_override is None else out / divisor_override, x)


def _adaptive(name: str, dims: int, x: Tensor, output_size: int | Sequence[int | None]) -> list[list[tuple[int, int]]]:
    """The bounds of the windows of each dimension. A length of None is that of x."""
    check_dims(name, dims, x)
    given = output_size if isinstance(output_size, tuple | list) else (output_size,) * dims
    lengths = x.shape[-dims:]
    sizes = [length if size is None else integer(name, "output_size", size) for size, length in zip(given, lengths)]
    if len(given) != dims or min(sizes) < 1 or min(lengths) < 1:
        raise ValueError(
            f"{name}: output_size is {output_size} for x of shape {x.shape}; expected lengths of 1 or more"
        )
    return [
        [(k * length // size, -(-(k + 1) * length // size)) for k in range(size)]
        for size, length in zip(sizes, lengths, strict=True)
    ]


def _adaptive_avg(name: str, dims: int, x: Tensor, output_size: Any) -> Tensor:
    out = x
    for k, bounds in enumerate(reversed(_adaptive(name, dims, x, output_size))):
        out = stack([mean(_part(out, -1 - k, first, last), -1 - k) for first, last in bounds], -1 - k)
    return out


def _part(x: Tensor, dim: int, first: int, last: int) -> Tensor:
    part: Tensor = x[(..., slice(first, last), *[slice(None)] * (-1 - dim))]
    return part


def _adaptive_max(name: str, dims: int, x: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    bounds = _adaptive(name, dims, x, output_size)

    def places_of(x: Tensor, dim: int) -> Tensor:
        return stack([argmax(x[..., first:last], -1) + first for first, last in bounds[dim]], -1)

    return _max_along(x, dims, places_of)


@composite
@shown_whole
def max_pool1d(
    x: Tensor,
    kernel_size: PerDim,
    stride: PerDim | None = None,
    padding: PerDim = 0,
    dilation: PerDim = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window along the last dimension of x, (N, C, L) or (C, L).

    L' = (L + 2·padding - dilation·(kernel_size - 1) - 1) // stride + 1; with `ceil_mode`, the division rounds up, if
    the last window begins within x or the padding before it.

    Args:
        x: (N, C, L) or (C, L).
        stride: how far the window moves at each step; by default `kernel_size`.
        padding: the number of elements at both ends, which are never the maximum; at most half the window.
        dilation: the distance between a window's elements.
        return_indices: returns a pair, the maxima and their places in the last dimension. Of equal elements, the first
            is named and has the gradient; of NaNs too, where PyTorch may name a later one.

    Raises:
        TypeError: a setting is not an integer.
        ValueError: a setting is out of range, or a window does not fit.
    """
    out, places = _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode)
    return (out, places) if return_indices else out


@composite
@shown_whole
def avg_pool1d(
    x: Tensor,
    kernel_size: PerDim,
    stride: PerDim | None = None,
    padding: PerDim = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window along the last dimension of x, (N, C, L) or (C, L).

    L' is as for `max_pool1d`. The padding counts as zeros, or with `count_include_pad=False` does not count. What a
    window of `ceil_mode` has beyond the padding does not count.

    Raises:
        TypeError: a setting is not an integer.
        ValueError: a setting is out of range, or a window does not fit.
    """
    settings = (kernel_size, stride, padding, ceil_mode, count_include_pad)
    return _avg_pool("avg_pool1d", 1, x, *settings)


@composite
def adaptive_avg_pool1d(x: Tensor, output_size: int) -> Tensor:
    """The means of `output_size` windows that cover the last dimension.

    Window k of n over a length L has the elements from ⌊k·L / n⌋ to ⌈(k + 1)·L / n⌉.

    Raises:
        TypeError, ValueError: `output_size` is not an integer of 1 or more.
    """
    return _adaptive_avg("adaptive_avg_pool1d", 1, x, output_size)


@composite
def adaptive_max_pool1d(x: Tensor, output_size: int, return_indices: bool = False) -> Any:
    """The maxima of the windows of `adaptive_avg_pool1d`; with `return_indices` a pair, as for `max_pool1d`.

    Raises:
        TypeError, ValueError: as for `adaptive_avg_pool1d`.
    """
    out, places = _adaptive_max("adaptive_max_pool1d", 1, x, output_size)
    return (out, places) if return_indices else out


@composite
@shown_whole
def max_pool2d(
    x: Tensor,
    kernel_size: PerDim,
    stride: PerDim | None = None,
    padding: PerDim = 0,
    dilation: PerDim = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window in the last two dimensions of x, (N, C, H, W) or (C, H, W).

    Settings are an integer for both dimensions or a pair, and as for `max_pool1d`. The indices of `return_indices` are
    places in the last two dimensions, flattened.

    Raises:
        TypeError: a setting is not an integer.
        ValueError: a setting is out of range, or a window does not fit.
    """
    out, places = _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode)
    return (out, places) if return_indices else out


@composite
@shown_whole
def avg_pool2d(
    x: Tensor,
    kernel_size: PerDim,
    stride: PerDim | None = None,
    padding: PerDim = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window in the last two dimensions of x, (N, C, H, W) or (C, H, W).

    Settings are an integer for both dimensions or a pair, and as for `avg_pool1d`. `divisor_override` divides the sum
    of each window in place of the number of its elements.

    Raises:
        TypeError: a setting is not an integer.
        ValueError: a setting is out of range, or a window does not fit.
    """
    if divisor_override is not None and not integer("avg_pool2d", "divisor_override", divisor_override):
        raise ValueError("avg_pool2d: divisor_override is 0")
    settings = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _avg_pool("avg_pool2d", 2, x, *settings)


@composite
def adaptive_avg_pool2d(x: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """The means of `output_size` windows that cover the last two dimensions.

    Window k of n over a length L has the elements from ⌊k·L / n⌋ to ⌈(k + 1)·L / n⌉.

    Raises:
        TypeError, ValueError: `output_size` is not an integer or a pair, None for the length of x, of 1 or more.
    """
    return _adaptive_avg("adaptive_avg_pool2d", 2, x, output_size)


@composite
def adaptive_max_pool2d(x: Tensor, output_size: int | Sequence[int | None], return_indices: bool = False) -> Any:
    """The maxima of the windows of `adaptive_avg_pool2d`; with `return_indices` a pair, as for `max_pool2d`.

    Raises:
        TypeError, ValueError: as for `adaptive_avg_pool2d`.
    """
    out, places = _adaptive_max("adaptive_max_pool2d", 2, x, output_size)
    return (out, places) if return_indices else out
