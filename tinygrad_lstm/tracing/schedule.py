"""The schedule of a step's program and of its derivative over a sequence."""

from collections.abc import Collection, Iterable, Sequence

from tinygrad_lstm.backends.emit.program import Derivative, Instruction, Program, Value, needed
from tinygrad_lstm.backends.emit.schedule import Backward, Forward

from .rows import has_rows, is_linear, is_row_wise, is_sum_over_rows, is_transposition_of_rows

__all__ = ["backward_schedule", "forward_schedule"]

_CHEAP = frozenset({
    "add", "broadcast_to", "cat", "clone", "detach", "eq", "ge", "getitem", "gt", "le", "lt", "mul", "ne", "neg",
    "permute", "reshape", "split", "square", "sub", "where",
})  # fmt: skip
"""Ops whose results the derivative computes again, from values that are kept in any case."""

_LARGE, _REDUCED = 16 * 1024, 8  # bytes of a row, and the number of times that a result has fewer


def forward_schedule(program: Program, derivative: Derivative | None) -> Forward:
    """The schedule of a program; it keeps what the derivative reads."""
    levels = _Levels(program.instructions, {*program.inputs}, {*program.inputs, *program.states})
    kept = [] if derivative is None else _kept(program, derivative)
    rest = needed(levels.rest, [*program.outputs, *kept])
    return Forward(program, levels.once, levels.ahead, rest, kept)


def backward_schedule(derivative: Derivative, forward: Forward) -> Backward:
    """The schedule of a derivative."""
    program, gradients = derivative.program, derivative.gradients
    begin, end = len(program.inputs), len(program.inputs) + len(program.states)
    of_inputs, of_states, of_captured = gradients[:begin], gradients[begin:end], gradients[end:]
    of_output, *of_after = derivative.cotangents
    known = {*program.inputs, *program.states, *program.after, *forward.kept}
    carried = {value for value in of_after if value is not None}
    again = needed(program.instructions, _read(derivative.instructions), known)
    known |= {of_output} if of_output is not None else set()
    levels = _Levels([*again, *derivative.instructions], known, known | carried)
    rest = _Rest(levels, carried, needed(levels.rest, of_states), of_captured)
    sums = needed(rest.sums, of_captured)
    each_step = [*of_states, *rest.each_step]
    loop, after = _loop_and_after(levels.rest, each_step, rest.sums, of_inputs)
    large = [value for each in after if _reduces(each) for value in each.results]
    if large:
        loop, after = _loop_and_after(levels.rest, [*each_step, *large], rest.sums, of_inputs)
    totals = [value for value in rest.each_step if value in of_captured]
    wanted = (_read([*after, *sums]) | {value for value in of_inputs if value is not None}) - set(totals)
    kept = [*(g for g in of_after if g is not None and g in wanted), *_results(loop, wanted)]
    return Backward(derivative, levels.once, levels.ahead, loop, after, sums, kept, totals)


def _loop_and_after(
    rest: Sequence[Instruction],
    each_step: Iterable[Value | None],
    sums: Sequence[Instruction],
    of_inputs: Iterable[Value | None],
) -> tuple[list[Instruction], list[Instruction]]:
    """The instructions that compute values at each step, and those that run when the loop has taken many steps."""
    loop = needed(rest, each_step)
    there = {*loop, *sums}
    return loop, needed([each for each in rest if each not in there], [*of_inputs, *_read(sums)])


def _reduces(instruction: Instruction) -> bool:
    """Whether it reads large rows and computes small ones. Then it runs at each step, when these are in the cache.

    If it ran for many steps at once, all these rows would be kept.
    """
    largest = max(value.row_bytes for value in instruction.inputs if value.has_batch)
    return largest >= _LARGE and all(value.row_bytes * _REDUCED <= largest for value in instruction.results)


