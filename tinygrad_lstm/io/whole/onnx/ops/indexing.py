"""Ops that take elements at indices.

Reference: https://onnx.ai/onnx/operators/
"""

from typing import Any

import numpy as np

from ....._tensor import Tensor
from ..rules import Ints, Value, rule, tensors

__all__: list[str] = []


@rule("Gather")
def gather(data: Any, indices: Any, *, axis: int = 0) -> Any:
    if isinstance(indices, Tensor):
        data, indices = tensors(data, indices)
    elif isinstance(data, Tensor) and not indices.ndim:  # a view
        return data[(slice(None),) * (axis % data.ndim) + (indices.item(),)]
    return np.take(data, indices, axis)


@rule("Slice", since=10)
def slices(data: Value, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None) -> Any:
    index = [slice(None)] * data.ndim
    for dim, start, end, step in zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=True):
        index[dim] = slice(start, end, step)
    return data[tuple(index)]


@rule("Slice")
def slices_at(data: Value, *, starts: list[int], ends: list[int], axes: list[int] | None = None) -> Any:
    return slices(data, starts, ends, axes)
