"""Sorting, searching and cumulative ops in ONNX, which does not specify where NaNs are sorted."""

from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import INT64, is_bool, is_float, limits

from ....lengths import Size
from ....ops import cumulative, sorting
from ....programs.program import Operand
from ..graph import Graph, Input
from .entries import Entry, dim_in, wide, writes


def _order(g: Graph, x: Operand, dim: int, largest: bool, first: Size | None) -> str:
    """The indices of sorted elements, or the first of them; TopK takes equal ones by their indices."""
    given = wide(g, x) if is_float(x.dtype) else g.cast(x, np.int64)
    return g.several(
        2, "TopK", given, g.ints([x.shape[dim] if first is None else first]), axis=dim, largest=int(largest)
    )[1]


writes(sorting.argsort_op)(_order)


@writes(sorting.median_index)
def _median_index(g: Graph, x: Operand, dim: int, skip_nan: bool) -> str:
    lengths = [1 if d == dim else length for d, length in enumerate(x.shape)]
    number: Input = g.node("Expand", g.ints([x.shape[dim]]), g.ints(lengths))
    one, two = np.array(1), np.array(2)
    if not is_float(x.dtype):
        place = g.node("Div", g.node("Sub", number, one), two)
    else:
        nans = g.node("ReduceSum", g.cast(g.node("IsNaN", wide(g, x)), np.int64, np.bool_), np.array([dim]))
        numbers = g.node("Sub", number, nans)
        place = g.node("Div", g.node("Max", g.node("Sub", numbers, one), np.array(0)), two)
        if not skip_nan:
            place = g.node("Where", g.node("Greater", nans, np.array(0)), numbers, place)
    return g.node("GatherElements", _order(g, x, dim, False, None), place, axis=dim)


@writes(sorting.median_of_all)
def _median(g: Graph, x: Operand, skip_nan: bool) -> str:
    place = _median_index(g, x, 0, skip_nan)
    return g.node("Squeeze", g.node("Gather", x, place, axis=0), np.array([0]))


@writes(sorting.searchsorted_op)
def _searchsorted(g: Graph, sequence: Operand, values: Operand, right: bool) -> str:
    """The number of elements that are not larger, or not as large; of a NaN, all."""
    dtype = np.int32 if is_bool(sequence.dtype) else sequence.dtype
    rows, each = g.cast(sequence, dtype), g.node("Unsqueeze", g.cast(values, dtype), np.array([-1]))
    rows = g.node("Unsqueeze", rows, np.array([-2])) if len(sequence.shape) > 1 else rows
    before = g.node("Not", g.node("Greater" if right else "GreaterOrEqual", rows, each))
    return g.node("ReduceSum", g.cast(before, np.int64, np.bool_), np.array([-1]), keepdims=0)


@writes(cumulative.cumsum)
def _cumsum(g: Graph, x: Operand, dim: int) -> str:
    given = g.cast(x, g.call.result.dtype)
    return g.node("CumSum", given, np.array(dim_in(x, dim))) if x.shape else g.name(given)


def _so_far(g: Graph, kind: str, x: Operand, given: Input, dim: int, fill: Any, dtype: Any) -> str:
    """A reduction of all elements up to each place along a dimension: of n rows, filled from each place on."""
    places = _places(g, x, dim)
    earlier = g.node("LessOrEqual", places, g.node("Unsqueeze", places, np.array([1])))
    rest = len(x.shape) - dim - 1
    if rest:
        earlier = g.node("Unsqueeze", earlier, np.arange(2, 2 + rest))
    rows = g.node("Where", earlier, g.node("Unsqueeze", given, np.array([dim])), g.number(fill, dtype))
    return g.node(kind, rows, axes=[dim + 1], keepdims=0)


def _places(g: Graph, x: Operand, dim: int) -> str:
    length = g.node("Squeeze", g.ints([x.shape[dim]]))
    return g.node("Range", np.array(0), length, np.array(1))


def _cumulative(kind: str, fill: float) -> Entry:
    def entry(g: Graph, x: Operand, dim: int) -> str:
        dtype = g.call.result.dtype
        return _so_far(g, kind, x, g.cast(x, dtype), dim, fill, dtype)

    return entry


writes(cumulative.cumprod_op)(_cumulative("ReduceProd", 1))
writes(cumulative.logcumsumexp_op)(_cumulative("ReduceLogSumExp", -np.inf))


@writes(cumulative.cummax_index)
def _cummax_index(g: Graph, x: Operand, dim: int, smallest: bool) -> str:
    given = g.cast(x, np.int64) if is_bool(x.dtype) else g.name(x)
    dtype = INT64 if is_bool(x.dtype) else x.dtype
    lowest, highest = (-np.inf, np.inf) if is_float(dtype) else limits(dtype)
    extremes = _so_far(
        g, "ReduceMin" if smallest else "ReduceMax", x, given, dim, highest if smallest else lowest, dtype
    )
    places = g.node("Unsqueeze", _places(g, x, dim), np.arange(1, len(x.shape) - dim))
    found = g.node("Where", g.node("Equal", given, extremes), places, np.array(0))
    return _so_far(g, "ReduceMax", x, found, dim, 0, INT64)
