"""Ops that take elements at indices.

Reference: https://onnx.ai/onnx/operators/
"""

from typing import Any

import numpy as np

from ..... import ops
from ....._tensor import Tensor
from .....creation import arange
from ...rules import Ints, Value, rule
from ...shared.indexing import from_start, gather, scatter_elements, scattered, slices

__all__: list[str] = []


# -- along a dimension -------------------------------------------------------------------------------------------------


rule("Gather")(gather)
rule("Slice", since=10)(slices)


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


rule("ScatterElements")(scatter_elements)


@rule("Scatter")
def scatter(data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0) -> Tensor:
    return scatter_elements(data, indices, updates, axis=axis)


@rule("ScatterND")
def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    columns = ops.unbind(indices, -1)
    places = [from_start(each, length) for each, length in zip(columns, data.shape, strict=False)]
    return scattered(data, places, updates, reduction)


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
