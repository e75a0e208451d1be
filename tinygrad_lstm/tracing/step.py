"""The program of a recurrent step, and that of its derivative."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import is_float
from tinygrad_lstm.backends.emit.program import BATCH, Derivative, Instruction, Program, Value, mapped, needed

from .._tensor import Tensor
from ..autograd import grad
from ..device import Device
from ..mode import Switch, mode, no_grad
from .names import Names, watched_variables
from .run import BATCHES, DETACH, Known, Like, Note, Run, Step, UntraceableError, example, like_of, run_of
from .values import Values, merged, merged_notes, same

__all__ = ["Outside", "TracedStep", "constant_of", "derivative_of", "replay_steps"]

_MOST_BATCHES = 16  # for which a step's notes are kept


@dataclass(frozen=True)
class Outside:
    """What is remembered of a tensor from outside.

    Attributes:
        like: its shape, dtype and device, and whether it requires a gradient.
        constant: its values if the step makes it, so that they are in the program: one number if all are equal.
    """

    like: Like
    constant: Any = None

    def is_like(self, tensor: Tensor, batch: int) -> bool:
        """Whether the program is the same with this tensor, for a batch size."""
        shape = tuple(batch if size is BATCH else size for size in self.like.shape)
        if Like(shape, *self.like[1:]) != like_of(tensor):
            return False
        if self.constant is None:
            return True
        values = tensor.device.backend.to_host(tensor._array)
        return same(self.constant, values) if hasattr(self.constant, "shape") else bool((values == self.constant).all())


class TracedStep:
    """The program of a step.

    Args:
        step: the step.
        given: what it is given: inputs, states, and others, which are the same in all steps.
        names: the names of values, for those who read the program; others are named after their ops.

    Attributes:
        program: the program, which captures the others and what the step takes from outside.
        outside: what is remembered of the latter.
        batch: the only batch size that the program is for, if there is one.
        dropped: for each mask of dropout, the probability of dropping an element. The masks are the program's last
            inputs.
    """

    batch: int | None = None

    def __init__(self, step: Step, *given: Sequence[Like], names: Names | None = None) -> None:
        (first, outputs), (second, others) = (
            run_of(step if names is None or k else _watched(step), given, batch) for k, batch in enumerate(BATCHES)
        )
        self._notes, self._outputs = merged_notes(first.notes, second.notes), merged(outputs, others)
        if first.outside != second.outside:
            raise UntraceableError("the step applies different ops to different batch sizes or values")
        if (first.masks, first.dropped) != (second.masks, second.dropped):
            raise UntraceableError("the step drops elements with different probabilities for different batch sizes")
        taken = [k for k in first.outside if first.tensors[k] is second.tensors[k]]
        values = Values(first, second)
        operands = [f"{name}{k}" for name, part in zip(("x", "state", "given"), given) for k in range(len(part))]
        places = [*range(len(operands)), *taken]
        operands += [f"p{k}" for k in range(len(taken))]
        if names is not None:
            operands[: len(given[0]) + len(given[1])] = [*names.inputs, *names.states]
            for k, place in enumerate(taken, len(operands) - len(taken)):
                operands[k] = names.captured.get(id(first.tensors[place]._array), operands[k])
            first.names |= {output.place: f"next_{name}" for output, name in zip(outputs[1:], names.states)}
        made = [values.input(k, name) for k, name in zip(places, operands)]
        masks = [values.mask(k) for k in first.masks]
        number, end = len(given[0]), len(given[0]) + len(given[1])
        instructions = values.instructions(self._notes)
        output, *after = values(self._outputs)
        for before, state in zip(made[number:end], after, strict=True):
            if (before.shape, before.dtype) != (state.shape, state.dtype):
                raise UntraceableError(
                    f"a state {before.shape} of {before.dtype} becomes {state.shape} of {state.dtype}"
                )
        inputs = (*made[:number], *masks)
        self.program = Program(inputs, tuple(made[number:end]), tuple(made[end:]), instructions, output, tuple(after))
        self.dropped = first.dropped
        self._outside = {
            k: Outside(like_of(first.tensors[k])._replace(shape=values[k].shape), values[k].constant)
            for k in first.outside
        }
        self._taken = taken
        self._notes_for: dict[int, Sequence[Note]] = {}
        self.outside = [self._outside[k] for k in taken]

    def taken_in(self, seen: tuple[Run, Sequence[Known]], batch: int) -> list[Tensor] | None:
        """The tensors that a run for a batch size took from outside, in the program's order.

        None if the run has applied different ops than the program, or has given them different arguments.
        """
        now, outputs = seen
        alike = (
            self.batch in (None, batch)
            and len(self._notes) == len(now.notes)
            and list(self._outside) == now.outside
            and self.dropped == now.dropped
            and same(self._outputs, outputs)
            and all(map(_same_note, self._notes_of(batch), now.notes))
            and all(known.is_like(now.tensors[k], batch) for k, known in self._outside.items())
        )
        return [now.tensors[k] for k in self._taken] if alike else None

    def _notes_of(self, batch: int) -> Sequence[Note]:
        """The notes with the batch size in place of `BATCH`."""
        if batch not in self._notes_for:
            if len(self._notes_for) >= _MOST_BATCHES:
                self._notes_for.clear()
            self._notes_for[batch] = [
                replace(note, arguments=mapped(note.arguments, lambda part: batch if part is BATCH else part))
                for note in self._notes
            ]
        return self._notes_for[batch]


def constant_of(tensor: Tensor) -> Any:
    """The values of a tensor: one number if all are equal."""
    values = tensor.device.backend.to_host(tensor._array)
    return values.flat[0].item() if values.size and (values == values.flat[0]).all() else values.copy()


def _watched(step: Step) -> Step:
    """A step that shows the names of its variables to the run that records it."""

    def watched(*given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        run = mode().value.tracer
        assert isinstance(run, Run)
        with watched_variables(run.see_name):
            return step(*given)

    return watched


def derivative_of(program: Program, device: Device, needs: Sequence[bool]) -> Derivative:
    """The derivative of a program, recorded from the ops' own rules, for the operands that need a gradient."""
    (first, found, forward), (second, others, _) = (_run_back(program, device, needs, batch) for batch in BATCHES)
    known = _known(program, first.notes[:forward])
    values, place, cotangents = Values(first, second, known), len(program.operands), []
    for output, name in zip(program.outputs, ("out", *(value.name for value in program.after))):
        cotangents.append(values.input(place, f"g_{name}") if is_float(output.dtype) else None)
        place += is_float(output.dtype)
    instructions = values.instructions(merged_notes(first.notes, second.notes)[forward:])
    gradients = values(tuple(merged(found, others)))
    return Derivative(program, tuple(cotangents), needed(instructions, gradients), gradients)


