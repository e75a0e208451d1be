"""What a stream of a model runs: its nodes, inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_integer

from .._tensor import Tensor, as_tensor, tensor
from ..creation import zeros
from ..device import Device
from ..ops.shape import cat
from ..programs.program import Constant, Loop, Operand, Program, Value, taken

# Each registers its ops.
from . import cumulative, moves, pointwise, recurrent, spectral, windows  # noqa: F401
from .layout import BATCH, TIME, Layout, Pair
from .nodes import Frames, Moment, Node
from .planning import Fixed, Flow, NotCausalError, Planner, RefusedError
from .timeline import STEPS, Timeline, steps_behind

__all__ = ["Input", "Output", "Plan", "States", "plan_of"]

States = Sequence[Array]
"""The states of all nodes in order, each (B, ...)."""


@dataclass(frozen=True)
class Input:
    """An input of which steps come.

    Attributes:
        name: its name.
        flow: its frames.
        shape: for each dimension its length; None for the time.
        time: the time dimension.
    """

    name: str
    flow: Flow
    shape: tuple[int | None, ...]
    time: int

    @property
    def step_shape(self) -> tuple[int, ...]:
        """The shape of a step."""
        return tuple(size for size in self.shape if size is not None)

    def __str__(self) -> str:
        chunk = ", ".join("T" if size is None else str(size) for size in self.shape)
        dtype = "integers" if is_integer(self.flow.dtype) else self.flow.dtype
        return (
            f"{self.name} as {dtype} of shape {self.step_shape}, or ({chunk}{',' * (len(self.shape) == 1)}) for T steps"
        )


@dataclass(frozen=True)
class Output:
    """An output.

    Attributes:
        known: its frames, or its value.
        batch: the number of sequences.
        device: where it is.
    """

    known: Flow | Fixed
    batch: int
    device: Device

    @property
    def has_steps(self) -> bool:
        """Whether there are frames of it."""
        return isinstance(self.known, Flow) and not self.known.is_present

    @property
    def time(self) -> int | None:
        """The time dimension; None if there are no frames of it."""
        return self.known.layout.time if isinstance(self.known, Flow) and self.has_steps else None

    @cached_property
    def by_step(self) -> bool:
        """Whether there is one frame for each step, at once."""
        known = self.known
        if not isinstance(known, Flow) or not self.has_steps or known.layout.dims[known.layout.time] != (TIME,):
            return False
        return known.ready.is_like(Timeline.of_steps())

    @property
    def fixed(self) -> Array:
        """The value of an output that does not depend on the steps, as a new array."""
        assert isinstance(self.known, Fixed)
        layout, tensor = self.known.layout, self.known.tensor
        sizes = [self.batch if dim == (BATCH,) else n for dim, n in zip(layout.dims, tensor.shape, strict=True)]
        return tensor.expand(*sizes).data.copy()

    def array(self, before: Frames, frames: Frames, is_step: bool) -> Array:
        """An array as the model returns it.

        Args:
            before: frames from before the first step.
            frames: the new frames.
            is_step: whether an output with one frame for each step has no time dimension.
        """
        if isinstance(self.known, Fixed):
            return self.fixed
        layout = self.known.layout
        if self.known.is_present:
            if frames is None:
                frames = zeros(self.batch, *layout.rest, dtype=self.known.dtype, device=self.device)
            return layout.native((frames if layout.has_batch else frames[:1]).unsqueeze(0)).data.copy()
        parts = [each for each in (before, frames) if each is not None]
        if not parts:
            parts = [zeros(0, self.batch, *layout.rest, dtype=self.known.dtype, device=self.device)]
        whole = parts[0] if len(parts) == 1 else cat(parts, 0)
        array = layout.native(whole if layout.has_batch else whole[:, :1]).data.copy()
        if not (is_step and self.by_step):
            return array
        return array.reshape(*array.shape[: layout.time], *array.shape[layout.time + 1 :])


@dataclass(frozen=True, eq=False)
class Plan:
    """What a stream runs.

    Attributes:
        inputs: the inputs of which steps come.
        outputs: the outputs, by name.
        nodes: the nodes, in order.
        flows: the values of which frames come.
        number: the number of values of a run.
        batch: the number of sequences.
        device: where it runs.
        lookahead: the number of steps by which outputs come later than their inputs.
    """

    inputs: Sequence[Input]
    outputs: Mapping[str, Output]
    nodes: Sequence[Node]
    flows: Sequence[Flow]
    number: int
    batch: int
    device: Device
    lookahead: int

    @cached_property
    def state_names(self) -> list[str]:
        """The names of the states of all nodes; a number is added to one that occurs again."""
        found: dict[str, None] = {}
        for node in self.nodes:
            for name in node.state_names:
                number = next(k for k in range(1, len(found) + 2) if (name if k == 1 else f"{name}_{k}") not in found)
                found[name if number == 1 else f"{name}_{number}"] = None
        return list(found)

    @cached_property
    def steady_from(self) -> int | float:
        """The number of steps after which each step computes one frame of each value; infinite if it never does."""
        if not all(node.steps for node in self.nodes):
            return float("inf")
        steady = 0
        for flow in self.flows:
            if not flow.is_present:
                others = np.flatnonzero(np.diff(flow.ready.counts) != 1)
                steady = max(steady, int(others[-1]) + 1) if len(others) else steady
        return steady if steady < STEPS // 2 else float("inf")

    @cached_property
    def has_rows(self) -> bool:
        """Whether each output that depends on the steps has a batch dimension, or there is one sequence."""
        known = [output.known for output in self.outputs.values()]
        return self.batch == 1 or all(each.layout.has_batch for each in known if isinstance(each, Flow))

    def start(self) -> States:
        """The states before the first step."""
        return [state.data for node in self.nodes for state in node.start(self.batch)]

    def run(self, states: States, given: Sequence[Frames], moment: Moment) -> tuple[States, list[Frames]]:
        """Runs the nodes on new frames of the inputs: the states afterwards, and the new frames of the outputs."""
        frames: list[Frames] = [None] * self.number
        for into, new in zip(self.inputs, given, strict=True):
            frames[into.flow.number] = None if new is None or not len(new) else new
        after: list[Array] = []
        for node in self.nodes:
            own = states[len(after) : len(after) + len(node.state_names)]
            before = [as_tensor(state, self.device) for state in own]
            made, kept = node.chunk([frames[k] for k in node.takes], before, moment)
            after += [state.data for state in kept]
            for k, each in zip(node.gives, made, strict=True):
                frames[k] = each
        known = [output.known for output in self.outputs.values()]
        return after, [frames[each.number] if isinstance(each, Flow) else None for each in known]

    def checked(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Array], bool]:
        """The inputs as arrays, and whether they are a step, not a chunk.

        Raises:
            ValueError: an input has a different shape, dtype or device.
            TypeError: an input is missing, or unknown.
        """
        names = [each.name for each in self.inputs]
        given = dict(zip(names, args, strict=False))
        if len(args) > len(names) or set(kwargs) & set(given) or set(given) | set(kwargs) != set(names):
            raise TypeError(f"stream: expected the inputs {', '.join(names)}")
        given |= kwargs
        arrays = [self._array(each, given[each.name]) for each in self.inputs]
        ranks = {array.ndim - len(each.shape) for each, array in zip(self.inputs, arrays, strict=True)}
        numbers = {array.shape[each.time] for each, array in zip(self.inputs, arrays, strict=True) if ranks == {0}}
        if len(ranks) > 1 or len(numbers) > 1:
            raise ValueError(f"stream: expected as many steps of each input: {'; '.join(map(str, self.inputs))}")
        return arrays, ranks == {-1}

    def _array(self, each: Input, x: Any) -> Array:
        dtype, backend = each.flow.dtype, self.device.backend
        if not backend.owns(x):
            if not isinstance(x, list | tuple | int | float | np.generic):
                raise ValueError(
                    f"stream: expected an array on {str(self.device)!r}, where the model is, or a list of numbers, got "
                    f"a {type(x).__module__}.{type(x).__name__}"
                )
            x = tensor(x, dtype=dtype, device=self.device).data
        if x.dtype != dtype and is_integer(x.dtype) and is_integer(dtype):
            with self.device.current():
                x = x.astype(dtype)
        if self.batch == 1 and x.shape == tuple(n for k, n in enumerate(each.shape) if k not in self._of_one(each)):
            x = x.reshape(each.step_shape)
        chunk = tuple(size for k, size in enumerate(x.shape) if k != each.time)
        fits = x.shape == each.step_shape or (x.ndim == len(each.shape) and chunk == each.step_shape)
        if x.dtype != dtype or not fits:
            raise ValueError(f"stream: expected {each}, got {x.dtype} of shape {x.shape}")
        return x

    def _of_one(self, each: Input) -> tuple[int | None, ...]:
        """The dimensions that a step of one sequence may lack."""
        return (each.time, each.flow.layout.find(BATCH))

    def number_of_steps(self, arrays: Sequence[Array]) -> int:
        """The number of steps of a chunk."""
        return int(arrays[0].shape[self.inputs[0].time])

    def in_steps(self, arrays: Sequence[Array]) -> Iterator[list[Array]]:
        """The steps of a chunk."""
        leading = [(slice(None),) * each.time for each in self.inputs]
        for t in range(self.number_of_steps(arrays)):
            yield [array[(*lead, t)] for lead, array in zip(leading, arrays, strict=True)]

    def frames(self, arrays: Sequence[Array], is_step: bool) -> list[Tensor]:
        """The frames (T, B, *rest) of inputs."""
        found = []
        for each, array in zip(self.inputs, arrays, strict=True):
            x = as_tensor(array.copy(), self.device)
            frames = each.flow.layout.frames(x.unsqueeze(each.time) if is_step else x, self.batch)
            found.append(frames.expand(frames.shape[0], self.batch, *frames.shape[2:]))
        return found

    def shapes_after(self, n: int, start: States) -> list[tuple[tuple[int, ...], Any]]:
        """The shapes and dtypes of the states after n steps."""
        found: list[tuple[tuple[int, ...], Any]] = []
        for node in self.nodes:
            number = node.frames_held(n)
            for state in start[len(found) : len(found) + len(node.state_names)]:
                shape = state.shape if number is None else (state.shape[0], number, *state.shape[2:])
                found.append((shape, state.dtype))
        return found


@contextmanager
def _refusals() -> Iterator[None]:
    """Turns a refusal into an error of the model."""
    try:
        yield
    except RefusedError as error:
        raise NotCausalError(f"stream: the model {error}") from None


@_refusals()
def plan_of(
    names: Sequence[str],
    program: Program,
    labels: Mapping[Any, str],
    batch: int,
    device: Device,
    fixed: Mapping[str, Any],
    lookahead: int,
    states: Mapping[str, str],
) -> Plan:
    """How a recorded model runs step by step.

    Args:
        names: the names of the program's inputs.
        program: the program.
        labels: the names of its free lengths, "time" and "batch", by their keys.
        batch: the number of sequences.
        device: where it runs.
        fixed: the values of inputs without time; zeros by default.
        lookahead: the largest number of steps by which outputs may come later.
        states: the inputs that are states, each with the output that is the state afterwards. They are used if no input
            has a time dimension, so that the model computes one step.

    Raises:
        NotCausalError: it needs the whole sequence, or looks ahead further.
        ValueError: no input has a time dimension; a fixed value has a different shape, or is of an input with time.
    """
    pairs = {
        labels[size.key]: size.values
        for value in program.inputs
        for size in value.shape
        if not isinstance(size, int) and size.key in labels
    }
    if unknown := [label for label in labels.values() if label not in (TIME, BATCH)]:
        raise ValueError(f"stream: expected dimensions named 'time' and 'batch', got {', '.join(map(repr, unknown))}")
    if BATCH not in pairs and batch != 1:
        raise ValueError(f"stream: expected a batch of 1, as the model has no dimension for the batch, got {batch}")
    if TIME not in pairs and states:
        return _plan_of_step(names, program, pairs, batch, device, fixed, states)
    if TIME not in pairs:
        raise ValueError("stream: no input has a dimension of time; say which it is, as in dynamic={'x': {0: 'time'}}")
    planner = Planner(program, pairs, batch, device)
    inputs = _inputs_of_steps(planner, names, fixed)
    planner.plan()
    outputs: dict[str, Output] = {}
    for name, operand in program.outputs.items():
        known = planner.resolved(operand)
        if isinstance(known, Fixed) and known.layout.has_time:
            known = planner.repeated(known, inputs[0].flow)
        outputs[name] = Output(known, batch, device)
    behind = _lookahead_of(planner, outputs, lookahead)
    flows = [known for known in planner.known.values() if isinstance(known, Flow)]
    return Plan(inputs, outputs, planner.nodes, flows, planner.number, batch, device, behind)


def _inputs_of_steps(planner: Planner, names: Sequence[str], fixed: Mapping[str, Any]) -> list[Input]:
    """The inputs that have a time dimension; the planner knows the values of all inputs from now on.

    Raises:
        ValueError: a fixed value has a different shape, or is of an input with time.
    """
    inputs: list[Input] = []
    for name, value in zip(names, planner.program.inputs, strict=True):
        layout = planner.layout_of(value)
        sizes = [planner.batch if BATCH in dim else int(n) for dim, n in zip(layout.dims, value.shape, strict=True)]
        if not layout.has_time:
            planner.known[value] = Fixed(_fixed_input(name, value, sizes, fixed, planner.device), layout)
            continue
        flow = planner.flow(layout, value.dtype, Timeline.of_steps(), Timeline.of_steps())
        planner.known[value] = flow
        shape = tuple(None if k == layout.time else n for k, n in enumerate(sizes))
        inputs.append(Input(name, flow, shape, layout.time))
    if timed := [each.name for each in inputs if each.name in fixed]:
        raise ValueError(f"stream: {', '.join(timed)} has a dimension of time, and is not fixed")
    return inputs


def _lookahead_of(planner: Planner, outputs: Mapping[str, Output], most: int) -> int:
    """The number of steps by which outputs come later than their steps.

    Raises:
        NotCausalError: it is more than `most`, or grows.
    """
    behind = 0
    for name, output in outputs.items():
        if isinstance(output.known, Flow):
            steps = steps_behind(output.known.length, output.known.ready)
            if steps is None:
                raise NotCausalError(f"stream: the output {name!r} comes later and later")
            behind = max(behind, steps)
    if behind > most:
        told = ", ".join(f"{name} by {steps}" for name, steps in planner.behind.items())
        raise NotCausalError(
            f"stream: the model looks ahead by {behind} step{'s' * (behind > 1)} ({told}); with lookahead={behind} its "
            "outputs come that much later"
        )
    return behind


def _plan_of_step(
    names: Sequence[str],
    program: Program,
    pairs: Mapping[str, Pair],
    batch: int,
    device: Device,
    fixed: Mapping[str, Any],
    states: Mapping[str, str],
) -> Plan:
    """How a model that computes one step runs at each."""
    planner = Planner(program, pairs, batch, device)
    inputs: list[Input] = []
    kept: list[tuple[Value, Layout]] = []
    starts: list[Tensor] = []
    constants: dict[Operand, Tensor] = {}
    for name, value in zip(names, program.inputs, strict=True):
        layout = planner.layout_of(value)
        sizes = [batch if BATCH in dim else int(n) for dim, n in zip(layout.dims, value.shape, strict=True)]
        given = _fixed_input(name, value, sizes, fixed, device)
        if name in states:
            kept.append((value, layout))
            starts.append(layout.frames(given, batch)[0].expand(batch, *layout.rest))
        elif name in fixed:
            constants[value] = given
        else:
            flow = planner.flow(layout.through_time(), value.dtype, Timeline.of_steps(), Timeline.of_steps())
            inputs.append(Input(name, flow, (None, *sizes), 0))
    if not inputs:
        raise ValueError("stream: every input is a state, or fixed; expected one of which steps come")
    missing = [output for output in states.values() if output not in program.outputs]
    if missing:
        raise ValueError(f"stream: {', '.join(missing)} is not an output; they are {', '.join(program.outputs)}")
    for operand in taken([list(program.outputs.values()), *(call.arguments for call in program.calls)]):
        if isinstance(operand, Constant) and operand.array is not None:
            constants[operand] = planner.constant(operand).tensor
    scans = [call.arguments for call in program.calls if call.arguments and isinstance(call.arguments[0], Loop)]
    if any(lengths is not None for *_, lengths, _ in scans):
        raise NotCausalError("stream: a model of one step has a recurrent layer with lengths")
    outputs, gives, layouts = {}, [], []
    for name, operand in program.outputs.items():
        layout = planner.layout_of(operand)
        flow = planner.flow(layout.through_time(), operand.dtype, Timeline.of_steps(), Timeline.of_steps())
        outputs[name] = Output(flow, batch, device)
        gives.append(flow.number)
        layouts.append((operand, layout))
    in_order = [name for name in names if name in states]
    after = [layouts[list(program.outputs).index(states[name])] for name in in_order]
    by_name = dict(zip(names, program.inputs, strict=True))
    values = [(by_name[each.name], planner.layout_of(by_name[each.name])) for each in inputs]
    node = recurrent.EachStep(
        [each.flow.number for each in inputs], gives, [*values, *kept], [*layouts, *after], in_order,
        recurrent.Replay(program.calls, list(constants), pairs.get(BATCH)), list(constants.values()), starts,
    )  # fmt: skip
    flows = [each.flow for each in inputs] + [each.known for each in outputs.values() if isinstance(each.known, Flow)]
    return Plan(inputs, outputs, [node], flows, planner.number, batch, device, 0)


def _fixed_input(name: str, value: Value, sizes: Sequence[Any], fixed: Mapping[str, Any], device: Device) -> Tensor:
    if name not in fixed:
        return zeros(*sizes, dtype=value.dtype, device=device)
    given = tensor(fixed[name], dtype=value.dtype, device=device)
    if given.shape != tuple(sizes):
        raise ValueError(f"stream: expected {name} of shape {tuple(sizes)}, got {given.shape}")
    return given
