"""Tensors made from lengths, in ONNX; `Graph.filled` makes those that depend only on a shape."""

from typing import Any

from tinygrad_lstm.backends.dtypes import FLOAT64, INT64

from .... import creation
from ....lengths import Length, Size
from ..graph import Graph, Input
from .entries import writes


@writes(creation.full)
def _full(g: Graph, shape: Any, value: Any, dtype: Any, device: Any, requires_grad: bool) -> str:
    lengths: list[Size] = list(shape) if isinstance(shape, tuple | list) else [shape]
    return g.node("Expand", g.number(value, g.call.result.dtype), g.ints(lengths))


@writes(creation.arange)
def _arange(g: Graph, start: Any, stop: Any, step: Any, dtype: Any, device: Any, requires_grad: bool) -> str:
    given = [0, start, step] if stop is None else [start, stop, step]
    kind = INT64 if all(isinstance(each, int | Length) for each in given) else FLOAT64
    ends: list[Input] = [g.number(each, kind) for each in given]
    return g.name(g.cast(g.node("Range", *ends), g.call.result.dtype, kind))
