"""Ops that change shapes, in ONNX."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....lengths import Length, Size, key
from ....ops import linalg, padding, shape
from ....ops.reduction import Dim
from ....programs.program import Call, Operand, Value
from ..graph import Graph, Input, largest, smallest
from .entries import ENTRIES, Entry, dim_in, dims_in, fixed, writes

_RESHAPED = shape.reshape_op.op  # type: ignore[attr-defined]
_PRODUCTS = (linalg.linear_op.op, linalg.matmul_op.op)  # type: ignore[attr-defined]


@writes(shape.reshape_op)
def _reshaped(g: Graph, x: Operand, lengths: Sequence[Size]) -> str:
    """A length that depends on the inputs is copied from x if that dimension has it, or inferred from the others."""
    out = g.call.result.shape
    if (found := _unflattened(x, out)) is not None:
        product, rows = found
        name: str = ENTRIES[product.function](g, rows, *product.arguments[1:])
        return name
    if 0 in out:  # which would mean a length of x
        return g.node("Reshape", x, g.ints(out), allowzero=1)
    of_x = [key(n) for n in x.shape]
    taken = [0 if isinstance(n, Length) and of_x[d : d + 1] == [n.key] else n for d, n in enumerate(out)]
    left = [d for d, n in enumerate(taken) if isinstance(n, Length)]
    if len(left) == 1:
        taken[left[0]] = -1
    return g.node("Reshape", x, g.ints(taken))


def _unflattened(product: Operand, out: Sequence[Size]) -> tuple[Call, Operand] | None:
    """A product, and its operand before it was flattened, if the product is reshaped to the same dimensions.

    ONNX multiplies rows in any number of dimensions, as they are.

    Args:
        out: the shape that the product is to have.
    """
    call = product.call if isinstance(product, Value) else None
    rows = call.arguments[0] if call is not None and call.function in _PRODUCTS else None
    flattened = rows.call if isinstance(rows, Value) else None
    if call is None or rows is None or flattened is None or flattened.function is not _RESHAPED:
        return None
    given: Operand = flattened.arguments[0]
    if not len(rows.shape) == len(product.shape) == 2 or not given.shape:
        return None
    of_rows, expected = (rows.shape[-1], *out), (given.shape[-1], *given.shape[:-1], product.shape[-1])
    return (call, given) if list(map(key, of_rows)) == list(map(key, expected)) else None


@writes(shape.permute_op)
def _permuted(g: Graph, x: Operand, order: Sequence[int]) -> str:
    return g.node("Transpose", x, perm=list(order)) if list(order) != sorted(order) else g.name(x)


@writes(shape.flip)
def _flip(g: Graph, x: Operand, dim: Dim) -> str:
    dims = dims_in(x, dim)
    ends = [np.full(len(dims), end) for end in (largest, smallest)]
    return g.node("Slice", x, *ends, np.array(dims, np.int64), np.full(len(dims), -1)) if dims else g.name(x)


@writes(shape.roll)
def _roll(g: Graph, x: Operand, shifts: int | Sequence[int], dim: int | Sequence[int] | None) -> str:
    """With Gather, so that shifts may be larger than a length."""
    if dim is None:
        rolled = _rolled(g, g.node("Reshape", x, np.array([-1])), 0, shifts)
        return g.node("Reshape", rolled, g.node("Shape", x), allowzero=1)
    given, dims = (each if isinstance(each, Sequence) else (each,) for each in (shifts, dim))
    name: Input = x
    for shift, each in zip(given, dims) if len(given) == len(dims) else itertools.product(given, dims):
        name = _rolled(g, name, dim_in(x, each), shift)
    return g.name(name)


def _rolled(g: Graph, x: Input, dim: int, shift: Any) -> str:
    length = g.node("Squeeze", g.node("Shape", x, start=dim, end=dim + 1), np.array([0]))
    places = g.node("Range", np.array(0), length, np.array(1))
    around = g.node("Mod", g.node("Sub", places, g.number(shift, np.int64)), g.node("Max", length, np.array(1)))
    return g.node("Gather", x, around, axis=dim)


@writes(shape.broadcast_to_op)
def _broadcasted(g: Graph, x: Operand, lengths: Sequence[Size]) -> str:
    if 0 in lengths:  # which onnxruntime's Expand does not support
        return g.filled(np.zeros(1, x.dtype), lengths)
    return g.node("Expand", x, g.ints(lengths))


@writes(padding.pad_op)
def _padded(g: Graph, x: Operand, widths: Sequence[tuple[Size, Size]], value: float) -> str:
    ends = [before for before, _ in widths] + [after for _, after in widths]
    return g.node("Pad", x, g.ints(ends), g.number(value, x.dtype)) if widths else g.name(x)


@writes(padding.unfold_op)
def _windows(g: Graph, x: Operand, dim: int, size: Size, step: Size) -> str:
    """The elements of each window are gathered: (..., number, size, ...), and the size becomes the last dimension."""
    rank = len(x.shape)
    order = [d for d in range(rank + 1) if d != dim + 1] + [dim + 1]
    room = g.node("Sub", g.node("Shape", x, start=dim, end=dim + 1), np.array([fixed(g, size)]))
    number = g.node("Add", g.node("Div", room, np.array([fixed(g, step)])), np.array([1]))
    places = _places_of_windows(g, number, size, step)
    return g.node("Transpose", g.node("Gather", x, places, axis=dim), perm=order)


def _places_of_windows(g: Graph, number: Input, size: Size, step: Size) -> str:
    """(number, size): the places of the elements of each window."""
    counts = g.node("Range", np.array(0), g.node("Squeeze", number, np.array([0])), np.array(1))
    return g.node(
        "Add",
        g.node("Mul", g.node("Unsqueeze", counts, np.array([1])), np.array(fixed(g, step))),
        np.arange(fixed(g, size)),
    )


@writes(padding.overlapped)
def _overlapped(g: Graph, x: Operand, dim: int, size: Size, step: Size, length: Size) -> str:
    """The windows are moved to the end and added there, at their places in zeros."""
    rank = len(x.shape)
    order = [d for d in range(rank) if d not in (dim, rank - 1)] + [dim, rank - 1]
    flat = [x.shape[d] for d in order[:-2]]
    elements = g.node("Reshape", g.node("Transpose", x, perm=order), g.ints([*flat, x.shape[dim] * size]))
    number = g.node("Shape", x, start=dim, end=dim + 1)
    places = g.node("Reshape", _places_of_windows(g, number, size, step), np.array([-1]))
    zeros = g.filled(np.zeros(1, x.dtype), [*flat, length])
    at = g.node("Expand", places, g.node("Shape", elements))
    added = g.node("ScatterElements", zeros, at, elements, axis=rank - 2, reduction="add")
    return g.node("Transpose", added, perm=[*range(dim), rank - 2, *range(dim, rank - 2)])


@writes(linalg.diagonal_op)
def _diagonal(g: Graph, x: Operand, offset: int, dim1: int, dim2: int) -> str:
    """Both dimensions are moved to the front, where GatherND takes an element of each."""
    rest = [d for d in range(len(x.shape)) if d not in (dim1, dim2)]
    start = np.array([max(-offset, 0), max(offset, 0)])
    places = start + np.arange(fixed(g, g.call.result.shape[-1]))[:, None]
    taken = g.node("GatherND", g.node("Transpose", x, perm=[dim1, dim2, *rest]), places)
    return g.node("Transpose", taken, perm=[*range(1, len(rest) + 1), 0])


def _triangle(upper: bool) -> Entry:
    return lambda g, x, diagonal: g.node("Trilu", x, g.number(diagonal, np.int64), upper=int(upper))


writes(shape.tril)(_triangle(upper=False))
writes(shape.triu)(_triangle(upper=True))


@writes(shape.cat_op)
def _joined(g: Graph, tensors: Sequence[Operand], dim: int) -> str:
    return g.joined(tensors, dim)


@writes(shape.stack_op)
def _layered(g: Graph, tensors: Sequence[Operand], dim: int) -> str:
    return g.joined([g.unsqueezed(x, dim) for x in tensors], dim)


@writes(shape.split_op)
def _pieces(g: Graph, x: Operand, sizes: Sequence[Size], dim: int) -> list[str]:
    return g.several(len(sizes), "Split", x, g.ints(sizes), axis=dim)


@writes(shape.unbind_op)
def _slices(g: Graph, x: Operand, dim: int) -> list[str]:
    return g.unbound(x, dim, len(g.call.results))
