"""`program`: the equations of a recurrent step, its derivative, its schedule over a sequence, and generated code."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import getclosurevars, isfunction, ismethod
from typing import Any

from tinygrad_lstm.backends.dtypes import is_float
from tinygrad_lstm.backends.emit.program import BATCH, Instruction, Program, Value
from tinygrad_lstm.backends.emit.schedule import Backward, Forward

from .._tensor import Tensor, operand
from ..html import preformatted
from ..nn import Module
from ..ops.sequence import FusedStep, UntraceableError
from ..starts import start_of
from ..states import CheckedStep, joined_like, leaves_of, names_of, parts_of, with_tensors
from ..tracing.names import Names
from ..tracing.run import Like
from ..tracing.step import TracedStep
from .data_path import DataPath, Part
from .equations import Equations

__all__ = ["Programs", "StepProgram", "names_in", "program", "program_of", "programs_of", "step_shown"]


Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


@dataclass(frozen=True, repr=False)
class StepProgram:
    """What is computed of a step over a sequence; `print` and notebooks show it.

    Attributes:
        title: the step, what it is given, and the parameters, with their shapes; B is the batch size.
        equations: the step's ops, as they were traced.
        forward: the same in the order in which a sequence is computed.
        backward: the derivative in this order; `g_y` is the gradient of y.
        code: the generated code by language, "C" and "Python", or the reason why there is none. The first one runs.
            On a CUDA device these are "Python", and the kernels that it launches, "CUDA".
    """

    title: str
    equations: str
    forward: str
    backward: str
    code: Mapping[str, str] = field(hash=False)

    def __repr__(self) -> str:
        parts = {
            "The step": self.equations,
            "Forward over a sequence": self.forward,
            "Backward over a sequence": self.backward,
            **self.code,
        }
        text = [self.title, *(f"── {head} {'─' * (76 - len(head))}\n\n{part.strip()}" for head, part in parts.items())]
        return "\n\n".join(text)

    def _repr_html_(self) -> str:
        return preformatted(repr(self))


class Programs(tuple[StepProgram, ...]):
    """The different programs of a layer's cells; `print` and notebooks show all of them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n\n\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        return preformatted(repr(self))


def program(step: Callable[[Tensor, Any], Any], x: Tensor, state: Any = None) -> StepProgram:
    """What is computed of a step over a sequence: its equations, its derivative, and the code that is generated.

    The equations are Python code. A value has the name of the variable that the step assigns it to, or is named after
    its op. `g_y` is the gradient of y.

    Args:
        step: a function of (x_t, state), or a cell, as for `scan`.
        x: inputs (T, B, ...), of which only the shape, the dtype and the device matter.
        state: the state before the first step (B, ...), of which the same is true. None for what a cell starts from.

    Raises:
        ValueError: the step cannot be computed as one op.
        TypeError: a state is not a Tensor or a tuple of Tensors; there is none, and the step is a function.

    >>> import tinygrad_lstm as tg
    >>> decay = tg.tensor(0.5, requires_grad=True)
    >>> print(tg.inspect.program(lambda x_t, h: decay * h + x_t, tg.ones(3, 2, 1), tg.zeros(2, 1)).equations)
    next_state0 = decay * state0 + x
    return next_state0
    """
    x = operand(x)
    if state is None and isinstance(step, Module):
        state = start_of("program", step, x[0])
    name = type(step).__name__ if isinstance(step, Module) else getattr(step, "__name__", type(step).__name__)
    names = names_of(step, len(leaves_of(state)))
    return program_of(name, step, x[0], state, names, names_in(step))


def programs_of(programs: Mapping[str, StepProgram]) -> Programs:
    """Programs by the places of their cells, those that are the same once, with all places."""
    places: dict[StepProgram, list[str]] = {}
    for place, found in programs.items():
        places.setdefault(found, []).append(place)
    return Programs(replace(each, title=f"{', '.join(at)}: {each.title}") for each, at in places.items())


def program_of(
    name: str,
    step: Callable[[Tensor, Any], Any],
    x: Tensor,
    state: Any,
    state_names: Sequence[str],
    used: Mapping[int, str],
) -> StepProgram:
    """The program of a step.

    Args:
        name: its name, for the title.
        step: `step(x, state)` returns the next state.
        x: the inputs (B, ...) of a step.
        state: the state before it.
        state_names: the names of its parts.
        used: the names of tensors that the step uses, by the ids of their arrays.

    Raises:
        ValueError, TypeError: as for `program`.
    """
    state = with_tensors(state)
    states = parts_of("program: the state", state)
    checked = CheckedStep(step, "program", tuple(state_names), joined_like(state))
    try:
        fused = FusedStep(*_traced(checked, x, states, checked.names, used))
        forward, backward = fused.schedules(True)
        code = fused.functions(True).sources
    except UntraceableError as error:
        raise ValueError(f"{name}: {error}; its steps run one by one, without a program") from error
    return StepProgram(
        _title(name, fused.program),
        "\n".join([*_equations(fused.traced.program), _returned(fused.program)]),
        "\n".join(_of_forward(forward)),
        "\n".join(_of_backward(forward, backward)),
        code,
    )


