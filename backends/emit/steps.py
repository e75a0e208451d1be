"""A single step, written with an array module: what is the same at all steps is prepared once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from ..base import Array
from .arrays import direct_places, turn_weights
from .code import Code, Scope
from .loops import Loop, joined_in
from .packs import packs_in, precise
from .program import BATCH, Instruction, Value, inputs_of, results_of
from .rooms import is_rows_product
from .schedule import Forward

__all__ = ["Kept", "StepOfArrays", "Steps", "batch_dependent", "step_code"]

T = TypeVar("T")

StepOfArrays: TypeAlias = Callable[[Sequence[Array], Sequence[Array], Sequence[Array]], None]
"""`step(inputs, states, out)` writes the states after a step into `out`, given its inputs and the states before."""

_RESERVED = ["B", "xp", "empty", "backend", "captured", "inputs", "states", "out", "of_batch", "step"]
_KEPT = 8  # sizes
_OVERFLOWING = frozenset({"exp", "expm1", "sigmoid"})
"""Ops in which NumPy may warn of an infinity from which right results follow."""


class Kept(threading.local, Generic[T]):
    """What is made for the sizes of a call, such as buffers: each thread has its own, for the last few sizes.

    Args:
        make: makes it, given the sizes.
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._made: dict[tuple[int, ...], T] = {}

    def of(self, *sizes: int) -> T:
        """What is made for these sizes."""
        found = self._made.get(sizes)
        if found is None:
            if len(self._made) == _KEPT:
                self._made.clear()
            found = self._made[sizes] = self._make(*sizes)
        return found


class Steps(Kept[StepOfArrays]):
    """A step for any batch size and thread: each thread has its own buffers.

    Args:
        make: makes the step for a batch size, with new buffers.
    """

    def __call__(self, inputs: Sequence[Array], states: Sequence[Array], out: Sequence[Array]) -> None:
        """Writes the states after the step into `out`, contiguous arrays."""
        self.of(len(states[0]))(inputs, states, out)


def step_code(schedule: Forward) -> tuple[str, dict[str, Any]]:
    """The source of `prepared(backend, captured)`, and the objects that it names.

    It returns `of_batch(B)`, which returns the step for batches of B rows. The step computes in buffers that are made
    with it, so two calls must not run at the same time.
    """
    code, program = Code(_RESERVED), schedule.program
    instructions = [*schedule.ahead, *schedule.loop]
    names = [code.name(value) for value in program.captured]
    code.add("xp, empty = backend.xp, backend.empty", *([f"{', '.join(names)}, = captured"] if names else []))
    outer = Scope(code, "B", dict(zip(program.captured, names)))
    of_batch = list(batch_dependent(schedule.once))
    for instruction in schedule.once:
        if instruction not in of_batch:
            outer.compute(instruction)
    instructions = _with_products_joined(outer, instructions, program.outputs)
    turn_weights(outer, instructions)
    schedule = replace(schedule, ahead=[], loop=instructions, kept=[])
    with code.block("def of_batch(B):"):
        for instruction in of_batch:
            outer.compute(instruction)
        direct = direct_places(code, schedule, set(results_of(instructions)))
        packs = packs_in(instructions, (), {}, {*direct, *joined_in(instructions), *precise(program)})
        loop = Loop(outer, instructions, {}, direct, packs, program.outputs)
        with code.block("def step(inputs, states, out):"):
            step = Scope(code, "B", outer.places, outer.turned)
            following = [code.name(state, "next_{}") for state in program.states]
            given = [code.name(value) for value in (*program.inputs, *program.states)]
            step.places.update(zip((*program.inputs, *program.states), given))
            number = len(program.inputs)
            for taken, array in ((given[:number], "inputs"), (given[number:], "states"), (following, "out")):
                code.add(f"{', '.join(taken)}, = {array}")
            packed = {instruction for pack in packs for instruction in pack.instructions}
            overflows = any(each.op.name in _OVERFLOWING for each in instructions if each not in packed)
            no_warning = f"with {code.object(np.errstate, 'errstate')}(over='ignore'):" if overflows else ""
            with code.block(no_warning) if overflows else nullcontext():
                loop.add_step(step)
            for value, place in zip(program.after, following):
                if step.text(value) != place:
                    code.add(f"{place}[...] = {step.text(value)}")
        code.add("return step")
    code.add("return of_batch")
    return code.source("def prepared(backend, captured):"), code.names


def _with_products_joined(
    outer: Scope, instructions: Sequence[Instruction], outputs: Sequence[Value]
) -> list[Instruction]:
    """The instructions, with W·x + U·h as one product with [x, h]. Adds the lines that join the weights."""
    uses = Counter([*inputs_of(instructions), *outputs])
    products = {
        each.results[0]: each
        for each in instructions
        if is_rows_product(each) and each.arguments[1] in outer.places and uses[each.results[0]] == 1
    }
    found: list[Instruction] = []
    for instruction in instructions:
        (out, *_), pair = instruction.results, [products[each] for each in instruction.inputs if each in products]
        if instruction.op.name != "add" or len(pair) != 2 or any(each.results[0].shape != out.shape for each in pair):
            found.append(instruction)
            continue
        (x, weight, bias), (h, other, other_bias) = (each.arguments for each in pair)
        if bias is not None and other_bias is not None:
            found.append(instruction)
            continue
        size = x.shape[1] + h.shape[1]
        joined = Value(f"{x.name}_and_{h.name}", (BATCH, size), out.dtype)
        both = Value(f"weight_of_{joined.name}", (out.shape[1], size), out.dtype)
        outer.places[both] = outer.code.name(both)
        outer.code.add(f"{outer.places[both]} = xp.concatenate([{outer.text(weight)}, {outer.text(other)}], axis=1)")
        found = [each for each in found if each not in pair]
        found.append(Instruction(_CAT, ([x, h], 1), (joined,)))
        found.append(Instruction(pair[0].op, (joined, both, bias or other_bias), (out,)))
    return found


_CAT: Any = SimpleNamespace(name="cat")
"""The op that joins rows; loops compute it without its forward rule."""


def batch_dependent(instructions: Sequence[Instruction]) -> Iterator[Instruction]:
    """The instructions whose results depend on the batch size."""
    values: set[Value] = set()
    for instruction in instructions:
        if not values.isdisjoint(instruction.inputs) or _has_batch(instruction.arguments):
            values.update(instruction.results)
            yield instruction


def _has_batch(argument: Any) -> bool:
    """Whether the batch size, or a constant with that number of rows, is in an argument."""
    if isinstance(argument, Value):
        return argument.has_batch
    if isinstance(argument, slice):
        argument = (argument.start, argument.stop, argument.step)
    return any(map(_has_batch, argument)) if isinstance(argument, list | tuple) else argument is BATCH
