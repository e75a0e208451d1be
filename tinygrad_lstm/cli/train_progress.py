"""The progress of a run of `train`, as it is shown while it runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as ProgressBar

from ..train import Progress, TextTrainer, nats_to_bits
from ..train.progress import time_left

__all__ = ["reporting"]


@contextmanager
def reporting(trainer: TextTrainer[Any]) -> Iterator[Callable[[Progress], None]]:
    """Yields a function that shows progress: a live bar on a terminal, otherwise lines."""
    console, steps = Console(), trainer.last_step
    if not console.is_terminal:
        shown = time.monotonic()

        def print_line(progress: Progress) -> None:
            nonlocal shown
            if progress.validation_loss is not None or time.monotonic() - shown >= 5:
                shown = time.monotonic()
                print(_line(progress, steps), flush=True)

        yield print_line
        return
    columns = (BarColumn(10), TextColumn("{task.description}", markup=False))
    with ProgressBar(*columns, console=console) as bar:
        task = bar.add_task(_steps(trainer.step, steps), total=1.0)
        bar.update(task, completed=trainer.share_done())

        def update(progress: Progress) -> None:
            description = _line(replace(progress, validation={}), steps)
            bar.update(task, completed=trainer.share_done(), description=description)
            if progress.validation_loss is not None:
                console.print(f"step {progress.step}: validation {progress.validation_loss:.3f}", highlight=False)

        yield update


def _steps(step: int, last: int | None) -> str:
    return f"step {step}" if last is None else f"step {step:>{len(str(last))}}/{last}"


def _line(progress: Progress, steps: int | None) -> str:
    parts = [
        _steps(progress.step, steps),
        f"loss {progress.loss:.3f} ({nats_to_bits(progress.loss):.3f} bits)",
        f"lr {progress.lr:.2g}",
        f"{progress.per_second:,.0f} chars/s",
        f"{time_left(progress.seconds_left or 0)} left",
    ]
    if progress.validation_loss is not None:
        parts.append(f"validation {progress.validation_loss:.3f}")
    return "  ".join(parts)
