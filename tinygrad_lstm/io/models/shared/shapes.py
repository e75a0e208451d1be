"""Shapes, joins and splits; settings have ONNX's names and meaning."""

from typing import Any

from .... import ops
from ...._tensor import Tensor
from ..rules import Ints, Value

__all__ = ["broadcast", "depth_to_space", "distinct_dims", "space_to_depth", "split_into", "squeeze"]


def squeeze(data: Value, axes: Ints | None = None) -> Any:
    dims = distinct_dims(axes, data.ndim) if axes else {d for d, length in enumerate(data.shape) if length == 1}
    if longer := [dim for dim in dims if data.shape[dim] != 1]:
        raise ValueError(f"Squeeze: dimensions {longer} of shape {tuple(data.shape)} are not of length 1")
    return data.reshape(tuple([length for dim, length in enumerate(data.shape) if dim not in dims]))


def distinct_dims(axes: list[int], ndim: int) -> set[int]:
    """Axes, of which negative ones count from the end."""
    if outside := [axis for axis in axes if not -ndim <= axis < ndim]:
        raise ValueError(f"axes {outside}: expected numbers from {-ndim} to {ndim - 1}")
    return {axis % ndim for axis in axes}


def broadcast(*shapes: Any) -> tuple[int, ...]:
    """The shape to which shapes broadcast; lengths keep where they came from."""
    ndim = max(map(len, shapes))
    padded = [(1,) * (ndim - len(each)) + tuple(each) for each in shapes]
    longer = [[length for length in lengths if length != 1] for lengths in zip(*padded, strict=True)]
    if any(length != lengths[0] for lengths in longer for length in lengths):
        raise ValueError(f"the shapes {', '.join(str(tuple(each)) for each in shapes)} do not broadcast")
    return tuple(lengths[0] if lengths else 1 for lengths in longer)


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


def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    batch, depth, *lengths = x.shape
    n, b = len(lengths), blocksize
    channels = depth // b**n
    first = (b,) * n + (channels,) if mode == "DCR" else (channels,) + (b,) * n
    blocks, channel = (range(1, n + 1), n + 1) if mode == "DCR" else (range(2, n + 2), 1)
    order = [0, channel, *[dim for k in range(n) for dim in (n + 2 + k, blocks[k])]]
    apart = ops.permute(x.reshape((batch, *first, *lengths)), order)
    return apart.reshape((batch, channels, *[length * b for length in lengths]))


def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    batch, channels, *lengths = x.shape
    n, b = len(lengths), blocksize
    apart = x.reshape((batch, channels, *[part for length in lengths for part in (length // b, b)]))
    blocks, places = [3 + 2 * k for k in range(n)], [2 + 2 * k for k in range(n)]
    order = [0, *blocks, 1, *places] if mode == "DCR" else [0, 1, *blocks, *places]
    return ops.permute(apart, order).reshape((batch, channels * b**n, *[length // b for length in lengths]))
