"""The options of a command for the text that it reads."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ..data.text import decode_text, manual_text, read_texts
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


def text_of_sources(sources: Sequence[str], encoding: str | None) -> tuple[str, str]:
    """The text of --data, by default Python's manual; and what was read, in words.

    Raises:
        OSError, ValueError: as `read_text`; or there is an encoding, but no data.
    """
    if not sources:
        require("--encoding", encoding is None, "--data with it", "none")
        return manual_text(), "Python's manual"
    encoding = encoding or "utf-8"
    texts: list[str] = []
    try:
        for source in sources:
            texts += [_standard_input(encoding)] if source == STANDARD_INPUT else read_texts(Path(source), encoding)
    except ValueError as error:
        raise ValueError(f"--{error}" if str(error).startswith("encoding: ") else str(error)) from error
    files = len(texts) - sources.count(STANDARD_INPUT)
    named = [f"{files:,} file{'s' * (files > 1)}"] if files else []
    return "\n".join(texts), " and ".join([*named, *["standard input"] * (STANDARD_INPUT in sources)])


def _standard_input(encoding: str) -> str:
    text = decode_text(sys.stdin.buffer.read(), encoding, "standard input")
    require("--data", bool(text), "a text from standard input", "none")
    return text
