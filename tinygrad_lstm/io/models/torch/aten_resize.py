"""PyTorch's functions that resize pictures and sequences, or regroup their elements.

Reference: PyTorch's `torch/nn/functional.py` and `aten/src/ATen/native/UpSample.h`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .... import ops
from ...._tensor import Tensor
from ..shared.resizing import grid_sample, resize
from ..shared.windows import col2im
from .aten import aten

__all__: list[str] = []

_CURVES = {"linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


# -- resizing ----------------------------------------------------------------------------------------------------------


@aten("interpolate")
def interpolate(
    x: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """(N, C, ...) with other lengths: those of `size`, or the lengths times the factors, rounded down."""
    dims = list(range(2, x.ndim))
    sizes = _per_dim(size, len(dims))
    factors = _per_dim(scale_factor, len(dims)) if sizes is None else None
    if factors is not None and (recompute_scale_factor or mode == "area"):
        sizes, factors = [math.floor(x.shape[dim] * factor) for dim, factor in zip(dims, factors, strict=True)], None
    if mode in _CURVES:
        return resize(
            x,
            None,
            factors,
            sizes,
            axes=dims,
            mode=_CURVES[mode],
            coordinate_transformation_mode="align_corners" if align_corners else "half_pixel",
            antialias=int(antialias),
            exclude_outside=int(antialias),
            cubic_coeff_a=-0.5 if antialias else -0.75,
        )
    for number, dim in enumerate(dims):
        if mode == "area":
            x = _means(x, dim, sizes[number])
        elif mode in ("nearest", "nearest-exact"):
            factor = None if factors is None else factors[number]
            after = sizes[number] if factor is None else math.floor(x.shape[dim] * factor)
            x = _nearest(x, dim, after, factor, 0.5 if mode == "nearest-exact" else 0.0)
        else:
            raise ValueError(f"interpolate: the mode {mode!r} is not known")
    return x


def _per_dim(value: Any, number: int) -> Any:
    """A setting for each dimension; None for none."""
    if value is None or (isinstance(value, Sequence) and all(each is None for each in value)):
        return None
    return list(value) if isinstance(value, Sequence) else [value] * number


def _nearest(x: Tensor, dim: int, after: int, factor: float | None, offset: float) -> Tensor:
    """Each element is that of the nearest place before it. Places are computed in float32, as by PyTorch."""
    before = x.shape[dim]
    by = np.float32(1 / factor if factor else before / after)
    places = np.floor((np.arange(after, dtype=np.float32) + np.float32(offset)) * by)
    return ops.index_select(x, dim, np.minimum(places.astype(np.int64), before - 1))


def _means(x: Tensor, dim: int, after: int) -> Tensor:
    """The means of `after` parts of a dimension."""
    last = x.swapaxes(dim, -1)
    return (
        ops.adaptive_avg_pool1d(last.reshape((-1, 1, last.shape[-1])), after)
        .reshape((*last.shape[:-1], after))
        .swapaxes(dim, -1)
    )


@aten("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def upsample_nearest(x: Tensor, output_size: Any = None, scales: Any = None, *others: Any) -> Any:
    return _upsampled(x, output_size, scales, others, "nearest")


@aten("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d")
def upsample_nearest_exact(x: Tensor, output_size: Any = None, scales: Any = None, *others: Any) -> Any:
    return _upsampled(x, output_size, scales, others, "nearest-exact")


@aten("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
def upsample_linear(x: Tensor, output_size: Any, align_corners: bool, scales: Any = None, *others: Any) -> Any:
    return _upsampled(x, output_size, scales, others, "linear", align_corners)


@aten("upsample_bicubic2d")
def upsample_bicubic(x: Tensor, output_size: Any, align_corners: bool, scales: Any = None, *others: Any) -> Any:
    return _upsampled(x, output_size, scales, others, "bicubic", align_corners)


@aten("_upsample_bilinear2d_aa")
def upsample_antialiased(x: Tensor, output_size: Any, align_corners: bool, scales: Any = None, *others: Any) -> Any:
    return _upsampled(x, output_size, scales, others, "linear", align_corners, antialias=True)


def _upsampled(
    x: Tensor, size: Any, scales: Any, others: Sequence[Any], mode: str, align_corners: bool = False, **settings: Any
) -> Any:
    """One overload has a list of scales, another a scale for each dimension beside the size."""
    listed = scales if isinstance(scales, Sequence) else [scales, *others][: x.ndim - 2]
    factors = _per_dim(listed, x.ndim - 2)
    if size and factors and mode in ("nearest", "nearest-exact"):  # places are those of the factors
        sizes = [math.floor(length * factor) for length, factor in zip(x.shape[2:], factors, strict=True)]
        size = size if sizes != list(size) else None
    elif size and factors and not align_corners:
        size = None
    return interpolate(x, size or None, factors, mode, align_corners, **settings)


@aten("grid_sampler")
def grid_sampler(x: Tensor, grid: Tensor, mode: int, padding_mode: int, align_corners: bool) -> Tensor:
    modes, paddings = ("linear", "nearest", "cubic"), ("zeros", "border", "reflection")
    return grid_sample(x, grid, mode=modes[mode], padding_mode=paddings[padding_mode], align_corners=int(align_corners))


# -- regrouping --------------------------------------------------------------------------------------------------------


@aten("pixel_shuffle")
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """(..., C·r², H, W) to (..., C, H·r, W·r)."""
    r, (*outer, _, height, width) = upscale_factor, x.shape
    parts = x.reshape((*outer, -1, r, r, height, width))
    n = len(outer)
    moved = parts.permute(*range(n + 1), n + 3, n + 1, n + 4, n + 2)
    return moved.reshape((*outer, -1, height * r, width * r))


@aten("pixel_unshuffle")
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, H·r, W·r) to (..., C·r², H, W)."""
    r, (*outer, channels, height, width) = downscale_factor, x.shape
    parts = x.reshape((*outer, channels, height // r, r, width // r, r))
    n = len(outer)
    moved = parts.permute(*range(n + 1), n + 2, n + 4, n + 1, n + 3)
    return moved.reshape((*outer, -1, height // r, width // r))


@aten("channel_shuffle")
def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """(N, C, ...) whose channels are those of each group in turn."""
    return x.reshape((x.shape[0], groups, -1, *x.shape[2:])).swapaxes(1, 2).reshape(x.shape)


@aten("im2col")
def im2col(x: Tensor, *given: Any) -> Tensor:
    """(N, C, H, W) to (N, C · kernel's elements, number of windows), by the kernel, dilation, padding and stride."""
    kernel, dilation, padding, stride = ((each,) * 2 if isinstance(each, int) else each for each in given)
    x = ops.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    for dim in (2, 3):
        reach = dilation[dim - 2] * (kernel[dim - 2] - 1) + 1
        x = ops.unfold(x, dim, reach, stride[dim - 2])
    x = x[..., :: dilation[0], :: dilation[1]]  # (N, C, rows, columns, *kernel)
    return x.permute(0, 1, 4, 5, 2, 3).reshape((x.shape[0], -1, x.shape[2] * x.shape[3]))


@aten("col2im")
def fold(x: Tensor, *given: Any) -> Tensor:
    """Adds windows at their places, the reverse of `im2col`; before its arguments is the size of the picture."""
    size, kernel, dilation, padding, stride = ([each] * 2 if isinstance(each, int) else [*each] for each in given)
    return col2im(x, size, kernel, dilations=dilation, pads=padding * 2, strides=stride)
