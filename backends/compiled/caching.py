"""The folder in which built libraries are kept, for all processes of a user.

Loading a library runs its code. So the folder must belong to the user, and no one else may write to it or replace it.
A library has its source beside it, and its digest, without which it is not loaded: loading a truncated file could end
the process. The time of the digest's file is when the library was last used.
"""

import hashlib
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["PREFIX", "cache_folder", "digest_file", "is_intact", "note_use", "prune", "remove"]

PREFIX = ".tinygrad_lstm-"
"""With which the names of temporary folders in the cache begin."""

_MOST, _KEPT = 1000, 750  # libraries, of about 40 KB
_ABANDONED = 24 * 60 * 60  # seconds after which nobody uses a temporary folder any more
_FILE = re.compile(r"(\w+-[0-9a-f]{32})\.(sha256|so|dylib|dll|c)")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path:
    """The folder of the cache, without symbolic links. It is created if it does not exist.

    Raises:
        OSError: it cannot be created, or a different user may write to it or replace it; the message says what to do.
    """
    named = os.environ.get("TINYGRAD_LSTM_CACHE")
    folder = Path(named).absolute() if named else _users_cache() / "tinygrad_lstm"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform == "win32":
        return folder
    users = {os.geteuid(), 0}
    if folder.is_symlink() and folder.lstat().st_uid not in users:
        raise PermissionError(f"{folder} is a symbolic link of a different user; remove it{_OR_NAME}")
    found = folder.resolve()
    status = found.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{found} belongs to a different user{_OR_NAME}")
    if status.st_mode & _OTHERS_WRITE:
        raise PermissionError(f"other users may write to {found}; chmod go-w it{_OR_NAME}")
    for parent in found.parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise PermissionError(f"all users may replace {found}, as they may write to {parent}{_OR_NAME}")
    return found


_OR_NAME = ", or name a different folder in TINYGRAD_LSTM_CACHE"


def _users_cache() -> Path:
    """The folder for caches of this user."""
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    named = os.environ.get(variable, "")
    if os.path.isabs(named):
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError as error:
        raise FileNotFoundError("there is no home folder") from error
    if not home.is_absolute() or home == Path(home.anchor) or not home.is_dir():
        raise FileNotFoundError(f"the home folder is {home}, which has no caches; name a folder in TINYGRAD_LSTM_CACHE")
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def is_intact(library: Path) -> bool:
    """Whether a library is as it was built, and only its owner may change it."""
    try:
        with library.open("rb") as file:
            if sys.platform != "win32" and os.fstat(file.fileno()).st_mode & _OTHERS_WRITE:
                return False
            found = hashlib.sha256(file.read()).hexdigest()
        return digest_file(library).read_text() == found
    except (OSError, UnicodeDecodeError):
        return False


def note_use(library: Path) -> None:
    """Notes that a library is used now."""
    with suppress(OSError):
        os.utime(digest_file(library))


def digest_file(library: Path) -> Path:
    """The file that has the digest of a library."""
    return library.with_suffix(".sha256")


def prune(folder: Path) -> None:
    """If there are more than 1000 libraries, removes those that were not used for the longest time, until 750 are left.

    Other processes may use them: a loaded library does not need its file, and a missing one is built again.
    """
    libraries: dict[str, list[os.DirEntry[str]]] = {}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if match := _FILE.fullmatch(entry.name):
                libraries.setdefault(match[1], []).append(entry)
            elif entry.name.startswith(PREFIX) and _last_use([entry]) < time.time() - _ABANDONED:
                shutil.rmtree(entry, ignore_errors=True)  # its process was killed
    if len(libraries) > _MOST:
        for files in sorted(libraries.values(), key=_last_use, reverse=True)[_KEPT:]:
            _remove(map(Path, files))


def _last_use(files: Iterable[os.DirEntry[str]]) -> float:
    times = [0.0]
    for file in files:
        with suppress(OSError):  # a different process may have removed it
            times.append(file.stat(follow_symlinks=False).st_mtime)
    return max(times)


def remove(library: Path) -> None:
    """Removes a library."""
    _remove([library, digest_file(library), library.with_suffix(".c")])


def _remove(files: Iterable[Path]) -> None:
    """Removes the files of a library, the digest first, so that no process loads what is left."""
    for file in sorted(files, key=lambda path: path.suffix != ".sha256"):
        with suppress(OSError):
            file.unlink()
