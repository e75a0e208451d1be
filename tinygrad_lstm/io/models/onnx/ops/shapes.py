"""Ops that read and change shapes, join and split.

Reference: https://onnx.ai/onnx/operators/
"""

import math
from typing import Any

import numpy as np

from ..... import ops
from ....._tensor import Tensor
from ...rules import Ints, Value, host_ints, rule
from ...windows import pad_dims

__all__ = ["broadcast", "split_into"]

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


@rule("Squeeze", since=13)
def squeeze(data: Value, axes: Ints | None = None) -> Any:
    dims = _dims(axes, data.ndim) if axes else {d for d, length in enumerate(data.shape) if length == 1}
    if longer := [dim for dim in dims if data.shape[dim] != 1]:
        raise ValueError(f"Squeeze: dimensions {longer} of shape {tuple(data.shape)} are not of length 1")
    return data.reshape(tuple([length for dim, length in enumerate(data.shape) if dim not in dims]))


def _dims(axes: list[int], ndim: int) -> set[int]:
    """Axes, of which negative ones count from the end."""
    if outside := [axis for axis in axes if not -ndim <= axis < ndim]:
        raise ValueError(f"axes {outside}: expected numbers from {-ndim} to {ndim - 1}")
    return {axis % ndim for axis in axes}


@rule("Squeeze")
def squeeze_axes(data: Value, *, axes: list[int] | None = None) -> Any:
    return squeeze(data, axes)


@rule("Unsqueeze", since=13)
def unsqueeze(data: Value, axes: Ints) -> Any:
    ndim = data.ndim + len(axes)
    if len(new := _dims(axes, ndim)) < len(axes):
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


def broadcast(*shapes: Any) -> tuple[int, ...]:
    """The shape to which shapes broadcast; lengths keep where they came from."""
    ndim = max(map(len, shapes))
    padded = [(1,) * (ndim - len(each)) + tuple(each) for each in shapes]
    longer = [[length for length in lengths if length != 1] for lengths in zip(*padded, strict=True)]
    if any(length != lengths[0] for lengths in longer for length in lengths):
        raise ValueError(f"the shapes {', '.join(str(tuple(each)) for each in shapes)} do not broadcast")
    return tuple(lengths[0] if lengths else 1 for lengths in longer)


@rule("Tile", since=6)
def tile(data: Value, repeats: Ints) -> Any:
    return np.tile(data, repeats)


# -- joins and splits --------------------------------------------------------------------------------------------------


@rule("Concat")
def concat(*values: Value, axis: int) -> Any:
    return np.concatenate(values, axis)


@rule("Split", since=2)
def split_sizes(data: Value, *, axis: int = 0, split: list[int] | None = None, outputs: int) -> Any:
    return split_into(data, split, axis=axis, outputs=outputs)


@rule("Split", since=13)
def split_into(
    data: Value, split: Ints | None = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int
) -> Any:
    length = data.shape[axis]
    if split is None:
        count = num_outputs or outputs
        each = -(-length // count)
        split = [each] * (count - 1) + [length - each * (count - 1)]
    ends = [sum(split[: number + 1]) for number in range(len(split))]
    if ends[-1] != length:
        raise ValueError(f"Split: sizes {split} do not add up to {length}")
    before = (slice(None),) * (axis % data.ndim)
    return tuple(data[(*before, slice(end - part, end))] for end, part in zip(ends, split, strict=True))


# -- rearranged elements -----------------------------------------------------------------------------------------------


@rule("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    batch, depth, *lengths = x.shape
    n, b = len(lengths), blocksize
    channels = depth // b**n
    first = (b,) * n + (channels,) if mode == "DCR" else (channels,) + (b,) * n
    blocks, channel = (range(1, n + 1), n + 1) if mode == "DCR" else (range(2, n + 2), 1)
    order = [0, channel, *[dim for k in range(n) for dim in (n + 2 + k, blocks[k])]]
    apart = ops.permute(x.reshape((batch, *first, *lengths)), order)
    return apart.reshape((batch, channels, *[length * b for length in lengths]))


@rule("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    batch, channels, *lengths = x.shape
    n, b = len(lengths), blocksize
    apart = x.reshape((batch, channels, *[part for length in lengths for part in (length // b, b)]))
    blocks, places = [3 + 2 * k for k in range(n)], [2 + 2 * k for k in range(n)]
    order = [0, *blocks, 1, *places] if mode == "DCR" else [0, 1, *blocks, *places]
    return ops.permute(apart, order).reshape((batch, channels * b**n, *[length // b for length in lengths]))


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
