"""Ops that write or add at indices in ONNX, and those that select elements by their place."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import BOOL, INT64

from ....lengths import Size
from ....ops import scattering
from ....programs.program import Constant, Operand, Value
from ..graph import Graph, Input
from .entries import as_dtype, dim_in, fixed, writes
from .indexing import index_of

FLAT = np.array([-1])


def _shape(value: Any) -> tuple[Size, ...]:
    return tuple(value.shape if isinstance(value, Value | Constant) else np.shape(value))


def _flat(g: Graph, x: Input) -> str:
    return g.node("Reshape", x, FLAT)


def _expanded(g: Graph, x: Input, shape: Sequence[Size], to: Sequence[Size]) -> Input:
    return x if tuple(shape) == tuple(to) else g.node("Expand", x, g.ints(to))


def _scattered(g: Graph, x: Operand, dim: int | None, index: Input, values: Input, adds: bool) -> str:
    """x with values of the index's shape written or added along `dim`; None for x in one dimension."""
    reduction = {"reduction": "add"} if adds else {}
    if dim is not None and x.shape:
        return g.node("ScatterElements", x, index, values, axis=dim_in(x, dim), **reduction)
    out = g.node("ScatterElements", _flat(g, x), _flat(g, index), _flat(g, values), **reduction)
    return g.node("Reshape", out, g.ints(x.shape), allowzero=1)


@writes(scattering.scatter)
def _scatter(g: Graph, x: Operand, dim: int, index: Any, src: Any, value: Any, reduce: str | None) -> str:
    src = value if src is None else src
    shape, longer, values = _shape(index), _shape(src), as_dtype(g, x.dtype, src)
    if shape and longer and longer != shape:  # the elements beyond the index are not used
        values = g.node("Slice", values, np.zeros(len(shape), np.int64), g.ints(shape))
    elif shape:
        values = _expanded(g, values, longer, shape)
    return _scattered(g, x, dim if shape else None, index_of(g, index), values, reduce == "add")


@writes(scattering.scatter_add)
def _scatter_add(g: Graph, x: Operand, dim: int, index: Any, src: Any) -> str:
    out: str = _scatter(g, x, dim, index, src, None, "add")
    return out


def _slices(g: Graph, x: Operand, dim: int, index: Any, source: Any, adds: bool, alpha: float = 1) -> str:
    lengths, number = x.shape or (1,), (*_shape(index), 1)[0]
    dim = dim_in(x, dim) if x.shape else 0
    shape = (*lengths[:dim], number, *lengths[dim + 1 :])
    others = [d for d in range(len(lengths)) if d != dim]
    places, values = _flat(g, index_of(g, index)), as_dtype(g, x.dtype, source)
    if others:
        places = g.node("Expand", g.node("Unsqueeze", places, np.array(others)), g.ints(shape))
    if alpha != 1:
        values = g.node("Mul", values, np.array(alpha, x.dtype))
    return _scattered(g, x, dim, places, _expanded(g, values, _shape(source), shape), adds)


@writes(scattering.index_add)
def _index_add(g: Graph, x: Operand, dim: int, index: Any, source: Any, alpha: float) -> str:
    return _slices(g, x, dim, index, source, True, alpha)


@writes(scattering.index_copy, scattering.index_fill)
def _index_copy(g: Graph, x: Operand, dim: int, index: Any, source: Any) -> str:
    return _slices(g, x, dim, index, source, False)


@writes(scattering.take)
def _take(g: Graph, x: Operand, index: Any) -> str:
    return g.node("Gather", _flat(g, x), index_of(g, index), axis=0)


@writes(scattering.put)
def _put(g: Graph, x: Operand, index: Any, source: Any, accumulate: bool) -> str:
    values, shape = as_dtype(g, x.dtype, source), _shape(source)
    values = values if shape else _expanded(g, values, shape, _shape(index))
    return _scattered(g, x, None, index_of(g, index), values, accumulate)


@writes(scattering.index_put)
def _index_put(g: Graph, x: Operand, indices: Sequence[Any], values: Any, accumulate: bool) -> str:
    places = [index_of(g, index) for index in indices]
    shapes = [
        (len(place),) if isinstance(place, np.ndarray) and place.ndim == 1 else _shape(index)
        for place, index in zip(places, indices, strict=True)
    ]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"export_onnx: op 'index_put' is given indices of shapes {shapes}; expand them to one shape")
    to = (*shapes[0], *x.shape[len(places) :])
    at = g.node("Concat", *(g.node("Unsqueeze", place, FLAT) for place in places), axis=-1)
    written = _expanded(g, as_dtype(g, x.dtype, values), _shape(values), to)
    return g.node("ScatterND", x, at, written, **({"reduction": "add"} if accumulate else {}))


@writes(scattering.masked_select)
def _masked_select(g: Graph, x: Operand, mask: Any) -> str:
    if isinstance(mask, Value):
        raise ValueError(
            "export_onnx: op 'masked_select' is given a mask, and how many elements it takes depends on the input's "
            "values; use tg.where"
        )
    shape = np.broadcast_shapes(x.shape, _shape(mask))
    wide = [_flat(g, _expanded(g, each, _shape(each), shape)) for each in (x, g.cast(mask, BOOL))]
    return g.node("Compress", *wide)


@writes(scattering.one_hot)
def _one_hot(g: Graph, x: Operand, num_classes: int) -> str:
    number = fixed(g, num_classes)
    if number < 0:
        raise ValueError("export_onnx: op 'one_hot' counts classes by the input's values; give it num_classes")
    ids = g.cast(x, INT64)
    inside = g.node("Where", g.node("Less", ids, g.number(0, INT64)), g.number(number, INT64), ids)
    return g.node("OneHot", inside, np.array(number), np.array([0, 1]), axis=-1)
