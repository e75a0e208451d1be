"""Elements at indices; settings have ONNX's names and meaning."""

import operator
from typing import Any

import numpy as np

from .... import ops
from ...._tensor import Tensor
from ....creation import arange
from ..body import plain_array
from ..rules import Ints, Value, tensors

__all__ = ["all_but", "from_start", "gather", "scatter_elements", "scattered", "slices"]


def all_but(dim: int, index: Any) -> tuple[Any, ...]:
    """The index that selects along a dimension, which is not negative."""
    return (*(slice(None),) * dim, index)


def from_start(index: Tensor, length: int) -> Tensor:
    """Indices of which negative ones count from the end, as indices that count from the start."""
    return ops.where(index < 0, index + length, index)


def gather(data: Any, indices: Value, *, axis: int = 0) -> Any:
    if isinstance(indices, Tensor):
        data, indices = tensors(data, indices)
        return data[all_but(axis % data.ndim, indices)]
    if isinstance(data, Tensor) and not indices.ndim:  # a view
        return data[all_but(axis % data.ndim, indices.item())]
    return np.take(data, plain_array(indices), axis)


def slices(data: Value, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None) -> Any:
    index = [slice(None)] * data.ndim
    for dim, start, end, step in zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=True):
        if step < 0 and start < -data.shape[dim]:  # where NumPy selects nothing, ONNX starts at the first element
            start = 0
        index[dim] = slice(start, end, step)
    return data[tuple(index)]


def scatter_elements(
    data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    places: list[Tensor] = [
        arange(length, device=data.device).reshape((-1, *(1,) * (data.ndim - 1 - dim)))
        for dim, length in enumerate(indices.shape)
    ]
    places[axis] = from_start(indices, data.shape[axis])
    return scattered(data, [ops.broadcast_to(each, indices.shape) for each in places], updates, reduction)


def scattered(data: Tensor, places: list[Tensor], updates: Tensor, reduction: str) -> Tensor:
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
