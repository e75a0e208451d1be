"""Reading texts from files, in pieces."""

import codecs
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ..files import open_file

__all__ = ["manual_text", "read_text"]

SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".org", ".adoc")
"""The suffixes of the files that `read_text` reads from a folder, compressed ones too."""

COMPRESSED = (".gz", ".bz2", ".xz")
"""The suffixes of compressed files."""

PIECE = 2**20
"""How many bytes of a file, or characters of a text, are converted at a time."""


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
    return "".join(joined(file_texts(paths, encoding)))


def joined(texts: Iterable[Iterable[str]]) -> Iterator[str]:
    """The pieces of texts, with a newline between two texts."""
    for number, pieces in enumerate(texts):
        if number:
            yield "\n"
        yield from pieces


def file_texts(paths: str | Path | Iterable[str | Path], encoding: str = "utf-8") -> Iterator[Iterator[str]]:
    """The text of each file, in pieces. They are read from disk as they are needed, in this order.

    Arguments and errors are those of `read_text`.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if not given:
        raise ValueError("read_text: no paths were given; expected a file, a folder, or several of either")
    _check_encoding(encoding)
    for path in map(Path, given):
        is_folder, empty = path.is_dir(), True
        for file in sorted(_text_files(path)) if is_folder else [path]:
            pieces = _file(file, encoding)
            first = next(pieces, None)
            if first is not None:
                empty = False
                yield chain([first], pieces)
        if empty and is_folder:
            raise ValueError(f"{path}: the folder contains no text; expected files ending in {' '.join(SUFFIXES)}")
        if empty:
            raise ValueError(f"{path}: the file is empty")


def text_of(file: BinaryIO, encoding: str, name: str | Path) -> Iterator[str]:
    """The text of an open file, in pieces, with newlines "\\n" and without a byte order mark.

    Raises:
        ValueError: it is not in this encoding; the message begins with `name`. Or Python does not know the encoding.
    """
    _check_encoding(encoding)
    return _with_newlines(decoded(file, encoding, name))


def _check_encoding(encoding: str) -> None:
    try:
        b"a".decode(encoding)
    except UnicodeError:
        pass  # as of UTF-16, which takes two bytes a character
    except (LookupError, ValueError) as error:
        raise ValueError(
            f"encoding: expected one that Python knows, such as utf-8, latin-1 or cp1252, got {encoding!r}"
        ) from error


def _file(path: Path, encoding: str) -> Iterator[str]:
    with open_file(path) as file:
        if path.suffix.lower() not in COMPRESSED:
            yield from _with_newlines(decoded(file, encoding, path))
            return
        decompress, _ = _decompression(path.suffix)
        with decompress(file) as content:
            yield from _with_newlines(decoded(content, encoding, path, compressed=path.suffix))


def decoded(
    file: BinaryIO, encoding: str, name: str | Path, errors: str = "strict", compressed: str = ""
) -> Iterator[str]:
    """The content of a file as strings, none of them empty.

    Args:
        compressed: the suffix of a compressed file, whose damages are then errors.

    Raises:
        ValueError: it is damaged, or not in this encoding; the message names the byte and its offset.
    """
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    read, ended = 0, False
    while not ended:
        content = _some_bytes(file, name, compressed)
        ended = not content
        undecoded = len(decoder.getstate()[0])
        try:
            piece = decoder.decode(content, final=ended)
        except UnicodeDecodeError as error:
            what = "UTF-8" if encoding == "utf-8" else encoding
            byte, offset = error.object[error.start], read - undecoded + error.start
            raise ValueError(f"{name}: not {what} text: byte 0x{byte:02x} at offset {offset}") from error
        read += len(content)
        if piece:
            yield piece


def _decompression(suffix: str) -> tuple[Callable[[BinaryIO], BinaryIO], tuple[type[Exception], ...]]:
    """How a compressed file is opened, and what reading it raises if it is damaged.

    The modules are imported only if they are needed: Python in a browser has no lzma.
    """
    opened: Any
    damages: tuple[type[Exception], ...]
    match suffix.lower():
        case ".gz":
            import gzip

            opened, damages = gzip.open, (OSError, EOFError, zlib.error)
        case ".bz2":
            import bz2

            opened, damages = bz2.BZ2File, (OSError, EOFError, ValueError)
        case _:
            import lzma

            opened, damages = lzma.LZMAFile, (EOFError, lzma.LZMAError)
    return opened, damages


def _some_bytes(file: BinaryIO, name: str | Path, compressed: str) -> bytes:
    if not compressed:
        return file.read(PIECE)
    _, damages = _decompression(compressed)
    try:
        return file.read(PIECE)
    except damages as error:
        raise ValueError(f"{name}: not a whole {compressed} file ({error})") from error


def _with_newlines(pieces: Iterable[str]) -> Iterator[str]:
    """A text with newlines "\\n" and without a byte order mark, in pieces that are not empty."""
    newlines, begins = io.IncrementalNewlineDecoder(None, translate=True), True
    for piece in pieces:
        text = newlines.decode(piece.removeprefix("\ufeff") if begins else piece)
        begins = False
        if text:
            yield text
    if text := newlines.decode("", final=True):
        yield text


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
