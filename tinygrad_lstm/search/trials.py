"""A trial: a training with some options, and what became of it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from ..device import get_num_threads, set_num_threads
from ..random import random_state, restored_random_state
from .pruning import Pruning, Report

__all__ = ["Outcome", "Task", "TrialSummary", "run_trial"]

Outcome = Literal["finished", "pruned", "diverged"]


class Task(Protocol):
    """What is learnt in each trial of a search: `TextTask` or `SequenceTask`."""

    def train(self, options: Mapping[str, Any], out: Path | None, pruning: Pruning) -> tuple[int, float]:
        """Trains with some options, and returns the steps and the epochs that were trained.

        Raises:
            FloatingPointError: the training diverged.
            ValueError: an option is invalid.
        """


@dataclass(frozen=True, kw_only=True)
class TrialSummary:
    """What became of a trial. Two summaries are equal if they differ only in the time and the folder."""

    options: Mapping[str, Any]
    """The options of the trial, without those that all trials have."""
    outcome: Outcome
    """"finished"; "pruned", if it was stopped early; or "diverged", if a loss was not finite."""
    losses: tuple[float, ...]
    """The loss of each validation."""
    step: int
    """Steps of training; 0 if it diverged."""
    epoch: float
    """Epochs of training; 0 if it diverged."""
    seconds: float = field(compare=False)
    folder: Path | None = field(compare=False)
    """The folder of the run."""

    @property
    def loss(self) -> float | None:
        """The lowest loss of a validation; None if there was no validation."""
        return min(self.losses, default=None)


def run_trial(
    task: Task,
    options: Mapping[str, Any],
    out: str | Path | None = None,
    report: Report | None = None,
    threads: int = 1,
) -> TrialSummary:
    """Trains with some options. The same task and options always return the same summary.

    The function and its arguments can be pickled, except some functions `report`, so it can be called in other
    processes. The library's random numbers continue afterwards as if it had not been called.

    Args:
        task: what is learnt: a `TextTask` or a `SequenceTask`.
        options: the options that differ from those of the task, by name.
        out: the folder of the run, for checkpoints and metrics; None keeps nothing.
        report: called after each validation with its number, from 1, and its loss. Returns whether to stop the trial.
        threads: the number of threads that compute. The last bits of a sum depend on it.

    Raises:
        ValueError: an option is unknown or invalid, or does not suit the data.
        OSError: a file cannot be written.

    >>> import tinygrad_lstm as tg
    >>> task = tg.search.TextTask("to be or not to be, " * 50, tg.train.TrainingOptions(steps=20, hidden=8, batch=4))
    >>> trials = [tg.search.run_trial(task, {"lr": lr}) for lr in (0.001, 0.01, 0.01)]
    >>> trials[0].loss > trials[1].loss, trials[1] == trials[2]
    (True, True)
    """
    folder, pruning, began = None if out is None else Path(out), Pruning(report), time.perf_counter()
    outcome: Outcome = "finished"
    step, epoch = 0, 0.0
    with _threads(threads), restored_random_state(random_state()):
        try:
            step, epoch = task.train(options, folder, pruning)
        except FloatingPointError:
            outcome = "diverged"
        if pruning.pruned:
            outcome = "pruned"
    return TrialSummary(
        options=dict(options),
        outcome=outcome,
        losses=tuple(pruning.losses),
        step=step,
        epoch=epoch,
        seconds=time.perf_counter() - began,
        folder=folder,
    )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = get_num_threads()
    set_num_threads(number)
    try:
        yield
    finally:
        set_num_threads(before)
