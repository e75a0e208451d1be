"""Sequences that ran as one op, for traces: their steps again, and the gradients of the states between the steps.

The op keeps the states. So each step can be taken again without those before it, and if a step computes each row of a
batch by itself, the rows of all steps are one batch.

The gradient of a state includes what all later steps send back. It is the gradient of zeros that are added to the
state. So a step that adds zeros to its states is differentiated over the sequence, like any other step.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_float
from tinygrad_lstm.backends.emit.program import Instruction, Program, Value
from tinygrad_lstm.backends.emit.sequence import ArraySequence

from .._tensor import Tensor
from ..device import Device
from ..graph import Node
from ..ops.elementwise import add
from ..ops.recurrent import Scan, active_steps, chosen, flags_by_rank
from ..ops.sequence import FusedStep, UntraceableError
from ..tracing.rows import is_row_wise
from ..tracing.schedule import backward_schedule, forward_schedule
from ..tracing.simplify import without_copies
from ..tracing.step import derivative_of

__all__ = ["RanSequence"]


class RanSequence:
    """A sequence that ran as one op.

    Args:
        scan: the sequence.
        outputs: what the op returned: the outputs of all steps, and the states after the last.
        node: the op's node, which keeps the states.

    Attributes:
        scan, outputs: as given.
        number: the number of the node.
        unchanged: the tensors that must not change until the gradients are computed.
        active: whether each step is within its sequence's length, (T, B).
        after: the states after each step, (T, B, ...).
        parts: the slices of steps that can be taken at once, in the order of computation.
        stepped: the states after the steps of each part, which were taken again.
        calls: the calls that were recorded then.
    """

    def __init__(self, scan: Scan, outputs: tuple[Tensor, ...], node: Node) -> None:
        operands, self._step, _ = node.saved
        program, (T, B) = self._step.program, scan.x.shape[:2]
        self.scan, self.outputs, self.number, self._device = scan, outputs, node.number, node.device
        self._operands: list[Array] = [operand._array for operand in operands]
        self._inputs, captured = len(program.inputs), len(program.inputs) + len(program.states)
        self._masks = self._operands[self._inputs - len(self._step.traced.dropped) : self._inputs]
        self.unchanged = [*outputs, *operands[: self._inputs], *operands[captured:]]  # the op has copied the states
        self._saved: Sequence[Array] = node.out  # first the states, each (T + 1, B, ...)
        self._before, self.after = (
            [states[begin : begin + T] for states in self._saved[: len(program.states)]]
            for begin in (scan.reverse, not scan.reverse)
        )
        self.active = active_steps(T, B, scan.lengths, scan.mask)
        self.parts = [slice(0, T)] if self._takes_all_rows() else [slice(t, t + 1) for t in range(T)]
        if scan.reverse:
            self.parts.reverse()
        self.stepped: list[tuple[Tensor, ...]] = []
        self.calls: Sequence[Any] = ()

    def _takes_all_rows(self) -> bool:
        """Whether the step computes each row by itself, and applies the same ops to the rows of all steps."""
        for instruction in self._step.program.instructions:
            of_rows = any(value.has_batch for value in (*instruction.inputs, *instruction.results))
            if of_rows and not is_row_wise(instruction):
                return False
        steps, inputs = slice(0, len(self.scan.x)), self._operands[: self._inputs - len(self._masks)]
        states = [self.rows(each, steps) for each in self._before]
        try:
            found, _ = self.scan.traced(
                [self.rows(each, steps).unsqueeze(0) for each in inputs], states, self._starts(steps)
            )
        except UntraceableError:
            return False
        return found is self._step

    def _starts(self, steps: slice) -> list[Tensor]:
        """The states with which rows begin anew, for each step."""
        with self._device.current():
            shapes = [(len(self.scan.x), *each.shape) for each in self.scan.starts]
            arrays = [self._device.xp.broadcast_to(each._array, shape) for each, shape in zip(self.scan.starts, shapes)]
        return [self.rows(each, steps) for each in arrays]

    def given(self, steps: slice) -> tuple[Tensor, tuple[Tensor, ...], list[Tensor]]:
        """What the step is given for n steps: inputs (n · B, ...), states, and masks of dropout in the step's order."""
        states = tuple([self.rows(each, steps) for each in self._before])
        if self.scan.resets is not None:
            flags = flags_by_rank(self.scan.resets, states)
            states = chosen(
                {rank: self.rows(each._array, steps) for rank, each in flags.items()}, self._starts(steps), states
            )
        return self.rows(self.scan.x._array, steps), states, [self.rows(mask, steps) for mask in self._masks]

    def rows(self, array: Array, steps: slice) -> Tensor:
        """The rows (n · B, ...) of these n steps of an array (T, B, ...), as a leaf."""
        with self._device.current():
            part = array[steps]
            made = Tensor._wrap(part.reshape(part.shape[0] * part.shape[1], *part.shape[2:]), self._device)
        return made.requires_grad_(is_float(array.dtype))

    def roots(self, gradients: Sequence[Tensor | None]) -> list[tuple[Tensor, Tensor]]:
        """The states in `stepped` with their gradients, given those of `outputs`."""
        totals, found = self._totals(gradients), list[tuple[Tensor, Tensor]]()
        for steps, after in zip(self.parts, self.stepped, strict=True):
            floats = ((state, total) for state, total in zip(after, totals) if total is not None)
            found += [(state, self.rows(total, steps)) for state, total in floats if state.requires_grad]
        return found

    def _totals(self, gradients: Sequence[Tensor | None]) -> list[Array | None]:
        """The gradient of what each step computes for a state, (T, B, ...); None of integers."""
        program, xp, backend = self._step.program, self._device.xp, self._device.backend
        (T, B), number = self.scan.x.shape[:2], self._inputs
        with self._device.current():
            given = [
                xp.zeros_like(output._array) if gradient is None else gradient._array
                for output, gradient in zip(self.outputs, gradients, strict=True)
            ]
            floats = [state for state in program.states if is_float(state.dtype)]
            zeros = [xp.zeros((T, B, *state.lengths), state.dtype) for state in floats]
            operands = [*self._operands[:number], *zeros, *self._operands[number:]]
            needs = [number <= k < number + len(zeros) for k in range(len(operands))]
            derivative = _adding_zeros(self._step, self._device)
            found = derivative.backward(backend, given, operands, self._saved, self.scan.reverse, needs)
            after = iter(found[number : number + len(zeros)])
            totals = [next(after) if is_float(state.dtype) else None for state in program.states]
            if totals[0] is not None:
                totals[0] = totals[0] + given[0]
            active = backend.from_host(self.active)
            for k, total in enumerate(totals):
                if total is not None:
                    going = active.reshape(T, B, *[1] * (total.ndim - 2))
                    totals[k] = xp.where(going, total, xp.zeros_like(total))
            return totals