def step_shown(
    step: Step, x: Tensor, states: Mapping[str, Tensor], used: Mapping[int, str], values: Collection[str]
) -> tuple[tuple[str, ...], tuple[Part, ...]]:
    """The equations of a step, and its data path; both () if it cannot be traced.

    Args:
        step: `step(x, states)` returns the next states.
        x: inputs (B, ...), of which only the shape, the dtype and the device matter.
        states: the states before the step by name, of which the same is true.
        used: the names of tensors that the step uses, by the ids of their arrays.
        values: the names of the values that a trace of the step has.
    """
    try:
        traced, *_ = _traced(step, x, tuple(states.values()), tuple(states), used)
    except UntraceableError:
        return (), ()
    instructions, outputs = traced.program.instructions, traced.program.outputs
    lines, stages = Equations(instructions, outputs).numbered(instructions)
    return tuple(lines), DataPath(traced.program, stages, values).parts()


def _traced(
    step: Step, x: Tensor, states: Sequence[Tensor], names: Sequence[str], used: Mapping[int, str]
) -> tuple[TracedStep, list[Like], list[Like], list[Like]]:
    """A step that is traced with its names, and what it was given."""

    def taken(inputs: Sequence[Tensor], states: Sequence[Tensor], others: Sequence[Tensor]) -> tuple[Tensor, ...]:
        after = step(inputs[0], tuple(states))
        return (after[0], *after)

    given: tuple[list[Like], list[Like], list[Like]] = [_like(x)], [_like(part) for part in states], []
    return TracedStep(taken, *given, names=Names(["x"], names, used)), *given


def _equations(program: Program) -> list[str]:
    return Equations(program.instructions, program.outputs).lines(program.instructions)


def _like(tensor: Tensor) -> Like:
    return Like((BATCH, *tensor.shape[1:]), tensor.dtype, tensor.device, is_float(tensor.dtype))


def _returned(program: Program) -> str:
    return f"return {', '.join(value.name for value in program.after)}"


def names_in(step: Callable[..., Any]) -> dict[int, str]:
    """The names of the tensors that a step uses, by the ids of their arrays.

    They are a cell's parameters and buffers, or the variables of a function and the parameters of modules in them.
    """
    if isinstance(step, Module):
        return _named("", step)
    if ismethod(step) and isinstance(step.__self__, Module):
        return _named("", step.__self__)
    if not isfunction(step):
        return {}
    used = getclosurevars(step)
    found: dict[int, str] = {}
    for name, value in {**used.globals, **used.nonlocals}.items():
        found.update(_named(name, value))
    return found


def _named(name: str, value: Any) -> dict[int, str]:
    if isinstance(value, Tensor):
        return {id(value._array): name}
    if isinstance(value, Module):
        prefix = f"{name}." if name else ""
        tensors = [*value.named_parameters(), *value.named_buffers()]
        return {id(tensor._array): f"{prefix}{each}" for each, tensor in tensors}
    return {}


def _title(name: str, program: Program) -> str:
    """A step's name, and the values that it is given, with their shapes."""
    parts = {"input": program.inputs, "state": program.states, "uses": program.captured}
    shapes = {part: ", ".join(f"{value.name} {value.shape}" for value in values) for part, values in parts.items()}
    return "\n".join([name, *(f"  {part:<5}  {values}" for part, values in shapes.items() if values)])


def _of_forward(schedule: Forward) -> list[str]:
    program = schedule.program
    phases = {
        "once: it depends on no step": schedule.once,
        "ahead of the loop, for many steps at once: it depends only on inputs": schedule.ahead,
        "loop, at each step: it depends on the state before": schedule.loop,
    }
    lines = _in_phases(phases, [*program.outputs, *schedule.kept])
    kept = [*program.states, *schedule.kept]
    return [*lines, f"# kept of each step for the derivative: {', '.join(value.name for value in kept)}"]


def _of_backward(forward: Forward, schedule: Backward | None) -> list[str]:
    if schedule is None:
        return []
    derivative, program = schedule.derivative, forward.program
    phases = {
        "once: it depends on no step": schedule.once,
        "ahead of the loop, for many steps at once: it depends only on what was kept": schedule.ahead,
        "loop, at each step, from the last to the first: the gradient of the state before needs it": schedule.loop,
        "after the loop, for many steps at once": schedule.after,
        "sums over all steps and rows": schedule.sums,
    }
    gradients = [gradient for gradient in derivative.gradients if gradient is not None]
    lines = _in_phases(phases, [*gradients, *schedule.kept, *schedule.totals])
    found = zip(program.operands, derivative.gradients)
    same = [f"g_{operand.name} = {g.name}" for operand, g in found if g is not None and g.name != f"g_{operand.name}"]
    return [*lines, *same]


def _in_phases(phases: Mapping[str, Sequence[Instruction]], kept: Sequence[Value]) -> list[str]:
    """The equations of each phase that has some, after a line that says when they are computed."""
    equations = Equations([instruction for phase in phases.values() for instruction in phase], kept)
    lines: list[str] = []
    for name, instructions in phases.items():
        if instructions:
            lines += [f"# {name}", *equations.lines(instructions), ""]
    return lines
