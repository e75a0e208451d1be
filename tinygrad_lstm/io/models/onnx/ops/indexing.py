"""Ops that take elements at indices.

Reference: https://onnx.ai/onnx/operators/
"""

import operator
from typing import Any

import numpy as np

from ..... import ops
from ....._tensor import Tensor
from .....creation import arange
from ...body import plain_array
from ...rules import Ints, Value, rule, tensors

__all__ = ["all_but", "from_start"]


def all_but(dim: int, index: Any) -> tuple[Any, ...]:
    """The index that selects along a dimension, which is not negative."""
    return (*(slice(None),) * dim, index)


def from_start(index: Tensor, length: int) -> Tensor:
    """Indices of which negative ones count from the end, as indices that count from the start."""
    return ops.where(index < 0, index + length, index)


# -- along a dimension -------------------------------------------------------------------------------------------------


@rule("Gather")
def gather(data: Any, indices: Value, *, axis: int = 0) -> Any:
    if isinstance(indices, Tensor):
        data, indices = tensors(data, indices)
        return data[all_but(axis % data.ndim, indices)]
    if isinstance(data, Tensor) and not indices.ndim:  # a view
        return data[all_but(axis % data.ndim, indices.item())]
    return np.take(data, plain_array(indices), axis)


@rule("GatherElements")
def gather_elements(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    return ops.gather(data, axis, from_start(indices, data.shape[axis]))


@rule("GatherND")
def gather_nd(data: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    batch = [
        arange(length, device=data.device).reshape((-1, *(1,) * (indices.ndim - 2 - dim)))
        for dim, length in enumerate(data.shape[:batch_dims])
    ]
    return data[(*batch, *ops.unbind(indices, -1))]


@rule("Slice", since=10)
def slices(data: Value, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None) -> Any:
    index = [slice(None)] * data.ndim
    for dim, start, end, step in zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=True):
        if step < 0 and start < -data.shape[dim]:  # where NumPy selects nothing, ONNX starts at the first element
            start = 0
        index[dim] = slice(start, end, step)
    return data[tuple(index)]


@rule("Slice")
def slices_at(data: Value, *, starts: list[int], ends: list[int], axes: list[int] | None = None) -> Any:
    return slices(data, starts, ends, axes)


@rule("Compress")
def compress(data: Tensor, condition: Tensor, *, axis: int | None = None) -> Any:
    data = data.reshape(-1) if axis is None else data
    return np.take(data, ops.nonzero(condition).reshape(-1), axis or 0)


@rule("ReverseSequence")
def reverse_sequence(x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """Reverses the first steps of each sequence; those after its end remain."""
    x = ops.movedim(x, (time_axis, batch_axis), (0, 1))
    steps = ops.unsqueeze(arange(x.shape[0], device=x.device), 1)
    reversed_steps = ops.where(steps < lengths, lengths - 1 - steps, steps)
    reversed_x = x[reversed_steps, arange(x.shape[1], device=x.device)]
    return ops.movedim(reversed_x, (0, 1), (time_axis, batch_axis))


# -- indices of elements -----------------------------------------------------------------------------------------------


@rule("NonZero")
def nonzero(x: Tensor) -> Tensor:
    places: Tensor = ops.nonzero(x)
    return places.T


@rule("OneHot")
def one_hot(indices: Tensor, depth: Ints, values: Tensor, *, axis: int = -1) -> Tensor:
    classes = arange(depth[0], device=indices.device)
    hot = ops.unsqueeze(from_start(indices, depth[0]), -1) == classes
    off, on = values
    return ops.movedim(ops.where(hot, on, off), -1, axis)


# -- scattering --------------------------------------------------------------------------------------------------------


@rule("ScatterElements")
def scatter_elements(
    data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    places: list[Tensor] = [
        arange(length, device=data.device).reshape((-1, *(1,) * (data.ndim - 1 - dim)))
        for dim, length in enumerate(indices.shape)
    ]
    places[axis] = from_start(indices, data.shape[axis])
    return _scattered(data, [ops.broadcast_to(each, indices.shape) for each in places], updates, reduction)


@rule("Scatter")
def scatter(data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0) -> Tensor:
    return scatter_elements(data, indices, updates, axis=axis)


@rule("ScatterND")
def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    columns = ops.unbind(indices, -1)
    places = [from_start(each, length) for each, length in zip(columns, data.shape, strict=False)]
    return _scattered(data, places, updates, reduction)


def _scattered(data: Tensor, places: list[Tensor], updates: Tensor, reduction: str) -> Tensor:
    """Writes updates at places, an index for each of the first dimensions, or combines them with what is there."""
    if reduction in ("none", "add"):
        return ops.index_put(data, places, updates, accumulate=reduction == "add")
    combine = {"mul": operator.mul, "max": ops.maximum, "min": ops.minimum}[reduction]
    lengths = data.shape[: len(places)]
    flat = data.reshape((-1, *data.shape[len(places) :]))
    rows = np.ravel_multi_index([each.detach().cpu().numpy().reshape(-1) for each in places], lengths)
    updates = updates.reshape((-1, *flat.shape[1:]))
    for turn in _turns(rows):
        at = rows[turn]
        flat = ops.index_put(flat, [at], combine(flat[at], updates[turn]))
    return flat.reshape(data.shape)


def _turns(rows: Any) -> list[Any]:
    """Positions of row numbers, in groups: the first occurrence of each number, then the second, ..."""
    order = np.argsort(rows, kind="stable")
    _, first, counts = np.unique(rows[order], return_index=True, return_counts=True)
    turn = np.arange(len(rows)) - np.repeat(first, counts)
    return [order[turn == number] for number in range(int(turn.max(initial=-1)) + 1)]


@rule("TensorScatter")
def tensor_scatter(
    cache: Tensor, update: Tensor, write_indices: Tensor | None = None, *, axis: int = -2, mode: str = "linear"
) -> Tensor:
    """Writes an update of some steps into a cache, for each row of the batch from an index on."""
    axis %= cache.ndim
    cache, update = ops.movedim(cache, axis, 1), ops.movedim(update, axis, 1)
    steps = arange(update.shape[1], device=cache.device)
    if write_indices is not None:
        steps = ops.unsqueeze(write_indices, 1) + steps
    rows = ops.unsqueeze(arange(cache.shape[0], device=cache.device), 1)
    steps = steps % cache.shape[1] if mode == "circular" else steps
    return ops.movedim(ops.index_put(cache, [rows, steps], update), 1, axis)
