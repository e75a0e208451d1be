"""Callbacks: plain objects with methods that a `Trainer` calls by their names."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tinygrad_lstm.backends.installing import how_to_install

from ..metrics import plot_lines, read_metrics
from .progress import Progress, Summary

__all__ = ["Callback", "EarlyStopping", "LearningCurves", "LogLines", "TensorBoard", "check_callback"]

FLUSH_SECONDS = 1
"""The time after which `TensorBoard` has written a report, also if the run is killed or ends by an error then."""


class Callback(Protocol):
    """The methods that a callback may have, each of them optional.

    One with `state_dict` and `load_state_dict` is saved in checkpoints. It is not needed as a base class. If several
    workers train together, each of them calls its callbacks; one that writes should do so if `trainer.is_first`.
    """

    def on_start(self, trainer: Any) -> None:
        """Called when `fit` begins."""

    def on_step(self, trainer: Any) -> None:
        """Called after each step of the optimizer."""

    def on_report(self, trainer: Any, progress: Progress) -> None:
        """Called with each report, after it and the checkpoint, if it is due, are written."""

    def on_validation(self, trainer: Any, progress: Progress) -> None:
        """Called after each validation, before the checkpoint is saved."""

    def on_end(self, trainer: Any, summary: Summary) -> None:
        """Called when `fit` ends, unless by an error."""


def check_callback(callback: Any) -> None:
    """Checks that an object has methods that a trainer calls, and none that looks like one but is never called.

    Raises:
        TypeError: it is not so; or it is a class.
    """
    events = [name for name in vars(Callback) if name.startswith("on_")]
    named = [name for name in dir(callback) if name.startswith("on_")]
    if isinstance(callback, type):
        raise TypeError(f"Trainer: the callback {callback.__name__} is a class; expected an object of it")
    if not named or not {*named} <= {*events}:
        unknown = next((name for name in named if name not in events), "none of a callback's methods")
        raise TypeError(f"Trainer: the callback {callback!r} has {unknown}; expected any of {', '.join(events)}")


class EarlyStopping:
    """A callback that ends the run when a value of the validation has not improved for some validations.

    Args:
        patience: the number of validations in a row without an improvement after which the run ends. If a run that
            has ended so is continued, it ends again at once, unless its patience is higher.
        metric: the name of the value.
        mode: "min" if lower is better, "max" if higher is.

    Raises:
        ValueError: `patience` is below 1, or `mode` is invalid.

    >>> import tinygrad_lstm as tg
    >>> model = tg.nn.Linear(1, 1)
    >>> trainer = tg.train.Trainer(
    ...     model,
    ...     lambda model, batch, carry: (model(batch).square().mean(), None),
    ...     tg.optim.SGD(model.parameters(), lr=0.0),
    ...     callbacks=[tg.train.EarlyStopping(patience=3)],
    ... )
    >>> trainer.fit([tg.ones(1)], validation=[tg.ones(1)], epochs=100).epoch
    4.0
    """

    def __init__(self, patience: float = 10, metric: str = "loss", mode: str = "min") -> None:
        if not patience >= 1:
            raise ValueError(f"EarlyStopping: expected patience to be at least 1, got {patience}")
        if mode not in ("min", "max"):
            raise ValueError(f"EarlyStopping: expected mode to be 'min' or 'max', got {mode!r}")
        self.patience, self.metric, self.mode = patience, metric, mode
        self.best: float | None = None
        self.without_improvement = 0

    def on_start(self, trainer: Any) -> None:
        if self.without_improvement >= self.patience:
            trainer.finish()

    def on_validation(self, trainer: Any, progress: Progress) -> None:
        if self.metric not in progress.validation:
            raise ValueError(
                f"EarlyStopping: there is no {self.metric!r} in the validation; it has {', '.join(progress.validation)}"
            )
        value = progress.validation[self.metric]
        best = self.best if self.best is not None else math.inf if self.mode == "min" else -math.inf
        if value < best if self.mode == "min" else value > best:  # NaN is no improvement
            self.best, self.without_improvement = value, 0
        else:
            self.without_improvement += 1
        if self.without_improvement >= self.patience:
            trainer.finish()

    def state_dict(self) -> dict[str, Any]:
        """The best value and the number of validations since."""
        return {"best": self.best, "without_improvement": self.without_improvement}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state from `state_dict`."""
        best = state["best"]
        self.best, self.without_improvement = None if best is None else float(best), int(state["without_improvement"])


