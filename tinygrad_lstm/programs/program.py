"""What a model computes, as a list of calls of ops that holds for inputs of every length."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..lengths import Size, sources

__all__ = [
    "Call",
    "Constant",
    "Loop",
    "Operand",
    "Program",
    "Value",
    "leaves",
    "needed",
    "operands",
    "full_index",
    "taken",
]


# -- tensors -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that does not depend on the inputs' values.

    Attributes:
        arrays: its values in both runs, which differ only if it depends on the inputs' lengths.
        shape: its shape.
        name: the name of the parameter or buffer; "" for other tensors.
    """

    arrays: tuple[HostArray, HostArray]
    shape: tuple[Size, ...]
    name: str = ""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The elements' type."""
        return self.arrays[0].dtype

    @functools.cached_property
    def array(self) -> HostArray | None:
        """The values, if they were the same in both runs."""
        before, now = self.arrays
        return now if now is before or _equal(before, now) else None

    @functools.cached_property
    def filling(self) -> HostArray | None:
        """The number, as an array (1,), that all elements were in both runs, if there is one; 0 without elements."""
        first = next((array.reshape(-1)[:1] for array in self.arrays if array.size), np.zeros(1, self.dtype))
        filled = (np.broadcast_to(first.reshape(()), array.shape) for array in self.arrays)
        return first if all(map(_equal, filled, self.arrays)) else None


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that is an input or the result of a call.

    Attributes:
        shape, dtype: those of the tensor.
        call: the call that returns it; None for an input, and for the inputs of a step.
        varies: whether it depends on the inputs' values, not only on their lengths.
    """

    shape: tuple[Size, ...]
    dtype: np.dtype[Any]
    call: "Call | None"
    varies: bool = True


Operand: TypeAlias = Value | Constant


def _equal(a: HostArray, b: HostArray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)


# -- calls -------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Call:
    """An op, or a function made of ops, applied.

    Attributes:
        name: its name in messages.
        function: the op, or the function.
        arguments: all arguments in order, with operands in place of tensors and arrays.
        place: the name of a recurrent layer's place in the model.
        numbers: the number of results in each run.
        line: the user's line that called it, or the part of a file's model that it belongs to.
        results: the results that it has in both runs.
    """

    name: str
    function: Any
    arguments: Sequence[Any]
    place: str
    numbers: Sequence[int]
    line: str
    results: list[Operand] = field(default_factory=list)

    @property
    def result(self) -> Operand:
        """The result, if there is only one."""
        return self.results[0]


@dataclass(frozen=True, eq=False)
class Loop:
    """One step of a scan.

    Attributes:
        before: the states before the step.
        items: the elements that the step uses, each with the call that unbinds its sequence.
        calls: the calls of the step.
        after: the states after the step.
        outer: the operands that it uses from outside, including the sequences.
    """

    before: list[Value]
    items: Mapping[Value, Call]
    calls: list[Call]
    after: list[Operand]
    outer: list[Operand]


@dataclass(frozen=True)
class Program:
    """What a model computes.

    Attributes:
        inputs: the model's inputs.
        calls: the calls that the outputs need, each after the calls whose results it uses.
        outputs: the model's outputs, by name.
    """

    inputs: list[Value]
    calls: list[Call]
    outputs: Mapping[str, Operand]


def leaves(argument: Any) -> Iterator[Any]:
    """The values in a call's arguments, including those in lists, tuples and slices; for a step, its outer operands."""
    if isinstance(argument, Loop):
        yield from argument.outer
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from leaves(part)
    elif isinstance(argument, slice):
        yield from leaves((argument.start, argument.stop, argument.step))
    else:
        yield argument


def operands(arguments: Any) -> list[Operand]:
    """The operands in a call's arguments."""
    return [leaf for leaf in leaves(arguments) if isinstance(leaf, Value | Constant)]


def taken(arguments: Any) -> list[Operand]:
    """The operands in a call's arguments, and those whose lengths it uses."""
    found: list[Operand] = []
    for leaf in leaves(arguments):
        found += [leaf] if isinstance(leaf, Value | Constant) else sources(leaf)
        if isinstance(leaf, Constant):
            found += [source for size in leaf.shape for source in sources(size)]
    return found


def needed(outputs: Sequence[Operand]) -> list[Call]:
    """The calls that these outputs need, each after the calls whose results it uses."""
    found: dict[Call, None] = {}  # in order
    stack = [(output, False) for output in reversed(taken(outputs))]
    while stack:
        operand, ready = stack.pop()
        call = operand.call if isinstance(operand, Value) else None
        if call is None or call in found:
            continue
        if ready:
            found[call] = None
        else:
            stack.append((operand, True))
            stack += [(each, False) for each in reversed(taken(call.arguments))]
    return list(found)


def full_index(index: Any, ndim: int) -> list[Any]:
    """The parts of an index, with `...` and missing parts at the end replaced by slices."""
    parts = list(index) if isinstance(index, tuple) else [index]
    rest = [slice(None)] * (ndim - sum(part is not None and part is not Ellipsis for part in parts))
    at = next((k for k, part in enumerate(parts) if part is Ellipsis), None)
    return [*parts, *rest] if at is None else [*parts[:at], *rest, *parts[at + 1 :]]
