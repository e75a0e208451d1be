"""Packs: the same elementwise op on neighbouring columns of arrays, which one call computes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ..dtypes import FLOAT16, is_float
from .code import UFUNCS, is_view
from .program import BATCH, Instruction, Program, Value

__all__ = ["Pack", "Stack", "is_even_split", "packs_in", "precise"]

_ACTIVATIONS = frozenset({"sigmoid", "tanh"})
_OF_ABSOLUTE_ERROR = frozenset({"linear", "matmul", "tanh", "sigmoid", "exp"})
"""Ops whose result is as precise as their input's absolute error allows."""

_OF_RELATIVE_ERROR = frozenset({
    "abs", "add", "broadcast_to", "cat", "clamp", "clone", "maximum", "minimum", "mul", "neg", "relu", "square",
    "stack", "sub", "sum_to", "where",
})  # fmt: skip
"""Ops whose result is as precise as their inputs are, relative to these."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Values (B, n) that are neighbours in an array (number of values, B, n)."""

    values: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Pack:
    """Instructions of which one call computes all results, as a stack.

    Attributes:
        instructions: in the order of their results in the stack.
        stack: the results.
        arguments: of each argument, the stack that the instructions' values are in, and the index of the first one's.
    """

    instructions: tuple[Instruction, ...]
    stack: Stack
    arguments: tuple[tuple[Stack, int], ...]


def is_even_split(instruction: Instruction) -> bool:
    """Whether it splits rows into several parts of the same length."""
    if instruction.op.name != "split" or len(instruction.results) < 2:
        return False
    shapes = {value.shape for value in instruction.results}
    return len(shapes) == 1 and instruction.results[0].shape[0] is BATCH and instruction.arguments[2] in (1, -1)


def packs_in(
    instructions: Sequence[Instruction],
    before: Iterable[Instruction],
    kept: Collection[Value],
    without: Collection[Value],
) -> list[Pack]:
    """The packs of instructions of a loop.

    Args:
        instructions: those of the loop.
        before: those that run before the loop, whose splits the loop reads.
        kept: results of all steps that are kept; all or none of a pack's are.
        without: results that are not computed in a stack.
    """
    places: dict[Value, tuple[Stack, int]] = {}

    def add_stack(values: Sequence[Value]) -> Stack:
        stack = Stack(tuple(values))
        places.update((value, (stack, k)) for k, value in enumerate(values))
        return stack

    for instruction in filter(is_even_split, (*before, *instructions)):
        if len(instruction.results[0].shape) == 2:
            add_stack(instruction.results)
    found: list[Pack] = []
    done = -1
    while done < len(found):
        done = len(found)
        alike: dict[tuple[object, ...], dict[int, Instruction]] = {}
        for instruction in instructions:
            arguments = [places.get(part) if isinstance(part, Value) else None for part in instruction.arguments]
            name, (result, *_) = instruction.op.name, instruction.results
            if result in places or result in without or not (name in UFUNCS or name in _ACTIVATIONS):
                continue
            if not is_float(result.dtype) or result.dtype == FLOAT16 or not arguments:
                continue
            there = [place for place in arguments if place is not None]
            if len(there) < len(arguments) or any(value.shape != result.shape for value in instruction.inputs):
                continue
            first = there[0][1]
            kind = "activation" if name in _ACTIVATIONS else name
            key = (kind, result in kept, *((stack, k - first) for stack, k in there))
            alike.setdefault(key, {}).setdefault(first, instruction)
        for by_index in alike.values():
            for run in _runs(sorted(by_index)):
                together = tuple(by_index[k] for k in run)
                arguments_of_first = tuple(places[value] for value in together[0].inputs)
                stack = add_stack([instruction.results[0] for instruction in together])
                found.append(Pack(together, stack, arguments_of_first))
    return found


def precise(program: Program) -> set[Value]:
    """The values whose relative error matters, even where they are tiny: outputs, denominators and the like."""
    found: set[Value] = set()
    for value in program.outputs:
        found.add(value)
        while value.instruction is not None and is_view(value.instruction):
            value = value.instruction.inputs[0]
            found.add(value)
    outputs = set(found)
    for instruction in reversed(program.instructions):
        name, results = instruction.op.name, set(instruction.results)
        if name in _OF_ABSOLUTE_ERROR:
            continue
        if is_view(instruction) or name in _OF_RELATIVE_ERROR:
            if not results.isdisjoint(found - outputs) or (is_view(instruction) and not results.isdisjoint(outputs)):
                found.update(instruction.inputs)
        else:
            found.update(instruction.inputs)
    return found


def _runs(indices: Sequence[int]) -> list[list[int]]:
    """The runs of two or more successive integers."""
    runs: list[list[int]] = []
    for k in indices:
        if runs and runs[-1][-1] == k - 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    return [run for run in runs if len(run) > 1]
