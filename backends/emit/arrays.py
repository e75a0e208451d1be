"""A step over a sequence as functions that are written with an array module, so that they run on every device.

What is computed for many steps at once is computed for chunks of steps: few enough for the cache, with enough rows for
products at full speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from .code import IN_PLACE, UFUNCS, Code, Scope, is_view
from .loops import Kept, Loop, joined_in, stack_name, unpacked
from .packs import packs_in, precise
from .program import Group, Instruction, Value, needed
from .rooms import Rooms, RowsProduct, is_rows_product
from .schedule import Backward, Forward

__all__ = ["backward_code", "direct_places", "forward_code", "turn_weights", "values_code"]

_RESERVED = [
    "T", "B", "N", "n", "s", "t", "k", "xp", "empty", "backend", "operands", "cotangents", "saved", "saving",
    "reverse", "needs", "steps", "at_once", "first", "last", "before", "after", "earlier", "later", "chunks",
    "in_order", "steps_at_once", "steps_in_cache", "few", "at_a_time", "j", "m", "M",
]  # fmt: skip

_ROWS_OF_SUMS = 4096
"""The number of rows from which products that sum over them take the time of their operations."""

_PRODUCTS = frozenset({"linear", "matmul"})
"""Ops that are faster for many rows than for the few that fit in the cache."""


def forward_code(schedule: Forward) -> tuple[str, dict[str, Any]]:
    """The source of `forward(backend, operands, reverse, saving)`, and the objects that it names.

    It returns the output of each step, the states after the last step, and what `backward` takes as `saved`.
    """
    code, program = Code(_RESERVED), schedule.program
    outer = _begun(code, program.operands, program.inputs[0])
    ahead, in_loop = _results(schedule.ahead), set(_results(schedule.loop))
    read_ahead = {*_read(schedule.ahead), *schedule.kept}
    read = {*_read(schedule.loop), *program.outputs}
    for instruction in schedule.once:
        outer.compute(instruction)
    turn_weights(outer, schedule.loop)
    code.add("first, last = (T, 0) if reverse else (0, T)")
    for state in program.states:
        array = code.name(state, "all_{}")
        code.add(f"{array} = empty({outer.shape(state, 'T + 1')}, {outer.dtype(state)})")
        code.add(f"{array}[first] = {outer.text(state)}")
    apart = program.output is not program.after[0]
    if apart:
        code.add(f"all_out = empty({outer.shape(program.output, 'T')}, {outer.dtype(program.output)})")
    made = _results(each for each in schedule.ahead if not is_view(each))
    code.add(f"at_once = {f'steps_at_once(T, B, {_row_bytes(made)})' if ahead else 'T'}")
    kept = {value: Kept(code.name(value, "all_{}"), "k") for value in schedule.kept if value in in_loop}
    direct = direct_places(code, schedule, in_loop)
    without = {*direct, *joined_in(schedule.loop), *precise(program)}
    packs = packs_in(schedule.loop, schedule.ahead, kept, without)
    for stack in (pack.stack.values for pack in packs if pack.stack.values[0] in kept):
        name, shape = stack_name(code, stack, "all_{}"), outer.shape(stack[0], str(len(stack)), "T if saving else 1")
        code.add(f"{name} = empty({shape}, {outer.dtype(stack[0])})")
        code.add(*unpacked(code, stack, "all_{}"))
    stacked = {value for pack in packs for value in pack.stack.values}
    for value in schedule.kept:
        if value not in stacked:
            length = f"T if saving else {'at_once' if value in ahead else 1}"
            code.add(f"{code.name(value, 'all_{}')} = empty({outer.shape(value, length)}, {outer.dtype(value)})")
    loop = Loop(outer, schedule.loop, kept, direct, packs, program.outputs)
    products = {each: RowsProduct(outer, each, schedule.kept) for each in schedule.ahead if is_rows_product(each)}
    stacks = [each for each in schedule.ahead if each.results[0] in loop.stacked]
    of_steps = [value for value in ahead if value in read and value.instruction not in stacks]
    with code.block("for steps in chunks(T, at_once, reverse):"):
        many = Scope(code, "N", outer.places)
        if ahead:
            code.add("n = steps.stop - steps.start", "N = n * B")
        _take_rows(code, many, {value: f"{outer.text(value)}[steps]" for value in program.inputs}, schedule.ahead)
        for instruction in schedule.ahead:
            rows = {}
            for value in schedule.kept:
                if value in instruction.results:
                    rows[value] = code.name(value, "rows_{}")
                    part = f"{code.name(value, 'all_{}')}[steps if saving else slice(n)]"
                    code.add(f"{rows[value]} = {part}.reshape({many.shape(value)})")
            if instruction in products:
                products[instruction].compute(many, rows.get(instruction.results[0]))
            elif instruction not in stacks or not read_ahead.isdisjoint(instruction.results):
                _compute_rows(many, instruction, rows)
        _split_into_steps(code, many, outer, of_steps)
        for instruction in stacks:
            loop.stack_steps(many, instruction)
        with code.block("for s in in_order(steps, reverse):"):
            code.add("t = steps.start + s", "before, after = t + reverse, t + 1 - reverse")
            if kept:
                code.add("k = t if saving else 0")
            step = Scope(code, "B", outer.places, outer.turned)
            for value in program.inputs:
                if value in read:
                    step.places[value] = code.name(value, "{}_t")
                    code.add(f"{step.places[value]} = {outer.text(value)}[t]")
            _take_step(code, step, of_steps)
            for instruction in stacks:
                loop.take_stack(step, instruction)
            for state in program.states:
                array, step.places[state] = code.name(state, "all_{}"), code.name(state)
                code.add(f"{step.places[state]}, {code.name(state, 'next_{}')} = {array}[before], {array}[after]")
            loop.add_step(step)
            for value, state in zip(program.after, program.states):
                if step.text(value) != code.name(state, "next_{}"):
                    code.add(f"{code.name(state, 'next_{}')}[...] = {step.text(value)}")
            if apart:
                code.add(f"all_out[t] = {step.text(program.output)}")
    states = [code.name(state, "all_{}") for state in program.states]
    out = "all_out" if apart else f"{states[0]}[:T] if reverse else {states[0]}[1:]"
    saved = [*states, *(code.name(value, "all_{}") for value in schedule.kept)]
    code.add(f"outputs = {', '.join([f'({out})', *(f'{state}[last].copy()' for state in states)])}")
    code.add(f"return outputs, ({', '.join(saved)},) if saving else None")
    return code.source("def forward(backend, operands, reverse, saving):"), code.names


def backward_code(schedule: Backward, forward: Forward) -> tuple[str, dict[str, Any]]:
    """The source of `backward(backend, cotangents, operands, saved, reverse, needs)`, and the objects that it names.

    `cotangents` are the gradients of the outputs of `forward`; `needs` says for which operands a gradient is needed. It
    returns the gradients of the operands: None for one that has none, or of which none is needed.
    """
    derivative = schedule.derivative
    code, program = Code(_RESERVED), derivative.program
    of_operand = dict(zip(program.operands, derivative.gradients, strict=True))
    places = {operand: k for k, operand in enumerate(program.operands)}
    outer = _begun(code, program.operands, program.inputs[0])
    for state in program.states:
        del outer.places[state]
    code.add(f"{', '.join(code.name(value, 'all_{}') for value in (*program.states, *forward.kept))}, = saved")
    for instruction in schedule.once:
        outer.compute(instruction)
    carried = {state: g for state, g in zip(program.states, derivative.cotangents[1:]) if g is not None}
    for k, g in enumerate(derivative.cotangents[1:], 1):
        if g is not None:
            outer.places[g] = code.name(g)
            code.add(f"{outer.places[g]} = cotangents[{k}].copy()")
    by_input = [value for value in program.inputs if of_operand[value] is not None]
    for value in by_input:
        array = f"empty({outer.shape(value, 'T')}, {outer.dtype(value)})"
        code.add(f"{code.name(value, 'g_{}')} = {array} if needs[{places[value]}] else None")
    totals = {operand: g for operand in program.captured if (g := of_operand[operand]) is not None}
    code.add(*(f"{code.name(operand, 'g_{}')} = None" for operand in totals))

    outside = [*schedule.after, *schedule.sums]
    wide, narrow = _for_outside(schedule, outside)
    views = set(_results(filter(is_view, schedule.ahead)))
    computed = [value for value in _results(wide) if value not in views]
    code.add(f"at_once = steps_at_once(T, B, {_row_bytes([*computed, *schedule.kept])}, {_ROWS_OF_SUMS})")
    for value in (*schedule.kept, *computed):
        code.add(f"{code.name(value, 'all_{}')} = empty({outer.shape(value, 'at_once')}, {outer.dtype(value)})")
    into = _in_place(code, schedule, carried, of_operand)
    loop = Loop(outer, schedule.loop, {value: Kept(code.name(value, "all_{}"), "s") for value in schedule.kept}, into)
    rooms = Rooms(outer, narrow, loop)
    there = _known(code, outer, schedule, forward)
    by_steps = _read(schedule.loop)
    with code.block("for steps in chunks(T, at_once, not reverse):"):
        code.add("n = steps.stop - steps.start", "N = n * B")
        code.add("earlier = slice(steps.start + reverse, steps.stop + reverse)")
        code.add("later = slice(steps.start + 1 - reverse, steps.stop + 1 - reverse)")
        many = Scope(code, "N", outer.places)
        _take_rows(code, many, there, [*wide, *outside], [of_operand[value] for value in by_input])
        for instruction in wide:
            rows = {value: code.name(value, "rows_{}") for value in instruction.results if value not in views}
            for value, name in rows.items():
                code.add(f"{name} = {code.name(value, 'all_{}')}[:n].reshape({many.shape(value)})")
            _compute_rows(many, instruction, rows)
        by_few = by_steps | _read(narrow)
        _split_into_steps(code, many, outer, [value for value in _results(wide) if value in by_few])
        code.add(*(f"{code.name(v, 'steps_{}')} = {where}" for v, where in there.items() if v in by_few))
        with code.block("for few in chunks(n, at_a_time, not reverse):") if narrow else nullcontext():
            if narrow:
                rooms.compute([*there, *_results(wide)])
            with code.block(f"for {'j in in_order(few' if narrow else 's in in_order(steps'}, not reverse):"):
                step = Scope(code, "B", outer.places)
                if narrow:
                    rooms.take_step(step)
                _take_step(code, step, [value for value in (*there, *_results(wide)) if value in by_steps])
                for g in schedule.kept:
                    if g in carried.values():
                        code.add(f"{code.name(g, 'all_{}')}[s] = {code.name(g)}")
                loop.add_step(step)
                for operand, g in totals.items():
                    if g in schedule.totals:
                        _add_up(code, code.name(operand, "g_{}"), f"xp.array({step.text(g)})")
                _carry_on(code, step, carried, of_operand, into)
        for value in schedule.kept:
            many.places[value] = code.name(value, "rows_{}")
            code.add(f"{many.places[value]} = {loop.array(value)}[:n].reshape({many.shape(value)})")
        of_totals = needed(outside, totals.values())
        of_inputs = needed(schedule.after, [of_operand[value] for value in by_input])
        shared = [instruction for instruction in of_totals if instruction in of_inputs]
        for instruction in shared:
            _compute_rows(many, instruction, {})
        for value in by_input:
            with code.block(f"if needs[{places[value]}]:"):
                rows_of_input = Scope(code, "N", many.places)
                for instruction in needed(schedule.after, [of_operand[value]], _results(shared)):
                    _compute_rows(rows_of_input, instruction, {})
                gradient = rows_of_input.text(of_operand[value])
                code.add(f"{code.name(value, 'g_{}')}[steps] = {gradient}.reshape({outer.shape(value, 'n')})")
        if totals:
            with code.block(f"if any(needs[{len(program.operands) - len(program.captured)}:]):"):
                for instruction in of_totals:
                    if instruction not in shared:
                        _compute_rows(many, instruction, {})
                for operand, g in totals.items():
                    if g not in schedule.totals:
                        once = g not in views and list(totals.values()).count(g) == 1 and not _is_view_of_other(g)
                        _add_up(code, code.name(operand, "g_{}"), many.text(g) if once else f"xp.array({many.text(g)})")
    results = [
        "None" if of_operand[operand] is None and operand not in carried else
        code.name(carried[operand]) if operand in carried else code.name(operand, "g_{}")
        for operand in program.operands
    ]  # fmt: skip
    code.add(f"return [{', '.join(results)}]")
    return code.source("def backward(backend, cotangents, operands, saved, reverse, needs):"), code.names


def values_code(
    given: Sequence[Value], instructions: Sequence[Instruction], wanted: Sequence[Value]
) -> tuple[str, dict[str, Any]]:
    """The source of `values(backend, given, B)`, which computes values of no step, and the objects that it names.

    B is the batch size. The results are new arrays, unless they are given.
    """
    code = Code(_RESERVED)
    names = [code.name(value) for value in given]
    code.add("xp, empty = backend.xp, backend.empty", *([f"{', '.join(names)}, = given"] if names else []))
    scope = Scope(code, "B", dict(zip(given, names)))
    for instruction in needed(instructions, wanted, given):
        scope.compute(instruction)
    taken: set[Value] = set()
    results = []
    for value in wanted:
        alone = value not in taken and (value in given or not _is_view_of_other(value))
        results.append(scope.text(value) if alone else f"xp.array({scope.text(value)})")
        taken.add(value)
    code.add(f"return ({', '.join(results)}{',' * (len(results) == 1)})")
    return code.source("def values(backend, given, B):"), code.names


def _begun(code: Code, operands: Sequence[Value], x: Value) -> Scope:
    """The first lines, which name the operands and sizes."""
    names = [code.name(operand) for operand in operands]
    code.add("xp, empty = backend.xp, backend.empty", f"{', '.join(names)}, = operands")
    code.add(f"T, B = {code.name(x)}.shape[:2]")
    return Scope(code, "B", dict(zip(operands, names)))


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


def _known(code: Code, outer: Scope, schedule: Backward, forward: Forward) -> dict[Value, str]:
    """What is known of the steps of a chunk, and the expressions of these arrays."""
    program, of_output = forward.program, schedule.derivative.cotangents[0]
    there = {value: f"{outer.text(value)}[steps]" for value in program.inputs}
    there |= {state: f"{code.name(state, 'all_{}')}[earlier]" for state in program.states}
    for value, state in zip(program.after, program.states):
        if value not in there and value not in program.captured:
            there[value] = f"{code.name(state, 'all_{}')}[later]"
    there |= {value: f"{code.name(value, 'all_{}')}[steps]" for value in forward.kept}
    return there if of_output is None else {**there, of_output: "cotangents[0][steps]"}


def _take_rows(
    code: Code,
    many: Scope,
    arrays: Mapping[Value, str],
    instructions: Iterable[Instruction],
    others: Iterable[Value | None] = (),
) -> None:
    """Reshapes arrays of steps to rows, if the instructions read them."""
    read = {*_read(instructions), *others}
    for value, where in arrays.items():
        if value in read:
            many.places[value] = code.name(value, "rows_{}")
            code.add(f"{many.places[value]} = {where}.reshape({many.shape(value)})")


def _compute_rows(many: Scope, instruction: Instruction, rows: Mapping[Value, str]) -> None:
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


def _split_into_steps(code: Code, many: Scope, outer: Scope, values: Iterable[Value]) -> None:
    """Reshapes rows of many steps to an array of steps."""
    for value in values:
        code.add(f"{code.name(value, 'steps_{}')} = {many.text(value)}.reshape({outer.shape(value, 'n')})")


def _take_step(code: Code, step: Scope, values: Iterable[Value]) -> None:
    """Takes the values of a step from arrays of steps."""
    for value in values:
        step.places[value] = code.name(value, "{}_t")
        code.add(f"{step.places[value]} = {code.name(value, 'steps_{}')}[s]")


def _carry_on(
    code: Code,
    step: Scope,
    carried: Mapping[Value, Value],
    of_operand: Mapping[Value, Value | None],
    into: Mapping[Value, str],
) -> None:
    """The gradients of the states before the step take the place of those of the states after it."""
    pending = []
    for state, g in carried.items():
        gradient = of_operand[state]
        if gradient is None:
            pending.append(f"{code.name(g)}[...] = 0")
        elif into.get(gradient) != code.name(g) and gradient is not g:
            following = code.name(g, "next_{}")
            code.add(f"{following} = xp.array({step.text(gradient)})")
            pending.append(f"{code.name(g)}[...] = {following}")
    code.add(*pending)


def _for_outside(schedule: Backward, outside: Sequence[Instruction]) -> tuple[list[Instruction], list[Instruction]]:
    """Of the instructions ahead: those that are computed for all steps of a chunk, and those for the loop only."""
    several = [each for each in schedule.ahead if len(each.results) > 1 and not is_view(each)]
    products = [each for each in schedule.ahead if each.op.name in _PRODUCTS]
    gradients = (g for g in schedule.derivative.gradients if g is not None)
    wide = needed(schedule.ahead, [*_read(outside), *gradients, *_results([*several, *products])])
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


def _is_view_of_other(value: Value) -> bool:
    return value.instruction is None or is_view(value.instruction)


def _add_up(code: Code, total: str, part: str) -> None:
    code.add(f"{total} = {part} if {total} is None else {total} + {part}")


def _row_bytes(values: Iterable[Value]) -> int:
    return sum(value.row_bytes for value in values)


def _results(instructions: Iterable[Instruction]) -> list[Value]:
    return [value for instruction in instructions for value in instruction.results]


def _read(instructions: Iterable[Instruction]) -> set[Value]:
    return {value for instruction in instructions for value in instruction.inputs}
