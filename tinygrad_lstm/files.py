"""Opens regular files for reading. Pipes and devices are refused, as reading them may never end."""

import os
import stat
from io import BufferedReader
from pathlib import Path

__all__ = ["open_file", "read_file"]


def open_file(path: str | Path) -> BufferedReader:
    """Opens a regular file for reading bytes.

    Raises:
        OSError: the file is missing, is a folder, or cannot be read.
        ValueError: it is a pipe, a device or a socket. This is found without waiting for a different process.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISDIR(mode):  # open() itself refuses a folder
        _check_regular(path, mode)
    file = open(path, "rb", opener=_opener)  # noqa: SIM115 (the caller closes it)
    try:
        _check_regular(path, os.fstat(file.fileno()).st_mode)  # the path may have changed since
    except BaseException:
        file.close()
        raise
    return file


def read_file(path: str | Path) -> bytes:
    """The content of a regular file. Raises the errors of `open_file`."""
    with open_file(path) as file:
        return file.read()


def _check_regular(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path}: a pipe or a device, not a file")


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
