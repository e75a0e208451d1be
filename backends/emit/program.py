"""A program: the ops of one step of a recurrent cell, for any batch size, and those of its derivative."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ..base import Array

__all__ = [
    "BATCH",
    "Batch",
    "Derivative",
    "Group",
    "Instruction",
    "Op",
    "Program",
    "Size",
    "Value",
    "inputs_of",
    "mapped",
    "needed",
    "results_of",
    "values_in",
]


class Batch:
    """The batch size, which a program does not fix."""

    def __repr__(self) -> str:
        return "B"


BATCH: Final = Batch()
Size = int | Batch


class Op(Protocol):
    """What a program needs to know of an op.

    Attributes:
        name: the op's name.
        names: the names of its arguments.
        forward: its forward rule; the first argument is the array module, or the backend if `wants_backend`.
        call: the function that applies it to tensors.
        composed: of a fused op, whose forward rule takes `saving` and returns what it saves as well, its composed twin.
    """

    name: str
    names: Sequence[str]
    forward: Callable[..., Any]
    wants_backend: bool
    composed: Any
    call: Callable[..., Any]


@dataclass(eq=False, slots=True)
class Value:
    """A tensor of a program.

    Attributes:
        name: a Python identifier, different from those of the program's other values.
        shape: with `BATCH` in place of the batch size.
        dtype: the elements' type.
        instruction: what computes it; None of an input or a constant.
        constant: the number that all elements have, or an array without a batch dimension; None if it is not constant.
        lengths: the lengths of the dimensions other than the batch.
    """

    name: str
    shape: tuple[Size, ...]
    dtype: Any
    instruction: Instruction | None = None
    constant: int | float | bool | Array | None = None
    lengths: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = tuple(n for n in self.shape if isinstance(n, int))

    def __repr__(self) -> str:
        return self.name

    @property
    def has_batch(self) -> bool:
        """Whether it has a batch dimension."""
        return BATCH in self.shape

    @property
    def row_size(self) -> int:
        """The number of elements of a row; of all, if it has no batch dimension."""
        return math.prod(self.lengths)

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return self.row_size * int(self.dtype.itemsize)


@dataclass(eq=False, slots=True)
class Instruction:
    """The application of an op.

    Attributes:
        op: the op.
        arguments: those of its forward rule without the first: values, numbers, `BATCH`, and lists, tuples and slices
            of them.
        results: the values that it computes.
        detached: whether no gradient flows through it.
    """

    op: Op
    arguments: tuple[Any, ...]
    results: tuple[Value, ...] = ()
    detached: bool = False

    def __repr__(self) -> str:
        return f"{', '.join(map(repr, self.results))} = {self.op.name}({', '.join(map(repr, self.arguments))})"

    @property
    def inputs(self) -> list[Value]:
        """The values among the arguments."""
        return list(values_in(self.arguments))


def values_in(argument: Any) -> Iterator[Value]:
    """The values in an argument, in order."""
    if isinstance(argument, Value):
        yield argument
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from values_in(part)
    elif isinstance(argument, slice):
        yield from values_in((argument.start, argument.stop, argument.step))


@dataclass(eq=False)
class Group(Op):
    """The op of one or several instructions that a device computes by one launch.

    Attributes:
        name: the name of its kernel.
        forward: `forward(backend, rows)` returns `launch(inputs, results)`, which computes so many rows of all results
            into arrays. What does not depend on the arrays' addresses is prepared once.
        replaceable: inputs and results that may have the same array.
        addend: an input that only this launch reads, which adds to it if the result is in the same array; or None.
    """

    name: str
    forward: Callable[..., Any]
    replaceable: Collection[tuple[Value, Value]]
    addend: Value | None = None
    names: Sequence[str] = ()
    wants_backend: bool = True
    composed: Any = None
    call: Any = None


@dataclass(eq=False)
class Program:
    """A step: `instructions` compute an output and the states after it.

    Attributes:
        inputs: what differs from step to step, such as x; the first dimension is the batch.
        states: the states before the step.
        captured: what is the same in all steps, such as parameters.
        instructions: in the order of computation.
        output: the output of the step.
        after: the states after the step.
    """

    inputs: tuple[Value, ...]
    states: tuple[Value, ...]
    captured: tuple[Value, ...]
    instructions: list[Instruction]
    output: Value
    after: tuple[Value, ...]

    @property
    def operands(self) -> tuple[Value, ...]:
        """All that the step is given: inputs, states, and what is captured."""
        return (*self.inputs, *self.states, *self.captured)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The output and the states after the step."""
        return (self.output, *self.after)

    def __str__(self) -> str:
        lines = [repr(instruction) for instruction in self.instructions]
        return "\n".join([*lines, f"return {self.output}, {self.after}"])


@dataclass(eq=False)
class Derivative:
    """The derivative of a program: `instructions` compute gradients from cotangents and from the program's values.

    Attributes:
        program: the program.
        cotangents: the gradients of its output and of the states after it; None for one that has none.
        instructions: in the order of computation.
        gradients: those of its operands; None for one that has none.
    """

    program: Program
    cotangents: tuple[Value | None, ...]
    instructions: list[Instruction]
    gradients: tuple[Value | None, ...]

    @property
    def of_operand(self) -> dict[Value, Value | None]:
        """The gradient of each operand."""
        return dict(zip(self.program.operands, self.gradients, strict=True))

    @property
    def carried(self) -> dict[Value, Value]:
        """By state, the cotangent of the state after the step, if it has one: it comes from the step that follows."""
        pairs = zip(self.program.states, self.cotangents[1:], strict=True)
        return {state: g for state, g in pairs if g is not None}


def inputs_of(instructions: Iterable[Instruction]) -> list[Value]:
    """The values that instructions read, in order."""
    return [value for instruction in instructions for value in instruction.inputs]


def results_of(instructions: Iterable[Instruction]) -> list[Value]:
    """The values that instructions compute, in order."""
    return [value for instruction in instructions for value in instruction.results]


def needed(
    instructions: Sequence[Instruction], outputs: Iterable[Value | None], given: Iterable[Value] = ()
) -> list[Instruction]:
    """Those of the instructions that compute the outputs, if some values are given."""
    there = set(given)
    wanted = {value for value in outputs if value is not None} - there
    kept = []
    for instruction in reversed(instructions):
        if not wanted.isdisjoint(instruction.results):
            kept.append(instruction)
            wanted.update(value for value in instruction.inputs if value not in there)
    return kept[::-1]


_NESTED = list, tuple, slice


def mapped(argument: Any, function: Callable[[Any], Any]) -> Any:
    """An argument with the function applied to each part that is not a list, a tuple or a slice."""
    if not isinstance(argument, _NESTED):
        return function(argument)
    if isinstance(argument, slice):
        return slice(*(mapped(part, function) for part in (argument.start, argument.stop, argument.step)))
    return (list if isinstance(argument, list) else tuple)([mapped(part, function) for part in argument])
