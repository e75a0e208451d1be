"""What a model computes, as a list of calls of ops that is the same for inputs of every length."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ...tracing.lengths import Size, sources

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
    "spelled_out",
    "taken",
]


# -- tensors -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that no input has a part in.

    Attributes:
        arrays: what it was in both runs: the same, unless the lengths of the inputs have a part in it.
        shape: as of a tensor.
        name: that of the parameter or buffer that it is; "" of others.
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
        """The number, in an array (1,), that all elements were in both runs, if there is one; 0 of no elements."""
        first = next((array.reshape(-1)[:1] for array in self.arrays if array.size), np.zeros(1, self.dtype))
        filled = (np.broadcast_to(first.reshape(()), array.shape) for array in self.arrays)
        return first if all(map(_equal, filled, self.arrays)) else None


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that is an input, or that a call gives.

    Attributes:
        shape, dtype: as of a tensor.
        call: what gives it; None for an input, and for what a step is given.
        varies: whether the inputs' values have a part in it, and not their lengths alone.
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
        arguments: all of them, in order, with operands in place of tensors and arrays.
        place: of a recurrent layer, the name of its place in the model.
        numbers: how many results it gave in each run.
        line: the user's, from which it was called.
        results: those that it gave in both runs.
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
        """What it gave, if that is one tensor."""
        return self.results[0]


@dataclass(frozen=True, eq=False)
class Loop:
    """One step of a cell that goes through sequences.

    Attributes:
        before: the states that the step is given.
        items: the elements that it takes, each with the call that takes a sequence apart.
        calls: those of the step.
        after: the states that it gives.
        outer: the operands that it takes from around it, the sequences among them.
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
        inputs: as many as the model was given.
        calls: those that the outputs need, each after those whose results it takes.
        outputs: what the model gave, by name.
    """

    inputs: list[Value]
    calls: list[Call]
    outputs: Mapping[str, Operand]


def leaves(argument: Any) -> Iterator[Any]:
    """What a call's arguments hold, in lists, tuples and slices too; of a step, what it takes from around it."""
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
    """The operands in a call's arguments, and those whose lengths it takes."""
    found: list[Operand] = []
    for leaf in leaves(arguments):
        found += [leaf] if isinstance(leaf, Value | Constant) else sources(leaf)
        if isinstance(leaf, Constant):
            found += [source for size in leaf.shape for source in sources(size)]
    return found


def needed(outputs: Sequence[Operand]) -> list[Call]:
    """The calls without which there would not be these outputs, each after those whose results it takes."""
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


def spelled_out(index: Any, ndim: int) -> list[Any]:
    """The parts of an index, with what `...` stands for, and what is not said at the end."""
    parts = list(index) if isinstance(index, tuple) else [index]
    rest = [slice(None)] * (ndim - sum(part is not None and part is not Ellipsis for part in parts))
    at = next((k for k, part in enumerate(parts) if part is Ellipsis), None)
    return [*parts, *rest] if at is None else [*parts[:at], *rest, *parts[at + 1 :]]
