"""Writing a file so that it is there whole, or as it was before."""

import contextlib
import os
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(path: str | Path, data: bytes) -> None:
    """Writes a file under another name in the same folder, and moves it into place once it is on the disk.

    Whatever interrupts this, a kill or a loss of power included, leaves the old file whole.

    Raises:
        OSError: the folder is not there or cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
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
