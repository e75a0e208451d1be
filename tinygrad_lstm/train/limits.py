"""When a run ends, and what it measures of itself."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from .._tensor import Tensor
from ..data.batches import batches_from

__all__ = ["Call", "Limits", "Recent", "Stopwatch", "number_of"]


class Run(Protocol):
    """The position of a run."""

    step: int
    epoch: int
    batch: int
    seconds: float
    accumulate: int


def number_of(batches: Any) -> int | None:
    """The number of batches, if it is known."""
    return len(batches) if isinstance(batches, Sized) else None


@dataclass(frozen=True)
class Limits:
    """When a run ends; totals from its first step."""

    epochs: int | None
    steps: int | None
    minutes: float | None

    def reached(self, trainer: Run) -> bool:
        return (
            (self.epochs is not None and trainer.epoch >= self.epochs)
            or (self.steps is not None and trainer.step >= self.steps)
            or (self.minutes is not None and trainer.seconds >= 60 * self.minutes)
        )

    def seconds_left(self, trainer: Run, call: "Stopwatch", batches: int | None) -> float | None:
        """The time until the first limit, as far as it is known."""
        steps = [] if self.steps is None else [self.steps]
        if self.epochs is not None and batches is not None:
            steps.append(self.epochs * math.ceil(batches / trainer.accumulate))
        left = [call.seconds_a_step(trainer.step) * (number - trainer.step) for number in steps]
        if self.minutes is not None:
            left.append(60 * self.minutes - trainer.seconds)
        return max(0.0, min(left)) if left else None


class Stopwatch:
    """The time of a call of `fit`."""

    def __init__(self, step: int, seconds_before: float) -> None:
        self._step, self._before = step, seconds_before
        self._began = time.perf_counter()

    def taken(self) -> float:
        return time.perf_counter() - self._began

    def seconds(self) -> float:
        """The time of the run, with that before this call."""
        return self._before + self.taken()

    def seconds_a_step(self, step: int) -> float:
        return self.taken() / max(1, step - self._step)


class Recent:
    """The steps since the last report."""

    def __init__(self, last: float | None = None) -> None:
        self.last = last
        """The mean loss of the last report; None if there was none."""
        self.begin_anew()

    def begin_anew(self) -> None:
        self._losses: list[list[Tensor | None]] = []
        self._weight, self.seconds = 0, 0.0

    def add(self, losses: list[Tensor | None], weight: int) -> None:
        """Adds a step, with the shares of this worker's micro-batches in its loss."""
        self._losses.append(losses)
        self._weight += weight

    def mean_loss(self, everywhere: Callable[[HostArray], HostArray]) -> float:
        """The mean of the losses, which are read from the device; that of the last report if there are none.

        Args:
            everywhere: returns the shares of all micro-batches, given those of this worker's.
        """
        if self._losses:
            own = [[0.0 if share is None else share.item() for share in shares] for shares in self._losses]
            self.last = sum(sum(shares) for shares in everywhere(np.array(own)).tolist()) / len(self._losses)
        return math.nan if self.last is None else self.last

    def per_second(self) -> float:
        return self._weight / self.seconds if self.seconds else 0.0


@dataclass
class Call:
    """A call of `fit`: what it was given, and how far it is."""

    batches: Iterable[Any]
    validation: Iterable[Any] | None
    limits: Limits
    validate_every: int | None
    log_every: int
    stopwatch: Stopwatch
    lr: float
    """The learning rate of the last step."""
    _of_epoch: Iterator[Any] | None = field(default=None, init=False)

    @property
    def number(self) -> int | None:
        """The number of batches in an epoch, if it is known."""
        return number_of(self.batches)

    def epochs(self, run: Run) -> float:
        """Epochs so far; with a fraction if the number of batches is known."""
        return run.epoch + (run.batch / self.number if self.number else 0)

    def next_group(self, run: Run) -> list[Any]:
        """The batches of the next step; none at the end of an epoch.

        Raises:
            ValueError: the epoch has no batches at all.
        """
        if self._of_epoch is None:
            self._of_epoch = batches_from(self.batches, run.epoch, run.batch)
        group = list(islice(self._of_epoch, run.accumulate))
        if not group and not run.batch:
            raise ValueError(
                f"Trainer.fit: there is no batch in epoch {run.epoch + 1}; expected an iterable that begins anew, "
                "such as a list"
            )
        return group

    def begin_epoch(self) -> None:
        """Lets the next group be the first of an epoch."""
        self._of_epoch = None
