"""The progress of a run of `train`, as it is shown while it runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..train import Progress, TextTrainer, nats_to_bits
from ..train.progress import time_left
from .live_bar import LiveBar

__all__ = ["reporting"]

SECONDS = 5.0
"""The least time between two lines, but for those with a validation."""


@contextmanager
def reporting(trainer: TextTrainer[Any]) -> Iterator[Callable[[Progress], None]]:
    """Yields a function that shows progress: a live bar on a terminal, otherwise lines."""
    steps, shown = trainer.last_step, time.monotonic()
    with LiveBar(1.0) as bar:
        bar.update(_steps(trainer.step, steps), trainer.share_done())

        def show(progress: Progress) -> None:
            nonlocal shown
            validated, now = progress.validation_loss is not None, time.monotonic()
            if bar.is_shown:
                bar.update(_line(replace(progress, validation={}), steps), trainer.share_done())
                if validated:
                    bar.say(f"step {progress.step}: validation {progress.validation_loss:.3f}")
            elif validated or now - shown >= SECONDS:
                shown = now
                bar.say(_line(progress, steps))

        yield show


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
