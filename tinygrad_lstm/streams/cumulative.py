"""Streams of cumulative ops, which carry their last result, and of the last steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tinygrad_lstm.backends.dtypes import FLOAT64, INT64, is_float

from .._tensor import Tensor
from ..creation import arange, full, zeros
from ..device import Device
from ..ops import cumulative, recurrent
from ..ops.elementwise import where
from ..ops.reduction import dim_of
from ..ops.shape import cat
from ..programs.program import Call
from .layout import BATCH, TIME, Layout
from .nodes import Frames, Moment, Node, States
from .planning import Fixed, Flow, Planner, refused, sources, streams
from .pointwise import along_frames
from .timeline import Timeline, steps_behind

__all__ = ["last_steps"]

_FIRST = {"cumsum": 0.0, "cumprod": 1.0, "logcumsumexp": -float("inf")}
"""What each op has computed before the first step."""


@streams("cumsum", "cumprod", "logcumsumexp")
def _cumulative(p: Planner, call: Call, x: Flow, dim: int) -> list[Flow]:
    dim = dim_of(call.name, dim, (0,) * len(x.layout.dims))
    if TIME not in x.layout.dims[dim]:
        return along_frames(p, call, (x, dim), 1, [dim], False)
    x = p.flat(x)
    made = p.flow(x.layout, call.result.dtype, x.length, x.ready)
    wide = FLOAT64 if is_float(made.dtype) else made.dtype
    first = full((p.batch, *x.layout.rest), _FIRST[call.name], dtype=wide, device=p.device)
    op, name = call.function.call, p.place(call) or call.name
    p.nodes.append(Running([x.number], [made.number], f"{name}.carry", op, first, made.dtype))
    return [made]


@dataclass(eq=False)
class Running(Node):
    """A cumulative op of the time.

    Attributes:
        name: the name of its state.
        op: the op.
        first: its result (B, *rest) before the first step, in float64 if it is a float.
        dtype: the dtype of the results.
    """

    takes: Sequence[int]
    gives: Sequence[int]
    name: str
    op: Callable[..., Tensor]
    first: Tensor
    dtype: Any

    def __post_init__(self) -> None:
        self.state_names = [self.name]

    def start(self, batch: int) -> list[Tensor]:
        return [self.first]

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        if frames[0] is None:
            return [None], states
        wide = cat([states[0].unsqueeze(0), frames[0].astype(self.first.dtype)], 0)
        found = self.op(wide, 0)
        return [found[1:].astype(self.dtype)], [found[-1]]

    def step(self, frames: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        made, states = self.chunk([frames[0].unsqueeze(0)], states, Moment(0, 1, False, len(frames[0])))
        assert made[0] is not None
        return [made[0][0]], states


@streams(cumulative.cummax_index)
def _running_extreme(p: Planner, call: Call, x: Flow, dim: int, smallest: bool) -> list[Flow]:
    dim = dim_of(call.name, dim, (0,) * len(x.layout.dims))
    if TIME not in x.layout.dims[dim]:
        return along_frames(p, call, (x, dim, smallest), 1, [dim], False)
    x = p.flat(x)
    index = p.flow(x.layout, call.result.dtype, x.length, x.ready)
    value = p.flow(x.layout, x.dtype, x.length, x.ready)
    p.extremes[index.number] = value
    name = p.place(call) or ("cummin" if smallest else "cummax")
    p.nodes.append(Extreme([x.number], [index.number, value.number], name, smallest, p.filler(x)(p.batch, 1)[:, 0]))
    return [index]


@streams(cumulative.taken_so_far)
def _taken_so_far(p: Planner, call: Call, x: Flow, index: Any, dim: int) -> list[Flow]:
    dim = dim_of(call.name, dim, (0,) * len(x.layout.dims))
    if TIME not in x.layout.dims[dim]:
        return along_frames(p, call, (x, index, dim), 2, [dim], False)
    if not isinstance(index, Flow) or index.number not in p.extremes:
        raise refused("takes earlier steps by indices")
    return [p.extremes[index.number]]


@dataclass(eq=False)
class Extreme(Node):
    """The largest or smallest element until each step, and its index.

    Attributes:
        name: the name of its place in the model.
        smallest: whether it is the smallest.
        like: a frame (B, *rest).
    """

    takes: Sequence[int]
    gives: Sequence[int]
    name: str
    smallest: bool
    like: Tensor

    def __post_init__(self) -> None:
        self.state_names = [f"{self.name}.{part}" for part in ("value", "index", "count")]

    def start(self, batch: int) -> list[Tensor]:
        count = zeros(*self.like.shape, dtype=INT64, device=self.like.device)
        return [self.like, count, count]

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        if frames[0] is None:
            return [None, None], states
        value, index, count = states
        x = frames[0]
        before = where(count == 0, x[0], value)  # of equal elements, the last one counts
        joined = cat([before.unsqueeze(0), x], 0)
        own = cumulative.cummax_index(joined, 0, self.smallest)
        values = cumulative.taken_so_far(joined, own, 0)[1:]
        found = where(own == 0, index, own - 1 + count)[1:]
        return [found, values], [values[-1], found[-1], count + len(x)]

    def step(self, frames: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        made, states = self.chunk([frames[0].unsqueeze(0)], states, Moment(0, 1, False, len(frames[0])))
        return [each[0] for each in made if each is not None], states


def last_steps(p: Planner, call: Call, x: Flow, number: int, only_first: bool) -> Flow:
    """The last steps of the sequence until now: frames (B, number, *rest), or only the first of them (B, *rest)."""
    if steps_behind(x.length, x.ready):
        raise refused("takes the last step of a value that looks ahead")
    time = x.layout.time
    sizes = (number,) if number > 1 else ()
    layout = x.layout.without(time) if only_first else x.layout.with_dim(time, sizes)
    at = sum(isinstance(each, int) for dim in x.layout.dims[:time] for each in dim)
    made = p.present(layout, x.dtype)
    name = p.place(call) or call.name
    p.nodes.append(Last([x.number], [made.number], name, p.filler(x)(p.batch, number), only_first, at))
    return made


@dataclass(eq=False)
class Last(Node):
    """The last frames.

    Attributes:
        name: the name of its place in the model.
        first: frames (B, number, *rest) from before the first one.
        only_first: whether it returns only the first of them.
        at: the position of the dimension of the frames among the others.
    """

    takes: Sequence[int]
    gives: Sequence[int]
    name: str
    first: Tensor
    only_first: bool
    at: int

    def __post_init__(self) -> None:
        self.state_names = [f"{self.name}.last"]

    def start(self, batch: int) -> list[Tensor]:
        return [self.first]

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        kept = states[0]
        if frames[0] is not None:
            kept = cat([kept, frames[0].transpose(0, 1)], 1)[:, -kept.shape[1] :]
        return [self._shown(kept)], [kept]

    def step(self, frames: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        new, kept = frames[0].unsqueeze(1), states[0]
        kept = cat([kept[:, 1:], new], 1) if kept.shape[1] > 1 else new
        return [self._shown(kept)], [kept]

    def _shown(self, kept: Tensor) -> Tensor:
        if self.only_first or kept.shape[1] == 1:
            return kept[:, 0]
        order = [0, *range(2, 2 + self.at), 1, *range(2 + self.at, kept.ndim)]
        return kept.permute(*order)


@sources(arange)
def _arange(p: Planner, call: Call, start: Any, stop: Any, step: Any, *settings: Any) -> list[Flow]:
    """The numbers of the steps, from any number."""
    first, end, apart = (0, start, step) if stop is None else (start, stop, step)
    if type(first) is not int or apart != 1:
        raise refused("does not count up, one by one, from a fixed integer")
    return [_numbers(p, call, Layout(((TIME,),)), end, call.result.dtype, first)]


@sources(recurrent.step_mask)
def _step_mask(p: Planner, call: Call, lengths: Any, T: Any, device: Any) -> list[Flow]:
    """Whether each step is within the length of each sequence, (T, B, 1)."""
    if not isinstance(lengths, Fixed):
        raise refused("has lengths that depend on the steps")
    number = _numbers(p, call, Layout(((TIME,), (BATCH,), ())), T, INT64)
    on_device = lengths.tensor.to(p.device)
    return p.map(call, [number], [number.layout], lambda lead, frames: frames < on_device)


def _numbers(p: Planner, call: Call, layout: Layout, end: Any, dtype: Any, first: int = 0) -> Flow:
    """The number of each step, from `first` until one before `end`."""
    length = p.count(end).plus(-first)
    made = p.flow(layout, dtype, length, length)
    p.nodes.append(Count([], [made.number], call.name, length, dtype, p.device, first))
    return made


@dataclass(eq=False)
class Count(Node):
    """The number of each frame: 0, 1, 2, ...

    Attributes:
        name: the name of its place in the model.
        length: the number of frames after n steps.
        dtype: the dtype of the numbers.
        device: where it runs.
        first: the first number.
    """

    takes: Sequence[int]
    gives: Sequence[int]
    name: str
    length: Timeline
    dtype: Any
    device: Device
    first: int = 0

    def __post_init__(self) -> None:
        self.state_names = [f"{self.name}.count"]

    def start(self, batch: int) -> list[Tensor]:
        return [full((batch,), self.first, dtype=INT64, device=self.device)]

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        number = self.length.at(moment.after) - self.length.at(moment.before)
        if not number:
            return [None], states
        counts = states[0].unsqueeze(0) + arange(number, device=self.device).unsqueeze(1)
        return [counts.astype(self.dtype)], [states[0] + number]

    def step(self, frames: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        return [states[0].astype(self.dtype)], [states[0] + 1]
