"""What a stream runs: nodes that take frames as they come and keep what later frames need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array

from .._tensor import Tensor
from ..ops.shape import cat
from .timeline import Timeline

__all__ = ["Frames", "Hold", "Map", "Moment", "Node", "Pad", "Rate", "States", "Window"]

Frames = Tensor | None
"""Frames (T, B, *rest); a value without time (B, *rest); None if there are none yet."""

States = Sequence[Tensor]


@dataclass(frozen=True)
class Moment:
    """The steps that a chunk has.

    Attributes:
        before: the number of steps before the chunk.
        after: the number of steps after it.
        ending: whether the sequence ends here.
        batch: the number of sequences.
    """

    before: int
    after: int
    ending: bool
    batch: int


class Node:
    """A call as it runs on frames.

    Attributes:
        takes: the numbers of the values that it takes.
        gives: the numbers of the values that it computes.
        state_names: the names of its states, each (B, ...).
        steps: whether it has `step`.
    """

    takes: Sequence[int]
    gives: Sequence[int]
    state_names: Sequence[str] = ()
    steps: bool = True

    def start(self, batch: int) -> list[Tensor]:
        """The states before the first step."""
        return []

    def frames_held(self, n: int) -> int | None:
        """The number of frames in its states after n steps; None if the shapes of its states are always the same."""
        return None

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        """The results for the frames that have come, (T, B, *rest), and the states afterwards."""
        raise NotImplementedError

    def step(self, frames: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        """The same for one frame (B, *rest) of each value, once the node has begun to return one for each."""
        raise NotImplementedError


@dataclass(eq=False)
class Map(Node):
    """Computes each frame by itself.

    Attributes:
        function: `function(lead, *frames)` of frames that have this number of dimensions before `rest`.
        of_present: whether it computes values without time.
        of_array: the same for plain arrays (B, ...), if a compiled step cannot have it.
    """

    takes: Sequence[int]
    gives: Sequence[int]
    function: Callable[..., Any]
    of_present: bool = False
    of_array: Callable[[Array], Array] | None = None

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        if any(each is None for each in frames):
            return [None] * len(self.gives), states
        return self._results(1 if self.of_present else 2, frames), states

    def step(self, frames: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        return self._results(1, frames), states

    def _results(self, lead: int, frames: Sequence[Any]) -> Sequence[Tensor]:
        made = self.function(lead, *frames)
        return made if isinstance(made, tuple) else (made,)


@dataclass(eq=False)
class Hold(Node):
    """Returns frames later than they come, or not at all: those that are certain to be part of the value.

    Attributes:
        name: what needs it.
        like: makes frames of its value, (B, number, *rest).
        first: the number of frames at the beginning that are dropped.
        came: the number of frames of its value after each number of steps.
        count: the number of frames that it has returned.
        at_end: the number of frames in a sequence that ends there.
    """

    takes: Sequence[int]
    gives: Sequence[int]
    name: str
    like: Callable[[int, int], Tensor]
    first: int
    came: Timeline
    count: Timeline
    at_end: Timeline

    def __post_init__(self) -> None:
        held = np.maximum(self.came.counts - self.first, 0) - self.count.counts
        self.state_names = [f"{self.name}.held"] if held.any() else []

    def start(self, batch: int) -> list[Tensor]:
        return [self.like(batch, 0)] if self.state_names else []

    def frames_held(self, n: int) -> int:
        return max(self.came.at(n) - self.first, 0) - self.count.at(n)

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        (new,), came, sent = frames, self.came.at(moment.before), self.count.at(moment.before)
        parts = [] if new is None else [new[max(self.first - came, 0) :]]
        if states:
            parts.insert(0, states[0].transpose(0, 1))
        found = [part for part in parts if len(part)]
        whole = cat(found, 0) if len(found) > 1 else found[0] if found else None
        out = (self.at_end if moment.ending else self.count).at(moment.after) - sent
        left = (
            []
            if not states
            else [self.like(moment.batch, 0) if whole is None else whole[max(out, 0) :].transpose(0, 1)]
        )
        return [None if whole is None or out <= 0 else whole[:out]], left

    def step(self, frames: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        if not states or not states[0].shape[1]:
            return frames, states
        (new,), (held,) = frames, states
        return [held[:, 0]], [cat([held[:, 1:], new.unsqueeze(1)], 1)]


@dataclass(eq=False)
class Pad(Node):
    """Adds fixed frames before the first one, and after the last.

    Attributes:
        before: those before the first, (B, number, *rest).
        number: the number of those after the last, of a sequence that ends after n steps.
        after: makes them, (B, number, *rest), given the number of sequences and that of frames.
    """

    takes: Sequence[int]
    gives: Sequence[int]
    before: Tensor
    number: Timeline
    after: Callable[[int, int], Tensor]

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        number = self.number.at(moment.after) if moment.ending else 0
        parts = [
            self.before.transpose(0, 1) if moment.before < 0 else None,
            frames[0],
            self.after(moment.batch, number).transpose(0, 1) if number else None,
        ]
        found = [part for part in parts if part is not None and len(part)]
        return [cat(found, 0) if len(found) > 1 else found[0] if found else None], states

    def step(self, frames: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        return frames, states


@dataclass(eq=False)
class Window(Node):
    """Applies a function to windows of frames.

    Attributes:
        name: the name of its state.
        function: computes frames (T', B, *rest) from frames (T, B, *rest) of whole windows.
        of_one: the same for one window (B, size, *rest), as a frame (B, *rest).
        size: the number of frames of a window.
        stride: the number of frames from one window to the next; at most `size`.
        before: frames (B, number, *rest) before the first.
        after: frames after the last.
        came: the number of frames of its value after each number of steps.
        count: the number of whole windows.
    """

    takes: Sequence[int]
    gives: Sequence[int]
    name: str
    function: Callable[[Tensor], Any]
    of_one: Callable[[Tensor], Any] | None
    size: int
    stride: int
    before: Tensor
    after: Tensor | None
    came: Timeline
    count: Timeline

    def __post_init__(self) -> None:
        self.state_names = [f"{self.name}.frames"]

    def start(self, batch: int) -> list[Tensor]:
        return [self.before]

    def frames_held(self, n: int) -> int:
        return self.before.shape[1] + self.came.at(n) - self.stride * self.count.at(n)

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        held = states[0].transpose(0, 1)
        parts = [held, frames[0], self.after.transpose(0, 1) if moment.ending and self.after is not None else None]
        found = [part for part in parts if part is not None and len(part)]
        whole = cat(found, 0) if len(found) > 1 else found[0] if found else held
        number = max((len(whole) - self.size) // self.stride + 1, 0)
        left = whole[number * self.stride :].transpose(0, 1)
        if not number:
            return [None] * len(self.gives), [left]
        made = self.function(whole[: (number - 1) * self.stride + self.size])
        return made if isinstance(made, tuple) else (made,), [left]

    def step(self, frames: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        window = frames[0].unsqueeze(1)
        window = cat([states[0], window], 1) if states[0].shape[1] else window
        if self.of_one is not None:
            made = self.of_one(window)
        else:
            made = self.function(window.transpose(0, 1))
            made = tuple(each[0] for each in made) if isinstance(made, tuple) else made[0]
        return made if isinstance(made, tuple) else (made,), [window[:, self.stride :]]


@dataclass(eq=False)
class Rate(Node):
    """Computes several frames from each.

    Attributes:
        function: computes frames (T', B, *rest) from frames (T, B, *rest).
    """

    takes: Sequence[int]
    gives: Sequence[int]
    function: Callable[[Tensor], Tensor]
    steps = False

    def chunk(self, frames: Sequence[Frames], states: States, moment: Moment) -> tuple[Sequence[Frames], States]:
        return [None if frames[0] is None else self.function(frames[0])], states
