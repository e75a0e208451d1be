"""Interpolation between elements; settings have ONNX's names and meaning."""

import functools
import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import widened_dtype

from .... import ops
from ...._tensor import Tensor, tensor
from ....creation import arange, ones_like
from ..rules import Floats, Ints

__all__ = ["grid_sample", "resize"]

CUBIC_OF_GRIDS = -0.75

# -- lengths and scales ------------------------------------------------------------------------------------------------


def resize(
    x: Tensor,
    roi: Floats | None = None,
    scales: Floats | None = None,
    sizes: Ints | None = None,
    *,
    antialias: int = 0,
    axes: list[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    dims = [axis % x.ndim for axis in axes or range(x.ndim)]
    if sizes:
        scales = [size / x.shape[dim] for dim, size in zip(dims, sizes, strict=True)]
        if keep_aspect_ratio_policy != "stretch":
            scale = (min if keep_aspect_ratio_policy == "not_larger" else max)(scales)
            scales = [scale] * len(dims)
            sizes = [math.floor(scale * x.shape[dim] + 0.5) for dim in dims]
    elif scales:
        sizes = [math.floor(scale * x.shape[dim]) for dim, scale in zip(dims, scales, strict=True)]
    else:
        raise ValueError("Resize: neither scales nor sizes are given")
    ends = roi or [0.0] * len(dims) + [1.0] * len(dims)
    crops = coordinate_transformation_mode == "tf_crop_and_resize"
    y = x if mode == "nearest" else x.astype(widened_dtype(x.dtype))
    for number, (dim, scale, size) in enumerate(zip(dims, scales, sizes, strict=True)):
        length = x.shape[dim]
        if size == length and scale == 1 and not crops:
            continue
        places = _places(coordinate_transformation_mode, length, size, scale, (ends[number], ends[number + len(dims)]))
        if mode == "nearest":
            y = _taken(y, np.clip(_NEAREST[nearest_mode](places), 0, length - 1).astype(np.int64), dim)
        else:
            radius, curve = (1, _triangle) if mode == "linear" else (2, functools.partial(_cubic, a=cubic_coeff_a))
            stretch = min(scale, 1.0) if antialias else 1.0
            y = _interpolated(y, dim, places, radius, curve, stretch, bool(exclude_outside))
        if crops:
            shape = (-1, *(1,) * (x.ndim - 1 - dim))
            inside = tensor(((places >= 0) & (places <= length - 1)).reshape(shape), device=x.device)
            y = ops.where(inside, y, extrapolation_value)
    return y.astype(x.dtype)


# -- places and weights ------------------------------------------------------------------------------------------------


def _places(mode: str, length: int, size: int, scale: float, roi: tuple[float, float]) -> HostArray:
    """For each element of the result along a dimension, its coordinate in x."""
    at: HostArray = np.arange(size, dtype=np.float64)
    size_of_scale = scale * length
    match mode:
        case "align_corners":
            return at * ((length - 1) / (size_of_scale - 1)) if size_of_scale != 1 else at * 0
        case "asymmetric":
            return at / scale
        case "tf_crop_and_resize":
            first, last = roi
            if size_of_scale == 1:
                return at * 0 + (first + last) / 2 * (length - 1)
            return (first + at * (last - first) / (size_of_scale - 1)) * (length - 1)
        case "tf_half_pixel_for_nn":
            return (at + 0.5) / scale
        case "pytorch_half_pixel" if size == 1:
            return at * 0
        case "half_pixel_symmetric":
            return length / 2 * (1 - size / size_of_scale) + (at + 0.5) / scale - 0.5
        case "half_pixel" | "pytorch_half_pixel":
            return (at + 0.5) / scale - 0.5
    raise ValueError(f"Resize: the coordinate_transformation_mode {mode!r} is not known")


_NEAREST: dict[str, Callable[[HostArray], HostArray]] = {
    "round_prefer_floor": lambda places: np.ceil(places - 0.5),
    "round_prefer_ceil": lambda places: np.floor(places + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _taken(x: Tensor, places: HostArray, dim: int) -> Tensor:
    """The elements at places along a dimension."""
    length = x.shape[dim]
    times = len(places) // max(length, 1)
    if times and np.array_equal(places, np.repeat(np.arange(length), times)):  # at any length
        return ops.repeat_interleave(x, times, dim)
    return ops.index_select(x, dim, places)


def _interpolated(
    x: Tensor,
    dim: int,
    places: HostArray,
    radius: int,
    curve: Callable[[Any], Any],
    stretch: float,
    only_inside: bool,
) -> Tensor:
    """Sums of the elements around places along a dimension, weighted by a function of their distance."""
    length = x.shape[dim]
    first = math.floor(-radius / stretch) + 1
    around = np.ceil(places)[:, None] - 1 + np.arange(first, 2 - first)
    weights = curve((around - places[:, None]) * stretch)
    if only_inside:
        weights = np.where((around >= 0) & (around < length), weights, 0)
    weights = weights / weights.sum(1, keepdims=True)
    elements = np.take(x, np.clip(around, 0, length - 1).astype(np.int64), dim)
    shape = (*weights.shape, *(1,) * (x.ndim - 1 - dim))
    return ops.sum(elements * tensor(weights.reshape(shape).astype(x.dtype), device=x.device), dim + 1)


def _triangle(distance: Any) -> Any:
    return np.maximum(1 - abs(distance), 0)


def _cubic(distance: Any, a: float) -> Any:
    """Keys's function, of tensors too."""
    d = abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0 * d))


# -- grids -------------------------------------------------------------------------------------------------------------


def grid_sample(
    x: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Tensor:
    """x at coordinates from -1 to 1: the grid's last dimension has one for each dimension of x, from its last on."""
    lengths = x.shape[2:]
    n = len(lengths)
    around: list[list[tuple[Tensor, Tensor]]] = []  # for each dimension the places of elements, and their weights
    for dim, length in enumerate(lengths):
        given = grid[..., n - 1 - dim]
        place = (given + 1) / 2 * (length - 1) if align_corners else ((given + 1) * length - 1) / 2
        if mode == "nearest":
            nearest = ops.round(place)
            around.append([(nearest, ones_like(nearest))])
            continue
        radius, curve = (2, functools.partial(_cubic, a=CUBIC_OF_GRIDS)) if mode in CUBIC else (1, _triangle)
        base = ops.floor(place.detach())
        around.append([(base + k, curve(base + k - place)) for k in range(1 - radius, 1 + radius)])
    batch = arange(x.shape[0], device=x.device).reshape((-1, *(1,) * (grid.ndim - 2)))
    total: Tensor | None = None
    for corner in itertools.product(*around):
        weight = functools.reduce(operator.mul, [each for _, each in corner])
        places = []
        for (place, _), length in zip(corner, lengths, strict=True):
            if padding_mode == "zeros":
                weight = weight * ((place >= 0) & (place < length)).astype(weight.dtype)
            elif padding_mode == "reflection":
                place = _reflected(place, length, bool(align_corners))
            places.append(ops.clamp(place, 0, length - 1).astype(np.int64))
        part = x[(batch, slice(None), *places)] * ops.unsqueeze(weight, -1)
        total = part if total is None else total + part
    assert total is not None
    return ops.movedim(total, -1, 1)


CUBIC = ("cubic", "bicubic")


def _reflected(place: Tensor, length: int, align_corners: bool) -> Tensor:
    """Places mirrored at the first and last element, or at their outer edges."""
    low, span = (0.0, length - 1) if align_corners else (-0.5, length)
    if not span:
        return place * 0
    turned = ops.remainder(place - low, 2 * span)
    return low + span - ops.abs(turned - span)
