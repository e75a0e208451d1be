"""Pools: the maximum or the mean of windows, in one and two dimensions."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray
from tinygrad_lstm.backends.dtypes import is_bool, is_float, limits, widened_dtype
from tinygrad_lstm.backends.sums import total

from .._tensor import Tensor, operand
from ..arguments import integer
from .convolution import PerDim, per_dim
from .define import composite, op, shown_whole
from .indexing import gather
from .padding import pad
from .reduction import argmax, mean, narrowed, widened
from .shape import reshape, stack, swapaxes

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


Bounds = Sequence[tuple[int, int]]


@op(x=lambda g, dim, bounds, x_shape, F: F.spread_in_slices(g, dim, bounds, x_shape[dim]))
def sums_of_slices(xp: Any, x: Array, dim: int, bounds: Bounds) -> Array:
    """The sums over some slices of a dimension, whose length becomes the number of slices."""
    lead = (slice(None),) * dim
    out = xp.empty((*x.shape[:dim], len(bounds), *x.shape[dim + 1 :]), x.dtype)
    for k, (first, end) in enumerate(bounds):
        out[(*lead, k)] = total(xp, x[(*lead, slice(first, end))], dim)
    return out


@op(x=lambda g, dim, bounds, F: F.sums_of_slices(g, dim, bounds))
def spread_in_slices(xp: Any, x: Array, dim: int, bounds: Bounds, length: int) -> Array:
    """Zeros of this length along a dimension, with each element of x added to its slice."""
    lead = (slice(None),) * dim
    out = xp.zeros((*x.shape[:dim], length, *x.shape[dim + 1 :]), x.dtype)
    for k, (first, end) in enumerate(bounds):
        out[(*lead, slice(first, end))] += x[(*lead, slice(k, k + 1))]
    return out


@dataclass(frozen=True)
class Windows:
    """The windows along a dimension.

    Window j < `number` has the elements at the places `j * stride - padding + k * dilation`, k < `size`.
    """

    size: int
    stride: int
    padding: int
    dilation: int
    number: int

    def places(self, length: int) -> list[slice]:
        """For each window, the slice of its elements within a dimension of this length."""
        firsts = [j * self.stride - self.padding for j in range(self.number)]
        ends = [min(first + (self.size - 1) * self.dilation + 1, length) for first in firsts]
        return [
            slice(first % self.dilation if first < 0 else first, end, self.dilation)
            for first, end in zip(firsts, ends, strict=True)
        ]

    def elements_counted(self, length: int, count_include_pad: bool) -> HostArray:
        """How many elements each window has, with or without the padding. Beyond the padding there are none."""
        firsts, outer = np.arange(self.number) * self.stride - self.padding, self.padding * count_include_pad
        return np.minimum(firsts + self.size, length + outer) - np.maximum(firsts, -outer)

    def elements(self, length: int) -> list[tuple[int, slice, slice]]:
        """For each element of a window: its number, the windows in which it is within the dimension, and its places."""
        found = []
        for k in range(self.size):
            first = k * self.dilation - self.padding
            low, high = max(0, -(first // self.stride)), min(self.number, (length - 1 - first) // self.stride + 1)
            if low < high:
                end = first + (high - 1) * self.stride + 1
                found.append((k, slice(low, high), slice(first + low * self.stride, end, self.stride)))
        return found


Slices = tuple[slice, ...]


def _elements(shape: tuple[int, ...], windows: Sequence[Windows]) -> Iterator[tuple[int, Slices, Slices]]:
    """The product of the windows' `elements` in the last dimensions; the numbers count in row-major order."""
    lengths = shape[len(shape) - len(windows) :]
    for element in itertools.product(*[each.elements(length) for each, length in zip(windows, lengths, strict=True)]):
        number = 0
        for (k, _, _), each in zip(element, windows, strict=True):
            number = number * each.size + k
        yield number, tuple([at for _, at, _ in element]), tuple([places for _, _, places in element])


def _pooled(shape: tuple[int, ...], windows: Sequence[Windows]) -> tuple[int, ...]:
    return (*shape[: len(shape) - len(windows)], *[each.number for each in windows])


@op()
def largest(xp: Any, x: Array, windows: Sequence[Windows]) -> Array:
    """The number, within each window of the last dimensions, of the first largest element, or of the first NaN."""
    shape = _pooled(x.shape, windows)
    lowest = -math.inf if is_float(x.dtype) else False if is_bool(x.dtype) else limits(x.dtype)[0]
    best = xp.full(shape, lowest, x.dtype)
    which = xp.full(shape, -1, np.int16 if math.prod([each.size for each in windows]) < 2**15 else np.int64)
    for number, at, places in _elements(x.shape, windows):
        values, former, found = xp.ascontiguousarray(x[(..., *places)]), best[(..., *at)], which[(..., *at)]
        better = (values > former) | (found < 0)
        if is_float(x.dtype):
            better |= (values != values) & (former == former)
        xp.maximum(found, better.astype(found.dtype) * number, out=found)
        xp.maximum(former, values, out=former)
    return which


