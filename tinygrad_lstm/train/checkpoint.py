"""A run's checkpoint: its contents, saving and loading."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..data.text import Vocabulary
from ..io import checkpoint as checkpoint_file
from ..io.atomic import write_atomically
from ..printable import printable
from .options import TrainingOptions

__all__ = ["Checkpoint", "digest", "encoded_text", "text_digest"]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The contents of a run's checkpoint."""

    options: TrainingOptions
    vocabulary: Vocabulary
    text_digest: str
    """A digest of the text that the run was started with."""
    sources: list[str]
    """The paths of the text, only to be shown: they are not opened. Empty for Python's manual."""
    step: int
    """Steps done; also the position in the text, since each step reads one batch."""
    best: float | None
    """The lowest validation loss so far, in nats a character."""
    random_state: dict[str, Any]
    weights: dict[str, HostArray]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    state: list[HostArray]
    """The model's state at this position, used by the next step; empty before the first step."""
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
        contents = {name: getattr(self, name) for name in CONTENTS}
        contents |= {"options": asdict(self.options), "vocabulary": self.vocabulary.characters}
        return checkpoint_file.encode(contents)

    @classmethod
    def load(cls, path: str | Path) -> "Checkpoint":
        """Reads a checkpoint.

        Raises:
            OSError: the file does not exist or cannot be read.
            ValueError: the file is truncated, is not a checkpoint, or has a different version.
        """
        contents = checkpoint_file.load(path)
        try:
            _check_contents(contents)
            options, vocabulary = TrainingOptions(**contents.pop("options")), Vocabulary(contents.pop("vocabulary"))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: a checkpoint, but not one of a training run ({printable(str(error))})"
            ) from error
        return cls(options=options, vocabulary=vocabulary, path=Path(path), **contents)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Within this context, errors are due to the file's contents, and become a ValueError that names the file."""
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.path or 'the checkpoint'}: its contents are invalid ({printable(str(error))})"
            ) from error


CONTENTS: dict[str, Callable[[Any], bool]] = {
    "options": lambda value: (
        isinstance(value, dict) and value.keys() == {option.name for option in fields(TrainingOptions)}
    ),
    "vocabulary": lambda value: isinstance(value, str),
    "text_digest": lambda value: isinstance(value, str),
    "sources": lambda value: isinstance(value, list) and all(isinstance(path, str) for path in value),
    "step": lambda value: type(value) is int and value >= 0,
    "best": lambda value: value is None or (isinstance(value, float) and math.isfinite(value)),
    "random_state": lambda value: isinstance(value, dict),
    "weights": lambda value: isinstance(value, dict) and _are_arrays(value.values()),
    "optimizer": lambda value: (
        isinstance(value, dict)
        and value.keys() == {"state", "param_groups"}
        and isinstance(value["state"], dict)
        and _are_arrays(value["state"].values())
    ),
    "schedule": lambda value: isinstance(value, dict),
    "state": lambda value: isinstance(value, list) and _are_arrays(value),
}
"""The fields of a checkpoint's file, each with a check of its type. Whether they match each other shows in use."""


def _are_arrays(values: Iterable[Any]) -> bool:
    return all(isinstance(value, np.ndarray) for value in values)


def _check_contents(contents: Mapping[str, Any]) -> None:
    if faults := sorted(contents.keys() ^ CONTENTS.keys()):
        raise ValueError(f"missing or unexpected: {printable(', '.join(faults))}")
    if faults := [name for name, looks_right in CONTENTS.items() if not looks_right(contents[name])]:
        raise ValueError(f"not as expected: {', '.join(faults)}")


def encoded_text(text: str) -> bytes:
    """The text as UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def digest(data: bytes) -> str:
    """A digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def text_digest(text: str) -> str:
    """A digest of a text."""
    return digest(encoded_text(text))