def _known(program: Program, notes: Sequence[Note]) -> dict[int, Value]:
    """The values of a program by their places in a run of it.

    A detached value is noted where it is used, which may be later than in the program. In a derivative it is the value
    itself.
    """
    known = dict(enumerate(program.operands))
    instructions = [instruction for instruction in program.instructions if instruction.op is not DETACH]
    for instruction, note in zip(instructions, (note for note in notes if note.op is not DETACH), strict=True):
        known.update(zip(note.places, instruction.results, strict=True))
    for note in notes:
        if note.op is DETACH:
            (place,), (value,) = note.places, note.arguments
            known[place] = known[value.place]
    return known


def replay(program: Program, operands: Sequence[Tensor], batch: int) -> tuple[Tensor, ...]:
    """The outputs of a program, computed by its ops on tensors."""
    tensors = dict(zip(program.operands, operands, strict=True))
    return _replay(program.instructions, tensors, program.outputs, batch, operands[0].device)


def replay_steps(
    program: Program,
    steps: Iterable[Sequence[Tensor]],
    states: Sequence[Tensor],
    captured: Sequence[Tensor],
    batch: int,
) -> Iterator[tuple[Tensor, ...]]:
    """The output and states after each step, given the inputs of each. What is the same in all is computed once."""
    fixed, device = dict(zip(program.captured, captured, strict=True)), states[0].device
    once, each = _by_change(program)
    _replay(once, fixed, (), batch, device)
    for inputs in steps:
        tensors = {**fixed, **dict(zip((*program.inputs, *program.states), (*inputs, *states), strict=True))}
        _, *states = outputs = _replay(each, tensors, program.outputs, batch, device)
        yield outputs


