"""The progress of a search, as it is shown while it runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..train.progress import time_left
from .interruption import Stop, stopping_at_signals
from .live_bar import LiveBar

__all__ = ["SearchProgress", "following_search"]

DOES, QUITS = "ending the trials that run", "quits at once"
"""What the first signal does, and Ctrl-C after it."""


class SearchProgress:
    """Shows a line for each trial that has ended; on a terminal, also a live bar of those that run.

    Args:
        trials: the number of trials in all.
        earlier: the number of those that ended before.
        stop_workers: ends the search.
        bar: the bar.
    """

    def __init__(self, trials: int, earlier: int, stop_workers: Callable[[], None], bar: LiveBar) -> None:
        self._trials, self._earlier, self.ended = trials, earlier, earlier
        self._stop_workers, self._bar = stop_workers, bar
        self._began = time.monotonic()
        self.stop = Stop()

    def say(self, line: str) -> None:
        """Prints a line. If it cannot be written, the search ends."""
        self.stop.shown(lambda: self._bar.say(line), self._stop_workers)

    def update(self, running: str) -> None:
        """Shows in the bar what runs."""
        text = f"{self.ended}/{self._trials}  {running}"
        self.stop.shown(lambda: self._bar.update(text, self.ended), self._stop_workers)

    def has_ended(self, number: int, what: str) -> None:
        """Says how a trial has ended, and how long the others may take."""
        self.ended += 1
        seconds = (time.monotonic() - self._began) / (self.ended - self._earlier)
        left = self._trials - self.ended
        self.say(
            f"trial {number}: {what}  {self.ended}/{self._trials}, "
            f"{f'{time_left(seconds * left)} left' if left else 'done'}"
        )


@contextmanager
def following_search(trials: int, earlier: int, stop_workers: Callable[[], None]) -> Iterator[SearchProgress]:
    """Yields what shows a search. Within this context a signal stops it; see `stopping_at_signals`."""
    with LiveBar(trials, transient=True) as bar:
        progress = SearchProgress(trials, earlier, stop_workers, bar)
        with stopping_at_signals(stop_workers, QUITS, DOES) as progress.stop:
            yield progress