class _Levels:
    """Instructions by what they depend on.

    Attributes:
        once: those that depend on nothing that changes from step to step.
        ahead: those that compute row by row, from values that are known for many steps at once.
        rest: the others.
    """

    def __init__(self, instructions: Sequence[Instruction], known: set[Value], changing: set[Value]) -> None:
        self.once: list[Instruction] = []
        self.ahead: list[Instruction] = []
        self.rest: list[Instruction] = []
        self.known = {value for value in known if has_rows(value)}
        self.changing = set(changing)
        for instruction in instructions:
            changes = self.changing.intersection(instruction.inputs)
            if not changes:
                self.once.append(instruction)
                continue
            self.changing.update(instruction.results)
            if changes <= self.known and self.is_for_many_steps(instruction):
                self.ahead.append(instruction)
                self.known.update(instruction.results)
            else:
                self.rest.append(instruction)

    def is_for_many_steps(self, instruction: Instruction) -> bool:
        """Whether it can be computed for the rows of many steps, if its inputs are known for these."""
        same = (value for value in instruction.inputs if value not in self.changing)
        return is_row_wise(instruction) and not any(value.has_batch for value in same)


class _Rest:
    """What of the instructions that depend on cotangents need not run at each step.

    Attributes:
        sums: those whose results are sums over the rows of all steps, or computed from such.
        each_step: gradients, and results that only a step can compute, which must run in the loop.
    """

    def __init__(
        self,
        levels: _Levels,
        carried: set[Value],
        loop: Sequence[Instruction],
        of_captured: Iterable[Value | None],
    ) -> None:
        rows = levels.known | carried
        rows |= {value for instruction in loop for value in instruction.results if has_rows(value)}
        turned: set[Value] = set()
        totals: set[Value] = set()
        self.sums: list[Instruction] = []
        self.each_step: list[Value] = []
        for instruction in levels.rest:
            if instruction in set(loop):
                continue
            changes = levels.changing.intersection(instruction.inputs)
            if changes <= rows and levels.is_for_many_steps(instruction):
                rows.update(instruction.results)
            elif changes <= rows and is_transposition_of_rows(instruction):
                turned.update(instruction.results)
                self.sums.append(instruction)
            elif changes <= rows | turned | totals and (
                is_sum_over_rows(instruction) if changes.isdisjoint(totals) else is_linear(instruction, totals)
            ):
                totals.update(instruction.results)
                self.sums.append(instruction)
            else:
                self.each_step.extend(instruction.results)
                rows.update(value for value in instruction.results if has_rows(value))
        gradients = [value for value in of_captured if value is not None]
        self.each_step += [value for value in gradients if value in rows and value not in self.each_step]


def _kept(program: Program, derivative: Derivative) -> list[Value]:
    """The results of the program of each step that the derivative needs to be kept."""
    changing = {*program.inputs, *program.states}
    for instruction in program.instructions:
        if changing.intersection(instruction.inputs):
            changing.update(instruction.results)
    read = _read(derivative.instructions) & changing
    there = {*program.inputs, *program.states, *program.after}
    order = [value for instruction in program.instructions for value in instruction.results if value in read - there]
    there.update(value for value in order if value.instruction is not None and value.instruction.op.name not in _CHEAP)
    kept = []
    for value in order:
        if value not in there and not _follows(value, there, changing):
            there.add(value)
        if value in there:
            kept.append(value)
    return kept


def _follows(value: Value, there: set[Value], changing: set[Value]) -> bool:
    """Whether a value can be computed again by cheap ops from values that are there."""
    if value in there or value not in changing:
        return True
    instruction = value.instruction
    cheap = instruction is not None and instruction.op.name in _CHEAP
    return cheap and all(_follows(each, there, changing) for each in instruction.inputs)  # type: ignore[union-attr]


def _read(instructions: Iterable[Instruction]) -> set[Value]:
    return {value for instruction in instructions for value in instruction.inputs}


def _results(instructions: Iterable[Instruction], wanted: Collection[Value]) -> list[Value]:
    return [value for instruction in instructions for value in instruction.results if value in wanted]