@op(x=lambda g, which, windows, x_shape, F: F.spread_in_windows(g, which, windows, x_shape))
def taken_from_windows(backend: Any, x: Array, which: Array, windows: Sequence[Windows]) -> Array:
    """The element of each window that has the number `which`."""
    out = backend.xp.zeros(which.shape, x.dtype)
    for number, at, places in _elements(x.shape, windows):
        chosen, values = which[(..., *at)] == number, backend.xp.ascontiguousarray(x[(..., *places)])
        out[(..., *at)] = backend.functions.where(chosen, values, backend.xp.ascontiguousarray(out[(..., *at)]))
    return out


@op(x=lambda g, which, windows, F: F.taken_from_windows(g, which, windows))
def spread_in_windows(
    backend: Any, x: Array, which: Array, windows: Sequence[Windows], shape: tuple[int, ...]
) -> Array:
    """Zeros of this shape, with each number of x added at the element `which` of its window."""
    out = backend.xp.zeros(shape, widened_dtype(x.dtype))
    for number, at, places in _elements(shape, windows):
        chosen = which[(..., *at)] == number
        out[(..., *places)] += backend.functions.where(chosen, backend.xp.ascontiguousarray(x[(..., *at)]), 0)
    return out.astype(x.dtype, copy=False)


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


def _windows(
    name: str,
    dims: int,
    x: Tensor,
    kernel_size: PerDim,
    stride: PerDim | None,
    padding: PerDim,
    ceil_mode: bool,
    dilation: PerDim = 1,
) -> list[tuple[Windows, int]]:
    """The windows along each dimension, and how many elements the last one reaches beyond the padded input."""
    check_dims(name, dims, x)
    sizes = per_dim(name, "kernel_size", kernel_size, dims)
    strides = sizes if stride is None else per_dim(name, "stride", stride, dims)
    paddings, dilations = per_dim(name, "padding", padding, dims, 0), per_dim(name, "dilation", dilation, dims)
    found = []
    for length, *settings in zip(x.shape[-dims:], sizes, strides, paddings, dilations, strict=True):
        size, step, width, apart = settings
        number, beyond = _extent(name, length, size, step, width, apart, ceil_mode)
        found.append((Windows(size, step, width, apart, number), beyond))
    return found


def check_dims(name: str, dims: int, x: Tensor) -> None:
    if x.ndim not in (dims + 1, dims + 2):
        expected = {1: "(N, C, L) or (C, L)", 2: "(N, C, H, W) or (C, H, W)"}[dims]
        raise ValueError(f"{name}: x of shape {x.shape}; expected {expected}")


def _max_of_windows(x: Tensor, windows: Sequence[Windows], return_indices: bool) -> Any:
    """The maximum of each window of the last dimensions; with `return_indices` a pair, as for `max_pool1d`."""
    if math.prod([each.size for each in windows]) > 16 * sum([each.number for each in windows]):
        parts = [each.places(length) for each, length in zip(windows, x.shape[-len(windows) :], strict=True)]
        return _max_of_slices(x, parts, return_indices)
    which = largest(x, windows)
    out = taken_from_windows(x, which, windows)
    if not return_indices:
        return out
    rest, places = which.long(), operand(0, x.device)
    for dim, each in reversed(list(enumerate(windows, -len(windows)))):
        rest, number = rest // each.size, rest % each.size
        firsts = operand(np.arange(each.number) * each.stride - each.padding, x.device)
        along = reshape(firsts, (-1, *(1,) * (-1 - dim))) + number * each.dilation
        places = places + along * math.prod(x.shape[x.ndim + dim + 1 :])
    return out, places


def _max_of_slices(x: Tensor, parts: Sequence[Sequence[slice]], return_indices: bool) -> Any:
    """The same for few large windows, given as slices of each dimension."""

    def places_of(x: Tensor, slices: Sequence[slice]) -> Tensor:
        return stack([argmax(x[..., part], -1) * (part.step or 1) + part.start for part in slices], -1)

    places = places_of(x, parts[-1])
    out = gather(x, -1, places)
    if len(parts) == 2:
        out, columns = swapaxes(out, -1, -2), swapaxes(places, -1, -2)
        rows = places_of(out, parts[0])
        places = swapaxes(rows * x.shape[-1] + gather(columns, -1, rows), -1, -2)
        out = swapaxes(gather(out, -1, rows), -1, -2)
    return (out, places) if return_indices else out


