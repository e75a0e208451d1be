"""Chunks of steps in code that is written with an array module: rows of many steps, and the steps of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .code import UFUNCS, Code, Scope, is_view
from .program import Group, Instruction, Program, Value, inputs_of

__all__ = ["RESERVED", "begun", "compute_rows", "row_bytes", "split_into_steps", "take_rows", "take_step"]

RESERVED = [
    "T", "B", "N", "n", "s", "t", "k", "xp", "empty", "backend", "operands", "cotangents", "saved", "saving",
    "reverse", "needs", "steps", "at_once", "first", "last", "before", "after", "earlier", "later", "chunks",
    "in_order", "steps_at_once", "steps_in_cache", "few", "at_a_time", "j", "m", "M",
]  # fmt: skip
"""Names that the functions over sequences use."""


def begun(code: Code, program: Program) -> Scope:
    """The first lines of a function, which name the operands and sizes."""
    names = [code.name(operand) for operand in program.operands]
    code.add("xp, empty = backend.xp, backend.empty", f"{', '.join(names)}, = operands")
    code.add(f"T, B = {names[0]}.shape[:2]")
    return Scope(code, "B", dict(zip(program.operands, names)))


def take_rows(
    code: Code,
    many: Scope,
    arrays: Mapping[Value, str],
    instructions: Iterable[Instruction],
    others: Iterable[Value | None] = (),
) -> None:
    """Reshapes arrays of steps to rows, if the instructions read them."""
    read = {*inputs_of(instructions), *others}
    for value, where in arrays.items():
        if value in read:
            many.places[value] = code.name(value, "rows_{}")
            code.add(f"{many.places[value]} = {where}.reshape({many.shape(value)})")


def compute_rows(many: Scope, instruction: Instruction, rows: Mapping[Value, str]) -> None:
    """Computes an instruction for many rows, into the arrays of those results that have one.

    Results of functions that take an array to write to get memory that is used again: new memory takes longer to get.
    """
    if isinstance(instruction.op, Group):
        many.launch(instruction, rows)
        return
    (result, *_) = instruction.results
    alone = len(instruction.results) == 1 and not is_view(instruction)
    place = rows.get(result) if alone else None
    if place is None and result.has_batch and instruction.op.name in UFUNCS:
        place = many.code.name(result)
        many.code.add(f"{place} = empty({many.shape(result)}, {many.dtype(result)})")
    many.compute(instruction, place)
    if not alone:
        for value, name in rows.items():
            many.code.add(f"{name}[...] = {many.text(value)}")


def split_into_steps(code: Code, many: Scope, outer: Scope, values: Iterable[Value]) -> None:
    """Reshapes rows of many steps to an array of steps."""
    for value in values:
        code.add(f"{code.name(value, 'steps_{}')} = {many.text(value)}.reshape({outer.shape(value, 'n')})")


def take_step(code: Code, step: Scope, values: Iterable[Value]) -> None:
    """Takes the values of a step from arrays of steps."""
    for value in values:
        step.places[value] = code.name(value, "{}_t")
        code.add(f"{step.places[value]} = {code.name(value, 'steps_{}')}[s]")


def row_bytes(values: Iterable[Value]) -> int:
    """The bytes of a row of several values."""
    return sum(value.row_bytes for value in values)
