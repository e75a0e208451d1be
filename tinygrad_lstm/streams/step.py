"""One step of a stream, compiled: all nodes as one function of plain arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor
from ..creation import zeros
from ..mode import no_grad
from ..ops.recurrent import traced_step
from ..ops.sequence import PureStep, UntraceableError
from .layout import BATCH, TIME, Layout
from .nodes import Map
from .plan import Plan, States
from .planning import Flow

__all__ = ["StepOfModel"]

Move = Callable[[Array], Array]


class StepOfModel:
    """A step of a stream whose nodes each compute one frame at each step: `step(arrays, states)`.

    It returns the outputs, and the states afterwards. The nodes are traced as one step of a recurrent network, and
    compiled like one. What cannot be traced is computed before, as the rows of an embedding.

    Args:
        plan: what the stream runs.
        states: its states at a step like those to come.

    Attributes:
        works: whether there is such a function.
    """

    def __init__(self, plan: Plan, states: States) -> None:
        self._plan, self._device = plan, plan.device
        flows = {flow.number: flow for flow in plan.flows}
        ready = {each.flow.number for each in plan.inputs}
        self._ahead: list[Map] = []
        for node in plan.nodes:
            if isinstance(node, Map) and node.of_array is not None and ready.issuperset(node.takes):
                self._ahead.append(node)
                ready.update(node.gives)
        self._traced = [node for node in plan.nodes if node not in self._ahead]
        self._outputs = sorted(
            {each.known for each in plan.outputs.values() if isinstance(each.known, Flow)},
            key=lambda flow: not is_float(flow.dtype),
        )
        used = {number for node in self._traced for number in node.takes} | {flow.number for flow in self._outputs}
        ahead = [each.flow.number for each in plan.inputs] + [number for node in self._ahead for number in node.gives]
        self._entering = [flows[number] for number in ahead if number in used]
        self._kept = [part.size > 0 for part in states]
        self._empty = {k: part for k, part in enumerate(states) if not part.size}
        self._moves = [_to_frame(each.flow.layout, plan.batch) for each in plan.inputs]
        self._results = [
            (self._outputs.index(each.known) if isinstance(each.known, Flow) else 0, _from_frame(each))
            for each in plan.outputs.values()
        ]
        self.works = bool(self._entering and self._outputs) and self._compile(states)
        self._checks = self._fast_checks()

    def _fast_checks(self) -> tuple[Any, Any, Any]:
        (first, *others), node = self._plan.inputs, self._device
        return (None, None, None) if others or not self.works else (node.array_type, first.step_shape, first.flow.dtype)

    def takes(self, args: Sequence[Any]) -> bool:
        """Whether the arguments are a step that needs no further check."""
        kind, shape, dtype = self._checks
        return len(args) == 1 and args[0].__class__ is kind and args[0].shape == shape and args[0].dtype == dtype

    def _compile(self, states: States) -> bool:
        """Compiles the step."""
        batch = self._plan.batch

        def example(flow: Flow) -> Tensor:
            return zeros(batch, *flow.layout.rest, dtype=flow.dtype, device=self._device)

        first, *others = map(example, self._entering)
        kept = [Tensor._wrap(part, self._device) for part, keeps in zip(states, self._kept, strict=True) if keeps]
        given = (*map(example, self._outputs), *others, *kept)
        with no_grad():
            try:
                fused, captured = traced_step(PureStep(self._step, [], object(), "stream"), first, given)
            except UntraceableError:
                return False
            self._stepper = fused.stepper(captured)
        self._unused = [tensor.data for tensor in given[: len(self._outputs)]]
        self._after = [(tensor.shape, tensor.dtype) for tensor in given]
        return True

    def _step(self, x: Tensor, given: tuple[Tensor, ...], fixed: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The step on tensors: given and returned are outputs, values that enter, and states."""
        number = len(self._outputs)
        others, left = given[number : number + len(self._entering) - 1], iter(given[number + len(self._entering) - 1 :])
        frames: dict[int, Tensor] = dict(zip([flow.number for flow in self._entering], [x, *others], strict=True))
        held = [
            next(left) if keeps else Tensor._wrap(self._empty[k], self._device) for k, keeps in enumerate(self._kept)
        ]
        after: list[Tensor] = []
        for node in self._plan.nodes:
            if node in self._ahead:
                continue
            own = held[len(after) : len(after) + len(node.state_names)]
            made, kept = node.step([frames[k] for k in node.takes], own)
            frames.update(zip(node.gives, made, strict=True))
            after += kept
        found = [state for state, keeps in zip(after, self._kept, strict=True) if keeps]
        return (*(frames[flow.number] for flow in self._outputs), *others, *found)

    def __call__(self, arrays: Sequence[Array], states: States) -> tuple[list[Array], States]:
        frames = [x if move is None else move(x) for move, x in zip(self._moves, arrays)]
        if self._ahead:
            values = {each.flow.number: x for each, x in zip(self._plan.inputs, frames)}
            for node in self._ahead:
                values[node.gives[0]] = node.of_array(values[node.takes[0]])  # type: ignore[misc]
            frames = [values[flow.number] for flow in self._entering]
        empty = self._device.xp.empty
        out = [empty(shape, dtype) for shape, dtype in self._after]
        held = [part for part, keeps in zip(states, self._kept) if keeps] if self._empty else states
        self._stepper(frames[:1], [*self._unused, *frames[1:], *held], out)
        after = out[len(self._unused) + len(frames) - 1 :]
        if self._empty:
            left = iter(after)
            after = [next(left) if keeps else self._empty[k] for k, keeps in enumerate(self._kept)]
        results = []
        for k, move in self._results:
            results.append(out[k] if move is None else move(out[k]))
        return results, after


def _to_frame(layout: Layout, batch: int) -> Move | None:
    """A function that makes a frame (B, *rest) of a step; None if it is one."""
    left = [dim for dim in layout.dims if dim != (TIME,)]
    if len(left) == len(layout.dims):
        raise AssertionError("a step has no time")
    plain = left[:1] == [(BATCH,)] and all(len(dim) == 1 for dim in left)
    if plain:
        return None
    order = [k for k, dim in enumerate(left) if dim == (BATCH,)]
    order += [k for k in range(len(left)) if k not in order]
    shape = (batch, *layout.rest)
    return lambda x: x.transpose(order).reshape(shape)


def _from_frame(output: Any) -> Any:
    """A function that makes an output of a frame (B, *rest); None if it is one."""
    known = output.known
    if not isinstance(known, Flow):
        array = output.fixed
        return lambda frame: array.copy()
    dims = known.layout.dims if not output.by_step else known.layout.without(known.layout.time).dims
    sizes = {TIME: 1, BATCH: output.batch}
    factors = [each for dim in dims for each in dim if each != TIME]
    number, order = 0, []
    for each in factors:
        number += isinstance(each, int)
        order.append(0 if each == BATCH else number)
    shape = tuple(math.prod(sizes[each] if isinstance(each, str) else each for each in dim) for dim in dims)
    if BATCH not in factors:
        order = [0, *order]
        return lambda frame: frame[:1].transpose(order).reshape(shape)
    if order == sorted(order) and shape == (output.batch, *known.layout.rest):
        return None
    return lambda frame: frame.transpose(order).reshape(shape)
