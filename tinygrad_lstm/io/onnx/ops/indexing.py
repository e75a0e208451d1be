"""Indexing ops in ONNX."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import is_bool, is_integer

from ....lengths import Length, Size
from ....ops import indexing
from ....programs.program import Constant, Operand, Value, full_index
from ..graph import Graph, Input, largest, smallest
from .entries import at_indices, dim_in, fixed, writes


def index_of(g: Graph, index: Any) -> Input:
    """An index of integers in ONNX's form.

    Raises:
        ValueError: it is a mask that is not a one-dimensional constant.
    """
    if isinstance(index, Constant) and index.array is not None and is_bool(index.dtype) and len(index.shape) == 1:
        return np.flatnonzero(index.array)
    if isinstance(index, bool) or (isinstance(index, Value | Constant) and not is_integer(index.dtype)):
        raise ValueError(
            f"export_onnx: op {g.call.name!r} is given a mask, and how many elements it takes depends on the input's "
            "values; use tg.where"
        )
    return g.cast(index, np.int64)


@writes(indexing.getitem_op)
def _getitem(g: Graph, x: Operand, index: Any) -> str:
    """Slices first, then integers, which remove dimensions from the last to the first, then new dimensions."""
    parts = full_index(index, len(x.shape))
    of_x = [part for part in parts if part is not None]  # one for each dimension
    slices = {dim: part for dim, part in enumerate(of_x) if isinstance(part, slice)}
    numbers = {dim: part for dim, part in enumerate(of_x) if type(part) in (int, Length)}
    arrays = {dim: part for dim, part in enumerate(of_x) if dim not in slices and dim not in numbers}
    new, rank = _new_dims(g, parts, arrays)
    taken = _sliced(g, x, slices)
    if arrays:
        if numbers or (len(arrays) > 1 and list(arrays) != list(range(len(arrays)))):
            raise ValueError(
                "export_onnx: op 'getitem' is given arrays as an index together with numbers, or for dimensions that "
                "are not the first; index by one after the other"
            )
        shape = [length for dim, length in enumerate(g.call.result.shape) if dim not in new][:rank]
        taken = _at_arrays(g, taken, arrays, shape)
    for dim, number in reversed(numbers.items()):
        taken = g.node("Gather", taken, g.number(number, np.int64), axis=dim)
    return g.node("Unsqueeze", taken, np.array(new)) if new else g.name(taken)


def _new_dims(g: Graph, parts: Sequence[Any], arrays: Mapping[int, Any]) -> tuple[list[int], int]:
    """The positions of new dimensions in the result, and the number of dimensions of the broadcast index arrays."""
    kept = sum(part is None or isinstance(part, slice) for part in parts)
    rank = len(g.call.result.shape) - kept
    first = next(iter(arrays.values()), None)
    new, at = [], 0
    for part in parts:
        new += [at] if part is None else []
        at += 1 if part is None or isinstance(part, slice) else rank if part is first else 0
    return new, rank


def _at_arrays(g: Graph, x: Input, arrays: Mapping[int, Any], shape: Sequence[Size]) -> str:
    """The elements at index arrays, along one dimension or along several first dimensions."""
    if len(arrays) == 1:
        ((dim, array),) = arrays.items()
        return g.node("Gather", x, index_of(g, array), axis=dim)
    places = [g.node("Expand", index_of(g, array), g.ints(shape)) for array in arrays.values()]
    return g.node(
        "GatherND", x, g.node("Concat", *(g.node("Unsqueeze", each, np.array([-1])) for each in places), axis=-1)
    )


def _sliced(g: Graph, x: Input, slices: Mapping[int, slice]) -> Input:
    cut = {dim: part for dim, part in slices.items() if part != slice(None)}
    if not cut:
        return x
    # For a backward slice from before the first element Python returns nothing, but ONNX returns that element. So the
    # range is cut out first.
    if cut_out := {dim: _forward(part) for dim, part in cut.items() if _begins_from_end(part)}:
        x = _sliced(g, x, cut_out)
        cut |= {dim: slice(None, None, cut[dim].step) for dim in cut_out}
    starts, ends, steps = [], [], []
    for part in cut.values():
        step = 1 if part.step is None else fixed(g, part.step)
        first, last = (0, largest) if step > 0 else (largest, smallest)
        starts.append(first if part.start is None else part.start)
        ends.append(last if part.stop is None else part.stop)
        steps.append(step)
    return g.node("Slice", x, g.ints(starts), g.ints(ends), np.array(list(cut)), np.array(steps))


def _begins_from_end(part: slice) -> bool:
    """Whether a slice goes backward from an index counted from the end, which may be out of range."""
    known = type(part.step) is type(part.start) is int and not isinstance(part.stop, Length)
    return known and part.step < 0 and part.start < -1


def _forward(part: slice) -> slice:
    """The range of a backward slice, as a forward slice with step 1."""
    return slice(None if part.stop is None else part.stop + 1 or largest, part.start + 1)


@writes(indexing.gather)
def _gather(g: Graph, x: Operand, dim: int, index: Any) -> str:
    if not x.shape:
        return g.node("Gather", g.node("Reshape", x, np.array([-1])), index_of(g, index), axis=0)
    return g.node("GatherElements", x, index_of(g, index), axis=dim_in(x, dim))


@writes(indexing.take_along_axis)
def _take_along_axis(g: Graph, x: Operand, indices: Any, dim: int) -> str:
    dim, lengths = dim_in(x, dim), list(g.call.result.shape)
    wide = [*lengths[:dim], x.shape[dim], *lengths[dim + 1 :]]
    places = g.node("Expand", index_of(g, indices), g.ints(lengths))
    return g.node("GatherElements", g.node("Expand", x, g.ints(wide)), places, axis=dim)


@writes(indexing.index_select)
def _index_select(g: Graph, x: Operand, dim: int, index: Any) -> str:
    return g.node("Gather", x, index_of(g, index), axis=dim_in(x, dim)) if x.shape else g.name(x)


@writes(indexing.embedding)
def _embedding(g: Graph, ids: Any, weight: Operand, padding_idx: int | None) -> str:
    places = index_of(g, ids)
    return at_indices(g, weight, places) if isinstance(ids, Value) else g.node("Gather", weight, places, axis=0)
