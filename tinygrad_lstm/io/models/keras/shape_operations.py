"""The operations of Keras 3 that change shapes, and those that pick, repeat and join elements."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .... import ops
from ...._tensor import Tensor, as_tensor
from .operations import Axis, axes_of, operation, tensors

__all__ = ["get_item"]


def _lengths(x: Tensor, shape: Any) -> list[int]:
    """A shape whose free lengths are None or -1, or tensors."""
    return [-1 if each is None else int(each.item()) if isinstance(each, Tensor) else int(each) for each in shape]


@operation("Reshape")
def reshape(x: Tensor, newshape: Any) -> Tensor:
    lengths = _lengths(x, newshape)
    if lengths.count(-1) > 1 and lengths[0] == -1:
        lengths[0] = x.shape[0]
    return x.reshape(lengths)


@operation("ExpandDims")
def expand_dims(x: Tensor, axis: Any) -> Tensor:
    axes = [axis] if isinstance(axis, int) else axis
    for each in sorted(each % (x.ndim + len(axes)) for each in axes):
        x = x.unsqueeze(each)
    return x


@operation("Squeeze")
def squeeze(x: Tensor, axis: Axis = None) -> Tensor:
    return ops.squeeze(x, axis if axis is None or isinstance(axis, int) else tuple(axis))


@operation("Transpose")
def transpose(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    return ops.permute(x, tuple(axes) if axes is not None else tuple(range(x.ndim))[::-1])


@operation("Swapaxes")
def swapaxes(x: Tensor, axis1: int, axis2: int) -> Tensor:
    return ops.swapaxes(x, axis1, axis2)


@operation("Moveaxis")
def moveaxis(x: Tensor, source: Any, destination: Any) -> Tensor:
    return ops.movedim(x, axes_of(source), axes_of(destination))


@operation("Concatenate")
def concatenate(xs: Sequence[Any], axis: int = 0) -> Tensor:
    return ops.cat(tensors(*xs), dim=axis)


@operation("Stack")
def stack(x: Sequence[Any], axis: int = 0) -> Tensor:
    return ops.stack(tensors(*x), dim=axis)


def _parts(parts: tuple[Tensor, ...]) -> Any:
    """The results of an operation; a single one is not in a tuple."""
    return parts if len(parts) > 1 else parts[0]


@operation("Split")
def split(x: Tensor, indices_or_sections: Any, axis: int = 0) -> Any:
    length = x.shape[axis]
    if isinstance(indices_or_sections, int):
        return _parts(ops.split(x, length // indices_or_sections, axis))
    ends = [0, *indices_or_sections, length]
    return _parts(ops.split(x, [end - begin for begin, end in itertools.pairwise(ends)], axis))


@operation("Unstack")
def unstack(x: Tensor, num: int | None = None, axis: int = 0) -> Any:
    return _parts(ops.unbind(x, axis))


@operation("GetItem")
def get_item(x: Tensor, key: Any) -> Tensor:
    return x[tuple(key)] if isinstance(key, list) else x[key]


@operation("Take")
def take(x: Tensor, indices: Any, axis: int | None = None) -> Tensor:
    places = indices if isinstance(indices, Tensor) else as_tensor(np.asarray(indices), x.device)
    if axis is None:
        return x.reshape(-1)[places]
    return x[(slice(None),) * (axis % x.ndim) + (places.astype("int64"),)]


@operation("Flip")
def flip(x: Tensor, axis: Axis = None) -> Tensor:
    return ops.flip(x, axes_of(axis))


@operation("Roll")
def roll(x: Tensor, shift: Any, axis: Any = None) -> Tensor:
    return ops.roll(x, axes_of(shift), axes_of(axis))


@operation("Tile")
def tile(x: Tensor, repeats: Any) -> Tensor:
    return ops.tile(x, [repeats] if isinstance(repeats, int) else _lengths(x, repeats))


@operation("Repeat")
def repeat(x: Tensor, repeats: int, axis: int | None = None) -> Tensor:
    return ops.repeat_interleave(x, repeats, axis)


@operation("BroadcastTo")
def broadcast_to(x: Tensor, shape: Any) -> Tensor:
    return ops.broadcast_to(x, _lengths(x, shape))


@operation("Pad")
def pad(x: Tensor, constant_values: Any = None, pad_width: Any = 0, mode: str = "constant") -> Tensor:
    pairs: list[Any] = [pad_width] * x.ndim if isinstance(pad_width, int) else list(pad_width)
    pairs = [(each, each) if isinstance(each, int) else tuple(each) for each in pairs]
    if mode == "symmetric":
        return _mirrored(x, pairs)
    widths = [number for pair in reversed(pairs) for number in pair]
    return ops.pad(x, widths, mode, float(constant_values or 0.0))


def _mirrored(x: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """x continued at the ends of each dimension by its elements in reverse order, the last one first."""
    for dim, (before, after) in enumerate(pairs):
        length = x.shape[dim]
        if max(before, after) > length:
            raise ValueError(f"pads of {before} and {after}, but the dimension {dim} has {length} elements")
        first = ops.split(x, [before, length - before], dim)[0]
        last = ops.split(x, [length - after, after], dim)[1]
        x = ops.cat([ops.flip(first, dim), x, ops.flip(last, dim)], dim)
    return x
