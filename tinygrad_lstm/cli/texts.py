"""The options of a command for the text that it reads."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ..data.encoded_text import EncodedText
from ..data.text_files import decode_text, file_texts, joined, manual_text
from .shared import path_option, require

__all__ = ["Encoding", "data_sources", "text_of_sources"]

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
                yield iter([standard_input])
                continue
            for text in file_texts(Path(source), encoding):
                files += 1
                yield text

    try:
        standard_input = _standard_input(encoding) if STANDARD_INPUT in sources else ""
        text = EncodedText.from_pieces(lambda: joined(texts()), characters)
    except ValueError as error:
        raise ValueError(f"--{error}" if str(error).startswith("encoding: ") else str(error)) from error
    named = [f"{files:,} file{'s' * (files > 1)}"] if files else []
    return text, " and ".join([*named, *["standard input"] * (STANDARD_INPUT in sources)])


def _standard_input(encoding: str) -> str:
    text = decode_text(sys.stdin.buffer.read(), encoding, "standard input")
    require("--data", bool(text), "a text from standard input", "none")
    return text
