"""A step over a sequence as functions that are written with an array module, so that they run on every device.

What is computed for many steps at once is computed for chunks of steps: few enough for the cache, with enough rows for
products at full speed. `arrays_backward.py` has the function that goes back through the steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .chunks import RESERVED, begun, compute_rows, row_bytes, split_into_steps, take_rows, take_step
from .code import Code, Scope, is_view, shares_memory
from .loops import Kept, Loop, joined_in, stack_name, unpacked
from .packs import Pack, packs_in, precise
from .program import Instruction, Value, inputs_of, needed, results_of
from .rooms import RowsProduct, is_rows_product
from .schedule import Forward

__all__ = ["direct_places", "forward_code", "turn_weights", "values_code"]


def forward_code(schedule: Forward) -> tuple[str, dict[str, Any]]:
    """The source of `forward(backend, operands, reverse, saving)`, and the objects that it names.

    It returns the output of each step, the states after the last step, and what `backward` takes as `saved`.
    """
    return _Forward(schedule).function()


class _Forward:
    def __init__(self, schedule: Forward) -> None:
        self._schedule, self._program = schedule, schedule.program
        self._code = Code(RESERVED)
        self._outer = begun(self._code, self._program)
        self._has_output = self._program.output is not self._program.after[0]  # else it is the first state
        self._read = {*inputs_of(schedule.loop), *self._program.outputs}  # at each step

    def function(self) -> tuple[str, dict[str, Any]]:
        code, schedule, outer = self._code, self._schedule, self._outer
        for instruction in schedule.once:
            outer.compute(instruction)
        turn_weights(outer, schedule.loop)
        self._make_states()
        loop = self._made_loop()
        self._products = {
            each: RowsProduct(outer, each, schedule.kept) for each in schedule.ahead if is_rows_product(each)
        }
        # The loop reads what is known ahead of it from arrays of steps; parts of some splits are stacks.
        stacks = [each for each in schedule.ahead if each.results[0] in loop.stacked]
        of_steps = [v for v in results_of(schedule.ahead) if v in self._read and v.instruction not in stacks]
        with code.block("for steps in chunks(T, at_once, reverse):"):
            many = Scope(code, "N", outer.places)
            self._compute_ahead(many, stacks)
            split_into_steps(code, many, outer, of_steps)
            for instruction in stacks:
                loop.stack_steps(many, instruction)
            with code.block("for s in in_order(steps, reverse):"):
                step = self._taken_step(of_steps)
                for instruction in stacks:
                    loop.take_stack(step, instruction)
                self._take_states(step)
                loop.add_step(step)
                self._store_states(step)
        self._return()
        return code.source("def forward(backend, operands, reverse, saving):"), code.names

    # -- arrays that are made before the steps -------------------------------------------------------------------------

    def _make_states(self) -> None:
        """Makes arrays of the states before and after all steps, and of the outputs."""
        code, outer, program = self._code, self._outer, self._program
        code.add("first, last = (T, 0) if reverse else (0, T)")
        for state in program.states:
            array = code.name(state, "all_{}")
            code.add(f"{array} = empty({outer.shape(state, 'T + 1')}, {outer.dtype(state)})")
            code.add(f"{array}[first] = {outer.text(state)}")
        if self._has_output:
            code.add(f"all_out = empty({outer.shape(program.output, 'T')}, {outer.dtype(program.output)})")

    def _made_loop(self) -> Loop:
        """Makes the arrays of the loop, and those of what is kept."""
        code, schedule, program, outer = self._code, self._schedule, self._program, self._outer
        in_loop = set(results_of(schedule.loop))
        made = results_of(each for each in schedule.ahead if not is_view(each))
        code.add(f"at_once = {f'steps_at_once(T, B, {row_bytes(made)})' if schedule.ahead else 'T'}")
        self._kept = {value: Kept(code.name(value, "all_{}"), "k") for value in schedule.kept if value in in_loop}
        direct = direct_places(code, schedule, in_loop)
        without = {*direct, *joined_in(schedule.loop), *precise(program)}
        packs = packs_in(schedule.loop, schedule.ahead, self._kept, without)
        self._make_kept(packs)
        return Loop(outer, schedule.loop, self._kept, direct, packs, program.outputs)

    def _make_kept(self, packs: Sequence[Pack]) -> None:
        code, outer, ahead = self._code, self._outer, results_of(self._schedule.ahead)
        stacked = [pack.stack.values for pack in packs if pack.stack.values[0] in self._kept]
        for stack in stacked:
            shape = outer.shape(stack[0], str(len(stack)), "T if saving else 1")
            code.add(f"{stack_name(code, stack, 'all_{}')} = empty({shape}, {outer.dtype(stack[0])})")
            code.add(*unpacked(code, stack, "all_{}"))
        in_stacks = {value for stack in stacked for value in stack}
        for value in self._schedule.kept:
            if value not in in_stacks:
                length = f"T if saving else {'at_once' if value in ahead else 1}"
                code.add(f"{code.name(value, 'all_{}')} = empty({outer.shape(value, length)}, {outer.dtype(value)})")

    # -- a chunk of steps ----------------------------------------------------------------------------------------------

    def _compute_ahead(self, many: Scope, stacks: Sequence[Instruction]) -> None:
        """Adds the lines that compute, for all steps of a chunk, what does not depend on states."""
        code, schedule = self._code, self._schedule
        if schedule.ahead:
            code.add("n = steps.stop - steps.start", "N = n * B")
        inputs = {value: f"{self._outer.text(value)}[steps]" for value in self._program.inputs}
        take_rows(code, many, inputs, schedule.ahead)
        read = {*inputs_of(schedule.ahead), *schedule.kept}
        for instruction in schedule.ahead:
            rows = {}
            for value in filter(schedule.kept.__contains__, instruction.results):
                rows[value] = code.name(value, "rows_{}")
                part = f"{code.name(value, 'all_{}')}[steps if saving else slice(n)]"
                code.add(f"{rows[value]} = {part}.reshape({many.shape(value)})")
            if instruction in self._products:
                self._products[instruction].compute(many, rows.get(instruction.results[0]))
            elif instruction not in stacks or not read.isdisjoint(instruction.results):
                compute_rows(many, instruction, rows)

    # -- a step --------------------------------------------------------------------------------------------------------

    def _taken_step(self, of_steps: Iterable[Value]) -> Scope:
        """Adds the lines that take the inputs of a step and what was computed ahead of it."""
        code = self._code
        code.add("t = steps.start + s", "before, after = t + reverse, t + 1 - reverse")
        if self._kept:
            code.add("k = t if saving else 0")
        step = Scope(code, "B", self._outer.places, self._outer.turned)
        for value in filter(self._read.__contains__, self._program.inputs):
            step.places[value] = code.name(value, "{}_t")
            code.add(f"{step.places[value]} = {self._outer.text(value)}[t]")
        take_step(code, step, of_steps)
        return step

    def _take_states(self, step: Scope) -> None:
        """Adds the lines that take the states before the step and the places of those after it."""
        code = self._code
        for state in self._program.states:
            array, step.places[state] = code.name(state, "all_{}"), code.name(state)
            code.add(f"{step.places[state]}, {code.name(state, 'next_{}')} = {array}[before], {array}[after]")

    def _store_states(self, step: Scope) -> None:
        """Adds the lines that copy states and outputs that were not computed in their places."""
        code, program = self._code, self._program
        for value, state in zip(program.after, program.states):
            if step.text(value) != code.name(state, "next_{}"):
                code.add(f"{code.name(state, 'next_{}')}[...] = {step.text(value)}")
        if self._has_output:
            code.add(f"all_out[t] = {step.text(program.output)}")

    def _return(self) -> None:
        code = self._code
        states = [code.name(state, "all_{}") for state in self._program.states]
        out = "all_out" if self._has_output else f"{states[0]}[:T] if reverse else {states[0]}[1:]"
        saved = [*states, *(code.name(value, "all_{}") for value in self._schedule.kept)]
        code.add(f"outputs = {', '.join([f'({out})', *(f'{state}[last].copy()' for state in states)])}")
        code.add(f"return outputs, ({', '.join(saved)},) if saving else None")


def turn_weights(outer: Scope, loop: Iterable[Instruction]) -> None:
    """Transposes the weights of products in the loop beforehand; otherwise each step would."""
    for instruction in loop:
        if instruction.op.name == "linear" and instruction.arguments[1] in outer.places:
            weight = instruction.arguments[1]
            outer.turned[weight] = outer.code.name(weight, "{}_T")
            outer.code.add(f"{outer.turned[weight]} = xp.ascontiguousarray({outer.text(weight)}.T)")


def direct_places(code: Code, schedule: Forward, in_loop: set[Value]) -> dict[Value, str]:
    """The values that are computed in the place of a state after the step."""
    program = schedule.program
    return {
        value: code.name(state, "next_{}")
        for value, state in zip(program.after[::-1], program.states[::-1])
        if value in in_loop and value not in schedule.kept and not is_view(value.instruction)  # type: ignore[arg-type]
    }


def values_code(
    given: Sequence[Value], instructions: Sequence[Instruction], wanted: Sequence[Value]
) -> tuple[str, dict[str, Any]]:
    """The source of `values(backend, given, B)`, which computes values of no step, and the objects that it names.

    B is the batch size. The results are new arrays, unless they are given.
    """
    code = Code(RESERVED)
    names = [code.name(value) for value in given]
    code.add("xp, empty = backend.xp, backend.empty", *([f"{', '.join(names)}, = given"] if names else []))
    scope = Scope(code, "B", dict(zip(given, names)))
    for instruction in needed(instructions, wanted, given):
        scope.compute(instruction)
    taken: set[Value] = set()
    results = []
    for value in wanted:
        alone = value not in taken and (value in given or not shares_memory(value))
        results.append(scope.text(value) if alone else f"xp.array({scope.text(value)})")
        taken.add(value)
    code.add(f"return ({', '.join(results)}{',' * (len(results) == 1)})")
    return code.source("def values(backend, given, B):"), code.names
