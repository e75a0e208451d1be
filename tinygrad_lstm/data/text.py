"""Text as input of a model: characters as ids, in batches of parallel streams."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias, TypeVar, get_args, overload

import numpy as np
import numpy.typing as npt

from .splitting import bounds_of_parts
from .text_files import PIECE

__all__ = ["TextBatch", "TextBatches", "Vocabulary", "characters_needed", "split_text"]

Ids: TypeAlias = npt.NDArray[np.int64]
SomeIds: TypeAlias = npt.NDArray[np.integer[Any]]
"""Ids of any integer dtype: those of a long text may take one or two bytes each."""
Text = TypeVar("Text", str, npt.NDArray[Any])
Unknown: TypeAlias = Literal["error", "skip"]

MOST_VALIDATION = 131_072
"""The most characters that `split_text` uses for validation, so that validation stays quick for a long text."""


class Vocabulary:
    """The characters of a text, numbered from 0 in the order of their code points.

    Args:
        text: any string; the vocabulary consists of its distinct characters.

    Raises:
        ValueError: `text` is empty.

    >>> vocabulary = Vocabulary("hello")
    >>> vocabulary.characters, vocabulary.encode("hole").tolist(), vocabulary.decode([1, 0])
    ('ehlo', [1, 3, 2, 0], 'he')
    """

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("Vocabulary: the text is empty; expected at least one character")
        self.characters = "".join(sorted(set(text)))
        self._codes = code_points(self.characters)

    def __len__(self) -> int:
        return len(self.characters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"Vocabulary({self.characters!r})"

    def encode(self, text: str, unknown: Unknown = "error") -> Ids:
        """The ids of the characters of `text`, int64 of shape (len(text),).

        Args:
            text: the characters.
            unknown: for characters that are not in the vocabulary: "error" raises, "skip" leaves them out.

        Raises:
            ValueError: a character is not in the vocabulary and `unknown` is "error"; the message names the first one
                and its position. Or `unknown` is invalid.

        >>> Vocabulary("hello").encode("hole!", unknown="skip").tolist()
        [1, 3, 2, 0]
        """
        if unknown not in get_args(Unknown):
            raise ValueError(f"encode: expected unknown to be 'error' or 'skip', got {unknown!r}")
        ids = np.empty(len(text), np.int64)
        at = 0
        for start in range(0, len(text), PIECE):
            piece = self._encoded(text, start, unknown)
            ids[at : at + len(piece)] = piece
            at += len(piece)
        return ids[:at]

    def _encoded(self, text: str, start: int, unknown: Unknown) -> npt.NDArray[np.intp]:
        """The ids of a piece of the text."""
        codes = code_points(text[start : start + PIECE])
        ids = np.minimum(np.searchsorted(self._codes, codes), len(self) - 1)
        known: npt.NDArray[np.bool_] = self._codes[ids] == codes
        if unknown == "skip":
            return ids[known]
        if not known.all():
            self.refuse(text[start + int(known.argmin())], start + int(known.argmin()))
        return ids

    def refuse(self, character: str, position: int) -> NoReturn:
        """Raises the error of `encode` for a character that is not in the vocabulary."""
        raise ValueError(
            f"the character {character!r} at position {position} is not among the {len(self)} of the vocabulary"
        )

    def known(self, text: str) -> str:
        """`text` without the characters that are not in the vocabulary."""
        return self.decode(self.encode(text, unknown="skip").tolist())

    def decode(self, ids: Iterable[int]) -> str:
        """The characters with these ids.

        Raises:
            IndexError: an id is not in [0, len(self)).
        """
        ids = list(ids)
        for id in ids:
            if not 0 <= id < len(self):
                raise IndexError(f"decode: expected numbers from 0 to {len(self) - 1}, got {id}")
        return "".join(self.characters[id] for id in ids)


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code points of the characters."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def characters_needed(batch: int, seq_len: int) -> int:
    """The length of the shortest text whose training part from `split_text` suffices for these `TextBatches`."""
    training = batch * seq_len + 1
    return max(training + min((training - 1) // 9, MOST_VALIDATION), 20)


def split_text(text: Text) -> tuple[Text, Text]:
    """The text for training, and the text for validation: the last tenth, at most `MOST_VALIDATION` characters.

    It is a string, or an array of ids, of which views are returned.
    """
    held_back = min(len(text) // 10, MOST_VALIDATION)
    return text[: len(text) - held_back], text[len(text) - held_back :]


class TextBatch(NamedTuple):
    """The batch of one training step: T characters of each of B streams."""

    inputs: Ids
    """The characters, int64 of shape (T, B)."""
    targets: Ids
    """The next character after each of them: the same shape, one step later."""
    first: bool
    """Whether the streams start here, so that no state is carried over into this batch."""

    @property
    def weight(self) -> int:
        """The number of characters that are predicted."""
        return self.targets.size

    def split(self, number: int) -> "list[TextBatch | None]":
        """The batch in parts of some streams each, as equal as possible; None if there are fewer streams."""
        bounds = bounds_of_parts(self.inputs.shape[1], number)
        return [
            TextBatch(self.inputs[:, part], self.targets[:, part], self.first) if part.start < part.stop else None
            for part in bounds
        ]


class TextBatches(Sequence[TextBatch]):
    """A text split into parallel streams, read one window at a time: for truncated backpropagation through time.

    Stream b of a text of n characters is its part [b·L, (b+1)·L] with L = (n - 1) // B. Each batch continues the
    streams where the previous one ended, so a model's state can be carried over. In an epoch each character except the
    first (and fewer than B at the end) is a target exactly once. The lengths of an epoch's windows differ by at most
    one.

    Args:
        ids: the ids of the text's characters, integers of shape (n,). They may be uint8, and memory-mapped: only the
            batch that is returned is converted to int64.
        batch: B, the number of streams.
        seq_len: T, the length of the longest window.

    Raises:
        ValueError: the text is too short for one full window of each stream.

    >>> import numpy as np
    >>> batches = TextBatches(np.arange(9), batch=2, seq_len=3)
    >>> inputs, targets, first = batches[0]
    >>> inputs.tolist(), targets.tolist(), first
    ([[0, 4], [1, 5]], [[1, 5], [2, 6]], True)
    >>> [batch.inputs.shape for batch in batches]
    [(2, 2), (2, 2)]
    """

    def __init__(self, ids: SomeIds, batch: int, seq_len: int) -> None:
        for name, value in (("batch", batch), ("seq_len", seq_len)):
            if value < 1:
                raise ValueError(f"TextBatches: expected {name} to be at least 1, got {value}")
        if len(ids) < batch * seq_len + 1:
            raise ValueError(
                f"TextBatches: {len(ids)} characters are too few for {batch} streams with windows of {seq_len}: "
                f"expected at least {batch * seq_len + 1}"
            )
        length = (len(ids) - 1) // batch
        self._inputs = ids[: batch * length].reshape(batch, length).T
        self._targets = ids[1 : batch * length + 1].reshape(batch, length).T
        windows = -(-length // seq_len)
        self._bounds = [k * length // windows for k in range(windows + 1)]

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, index: int) -> TextBatch: ...
    @overload
    def __getitem__(self, index: slice) -> list[TextBatch]: ...
    def __getitem__(self, index: int | slice) -> TextBatch | list[TextBatch]:
        """The batch of a window, or those of several."""
        windows = range(len(self))[index]
        return self._window(windows) if isinstance(windows, int) else [self._window(window) for window in windows]

    def epoch(self, number: int, start: int = 0) -> Iterator[TextBatch]:
        """The batches of an epoch, from a window on. All epochs are equal."""
        return map(self._window, range(start, len(self)))

    def _window(self, window: int) -> TextBatch:
        part = slice(self._bounds[window], self._bounds[window + 1])
        inputs, targets = (each[part].astype(np.int64, order="C") for each in (self._inputs, self._targets))
        return TextBatch(inputs, targets, window == 0)
