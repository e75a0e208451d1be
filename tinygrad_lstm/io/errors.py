"""Errors in a file or in data, raised by code that does not know which file it is, or what the user called."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ContentError", "naming_file", "shown"]


class ContentError(Exception):
    """What is wrong in a file or in data. `naming_file` makes it a ValueError for the user."""


@contextmanager
def naming_file(path: str | Path) -> Iterator[None]:
    """Turns a ContentError that is raised within it into a ValueError whose message begins with a name.

    Args:
        path: the path of the file; for data, the name of the function that the user called.
    """
    try:
        yield
    except ContentError as error:
        raise ValueError(f"{path}: {error}") from error


def shown(text: str | bytes) -> str:
    """A string from a file, for a message: quoted, on one line, shortened.

    Bytes are a string of an ONNX file that is not UTF-8.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    return ascii(text if len(text) <= 100 else text[:97] + "...")
