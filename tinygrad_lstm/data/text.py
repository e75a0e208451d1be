"""Text as input of a model: characters as ids, in batches of parallel streams."""

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn, TypeAlias, get_args, overload

import numpy as np
import numpy.typing as npt

from ..files import read_file

__all__ = [
    "TextBatch",
    "TextBatches",
    "Vocabulary",
    "characters_needed",
    "decode_text",
    "manual_text",
    "read_text",
    "read_texts",
    "split_text",
]

Ids: TypeAlias = npt.NDArray[np.int64]
Unknown: TypeAlias = Literal["error", "skip"]

SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".org", ".adoc")
"""The suffixes of the files that `read_text` reads from a folder, compressed ones too."""

COMPRESSED = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
"""How compressed files are read, by their suffixes."""

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
        self._codes = _code_points(self.characters)

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
        codes = _code_points(text)
        ids = np.minimum(np.searchsorted(self._codes, codes), len(self) - 1).astype(np.int64, copy=False)
        known: npt.NDArray[np.bool_] = self._codes[ids] == codes
        if unknown == "skip":
            return ids[known]
        if not known.all():
            at = int(known.argmin())
            raise ValueError(
                f"the character {text[at]!r} at position {at} is not among the {len(self)} of the vocabulary"
            )
        return ids

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


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def read_text(paths: str | Path | Iterable[str | Path], encoding: str = "utf-8") -> str:
    """The text of files, joined by newlines.

    Args:
        paths: a file, a folder, or several of either. From a folder, all files below it with a suffix of text files are
            read, in the order of their names. Hidden and empty files are skipped. Files that end in .gz, .bz2 or .xz
            are decompressed.
        encoding: the files' encoding, a name that Python knows.

    Returns:
        The text, with newlines "\\n" and without byte order marks.

    Raises:
        OSError: a path, or a folder below one, is missing or cannot be read.
        ValueError: a file is empty, a pipe or a device, damaged, or not in the encoding (the message names the byte and
            its offset); a folder contains no text; Python does not know the encoding.
    """
    return "\n".join(read_texts(paths, encoding))


def read_texts(paths: str | Path | Iterable[str | Path], encoding: str = "utf-8") -> list[str]:
    """The texts of files, one for each file. Arguments and errors are those of `read_text`."""
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if not given:
        raise ValueError("read_text: no paths were given; expected a file, a folder, or several of either")
    return [
        text
        for path in map(Path, given)
        for text in (_folder(path, encoding) if path.is_dir() else [_file(path, encoding)])
    ]


def decode_text(data: bytes, encoding: str, name: str | Path) -> str:
    """The text of a file's content, with newlines "\\n" and without a byte order mark.

    Raises:
        ValueError: it is not in this encoding; the message begins with `name`. Or Python does not know the encoding.
    """
    try:
        b"a".decode(encoding)
    except UnicodeError:
        pass  # as of UTF-16, which takes two bytes a character
    except (LookupError, ValueError) as error:
        raise ValueError(
            f"encoding: expected one that Python knows, such as utf-8, latin-1 or cp1252, got {encoding!r}"
        ) from error
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        what = "UTF-8" if encoding == "utf-8" else encoding
        raise ValueError(
            f"{name}: not {what} text: byte 0x{error.object[error.start]:02x} at offset {error.start}"
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _file(path: Path, encoding: str, may_be_empty: bool = False) -> str:
    data, decompress = read_file(path), COMPRESSED.get(path.suffix.lower())
    if decompress is not None:
        try:
            data = decompress(data)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"{path}: not a whole {path.suffix} file ({error})") from error
    text = decode_text(data, encoding, path)
    if not text and not may_be_empty:
        raise ValueError(f"{path}: the file is empty")
    return text


def _folder(folder: Path, encoding: str) -> Iterator[str]:
    texts = [text for path in sorted(_text_files(folder)) if (text := _file(path, encoding, may_be_empty=True))]
    if not texts:
        raise ValueError(f"{folder}: the folder contains no text; expected files ending in {' '.join(SUFFIXES)}")
    return iter(texts)


def _text_files(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> NoReturn:
        raise error  # by default, folders that cannot be listed would be skipped

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(place, name) for name in names if not name.startswith(".")]
        yield from (path for path in paths if _is_text(path.name.lower()) and path.is_file())


def _is_text(name: str) -> bool:
    stem, dot, last = name.rpartition(".")
    return (stem if dot + last in COMPRESSED else name).endswith(SUFFIXES)


def manual_text() -> str:
    """The language manual that is part of Python, about 465,000 characters.

    Raises:
        RuntimeError: this installation of Python does not include it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise RuntimeError(
            "this Python does not include its language manual (pydoc_data); give a text with --data FILE"
        ) from error
    return "\n".join(topics[name] for name in sorted(topics))


def characters_needed(batch: int, seq_len: int) -> int:
    """The length of the shortest text whose training part from `split_text` suffices for these `TextBatches`."""
    training = batch * seq_len + 1
    return max(training + min((training - 1) // 9, MOST_VALIDATION), 20)


def split_text(text: str) -> tuple[str, str]:
    """The text for training, and the text for validation: the last tenth, at most `MOST_VALIDATION` characters."""
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


class TextBatches(Sequence[TextBatch]):
    """A text split into parallel streams, read one window at a time: for truncated backpropagation through time.

    Stream b of a text of n characters is its part [b·L, (b+1)·L] with L = (n - 1) // B. Each batch continues the
    streams where the previous one ended, so a model's state can be carried over. In an epoch each character except the
    first (and fewer than B at the end) is a target exactly once. The lengths of an epoch's windows differ by at most
    one.

    Args:
        ids: the ids of the text's characters, of shape (n,).
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

    def __init__(self, ids: Ids, batch: int, seq_len: int) -> None:
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
        return TextBatch(
            np.ascontiguousarray(self._inputs[part]), np.ascontiguousarray(self._targets[part]), window == 0
        )
