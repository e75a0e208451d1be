"""Atomic writing of files, the only way in which this library writes files."""

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows and WebAssembly have none
    fcntl = None  # type: ignore[assignment]

__all__ = ["check_writable", "lock", "naming_errors", "write_atomically"]


@contextlib.contextmanager
def naming_errors(path: str | Path) -> Iterator[None]:
    """Adds this path to an OSError that is raised within it, since reads and writes do not name the file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_atomically(
    path: str | Path, data: bytes | bytearray | memoryview | Iterable[bytes], mode: int = 0o666
) -> None:
    """Writes a whole file, or leaves an existing file unchanged. The data may be in pieces.

    The data is written to a new file in the same folder, which is moved into place when it is on the disk. Any
    interruption, including a kill or a power failure, leaves the old file unchanged. If several processes write the
    same path, the file is always complete and from one of them.

    An existing file keeps its permissions; a new one gets `mode` without the process's umask. A symbolic link stays a
    link: its target is replaced. Devices, pipes and open files such as /dev/stdout cannot be replaced, so the data is
    written to them directly.

    Raises:
        OSError: the folder does not exist, it or an existing file is not writable, or the disk is full.
    """
    path = Path(path)
    pieces = [data] if isinstance(data, bytes | bytearray | memoryview) else data
    with naming_errors(path):
        target = _replaced_by_writing(path)
        if target is None:
            number = _descriptor(path)
            with open(path if number is None else number, "wb", closefd=number is None) as file:
                file.writelines(pieces)
            return
        _remove_leftovers(target)
        with _moved_into_place(target, mode) as file:
            file.writelines(pieces)
        _flush_folder(target.parent)


def check_writable(path: str | Path) -> None:
    """Raises the OSError that `write_atomically` would raise for a path that may not be written; changes nothing."""
    path = Path(path)
    with naming_errors(path):
        target = _replaced_by_writing(path)
        if target is not None:
            with tempfile.TemporaryFile(dir=target.parent):
                pass


def _replaced_by_writing(path: Path) -> Path | None:
    """The regular file, existing or new, that the path leads to; None for anything that must be written in place."""
    if _descriptor(path) is not None:
        return None
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return Path(os.path.realpath(path))
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(path, os.W_OK):  # a file could be moved over it, but it is write-protected
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return Path(os.path.realpath(path)) if stat.S_ISREG(mode) else None


def _descriptor(path: Path) -> int | None:
    """The file descriptor of a path such as /dev/stdout or /dev/fd/3."""
    names = {"/dev/stdout": "/dev/fd/1", "/dev/stderr": "/dev/fd/2"}
    found = re.fullmatch(r"(?:/dev/fd|/proc/self/fd)/(\d+)", names.get(str(path), str(path)))
    return int(found[1]) if found else None


@contextlib.contextmanager
def _moved_into_place(target: Path, mode: int) -> Iterator[BinaryIO]:
    """A new file to write, which replaces the target at the end; an error removes it instead."""
    old = target.stat() if target.exists() else None
    descriptor, temporary = _create_beside(target, mode if old is None else 0o600)
    try:
        with open(descriptor, "wb") as file:
            if old is not None:
                _take_permissions(descriptor, old)
            yield file
            file.flush()
            os.fsync(descriptor)
            if sys.platform == "win32":
                file.close()  # Windows cannot move an open file; elsewhere the lock is held until it is in place
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _take_permissions(descriptor: int, old: os.stat_result) -> None:
    if sys.platform != "win32":
        for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
            with contextlib.suppress(PermissionError):  # not everyone may change the owner
                os.fchown(descriptor, owner, group)
        same_group = os.fstat(descriptor).st_gid == old.st_gid
        os.fchmod(descriptor, old.st_mode & (0o777 if same_group else 0o707))


# A temporary file is locked while its writer runs. A file that is not locked was left by a process that was killed.


def _create_beside(target: Path, mode: int) -> tuple[int, Path]:
    """A new locked file with a unique name in the target's folder."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        temporary = target.with_name(f"{_prefix(target)}{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, flags, mode)
        # Another process may have taken it for a leftover before it was locked.
        if lock(descriptor) is not False and temporary.exists():
            return descriptor, temporary
        os.close(descriptor)


def _remove_leftovers(target: Path) -> None:
    """Removes temporary files of the target whose writers were killed."""
    pattern = re.compile(re.escape(_prefix(target)) + r"[0-9a-f]{16}\.tmp")
    with contextlib.suppress(PermissionError):  # a writable folder may not be readable
        for name in filter(pattern.fullmatch, os.listdir(target.parent)):
            with contextlib.suppress(OSError):  # another user's file, or already removed
                # A pipe of such a name, which anyone may put into a shared folder, must not make the writer wait.
                flags = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
                descriptor = os.open(target.with_name(name), flags)
                try:
                    if lock(descriptor):
                        os.unlink(target.with_name(name))
                finally:
                    os.close(descriptor)


def _prefix(target: Path) -> str:
    return f".{target.name[:50]}."  # a name may have 255 bytes, and a character takes up to 4


def lock(descriptor: int) -> bool | None:
    """Locks an open file until it is closed; returns whether it was free, or None if the system cannot lock files."""
    if sys.platform == "win32" or fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _flush_folder(folder: Path) -> None:
    # The new name itself is on the disk only when the folder is; Windows neither needs this nor can do it.
    if sys.platform != "win32":
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except PermissionError:
            return  # the file is in place; a folder that may not be read cannot be flushed
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
