"""How many frames of a value there are after each number of steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["STEPS", "Timeline", "steps_behind"]

STEPS = 1 << 14
"""The number of steps for which counts are computed; they repeat before."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """The number of frames after n steps, for n = 0, 1, 2, ...

    Attributes:
        counts: for each n below `STEPS`.
        period: after this number of further steps, the number of further frames is the same again.
    """

    counts: NDArray[np.int64]
    period: int = 1

    @staticmethod
    def none() -> Timeline:
        """No frames."""
        return Timeline(np.zeros(STEPS, np.int64))

    @staticmethod
    def always(number: int) -> Timeline:
        """Always the same number of frames."""
        return Timeline(np.full(STEPS, number))

    @staticmethod
    def of_steps() -> Timeline:
        """One frame for each step."""
        return Timeline(np.arange(STEPS))

    def at(self, n: int) -> int:
        """The number of frames after n steps; none before the first of them are due, if n is -1."""
        if n < 0:
            return 0
        if n < STEPS:
            return int(self.counts[n])
        late = STEPS - self.period
        rounds, rest = divmod(n - late, self.period)
        per_round = int(self.counts[STEPS - 1]) - int(self.counts[STEPS - 1 - self.period])
        return int(self.counts[late + rest]) + rounds * per_round

    def plus(self, frames: int) -> Timeline:
        """With this number of frames more, or fewer if it is negative."""
        return Timeline(np.maximum(self.counts + frames, 0), self.period)

    def windows(self, size: int, stride: int) -> Timeline:
        """The number of whole windows of frames."""
        return _with_period(np.maximum((self.counts - size) // stride + 1, 0), self.period * stride)

    @staticmethod
    def computed(function: Callable[[Any, Any], Any], first: Timeline, second: Timeline) -> Timeline:
        """A number that is computed from others, such as `operator.floordiv`."""
        with np.errstate(divide="ignore"):
            counts = function(first.counts, second.counts)
        divisor = int(np.abs(second.counts[-1])) if second.is_fixed else 1
        return _with_period(counts, int(np.lcm(first.period, second.period)) * max(divisor, 1))

    @property
    def is_fixed(self) -> bool:
        """Whether the number is always the same."""
        return bool((self.counts == self.counts[0]).all())

    def minus(self, other: Timeline) -> int | None:
        """How many frames more there are than others, at last; None if that changes."""
        more = (self.counts - other.counts)[STEPS // 2 :]
        return int(more[0]) if (more == more[0]).all() else None

    def times(self, number: int) -> Timeline:
        """With a number of frames in place of each."""
        return Timeline(self.counts * number, self.period)

    def at_most(self, other: Timeline | int) -> Timeline:
        """The smaller number of frames."""
        if isinstance(other, Timeline):
            return Timeline(np.minimum(self.counts, other.counts), int(np.lcm(self.period, other.period)))
        return Timeline(np.minimum(self.counts, other), self.period)

    def is_like(self, other: Timeline) -> bool:
        """Whether the numbers of frames are the same."""
        return np.array_equal(self.counts, other.counts)


def _with_period(counts: NDArray[np.int64], period: int) -> Timeline:
    """A timeline with the smallest divisor of a period that is one, too: products of periods would grow too large."""
    late = counts[STEPS // 2 :]
    for divisor in range(1, min(period, len(late) // 2) + 1):
        if period % divisor == 0:
            more = late[divisor:] - late[:-divisor]
            if (more == more[0]).all():
                return Timeline(counts, divisor)
    return Timeline(counts, period)


def steps_behind(length: Timeline, ready: Timeline) -> int | None:
    """The number of steps by which frames come later than the sequence has them; None if some never come.

    Args:
        length: the number of frames of a sequence that ends after n steps.
        ready: the number of frames that are computed from its first n steps.
    """
    known = STEPS - 2 * max(length.period, ready.period) - 1
    needed = np.searchsorted(ready.counts, length.counts[1 : max(known, 2)])
    behind = int((needed - np.arange(1, len(needed) + 1)).max())
    return None if behind >= known // 2 else max(behind, 0)
