"""A derivative over a sequence as a function that is written with an array module: it goes back through the steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from .chunks import RESERVED, begun, compute_rows, row_bytes, split_into_steps, take_rows, take_step
from .code import IN_PLACE, Code, Scope, is_view, shares_memory
from .loops import Kept, Loop
from .program import Group, Instruction, Value, inputs_of, needed, results_of
from .rooms import Rooms
from .schedule import Backward, Forward

__all__ = ["backward_code"]

_ROWS_OF_SUMS = 4096
"""The number of rows from which products that sum over them take the time of their operations."""

_PRODUCTS = frozenset({"linear", "matmul"})
"""Ops that are faster for many rows than for the few that fit in the cache."""


def backward_code(schedule: Backward, forward: Forward) -> tuple[str, dict[str, Any]]:
    """The source of `backward(backend, cotangents, operands, saved, reverse, needs)`, and the objects that it names.

    `cotangents` are the gradients of the outputs of `forward`; `needs` says for which operands a gradient is needed. It
    returns the gradients of the operands: None for one that has none, or of which none is needed.
    """
    return _Backward(schedule, forward).function()


class _Backward:
    def __init__(self, schedule: Backward, forward: Forward) -> None:
        derivative = schedule.derivative
        self._schedule, self._program = schedule, derivative.program
        self._code = Code(RESERVED)
        self._outer = begun(self._code, self._program)
        self._of_operand, self._carried = derivative.of_operand, derivative.carried
        self._of_inputs = {x: g for x in self._program.inputs if (g := self._of_operand[x]) is not None}
        self._of_captured = {x: g for x in self._program.captured if (g := self._of_operand[x]) is not None}
        self._outside = [*schedule.after, *schedule.sums]
        self._wide, self._narrow = _for_outside(schedule, self._outside)
        self._views = set(results_of(filter(is_view, schedule.ahead)))
        self._take_given(forward)
        self._make_gradients()
        self._make_arrays()
        into = _in_place(self._code, schedule, self._carried, self._of_operand)
        kept = {value: Kept(self._code.name(value, "all_{}"), "s") for value in schedule.kept}
        self._into, self._loop = into, Loop(self._outer, schedule.loop, kept, into)
        self._rooms = Rooms(self._outer, self._narrow, self._loop)
        self._known = self._known_of_steps(forward)

    def function(self) -> tuple[str, dict[str, Any]]:
        code = self._code
        with code.block("for steps in chunks(T, at_once, not reverse):"):
            code.add("n = steps.stop - steps.start", "N = n * B")
            code.add("earlier = slice(steps.start + reverse, steps.stop + reverse)")
            code.add("later = slice(steps.start + 1 - reverse, steps.stop + 1 - reverse)")
            many = Scope(code, "N", self._outer.places)
            self._compute_wide(many)
            self._go_back(many)
            self._compute_outside(many)
        self._return()
        return code.source("def backward(backend, cotangents, operands, saved, reverse, needs):"), code.names

    # -- before the steps ----------------------------------------------------------------------------------------------

    def _take_given(self, forward: Forward) -> None:
        """Names what was saved and the cotangents of the states, and computes what depends on no step."""
        code, outer, states = self._code, self._outer, self._program.states
        for state in states:
            del outer.places[state]
        code.add(f"{', '.join(code.name(value, 'all_{}') for value in (*states, *forward.kept))}, = saved")
        for instruction in self._schedule.once:
            outer.compute(instruction)
        for k, state in enumerate(states, 1):
            if state in self._carried:
                g = self._carried[state]
                outer.places[g] = code.name(g)
                code.add(f"{outer.places[g]} = cotangents[{k}].copy()")

    def _make_gradients(self) -> None:
        code, outer = self._code, self._outer
        for value in self._of_inputs:
            array = f"empty({outer.shape(value, 'T')}, {outer.dtype(value)})"
            code.add(f"{code.name(value, 'g_{}')} = {array} if {self._needs(value)} else None")
        code.add(*(f"{code.name(operand, 'g_{}')} = None" for operand in self._of_captured))

    def _make_arrays(self) -> None:
        """Makes arrays for the steps of a chunk."""
        code, outer, schedule = self._code, self._outer, self._schedule
        computed = [value for value in results_of(self._wide) if value not in self._views]
        code.add(f"at_once = steps_at_once(T, B, {row_bytes([*computed, *schedule.kept])}, {_ROWS_OF_SUMS})")
        for value in (*schedule.kept, *computed):
            code.add(f"{code.name(value, 'all_{}')} = empty({outer.shape(value, 'at_once')}, {outer.dtype(value)})")

    def _known_of_steps(self, forward: Forward) -> dict[Value, str]:
        """What is known of the steps of a chunk, and the expressions of these arrays."""
        code, program, of_output = self._code, self._program, self._schedule.derivative.cotangents[0]
        known = {value: f"{self._outer.text(value)}[steps]" for value in program.inputs}
        known |= {state: f"{code.name(state, 'all_{}')}[earlier]" for state in program.states}
        for value, state in zip(program.after, program.states):
            if value not in known and value not in program.captured:
                known[value] = f"{code.name(state, 'all_{}')}[later]"
        known |= {value: f"{code.name(value, 'all_{}')}[steps]" for value in forward.kept}
        return known if of_output is None else {**known, of_output: "cotangents[0][steps]"}

    def _needs(self, operand: Value) -> str:
        return f"needs[{self._program.operands.index(operand)}]"

    # -- a chunk of steps ----------------------------------------------------------------------------------------------

    def _compute_wide(self, many: Scope) -> None:
        """Adds the lines that compute, for all steps of a chunk, what more than the loop reads."""
        code = self._code
        take_rows(code, many, self._known, [*self._wide, *self._outside], self._of_inputs.values())
        for instruction in self._wide:
            rows = {value: code.name(value, "rows_{}") for value in instruction.results if value not in self._views}
            for value, name in rows.items():
                code.add(f"{name} = {code.name(value, 'all_{}')}[:n].reshape({many.shape(value)})")
            compute_rows(many, instruction, rows)
        read = {*inputs_of(self._schedule.loop), *inputs_of(self._narrow)}
        split_into_steps(code, many, self._outer, filter(read.__contains__, results_of(self._wide)))
        code.add(*(f"{code.name(value, 'steps_{}')} = {at}" for value, at in self._known.items() if value in read))

    def _go_back(self, many: Scope) -> None:
        """Adds the loop over the steps; before each few of these, what only the loop reads."""
        code, narrow, known = self._code, self._narrow, [*self._known, *results_of(self._wide)]
        with code.block("for few in chunks(n, at_a_time, not reverse):") if narrow else nullcontext():
            if narrow:
                self._rooms.compute(known)
            with code.block(f"for {'j in in_order(few' if narrow else 's in in_order(steps'}, not reverse):"):
                step = Scope(code, "B", self._outer.places)
                if narrow:
                    self._rooms.take_step(step)
                read = {*inputs_of(self._schedule.loop)}
                take_step(code, step, filter(read.__contains__, known))
                self._add_step(step)
        for value in self._schedule.kept:
            many.places[value] = code.name(value, "rows_{}")
            code.add(f"{many.places[value]} = {self._loop.array(value)}[:n].reshape({many.shape(value)})")

    def _add_step(self, step: Scope) -> None:
        code, schedule = self._code, self._schedule
        for g in schedule.kept:
            if g in self._carried.values():
                code.add(f"{code.name(g, 'all_{}')}[s] = {code.name(g)}")
        self._loop.add_step(step)
        for operand, g in self._of_captured.items():
            if g in schedule.totals:
                _add_up(code, code.name(operand, "g_{}"), f"xp.array({step.text(g)})")
        self._carry_on(step)

    def _carry_on(self, step: Scope) -> None:
        """The gradients of the states before the step take the place of those of the states after it."""
        code, pending = self._code, []
        for state, g in self._carried.items():
            gradient = self._of_operand[state]
            if gradient is None:
                pending.append(f"{code.name(g)}[...] = 0")
            elif self._into.get(gradient) != code.name(g) and gradient is not g:
                following = code.name(g, "next_{}")
                code.add(f"{following} = xp.array({step.text(gradient)})")
                pending.append(f"{code.name(g)}[...] = {following}")
        code.add(*pending)

    # -- after the loop ------------------------------------------------------------------------------------------------

    def _compute_outside(self, many: Scope) -> None:
        """Adds the lines that compute the gradients of inputs and captured values from the steps of a chunk."""
        of_totals = needed(self._outside, self._of_captured.values())
        of_inputs = needed(self._schedule.after, self._of_inputs.values())
        shared = [instruction for instruction in of_totals if instruction in of_inputs]
        for instruction in shared:
            compute_rows(many, instruction, {})
        for value, g in self._of_inputs.items():
            with self._code.block(f"if {self._needs(value)}:"):
                rows = Scope(self._code, "N", many.places)
                for instruction in needed(self._schedule.after, [g], results_of(shared)):
                    compute_rows(rows, instruction, {})
                steps = self._outer.shape(value, "n")
                self._code.add(f"{self._code.name(value, 'g_{}')}[steps] = {rows.text(g)}.reshape({steps})")
        if self._of_captured:
            with self._code.block(f"if any(needs[{len(self._program.operands) - len(self._program.captured)}:]):"):
                for instruction in of_totals:
                    if instruction not in shared:
                        compute_rows(many, instruction, {})
                self._add_totals(many)

    def _add_totals(self, many: Scope) -> None:
        """Adds the lines that add the sums over a chunk to the gradients of captured values."""
        gradients = list(self._of_captured.values())
        for operand, g in self._of_captured.items():
            if g not in self._schedule.totals:
                own = g not in self._views and gradients.count(g) == 1 and not shares_memory(g)
                part = many.text(g) if own else f"xp.array({many.text(g)})"
                _add_up(self._code, self._code.name(operand, "g_{}"), part)

    def _return(self) -> None:
        names = []
        for operand, g in self._of_operand.items():
            if operand in self._carried:
                names.append(self._code.name(self._carried[operand]))
            else:
                names.append("None" if g is None else self._code.name(operand, "g_{}"))
        self._code.add(f"return [{', '.join(names)}]")


def _for_outside(schedule: Backward, outside: Sequence[Instruction]) -> tuple[list[Instruction], list[Instruction]]:
    """Of the instructions ahead: those that are computed for all steps of a chunk, and those for the loop only."""
    several = [each for each in schedule.ahead if len(each.results) > 1 and not is_view(each)]
    products = [each for each in schedule.ahead if each.op.name in _PRODUCTS]
    gradients = (g for g in schedule.derivative.gradients if g is not None)
    wide = needed(schedule.ahead, [*inputs_of(outside), *gradients, *results_of([*several, *products])])
    return wide, [each for each in schedule.ahead if each not in wide]


def _in_place(
    code: Code, schedule: Backward, carried: Mapping[Value, Value], of_operand: Mapping[Value, Value | None]
) -> dict[Value, str]:
    """The gradients of states that are computed in the place of those that came in, since nothing reads these later."""
    last = _last_reads(schedule.loop, [*(g for g in map(of_operand.get, carried) if g is not None), *schedule.totals])
    made = {value: j for j, instruction in enumerate(schedule.loop) for value in instruction.results}
    found: dict[Value, str] = {}
    for state, g in carried.items():
        gradient = of_operand[state]
        if (
            g in of_operand.values()
            or gradient is None
            or gradient not in made
            or gradient in (*found, *last, *schedule.kept, *schedule.totals)
        ):
            continue
        of_gradient = schedule.loop[made[gradient]].op
        # What is added to is in the same place before. Nothing else reads it.
        first = (of_gradient.addend if isinstance(of_gradient, Group) else None) or gradient
        instruction = schedule.loop[made[first]]
        op = instruction.op
        elementwise = (g, first) in op.replaceable if isinstance(op, Group) else op.name in IN_PLACE - {"sigmoid"}
        if not is_view(instruction) and last.get(g, -1) < made[first] + elementwise:
            found[first] = found[gradient] = code.name(g)
    return found


def _last_reads(instructions: Sequence[Instruction], after: Iterable[Value]) -> dict[Value, int]:
    """The place of the last instruction that reads a value, or a view of it, if some views are read after all."""
    last: dict[Value, int] = {}
    sources: dict[Value, Value] = {}
    for j, instruction in enumerate(instructions):
        for value in instruction.inputs:
            last[value] = j
            while value in sources:
                value = sources[value]
                last[value] = j
        if is_view(instruction):
            sources.update(dict.fromkeys(instruction.results, instruction.inputs[0]))
    for value in after:
        while value in sources:
            value = sources[value]
            last[value] = len(instructions)
    return last


def _add_up(code: Code, total: str, part: str) -> None:
    code.add(f"{total} = {part} if {total} is None else {total} + {part}")
