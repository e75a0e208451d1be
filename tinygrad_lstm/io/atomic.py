"""Writing a file so that it is there whole, or as it was before."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["naming_errors", "write_atomically"]


@contextlib.contextmanager
def naming_errors(path: str | Path) -> Iterator[None]:
    """Gives an OSError that is raised within it this path, since those of reads and writes name no file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_atomically(path: str | Path, data: bytes) -> None:
    """Writes a file under another name in the same folder, and moves it into place once it is on the disk.

    Whatever interrupts this, a kill or a loss of power included, leaves the old file whole.

    Raises:
        OSError: the folder is not there or cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with naming_errors(path):
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    # The new name itself is on the disk only when the folder is; Windows neither needs this nor can do it.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