def _max_pool(
    name: str,
    dims: int,
    x: Tensor,
    kernel_size: PerDim,
    stride: PerDim | None,
    padding: PerDim,
    dilation: PerDim,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    windows = [each for each, _ in _windows(name, dims, x, kernel_size, stride, padding, ceil_mode, dilation)]
    for length, each in zip(x.shape[-dims:], windows, strict=True):
        if any(part.start >= part.stop for part in each.places(length)):
            raise ValueError(
                f"{name}: a window of {each.size} elements {each.dilation} apart has only padding, of {each.padding}"
            )
    return _max_of_windows(x, windows, return_indices)


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
    windows = _windows(name, dims, x, kernel_size, stride, padding, ceil_mode)
    out = widened(x)
    for k, (window, beyond) in enumerate(reversed(windows)):
        length, width = x.shape[-1 - k], window.padding
        out = out if k == 0 else swapaxes(out, -1, -2)
        padded = pad(out, (width, width + beyond)) if width or beyond else out
        out = window_sums(padded, window.size, window.stride, window.number)
        if divisor_override is None:
            numbers = window.elements_counted(length, count_include_pad)
            uniform = (numbers == window.size).all()
            out = out / (window.size if uniform else operand(numbers.astype(out.dtype), x.device))
        out = out if k == 0 else swapaxes(out, -1, -2)
    return narrowed(out if divisor_override is None else out / divisor_override, x)


def _adaptive_sizes(name: str, dims: int, x: Tensor, output_size: int | Sequence[int | None]) -> list[int]:
    """The number of windows along each dimension. None means the length of x."""
    check_dims(name, dims, x)
    given = output_size if isinstance(output_size, tuple | list) else (output_size,) * dims
    lengths = x.shape[-dims:]
    sizes = [length if size is None else integer(name, "output_size", size) for size, length in zip(given, lengths)]
    if len(given) != dims or min(sizes) < 1 or min(lengths) < 1:
        raise ValueError(
            f"{name}: output_size is {output_size} for x of shape {x.shape}; expected lengths of 1 or more"
        )
    return sizes


def adaptive_slices(length: int, size: int) -> list[slice]:
    return [slice(k * length // size, -(-(k + 1) * length // size)) for k in range(size)]


def _adaptive_avg(name: str, dims: int, x: Tensor, output_size: Any) -> Tensor:
    sizes, out = _adaptive_sizes(name, dims, x, output_size), x
    for dim, size in enumerate(sizes, -dims):
        length, at = x.shape[dim], out.ndim + dim
        if length % size:
            bounds = [(part.start, part.stop) for part in adaptive_slices(length, size)]
            numbers = np.reshape([end - first for first, end in bounds], (size, *(1,) * (-1 - dim)))
            sums = sums_of_slices(widened(out), at, bounds)
            out = narrowed(sums / operand(numbers.astype(sums.dtype), x.device), x)
        else:
            out = mean(reshape(out, (*out.shape[:at], size, length // size, *out.shape[at + 1 :])), at + 1)
    return out


def _adaptive_max(name: str, dims: int, x: Tensor, output_size: Any, return_indices: bool) -> Any:
    sizes, lengths = _adaptive_sizes(name, dims, x, output_size), x.shape[-dims:]
    if any(length % size for length, size in zip(lengths, sizes, strict=True)):
        return _max_of_slices(x, list(map(adaptive_slices, lengths, sizes)), return_indices)
    steps = [length // size for length, size in zip(lengths, sizes, strict=True)]
    windows = [Windows(step, step, 0, 1, size) for step, size in zip(steps, sizes, strict=True)]
    return _max_of_windows(x, windows, return_indices)


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
    settings = (kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool("max_pool1d", 1, x, *settings, return_indices)


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
@shown_whole
def adaptive_avg_pool1d(x: Tensor, output_size: int) -> Tensor:
    """The means of `output_size` windows that cover the last dimension.

    Window k of n over a length L has the elements from ⌊k·L / n⌋ to ⌈(k + 1)·L / n⌉.

    Raises:
        TypeError, ValueError: `output_size` is not an integer of 1 or more.
    """
    return _adaptive_avg("adaptive_avg_pool1d", 1, x, output_size)


@composite
@shown_whole
def adaptive_max_pool1d(x: Tensor, output_size: int, return_indices: bool = False) -> Any:
    """The maxima of the windows of `adaptive_avg_pool1d`; with `return_indices` a pair, as for `max_pool1d`.

    Raises:
        TypeError, ValueError: as for `adaptive_avg_pool1d`.
    """
    return _adaptive_max("adaptive_max_pool1d", 1, x, output_size, return_indices)


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
    settings = (kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool("max_pool2d", 2, x, *settings, return_indices)


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
@shown_whole
def adaptive_avg_pool2d(x: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """The means of `output_size` windows that cover the last two dimensions.

    Window k of n over a length L has the elements from ⌊k·L / n⌋ to ⌈(k + 1)·L / n⌉.

    Raises:
        TypeError, ValueError: `output_size` is not an integer or a pair, None for the length of x, of 1 or more.
    """
    return _adaptive_avg("adaptive_avg_pool2d", 2, x, output_size)


@composite
@shown_whole
def adaptive_max_pool2d(x: Tensor, output_size: int | Sequence[int | None], return_indices: bool = False) -> Any:
    """The maxima of the windows of `adaptive_avg_pool2d`; with `return_indices` a pair, as for `max_pool2d`.

    Raises:
        TypeError, ValueError: as for `adaptive_avg_pool2d`.
    """
    return _adaptive_max("adaptive_max_pool2d", 2, x, output_size, return_indices)
