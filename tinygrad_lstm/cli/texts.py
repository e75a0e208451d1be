"""The options of a command for the text that it reads."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, BinaryIO, TypeAlias

import typer

from ..data.encoded_text import EncodedText
from ..data.text_files import file_texts, joined, manual_text, text_of
from .shared import path_option, require

__all__ = ["STANDARD_INPUT", "Encoding", "data_sources", "first_word", "text_of_sources"]

STANDARD_INPUT = "-"

Encoding: TypeAlias = Annotated[
    str | None, typer.Option(help="The encoding of the files of --data, such as latin-1.  [default: utf-8]")
]


def data_sources(data: Sequence[str]) -> list[str]:
    """The absolute paths given as --data; "-" is left as it is.

    Raises:
        ValueError: an empty string is given, or standard input more than once.
    """
    require("--data", data.count(STANDARD_INPUT) <= 1, "standard input (-) once", data.count(STANDARD_INPUT))
    return [path if path == STANDARD_INPUT else str(path_option("--data", path).absolute()) for path in data]


def text_of_sources(sources: Sequence[str], encoding: str | None, characters: str = "") -> tuple[EncodedText, str]:
    """The text of --data, by default Python's manual; and what was read, in words.

    Args:
        characters: further characters of its vocabulary.

    Raises:
        OSError, ValueError: as `read_text`; or there is an encoding, but no data.
    """
    if not sources:
        require("--encoding", encoding is None, "--data with it", "none")
        return EncodedText.of(manual_text(), characters=characters), "Python's manual"
    encoding = encoding or "utf-8"
    files = 0

    def texts() -> Iterator[Iterator[str]]:
        nonlocal files
        files = 0
        for source in sources:
            if source == STANDARD_INPUT:
                yield _from_standard_input(standard_input, encoding)
                continue
            for text in file_texts(Path(source), encoding):
                files += 1
                yield text

    # Texts are read twice, standard input from this file.
    with tempfile.TemporaryFile() as standard_input:
        if STANDARD_INPUT in sources:
            shutil.copyfileobj(sys.stdin.buffer, standard_input)
        try:
            text = EncodedText.from_pieces(lambda: joined(texts()), characters)
        except ValueError as error:
            raise ValueError(f"--{error}" if str(error).startswith("encoding: ") else str(error)) from error
    named = [f"{files:,} file{'s' * (files > 1)}"] if files else []
    return text, " and ".join([*named, *["standard input"] * (STANDARD_INPUT in sources)])


def first_word(text: EncodedText) -> str:
    """A prompt that is in the text."""
    return (text[:200].split() or [text[0]])[0][:20]


def _from_standard_input(file: BinaryIO, encoding: str) -> Iterator[str]:
    file.seek(0)
    pieces = text_of(file, encoding, "standard input")
    first = next(pieces, "")
    require("--data", bool(first), "a text from standard input", "none")
    return chain([first], pieces)