def _by_change(program: Program) -> tuple[list[Instruction], list[Instruction]]:
    """The instructions that depend on captured values only, and the others."""
    changing = {*program.inputs, *program.states}
    once, each = [], []
    for instruction in program.instructions:
        if changing.isdisjoint(instruction.inputs) and not any(value.has_batch for value in instruction.results):
            once.append(instruction)
        else:
            each.append(instruction)
            changing.update(instruction.results)
    return once, each


def _replay(
    instructions: Sequence[Instruction],
    tensors: dict[Value, Tensor],
    wanted: Sequence[Value],
    batch: int,
    device: Device,
) -> tuple[Tensor, ...]:
    """Adds the results of instructions to the tensors of values, and returns those of the wanted values."""

    def tensor_of(part: Any) -> Any:
        if part is BATCH:
            return batch
        if not isinstance(part, Value):
            return part
        if part not in tensors:
            tensors[part] = _constant_tensor(part, batch, device)
        return tensors[part]

    for instruction in instructions:
        with no_grad() if instruction.detached else contextlib.nullcontext():
            made = instruction.op.call(*mapped(instruction.arguments, tensor_of))
        tensors.update(zip(instruction.results, made if isinstance(made, tuple) else (made,), strict=True))
    return tuple(tensor_of(value) for value in wanted)


def _run_back(
    program: Program, device: Device, needs: Sequence[bool], batch: int
) -> tuple[Run, list[Known | None], int]:
    """A run of a program and its derivative: the gradients of its operands, and the number of notes before them."""
    operands = [
        example(Like(value.shape, value.dtype, device, needs_grad and is_float(value.dtype)), batch)
        for value, needs_grad in zip(program.operands, needs, strict=True)
    ]
    outputs = [output for output in program.outputs if is_float(output.dtype)]
    cotangents = [example(Like(output.shape, output.dtype, device, True), batch) for output in outputs]
    run = Run([*operands, *cotangents])
    with Switch(tracer=run, recording=True, anomaly=False), np.errstate(all="ignore"):
        made = replay(program, operands, batch)
        forward = len(run.notes)
        _name_gradients(run, program)
        floats = [output for output in made if is_float(output.dtype)]
        pairs = [(output, g) for output, g in zip(floats, cotangents, strict=True) if output.requires_grad]
        asked = [operand for operand in operands if operand.requires_grad]
        found = iter(
            grad([output for output, _ in pairs], asked, [g for _, g in pairs], create_graph=True, allow_unused=True)
        )
        gradients = [next(found) if operand.requires_grad else None for operand in operands]
    return run, [None if g is None else run.noted(g) for g in gradients], forward


def _name_gradients(run: Run, program: Program) -> None:
    """The gradient of a value v of the program, when a walk reaches v, gets the name g_v in the run."""

    def naming(name: str) -> Callable[[Any], Any]:
        def named(g: Any) -> Any:
            run.names.setdefault(run.noted(g).place, name)
            return g

        return named

    for place, value in _known(program, run.notes).items():
        tensor = run.tensors[place]
        if tensor.requires_grad:
            came_in = value in program.outputs  # g_v is what the next step adds to it
            tensor._graph_node().with_extras().hooks[0] = naming(f"g_{value.name}{'_total' * came_in}")


def _constant_tensor(value: Value, batch: int, device: Device) -> Tensor:
    if hasattr(value.constant, "shape"):
        return Tensor._wrap(value.constant, device)
    shape = tuple(batch if size is BATCH else size for size in value.shape)
    with device.current():
        return Tensor._wrap(device.xp.full(shape, value.constant, value.dtype), device)


def _same_note(first: Note, second: Note) -> bool:
    return (
        first.op is second.op
        and first.detached == second.detached
        and first.places == second.places
        and same(first.arguments, second.arguments)
    )
