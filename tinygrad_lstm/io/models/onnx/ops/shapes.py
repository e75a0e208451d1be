"""Ops that read and change shapes, join and split.

Reference: https://onnx.ai/onnx/operators/
"""

import math
from typing import Any

import numpy as np

from ..... import ops
from ....._tensor import Tensor
from ...rules import Ints, Value, host_ints, rule
from ...shared.shapes import broadcast, depth_to_space, distinct_dims, space_to_depth, split_into, squeeze
from ...shared.windows import pad_dims

__all__: list[str] = []

# -- shapes as values --------------------------------------------------------------------------------------------------


@rule("Shape")
def shape(data: Value, *, start: int = 0, end: int | None = None) -> Any:
    lengths = list(data.shape)[start:end]
    return host_ints(lengths) if isinstance(data, Tensor) else np.array(lengths, np.int64)


@rule("Size")
def size(data: Value) -> Any:
    number = math.prod(data.shape)
    return host_ints(number) if isinstance(data, Tensor) else np.array(number)


# -- the same elements in a different shape ----------------------------------------------------------------------------


@rule("Identity")
def identity(data: Any) -> Any:
    return data


@rule("Reshape", since=5)
def reshape(data: Value, shape: Ints, *, allowzero: int = 0) -> Any:
    if not allowzero:
        shape = [length if length != 0 else data.shape[dim] for dim, length in enumerate(shape)]
    return data.reshape(tuple(shape))


@rule("Flatten")
def flatten(data: Value, *, axis: int = 1) -> Any:
    axis = axis + data.ndim if axis < 0 else axis
    return data.reshape((math.prod(data.shape[:axis]), math.prod(data.shape[axis:])))


rule("Squeeze", since=13)(squeeze)


@rule("Squeeze")
def squeeze_axes(data: Value, *, axes: list[int] | None = None) -> Any:
    return squeeze(data, axes)


@rule("Unsqueeze", since=13)
def unsqueeze(data: Value, axes: Ints) -> Any:
    ndim = data.ndim + len(axes)
    if len(new := distinct_dims(axes, ndim)) < len(axes):
        raise ValueError(f"Unsqueeze: the axes {axes} are not distinct")
    lengths = iter(data.shape)
    return data.reshape(tuple(1 if dim in new else next(lengths) for dim in range(ndim)))


@rule("Unsqueeze")
def unsqueeze_axes(data: Value, *, axes: list[int]) -> Any:
    return unsqueeze(data, axes)


@rule("Transpose")
def transpose(data: Value, *, perm: list[int] | None = None) -> Any:
    return np.transpose(data, perm or range(data.ndim)[::-1])


# -- repeated elements -------------------------------------------------------------------------------------------------


@rule("Expand")
def expand(data: Value, shape: Ints) -> Any:
    return np.broadcast_to(data, broadcast(data.shape, shape))


@rule("Tile", since=6)
def tile(data: Value, repeats: Ints) -> Any:
    return np.tile(data, repeats)


# -- joins and splits --------------------------------------------------------------------------------------------------


@rule("Concat")
def concat(*values: Value, axis: int) -> Any:
    return np.concatenate(values, axis)


rule("Split", since=13)(split_into)


@rule("Split", since=2)
def split_sizes(data: Value, *, axis: int = 0, split: list[int] | None = None, outputs: int) -> Any:
    return split_into(data, split, axis=axis, outputs=outputs)


# -- rearranged elements -----------------------------------------------------------------------------------------------


rule("DepthToSpace")(depth_to_space)
rule("SpaceToDepth")(space_to_depth)


@rule("Trilu")
def trilu(x: Tensor, k: Ints | None = None, *, upper: int = 1) -> Tensor:
    return (ops.triu if upper else ops.tril)(x, k[0] if k else 0)


@rule("CenterCropPad")
def center_crop_pad(x: Tensor, shape: Ints, *, axes: list[int] | None = None) -> Tensor:
    widths = [(0, 0)] * x.ndim
    for dim, length in zip(axes or range(x.ndim), shape, strict=True):
        more, less = length - x.shape[dim], x.shape[dim] - length
        widths[dim] = (more // 2, more - more // 2) if more > 0 else (-(less // 2), -(less - less // 2))
    return pad_dims(x, widths)