_made: WeakKeyDictionary[FusedStep, ArraySequence] = WeakKeyDictionary()


def _adding_zeros(step: FusedStep, device: Device) -> ArraySequence:
    """The derivative of a step to whose states zeros are added, which are its last inputs; it needs only the states."""
    if step not in _made:
        program = _with_inputs_added(step.program)
        needs = [value not in (*step.program.inputs, *program.captured) for value in program.operands]
        derivative = without_copies(derivative_of(program, device, needs))
        forward = replace(forward_schedule(program, None), kept=step.schedules(True)[0].kept)  # what the op has saved
        _made[step] = ArraySequence(forward, backward_schedule(derivative, forward))
    return _made[step]


def _with_inputs_added(program: Program) -> Program:
    """A program with an input for each state of floats, which is added to the state after the step."""
    inputs, instructions, after = list(program.inputs), list(program.instructions), list(program.after)
    for k, state in enumerate(after):
        if is_float(state.dtype):
            added, total = (Value(f"{name}{k}", program.states[k].shape, state.dtype) for name in ("added", "total"))
            total.instruction = Instruction(add.op, (state, added), (total,))  # type: ignore[attr-defined]
            inputs.append(added)
            instructions.append(total.instruction)
            after[k] = total
    return replace(program, inputs=tuple(inputs), instructions=instructions, after=tuple(after))
