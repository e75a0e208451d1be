"""The progress of a search, as it is shown while it runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as ProgressBar

from ..train.progress import time_left
from .interruption import Stop, stopping_at_signals

__all__ = ["SearchProgress", "following_search"]

DOES, QUITS = "ending the trials that run", "quits at once"
"""What the first signal does, and Ctrl-C after it."""


class SearchProgress:
    """Shows a line for each trial that has ended; on a terminal, also a live bar of those that run.

    Args:
        trials: the number of trials in all.
        earlier: the number of those that ended before.
        stop_workers: ends the search.
        bar: the bar; None for lines only.
    """

    def __init__(self, trials: int, earlier: int, stop_workers: Callable[[], None], bar: ProgressBar | None) -> None:
        self._trials, self._earlier, self.ended = trials, earlier, earlier
        self._stop_workers, self._bar = stop_workers, bar
        self._task = None if bar is None else bar.add_task("", total=trials, completed=earlier)
        self._running: dict[int, str] = {}
        self._began = time.monotonic()
        self.stop = Stop()

    def say(self, line: str) -> None:
        """Prints a line. If it cannot be written, the search ends."""
        if self._bar is None:
            self.stop.shown(lambda: print(line, flush=True), self._stop_workers)
        else:
            console = self._bar.console
            self.stop.shown(lambda: console.print(line, highlight=False, markup=False), self._stop_workers)

    def begun(self, number: int) -> None:
        """Shows that a trial runs."""
        self._running[number] = f"trial {number}"
        self._update(number)

    def validated(self, number: int, validation: int, loss: float) -> None:
        """Shows the loss of a trial that runs."""
        self._running[number] = f"trial {number}: validation {validation}, {loss:.4f}"
        self._update(number)

    def has_ended(self, number: int, what: str) -> None:
        """Says how a trial has ended, and how long the others may take."""
        self._running.pop(number)
        self.ended += 1
        self.say(f"trial {number}: {what}  {self.ended}/{self._trials}, {self._left()}")
        self._update(number)

    def _left(self) -> str:
        if self.ended >= self._trials:
            return "done"
        seconds = (time.monotonic() - self._began) / max(1, self.ended - self._earlier)
        return f"{time_left(seconds * (self._trials - self.ended))} left"

    def _update(self, number: int) -> None:
        bar, task = self._bar, self._task
        if bar is None or task is None:
            return
        others = f" and {len(self._running) - 1} more" if len(self._running) > 1 else ""
        line = f"{self.ended}/{self._trials}  {self._running.get(number, '')}{others}"
        self.stop.shown(lambda: bar.update(task, completed=self.ended, description=line), self._stop_workers)


@contextmanager
def following_search(trials: int, earlier: int, stop_workers: Callable[[], None]) -> Iterator[SearchProgress]:
    """Yields what shows a search. Within this context a signal stops it; see `stopping_at_signals`."""
    console = Console()
    if not console.is_terminal:
        progress = SearchProgress(trials, earlier, stop_workers, None)
        with stopping_at_signals(stop_workers, QUITS, DOES) as progress.stop:
            yield progress
        return
    columns = (BarColumn(10), TextColumn("{task.description}", markup=False))
    with ProgressBar(*columns, console=console, transient=True) as bar:
        progress = SearchProgress(trials, earlier, stop_workers, bar)
        with stopping_at_signals(stop_workers, QUITS, DOES) as progress.stop:
            yield progress
