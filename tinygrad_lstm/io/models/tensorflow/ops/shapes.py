"""Ops that read and change shapes, join and split."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..... import ops
from ....._tensor import Tensor
from ...rules import Ints, Value, host_ints
from ...shared import shapes as shared
from ...shared.indexing import slices
from ...shared.shapes import broadcast, split_into
from ...shared.windows import pad_dims
from ..rules import rule

__all__ = ["along"]


def along(data: Any, dim: int, index: Any) -> Any:
    """The elements at an index of a dimension."""
    return data[(slice(None),) * (dim % data.ndim) + (index,)]


# -- shapes as values --------------------------------------------------------------------------------------------------


@rule("Shape")
def shape(x: Any, *, out_type: Any = None) -> Any:
    return host_ints(list(x.shape))


@rule("ShapeN")
def shape_n(*values: Any, out_type: Any = None) -> Any:
    return tuple(host_ints(list(x.shape)) for x in values)


@rule("Size")
def size(x: Any, *, out_type: Any = None) -> Any:
    return host_ints(math.prod(x.shape))


@rule("Rank")
def rank(x: Any) -> Any:
    return host_ints(x.ndim)


@rule("BroadcastArgs")
def broadcast_args(first: Ints, second: Ints) -> Any:
    return host_ints(list(broadcast(first, second)))


# -- the same elements in a different shape ----------------------------------------------------------------------------


@rule("Reshape")
def reshape(x: Value, shape: Ints) -> Any:
    return x.reshape(tuple(shape))


@rule("Squeeze")
def squeeze(x: Value, *, squeeze_dims: list[int] | None = None) -> Any:
    return shared.squeeze(x, squeeze_dims)


@rule("ExpandDims")
def expand_dims(x: Value, dim: Ints) -> Any:
    at = dim[0] + x.ndim + 1 if dim[0] < 0 else dim[0]
    return x.reshape((*x.shape[:at], 1, *x.shape[at:]))


@rule("Transpose")
def transpose(x: Value, perm: Ints) -> Any:
    return np.transpose(x, perm)


@rule("InvertPermutation")
def invert_permutation(x: Ints) -> Any:
    return host_ints([x.index(number) for number in range(len(x))])


@rule("ReverseV2")
def reverse(x: Value, axis: Ints) -> Any:
    return np.flip(x, tuple(axis)) if axis else x


@rule("Roll")
def roll(x: Tensor, shift: Ints, axis: Ints) -> Tensor:
    return ops.roll(x, tuple(shift), tuple(axis))


@rule("ReverseSequence")
def reverse_sequence(x: Tensor, seq_lengths: Tensor, *, seq_dim: int, batch_dim: int = 0) -> Tensor:
    T = x.shape[seq_dim]
    shape = [1] * x.ndim
    shape[batch_dim] = x.shape[batch_dim]
    lengths = seq_lengths.reshape(shape)
    shape[batch_dim], shape[seq_dim] = 1, T
    steps = ops.cumsum(lengths * 0 + ops.broadcast_to((lengths * 0 + 1), _with(lengths.shape, seq_dim, T)), seq_dim) - 1
    index = ops.where(steps < lengths, lengths - 1 - steps, steps)
    return ops.take_along_dim(x, ops.broadcast_to(index, tuple(x.shape)), seq_dim)


def _with(shape: Sequence[int], dim: int, length: int) -> tuple[int, ...]:
    return (*shape[:dim], length, *shape[dim + 1 :])


# -- repeated elements, padding ----------------------------------------------------------------------------------------


@rule("BroadcastTo")
def broadcast_to(x: Value, shape: Ints) -> Any:
    return np.broadcast_to(x, tuple(shape))


@rule("Tile")
def tile(x: Value, multiples: Ints) -> Any:
    return np.tile(x, multiples)


@rule("Pad")
def pad(x: Tensor, paddings: Ints) -> Tensor:
    return pad_dims(x, list(zip(paddings[::2], paddings[1::2], strict=True)))


@rule("PadV2")
def pad_with(x: Tensor, paddings: Ints, constant: Value) -> Tensor:
    return pad_dims(x, list(zip(paddings[::2], paddings[1::2], strict=True)), value=constant.item())


@rule("MirrorPad")
def mirror_pad(x: Tensor, paddings: Ints, *, mode: str) -> Tensor:
    widths = list(zip(paddings[::2], paddings[1::2], strict=True))
    if mode == "REFLECT":
        return pad_dims(x, widths, "reflect")
    for dim, (before, after) in enumerate(widths):  # with the first and last element
        start = along(x, dim, slice(0, before))
        end = along(x, dim, slice(x.shape[dim] - after, None))
        x = ops.cat([ops.flip(start, dim), x, ops.flip(end, dim)], dim)
    return x


# -- joins and splits --------------------------------------------------------------------------------------------------


@rule("Pack")
def pack(*values: Value, axis: int = 0) -> Any:
    return np.stack(values, axis)


@rule("Unpack")
def unpack(x: Value, *, axis: int = 0, num: int, outputs: int) -> Any:
    return tuple(along(x, axis, number) for number in range(num))


@rule("ConcatV2")
def concat(*values: Value) -> Any:
    *parts, axis = values
    return np.concatenate(parts, int(axis.item()))


@rule("Concat")
def concat_first(axis: Ints, *values: Value) -> Any:
    return np.concatenate(values, axis[0])


@rule("Split")
def split(axis: Ints, x: Value, *, num_split: int) -> Any:
    return split_into(x, axis=axis[0], outputs=num_split)


@rule("SplitV")
def split_sizes(x: Value, sizes: Ints, axis: Ints, *, num_split: int) -> Any:
    known = sum(size for size in sizes if size >= 0)
    sizes = [x.shape[axis[0]] - known if size < 0 else size for size in sizes]
    return split_into(x, sizes, axis=axis[0], outputs=num_split)


# -- slices ------------------------------------------------------------------------------------------------------------


@rule("Slice")
def slice_of(x: Value, begin: Ints, size: Ints) -> Any:
    ends = [x.shape[dim] if n == -1 else b + n for dim, (b, n) in enumerate(zip(begin, size, strict=True))]
    return slices(x, begin, ends)


@rule("StridedSlice")
def strided_slice(
    x: Value,
    begin: Ints,
    end: Ints,
    strides: Ints,
    *,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
) -> Any:
    """Each bit of a mask is about one of the entries."""
    index: list[Any] = []
    for k, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << k
        if ellipsis_mask & bit:
            index.append(Ellipsis)
        elif new_axis_mask & bit:
            index.append(None)
        elif shrink_axis_mask & bit:
            index.append(first)
        else:
            index.append(slice(None if begin_mask & bit else first, None if end_mask & bit else last, step))
    return x[tuple(index)]


@rule("SpaceToBatchND")
def space_to_batch(x: Tensor, block_shape: Ints, paddings: Ints) -> Tensor:
    n = len(block_shape)
    widths = [(0, 0), *zip(paddings[::2], paddings[1::2], strict=True), *[(0, 0)] * (x.ndim - n - 1)]
    x = pad_dims(x, widths)
    B, *lengths = x.shape
    parts = [length for k, block in enumerate(block_shape) for length in (lengths[k] // block, block)]
    x = x.reshape((B, *parts, *lengths[n:]))
    order = [*range(2, 2 * n + 1, 2), 0, *range(1, 2 * n + 1, 2), *range(2 * n + 1, x.ndim)]
    counts = [lengths[k] // block for k, block in enumerate(block_shape)]
    return ops.permute(x, order).reshape((B * math.prod(block_shape), *counts, *lengths[n:]))


@rule("BatchToSpaceND")
def batch_to_space(x: Tensor, block_shape: Ints, crops: Ints) -> Tensor:
    n = len(block_shape)
    B, *lengths = x.shape
    batch = B // math.prod(block_shape)
    x = x.reshape((*block_shape, batch, *lengths))
    order = [n, *(place for k in range(n) for place in (n + 1 + k, k)), *range(2 * n + 1, x.ndim)]
    whole = [length * block for length, block in zip(lengths, block_shape, strict=False)]
    x = ops.permute(x, order).reshape((batch, *whole, *lengths[n:]))
    index = [
        slice(before, length - after) for before, after, length in zip(crops[::2], crops[1::2], whole, strict=True)
    ]
    return x[(slice(None), *index)]


@rule("SpaceToDepth")
def space_to_depth(x: Tensor, *, block_size: int, data_format: str = "NHWC") -> Tensor:
    if data_format == "NCHW":
        return shared.space_to_depth(x, blocksize=block_size)
    return ops.movedim(shared.space_to_depth(ops.movedim(x, -1, 1), blocksize=block_size), 1, -1)


@rule("DepthToSpace")
def depth_to_space(x: Tensor, *, block_size: int, data_format: str = "NHWC") -> Tensor:
    if data_format == "NCHW":
        return shared.depth_to_space(x, blocksize=block_size)
    return ops.movedim(shared.depth_to_space(ops.movedim(x, -1, 1), blocksize=block_size), 1, -1)
