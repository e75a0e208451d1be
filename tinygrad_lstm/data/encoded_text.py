"""Long texts, in little memory."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinygrad_lstm.backends.dtypes import smallest_dtype

from ..files import open_file
from .text import Unknown, Vocabulary, code_points
from .text_files import PIECE, decoded, file_texts, joined

__all__ = ["EncodedText"]

CompactIds: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]

MOST_IN_MEMORY = 2**28
"""The most bytes of ids that are kept in memory. More are in a temporary file, which is mapped into memory."""


class EncodedText:
    """A text as the ids of its characters, one byte each, or two or four if the vocabulary is large.

    Use `of` or `read` to make one. A text that is read takes no more memory than its ids; those of a text of more than
    268 million characters are in a temporary file, so that a text may be larger than the memory.

    >>> text = EncodedText.of("hello")
    >>> len(text), text[1:], text.ids.tolist(), text.ids.dtype
    (5, 'ello', [1, 0, 2, 2, 3], dtype('uint8'))
    """

    def __init__(self, vocabulary: Vocabulary, ids: CompactIds) -> None:
        self.vocabulary = vocabulary
        """The characters."""
        self.ids = ids
        """The ids of the text's characters in the vocabulary, (n,)."""

    @classmethod
    def of(cls, text: str, vocabulary: Vocabulary | None = None, characters: str = "") -> "EncodedText":
        """A text that is in memory.

        Args:
            text: the text.
            vocabulary: the characters; by default those of the text.
            characters: further characters of the default vocabulary.

        Raises:
            ValueError: the text is empty, or has a character that is not in the vocabulary.
        """
        starts = range(0, len(text), PIECE)
        whole = cls.from_pieces(lambda: (text[start : start + PIECE] for start in starts), characters)
        return whole if vocabulary is None else whole.with_vocabulary(vocabulary)

    @classmethod
    def read(
        cls, paths: str | Path | Iterable[str | Path], encoding: str = "utf-8", characters: str = ""
    ) -> "EncodedText":
        """The text that `read_text` returns. The files are read twice: for their characters, and for the ids.

        Args:
            paths: a file, a folder, or several of either.
            encoding: the files' encoding.
            characters: further characters of the vocabulary.

        Raises:
            OSError, ValueError: as `read_text`; or a file changed while it was read.
        """
        paths = [paths] if isinstance(paths, str | Path) else list(paths)
        return cls.from_pieces(lambda: joined(file_texts(paths, encoding)), characters)

    @classmethod
    def read_utf8(cls, path: Path) -> "EncodedText":
        """The text whose `utf8()` a file has.

        Raises:
            OSError, ValueError: it cannot be read, or is not UTF-8.
        """

        def pieces() -> Iterator[str]:
            with open_file(path) as file:
                yield from decoded(file, "utf-8", path, errors="surrogatepass")

        return cls.from_pieces(pieces)

    @classmethod
    def from_pieces(cls, pieces: Callable[[], Iterator[str]], characters: str = "") -> "EncodedText":
        """A text in pieces.

        Args:
            pieces: returns the pieces; called twice, for the text's characters and for the ids.
            characters: further characters of the vocabulary.

        Raises:
            ValueError: the text is empty, or the second time different.
        """
        is_used = np.zeros(0x110000, np.bool_)
        is_used[code_points(characters)] = True
        number = 0
        for piece in pieces():
            is_used[code_points(piece)] = True
            number += len(piece)
        used = np.flatnonzero(is_used)
        vocabulary = Vocabulary("".join(map(chr, used.tolist())))
        table = np.zeros(0x110000, _smallest(len(vocabulary)))
        table[used] = np.arange(len(used))
        ids, at = _room(number, table.dtype), 0
        for piece in pieces():
            codes = code_points(piece)
            if at + len(codes) > number or not is_used[codes].all():
                break
            ids[at : at + len(codes)] = table[codes]
            at += len(codes)
        if at != number:
            raise ValueError("a file of the text changed while it was read; try again")
        return cls(vocabulary, ids)

    def with_vocabulary(self, vocabulary: Vocabulary, unknown: Unknown = "error") -> "EncodedText":
        """The same text, with the ids that its characters have in a different vocabulary.

        Args:
            vocabulary: the characters.
            unknown: for characters that are not in the vocabulary: "error" raises, "skip" leaves them out.

        Raises:
            ValueError: it has a character that is not in the vocabulary, and `unknown` is "error".
        """
        if vocabulary == self.vocabulary:
            return self
        added = set(self.vocabulary.characters) - set(vocabulary.characters)
        table = np.zeros(len(self.vocabulary), _smallest(len(vocabulary)))
        is_known = np.array([character not in added for character in self.vocabulary.characters])
        kept = "".join(character for character in self.vocabulary.characters if character not in added)
        table[is_known] = vocabulary.encode(kept)
        pieces = [self.ids[start : start + PIECE] for start in range(0, len(self), PIECE)]
        number = sum(int(is_known[piece].sum()) for piece in pieces) if added else len(self)
        ids, at = _room(number if unknown == "skip" else len(self), table.dtype), 0
        for piece in pieces:
            if added and not (known := is_known[piece]).all():
                if unknown == "error":
                    vocabulary.refuse(self.vocabulary.characters[piece[known.argmin()]], at + int(known.argmin()))
                piece = piece[known]
            ids[at : at + len(piece)] = table[piece]
            at += len(piece)
        return EncodedText(vocabulary, ids)

    def __len__(self) -> int:
        """The number of characters."""
        return len(self.ids)

    def __getitem__(self, index: int | slice) -> str:
        """A character, or a part of the text."""
        codes = code_points(self.vocabulary.characters)[np.atleast_1d(self.ids[index])]
        return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def utf8(self) -> Iterator[bytes]:
        """The text as UTF-8, in pieces."""
        for start in range(0, len(self), PIECE):
            yield self[start : start + PIECE].encode("utf-8", "surrogatepass")

    @cached_property
    def digest(self) -> str:
        """A digest of the text as UTF-8."""
        found = hashlib.sha256()
        for piece in self.utf8():
            found.update(piece)
        return found.hexdigest()


def _smallest(number: int) -> np.dtype[Any]:
    """The smallest dtype of so many ids."""
    return smallest_dtype(max(number - 1, 0))


def _room(number: int, dtype: np.dtype[Any]) -> CompactIds:
    """An array that is to be filled, in memory or in a temporary file."""
    if number * dtype.itemsize <= MOST_IN_MEMORY:
        return np.empty(number, dtype)
    with tempfile.TemporaryFile() as file:
        return np.asarray(np.memmap(file, dtype, "w+", shape=(number,)))
