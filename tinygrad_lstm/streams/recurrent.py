"""Streams of recurrent layers: their states go on from chunk to chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._tensor import Tensor
from ..creation import full
from ..kinds import KINDS
from ..lengths import Derived, evaluated
from ..ops import recurrent
from ..ops.sequence import PureStep
from ..ops.shape import stack
from ..programs.program import Call, Constant, Loop, Operand, Value, leaves
from .layout import BATCH, TIME, Layout, Pair
from .nodes import Frames, Moment, Node, States
from .planning import Fixed, Flow, Planner, applied, refused, streams
from .timeline import Timeline

__all__ = ["Replay"]


class Replay:
    """Calls that compute values of one step, on tensors with any number of rows.

    Args:
        calls: the calls.
        fixed: the operands from outside, which are the same at all steps.
        rows: the recorded lengths of the batch.
    """

    def __init__(self, calls: Sequence[Call], fixed: Sequence[Operand], rows: Pair | None) -> None:
        self._calls, self._fixed, self._rows = calls, fixed, rows

    def __call__(
        self, given: Mapping[Operand, Tensor], fixed: Sequence[Tensor], wanted: Sequence[Operand], batch: int
    ) -> tuple[Tensor, ...]:
        """The wanted values for this number of rows, given others, and those that are the same at all steps."""
        values = {**dict(zip(self._fixed, fixed, strict=True)), **given}
        self._compute(self._calls, values, batch)
        return tuple([self._filled(each, values, batch) for each in wanted])

    def _compute(self, calls: Sequence[Call], values: dict[Operand, Tensor], batch: int) -> None:
        """Adds the results of calls to the values."""
        for call in calls:
            first: Any = call.arguments[0] if call.arguments else None
            if isinstance(first, Loop):
                made: Any = self._scanned(values, batch, *call.arguments)
            else:
                made = applied(call.function, self._filled(call.arguments, values, batch))
            values.update(zip(call.results, made if isinstance(made, tuple) else (made,), strict=True))

    def _scanned(
        self,
        values: Mapping[Operand, Tensor],
        batch: int,
        loop: Loop,
        described: Any,
        T: int,
        states: Sequence[Operand],
        lengths: Any,
        reverse: bool,
    ) -> tuple[Tensor, ...]:
        """The results of a recurrent layer over a fixed number of steps."""
        items = [self._filled(unbind.arguments[0], values, batch).unbind(0) for unbind in loop.items.values()]
        now: list[Tensor] = [self._filled(state, values, batch) for state in states]
        outs = [now[0]] * int(T)
        for t in reversed(range(T)) if reverse else range(T):
            inner = dict(values)
            inner.update(zip([*loop.items, *loop.before], [*(item[t] for item in items), *now], strict=True))
            self._compute(loop.calls, inner, batch)
            now = [self._filled(state, inner, batch) for state in loop.after]
            outs[t] = now[0]
        return stack(outs, 0), *now

    def _filled(self, argument: Any, values: Mapping[Operand, Tensor], batch: int) -> Any:
        if isinstance(argument, list | tuple):
            return type(argument)([self._filled(part, values, batch) for part in argument])
        if isinstance(argument, slice):
            return slice(*self._filled([argument.start, argument.stop, argument.step], values, batch))
        if isinstance(argument, Derived):
            return evaluated(argument, {} if self._rows is None else {self._rows: batch})
        if isinstance(argument, Constant) and argument not in values:
            device = next(iter(values.values())).device
            assert argument.filling is not None  # other constants are fixed operands
            shape = self._filled(list(argument.shape), values, batch)
            return full(shape, argument.filling.item(), dtype=argument.dtype, device=device)
        return values[argument] if isinstance(argument, Value | Constant) else argument


@streams(recurrent.run_scan)
def _scan(
    p: Planner, call: Call, loop: Loop, described: Any, T: Any, states: Any, lengths: Any, reverse: bool
) -> list[Flow]:
    if reverse:
        raise refused("goes through the sequence backward")
    sequences = [p.resolved(unbind.arguments[0]) for unbind in loop.items.values()]
    if not all(isinstance(x, Flow) for x in sequences) or not sequences:
        raise refused("takes the steps of a fixed sequence")
    sequences = [p.flat(x) for x in sequences]
    if any(alone != () and isinstance(alone[0], int) for x in sequences for alone in x.layout.dims[1:2]):
        raise refused("has a batch of a fixed size that is not 1")
    if any(unbind.arguments[1] != 0 or x.layout.dims[0] != (TIME,) or x.layout.dims[1] not in ((), (BATCH,))
           for unbind, x in zip(loop.items.values(), sequences, strict=True)):  # fmt: skip
        raise refused("takes steps that are not along the time")
    if any(isinstance(each, Flow) for each in states) or isinstance(lengths, Flow):
        raise refused("starts from a state that depends on the steps")
    fixed: dict[Operand, Tensor] = {}
    used = _used(p, loop)
    for operand in loop.outer:
        is_filled = isinstance(operand, Constant) and operand.array is None and operand.filling is not None
        if is_filled or operand not in used:
            continue
        value = p.resolved(operand)
        if not isinstance(value, Fixed):
            raise refused("uses, at each step, a value of the whole sequence")
        fixed[operand] = value.tensor
    flows, length, ready = p.together(call, sequences)
    row = (BATCH,) if any(x.layout.find(BATCH) is not None for x in sequences) else ()
    layouts = [Layout((row, *(() if n == 1 else (int(n),) for n in value.shape[1:]))) for value in loop.before]
    out = p.flow(Layout(((TIME,), *layouts[0].dims)), call.results[0].dtype, length, ready)
    finals = [p.present(layout, value.dtype) for layout, value in zip(layouts, loop.before, strict=True)]
    starts = [
        state.tensor.expand(p.batch, *map(int, like.shape[1:])).clone()
        for state, like in zip(states, loop.before, strict=True)
    ]
    kind = KINDS.get(described[0]) if described else None
    names = [state.name for state in kind.states] if kind else [f"state{k}" for k in range(len(starts))]
    name = p.place(call) or "scan"
    node = Scan(
        [each.number for each in flows], [out.number, *(each.number for each in finals)], name,
        names, loop, Replay(loop.calls, list(fixed), p.pairs.get(BATCH)),
        list(fixed.values()), starts, None if lengths is None else lengths.tensor, ready,
    )  # fmt: skip
    p.nodes.append(node)
    return [out, *finals]


def _used(p: Planner, loop: Loop) -> set[Any]:
    """The operands of the calls of a step. Those of which only lengths are used are not among them.

    Raises:
        RefusedError: a length depends on the number of steps.
    """
    found = set(loop.after)
    for leaf in leaves([call.arguments for call in loop.calls]):
        if isinstance(leaf, Value | Constant):
            found.add(leaf)
        for length in leaf.shape if isinstance(leaf, Constant) else [leaf]:
            if isinstance(length, Derived):
                p.number_of(length)
    return found


@dataclass(eq=False)
class Scan(Node):
    """A recurrent layer in one direction.

    Attributes:
        name: the name of its place in the model.
        parts: the names of its states.
        loop: one step.
        replay: computes a step.
        fixed: the tensors that are the same at all steps.
        starts: the states (B, ...) before the first step.
        lengths: the number of steps of each sequence of the batch.
        came: the number of frames after each number of steps.
    """

    takes: Sequence[int]
    gives: Sequence[int]
    name: str
    parts: Sequence[str]
    loop: Loop
    replay: Replay
    fixed: Sequence[Tensor]
    starts: Sequence[Tensor]
    lengths: Tensor | None
    came: Timeline

    def __post_init__(self) -> None:
        self.steps = self.lengths is None
        self.state_names = [f"{self.name}.{part}" for part in self.parts]
        self._items = list(self.loop.items)
        self._pure = PureStep(self._after, self.fixed, object(), self.name)

    def start(self, batch: int) -> list[Tensor]:
        return list(self.starts)

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        if any(each is None for each in frames):
            return [None, *map(_rest, states)], states
        items = [self._native(item, each) for item, each in zip(self._items, frames, strict=True)]
        if len(items) == 1:
            out, *after = recurrent.run_scan(self._pure, items[0], tuple(states), self._lengths(len(items[0]), moment))
        else:
            outs, after = [], list(states)
            for each in zip(*(item.unbind(0) for item in items), strict=True):
                after = list(self._step(each, after, self.fixed))
                outs.append(after[0])
            out = stack(outs, 0)
        return [_rest(out, 2), *map(_rest, after)], after

    def step(self, frames: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        items = [self._native(item, each, 1) for item, each in zip(self._items, frames, strict=True)]
        after = self._step(items, states, self.fixed)
        return [_rest(after[0]), *map(_rest, after)], after

    def _after(self, x: Tensor, states: tuple[Tensor, ...], fixed: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return self._step([x], states, fixed)

    def _step(self, items: Sequence[Tensor], states: States, fixed: Sequence[Tensor]) -> tuple[Tensor, ...]:
        given: dict[Operand, Tensor] = dict(zip([*self._items, *self.loop.before], [*items, *states], strict=True))
        return self.replay(given, fixed, self.loop.after, len(states[0]))

    def _native(self, item: Value, frames: Any, lead: int = 2) -> Tensor:
        """Frames with all dimensions of an item of the loop."""
        native: Tensor = frames.reshape(*frames.shape[:lead], *map(int, item.shape[1:]))
        return native

    def _lengths(self, number: int, moment: Moment) -> Any:
        """How many steps of a chunk each sequence has."""
        if self.lengths is None:
            return None
        left = self.lengths.numpy() - self.came.at(moment.before)
        return left.clip(0, number)


def _rest(frames: Tensor, lead: int = 1) -> Tensor:
    """Frames without dimensions of length 1."""
    sizes = [size for size in frames.shape[lead:] if size != 1]
    return frames if len(sizes) == frames.ndim - lead else frames.reshape(*frames.shape[:lead], *sizes)


@dataclass(eq=False)
class EachStep(Node):
    """A whole model that computes one step, and whose states go from its outputs to its inputs.

    Attributes:
        inputs: the inputs of which steps come, and those that are states, each with the layout of a step.
        outputs: the outputs, and those that are the states afterwards.
        state_names: the names of the states.
        replay: computes the model.
        fixed: the tensors that are the same at all steps.
        starts: the states (B, *rest) before the first step.
    """

    takes: Sequence[int]
    gives: Sequence[int]
    inputs: Sequence[tuple[Operand, Layout]]
    outputs: Sequence[tuple[Operand, Layout]]
    names: Sequence[str]
    replay: Replay
    fixed: Sequence[Tensor]
    starts: Sequence[Tensor]

    def __post_init__(self) -> None:
        self.state_names = self.names

    def start(self, batch: int) -> list[Tensor]:
        return list(self.starts)

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        if any(each is None for each in frames):
            return [None] * len(self.gives), states
        found = []
        for each in zip(*(each.unbind(0) for each in frames if each is not None), strict=True):
            made, states = self.step(each, states)
            found.append(made)
        return [stack(parts, 0) for parts in zip(*found, strict=True)], states

    def step(self, frames: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        batch = frames[0].shape[0]
        given = {
            operand: layout.native(frame.unsqueeze(0))
            for (operand, layout), frame in zip(self.inputs, [*frames, *states], strict=True)
        }
        made = self.replay(given, self.fixed, [operand for operand, _ in self.outputs], batch)
        found = [layout.frames(each, batch)[0] for (_, layout), each in zip(self.outputs, made, strict=True)]
        return found[: len(self.gives)], found[len(self.gives) :]
