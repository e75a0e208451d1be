"""The table of how each op is written in ONNX, and what its entries share.

An entry is a function of the graph and the op's arguments. It adds nodes, and returns the name of the result, or a list
of names if there are several.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import widened_dtype

from ....lengths import Derived, Length
from ....ops.reduction import Dim, dim_of, dims_of
from ....programs.program import Call, Operand
from ....programs.recording import UntraceableError
from ..graph import Graph, Input, largest, some

__all__ = [
    "ENTRIES",
    "Entry",
    "as_dtype",
    "at_indices",
    "dim_in",
    "dims_in",
    "fixed",
    "wide",
    "write",
    "write_alike",
    "writes",
]

Entry = Callable[..., Any]

ENTRIES: dict[Any, Entry] = {}
"""The entries, by op, or by function made of ops, which is then written as a whole."""


def writes(*functions: Callable[..., Any]) -> Callable[[Entry], Entry]:
    """Registers a function as the entry of ops, or of functions made of ops."""

    def enter(entry: Entry) -> Entry:
        ENTRIES.update({getattr(function, "op", None) or inspect.unwrap(function): entry for function in functions})
        return entry

    return enter


def write_alike(make: Callable[[str], Entry], kinds: Mapping[Any, str]) -> None:
    """Registers the entries of ops that differ only in the kind of node."""
    for op, kind in kinds.items():
        writes(op)(make(kind))


def _entry_for(name: str, function: Any) -> Entry:
    """The entry of an op.

    Raises:
        ValueError: it has no entry.
    """
    if function not in ENTRIES:
        names = sorted({getattr(known, "name", "") or known.__name__ for known in ENTRIES})
        raise ValueError(
            f"export_onnx: op {name!r} cannot be exported to ONNX; replace it with ops that can be: {', '.join(names)}"
        )
    return ENTRIES[function]


def write(g: Graph, calls: Sequence[Call]) -> None:
    """Writes calls into a graph, in order.

    Raises:
        ValueError: a call has no entry, or its arguments are not supported.
    """
    g.calls = calls
    for call in calls:
        if all(map(g.has, call.results)):  # written together with an earlier call
            continue
        g.call, g.user = call, f"op {call.name!r}"
        try:
            given = _written(g, call)
        except UntraceableError:  # within its step
            raise
        except ValueError as error:
            raise UntraceableError(f"{error} ({call.line})") from None
        for value, name in zip(call.results, [given] if isinstance(given, str) else given, strict=True):
            g.note(value, name)


def _written(g: Graph, call: Call) -> Any:
    """The names of a call's results."""
    if len(numbers := sorted(set(call.numbers))) > 1:
        raise ValueError(
            f"export_onnx: op {call.name!r} returns {numbers[0]} results in one run and {numbers[1]} in another, by "
            "the length of an input, and they are used one by one; use ops that take the whole sequence"
        )
    return _entry_for(call.name, call.function)(g, *call.arguments)


def as_dtype(g: Graph, dtype: Any, x: Any) -> Input:
    """An operand, or a number in its place, in a dtype."""
    return g.number(x, dtype) if isinstance(x, int | float | Derived) else g.cast(x, dtype)


def dims_in(x: Operand, dim: Dim) -> tuple[int, ...]:
    """The dimensions of an op's `dim`, not negative."""
    return dims_of("export_onnx", dim, (0,) * len(x.shape))


def dim_in(x: Operand, dim: int) -> int:
    """The dimension of an op's `dim`, not negative."""
    return dim_of("export_onnx", dim, (0,) * len(x.shape))


def wide(g: Graph, x: Operand) -> Input:
    """A tensor in a float dtype for which ONNX has IsInf and IsNaN."""
    return g.cast(x, widened_dtype(x.dtype))


def at_indices(g: Graph, x: Input, places: Input) -> str:
    """The elements of x along its first dimension; running the graph raises for negative indices.

    A negative index, which would count from the end, becomes one that is too large.
    """
    negative = g.node("Less", places, g.number(0, np.int64))
    return g.node("Gather", x, g.node("Where", negative, g.number(largest, np.int64), places), axis=0)


def fixed(g: Graph, number: Any) -> Any:
    """A number that a node has as an attribute, or that must be known at export.

    Raises:
        ValueError: it depends on the lengths of the inputs.
    """
    if isinstance(number, Length):
        raise ValueError(
            f"export_onnx: op {g.call.name!r} takes the number {some(number.values)}, by the lengths of the inputs, "
            "and ONNX takes none there that is not always the same; leave that dimension out of dynamic="
        )
    return number
