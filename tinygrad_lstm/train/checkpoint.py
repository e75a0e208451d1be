"""A run's checkpoint: its contents, saving and loading."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..io import checkpoint as checkpoint_file
from ..io.atomic import write_atomically
from ..printable import printable

__all__ = ["Checkpoint"]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to continue, in a file that contains no code."""

    RUN: ClassVar = "a training run"

    about: dict[str, Any]
    """What the run is of: lists and dicts of arrays, numbers and strings, as given to the trainer."""
    step: int
    """Steps of the optimizer done."""
    epoch: int
    """Whole epochs done."""
    batch: int
    """Batches of the present epoch done."""
    seconds: float
    """The time that the run has taken."""
    best: float | None
    """The lowest validation loss so far."""
    loss: float | None
    """The training loss of the last report."""
    due: bool
    """Whether the run was stopped before a validation that was due had ended."""
    random_state: dict[str, Any]
    weights: dict[str, HostArray]
    """The model's parameters and buffers; in best.safetensors their averages, if the run averages them."""
    average: dict[str, Any]
    """The state of the average of the weights; empty if the run has none."""
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    """The state of the schedule, by the name of its class; empty if the run has none."""
    micro_batches: int
    """The number of parts into which the run's batches are cut."""
    carry: Any
    """What the loss passed on from the last batch: arrays in lists and dicts, or None; if there are several
    micro-batches, a list with that of each."""
    callbacks: list[Any]
    """For each callback that has a state, the name of its class and the state."""
    path: Path | None = field(default=None, compare=False)
    """The file that it was read from; not stored."""

    def save(self, path: str | Path) -> None:
        """Writes the checkpoint, atomically.

        Raises:
            OSError: the file cannot be written; an existing file is unchanged.
        """
        write_atomically(path, self.encoded())

    def encoded(self) -> bytes:
        """The content of the checkpoint's file."""
        return checkpoint_file.encode({name: getattr(self, name) for name in CONTENTS})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a checkpoint.

        Raises:
            OSError: the file does not exist or cannot be read.
            ValueError: the file is truncated, is not a checkpoint, or has a different version.
        """
        contents = checkpoint_file.load(path)
        try:
            _check_contents(contents)
            checkpoint = cls(path=Path(path), **contents)
            checkpoint.check_about()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: a checkpoint, but not one of {cls.RUN} ({printable(str(error))})") from error
        return checkpoint

    def check_about(self) -> None:
        """Raises TypeError or ValueError if `about` is not that of such a run. By default it can be anything."""

    @contextmanager
    def blamed(self, fault: str = "invalid") -> Iterator[None]:
        """Within this context, errors are due to the file's contents, and become a ValueError that names the file."""
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.path or 'the checkpoint'}: its contents are {fault} ({printable(str(error))})"
            ) from error


def _are_arrays(values: Iterable[Any]) -> bool:
    return all(isinstance(value, np.ndarray) for value in values)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


CONTENTS: dict[str, Callable[[Any], bool]] = {
    "about": lambda value: isinstance(value, dict),
    "step": _is_count,
    "epoch": _is_count,
    "batch": _is_count,
    "seconds": lambda value: _is_finite(value) and value >= 0,
    "best": lambda value: value is None or _is_finite(value),
    "loss": lambda value: value is None or _is_finite(value),
    "due": lambda value: isinstance(value, bool),
    "random_state": lambda value: isinstance(value, dict),
    "weights": lambda value: isinstance(value, dict) and _are_arrays(value.values()),
    "average": lambda value: isinstance(value, dict) and _are_arrays(value.values()),
    "optimizer": lambda value: (
        isinstance(value, dict)
        and value.keys() == {"state", "param_groups"}
        and isinstance(value["state"], dict)
        and _are_arrays(value["state"].values())
    ),
    "schedule": lambda value: isinstance(value, dict),
    "micro_batches": lambda value: _is_count(value) and value > 0,
    "carry": lambda value: True,
    "callbacks": lambda value: isinstance(value, list),
}
"""The fields of a checkpoint's file, each with a check of its type. Whether they match each other shows in use."""


def _check_contents(contents: Mapping[str, Any]) -> None:
    if faults := sorted(contents.keys() ^ CONTENTS.keys()):
        raise ValueError(f"missing or unexpected: {printable(', '.join(faults))}")
    if faults := [name for name, looks_right in CONTENTS.items() if not looks_right(contents[name])]:
        raise ValueError(f"not as expected: {', '.join(faults)}")
