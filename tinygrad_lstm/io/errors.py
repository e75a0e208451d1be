"""What is wrong within a file, said by code that does not know the file's name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ContentError", "naming_file", "shown"]


class ContentError(Exception):
    """A reason why a file cannot be read, which `naming_file` makes an error that names the file."""


@contextmanager
def naming_file(path: str | Path) -> Iterator[None]:
    """Raises a ValueError that names this file for a ContentError that is raised within it."""
    try:
        yield
    except ContentError as error:
        raise ValueError(f"{path}: {error}") from error


def shown(text: str | bytes) -> str:
    """A string from a file, for a message: in quotes, on one line, not too long.

    Bytes are a string of an ONNX file that is not UTF-8.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    return ascii(text if len(text) <= 100 else text[:97] + "...")