class LogLines:
    """A callback that writes a line for each report: the step, the loss, the validation, the rate and the time left.

    Args:
        write: called with each line, such as `print` or a logger's `info`.
        seconds: the least time between two lines. Validations are always written.

    >>> import tinygrad_lstm as tg
    >>> model = tg.nn.Linear(1, 1)
    >>> lines = []
    >>> trainer = tg.train.Trainer(
    ...     model,
    ...     lambda model, batch, carry: (model(batch).square().mean(), None),
    ...     tg.optim.SGD(model.parameters(), lr=0.1),
    ...     callbacks=[tg.train.LogLines(lines.append)],
    ... )
    >>> summary = trainer.fit([tg.ones(1)], validation=[tg.ones(1)], epochs=2)
    >>> lines[-1].split("  ")[0], lines[-1].split("  ")[-1].split()[0]
    ('step 2', 'validation')
    """

    def __init__(self, write: Callable[[str], object] = print, seconds: float = 0.0) -> None:
        self.write, self.seconds = write, seconds
        self._written: float | None = None

    def on_report(self, trainer: Any, progress: Progress) -> None:
        if not trainer.is_first:
            return
        now = time.monotonic()
        if progress.validation or self._written is None or now - self._written >= self.seconds:
            self._written = now
            self.write(progress.line())


class LearningCurves:
    """A callback that draws the losses and the metrics of the validations, after each of them and at the end of `fit`.

    If a run is resumed from its folder, the curves begin at its first step. It needs matplotlib, the extra `plot`;
    without it, the first drawing raises an error.

    Args:
        path: the PNG to write.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lines: list[dict[str, Any]] = []

    def on_start(self, trainer: Any) -> None:
        self.lines = [line for line in self.lines if line["step"] <= trainer.step]
        if trainer.step and trainer.folder is not None and not self.lines:
            self.lines = read_metrics(trainer.folder.metrics)

    def on_report(self, trainer: Any, progress: Progress) -> None:
        self.lines.append(progress.values())
        if progress.validation and trainer.is_first:
            plot_lines(self.lines, self.path, trainer.unit)

    def on_end(self, trainer: Any, summary: Summary) -> None:
        if self.lines and trainer.is_first:
            plot_lines(self.lines, self.path, trainer.unit)


class TensorBoard:
    """A callback that writes the reports as files for TensorBoard. It needs the extra `tensorboard`.

    A run that is resumed in the same folder goes on there.

    Args:
        folder: the folder of the files.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(f"TensorBoard: tensorboardX is not installed; {how_to_install('tensorboard')}") from error
        self.folder = Path(folder)
        self._writer_of = SummaryWriter
        self._writer: Any = None

    def on_start(self, trainer: Any) -> None:
        self._close()  # the file of a `fit` that ended by an error

    def on_report(self, trainer: Any, progress: Progress) -> None:
        if not trainer.is_first:
            return
        if self._writer is None:  # what an earlier run wrote from this step on is hidden
            suffix = f".{progress.step}"
            self._writer = self._writer_of(
                str(self.folder), purge_step=progress.step, filename_suffix=suffix, flush_secs=FLUSH_SECONDS
            )
        values = {"loss": progress.loss, "lr": progress.lr, "per_second": progress.per_second}
        values |= {f"validation/{name}": value for name, value in progress.validation.items()}
        for name, value in values.items():
            self._writer.add_scalar(name, value, progress.step)

    def on_end(self, trainer: Any, summary: Summary) -> None:
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
