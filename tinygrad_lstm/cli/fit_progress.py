"""The progress of a fit, as it is shown while it runs, and how a signal stops it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..train import Progress, Summary, Trainer
from ..train.progress import time_left
from .interruption import Stop, stopping_at_signals
from .live_bar import LiveBar

__all__ = ["STAGES", "FitProgress", "following"]

SECONDS = 2.0
"""The least time between two lines."""
QUITS = "ends at once, with the best network so far"
"""What a second Ctrl-C does."""
STAGES = {"search": "finding the number of epochs", "final": "training the final network"}
"""What the two trainings of a fit are for, by the names of their folders."""


class FitProgress:
    """A callback that shows both trainings of a fit: a live bar on a terminal, otherwise lines.

    Args:
        epochs: the largest number of epochs.
        bar: the bar.
    """

    def __init__(self, epochs: int, bar: LiveBar) -> None:
        self.epochs, self._bar = epochs, bar
        self.stop = Stop()
        self.trainer: Trainer[Any] | None = None
        """The trainer that runs; None before the first begins."""
        self._asked_to_stop = False
        self._shown = 0.0

    def ask_to_stop(self) -> None:
        """Stops the training after its present step."""
        self._asked_to_stop = True
        if self.trainer is not None:
            self.trainer.stop()

    @property
    def stage(self) -> str:
        """Which of the two trainings runs: "search" or "final"."""
        return self.trainer.folder.path.name if self.trainer is not None and self.trainer.folder is not None else ""

    def on_start(self, trainer: Trainer[Any]) -> None:
        if self.trainer is not None:
            self.epochs = self.trainer.epoch or self.epochs  # what the search has found
        self.trainer, self._shown = trainer, 0.0
        if self._asked_to_stop:
            trainer.stop()

    def on_report(self, trainer: Trainer[Any], progress: Progress) -> None:
        self._show(self._line(progress), progress.epoch)

    def on_end(self, trainer: Trainer[Any], summary: Summary) -> None:
        if self.stage == "search" and summary.finished and summary.best is not None:
            self.say(f"found {trainer.epoch} epochs, validation loss {summary.best:.4f} at best")

    def _line(self, progress: Progress) -> str:
        validated = "" if progress.validation_loss is None else f"  validation {progress.validation_loss:.4f}"
        left = "" if progress.seconds_left is None else f"  {time_left(progress.seconds_left)} left"
        stage = STAGES.get(self.stage, "training")
        return f"{stage}: epoch {progress.epoch:.0f} of {self.epochs}  loss {progress.loss:.4f}{validated}{left}"

    def say(self, line: str) -> None:
        """Prints a line. If it cannot be written, the training stops."""
        self.stop.shown(lambda: self._bar.say(line), self.ask_to_stop)

    def _show(self, line: str, epoch: float) -> None:
        now = time.monotonic()
        if self._bar.is_shown:
            self.stop.shown(lambda: self._bar.update(line, epoch, self.epochs), self.ask_to_stop)
        elif epoch >= self.epochs or now - self._shown >= SECONDS:
            self._shown = now
            self.say(line)


@contextmanager
def following(epochs: int) -> Iterator[FitProgress]:
    """Yields a callback that shows a fit. Within this context a signal stops it; see `stopping_at_signals`."""
    with LiveBar(epochs) as bar:
        progress = FitProgress(epochs, bar)
        with stopping_at_signals(progress.ask_to_stop, QUITS) as progress.stop:
            yield progress
