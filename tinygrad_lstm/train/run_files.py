"""The files that a run writes, of which the first worker writes all."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from ..metrics import plot_metrics
from .checkpoint import Checkpoint
from .folder import RunFolder

__all__ = ["RunFiles"]


class RunFiles:
    """Writes the files of a run, if it has a folder and this worker is the first; otherwise nothing.

    The files of an earlier run in the folder are replaced by the first checkpoint.
    """

    def __init__(self, folder: RunFolder | None, is_first: bool) -> None:
        self._folder = folder if is_first else None
        self._unwritten: list[str] | None = None
        """The lines of metrics that wait for the first checkpoint, while there are files of an earlier run."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder; within this context, no other trainer may write to it.

        An error before the first checkpoint removes the folder again, and those above it that were made for it.
        """
        if self._folder is None:
            yield
            return
        with self._folder.made(), self._folder.locked():
            yield

    def begin(self) -> None:
        """Begins a run."""
        if self._folder is not None and self._folder.is_used():
            self._unwritten = []

    @contextmanager
    def completed(self) -> Iterator[None]:
        """Completes the files of a run that is resumed; within this context, no other trainer may write to them.

        Raises:
            FileNotFoundError: there is no checkpoint.
        """
        if self._folder is None:
            yield
            return
        with self._folder.locked() if self._folder.path.is_dir() else nullcontext():
            self._folder.complete()
            if not self._folder.last.exists():
                raise FileNotFoundError(f"{self._folder.last}: there is no checkpoint, so no run can be resumed")
            yield

    def rewind(self, step: int) -> None:
        """Removes the metrics that are from after a step."""
        if self._folder is not None:
            self._folder.rewind(step)

    def write(self, line: str) -> None:
        """Appends a line to the metrics."""
        if self._unwritten is not None:
            self._unwritten.append(line)
        elif self._folder is not None:
            self._folder.append(line)

    def save(self, checkpoint: Checkpoint, best: Checkpoint | None) -> None:
        """Saves a checkpoint, and the best one if it is new; both may be the same."""
        if self._folder is None:
            return
        if self._unwritten is None:
            self._folder.save(checkpoint, best)
        else:
            self._folder.replace(checkpoint, best, "".join(self._unwritten))
            self._unwritten = None

    def plot(self, unit: str) -> Path | None:
        """Draws the metrics; None if nothing is drawn."""
        return None if self._folder is None else plot_metrics(self._folder.metrics, self._folder.plot, unit)
