"""Builds C sources with the machine's own compiler, loads the libraries, and caches them on disk.

The compiler is `CC`, which may have arguments, or else cc, gcc or clang. Sources may include the headers in `runtime/`.
Code is built for this processor, so a library's name contains a digest of everything that its code depends on: the
source, the headers, the flags, the compiler and the processor.

Libraries are in the user's cache folder, or in the folder that TINYGRAD_LSTM_CACHE names. Loading a library runs its
code. So the folder must belong to the user, and no one else may write to it; otherwise, or if it cannot be written, the
library is built in a temporary folder.
"""

import ctypes
import functools
import hashlib
import itertools
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["BuildError", "Compiler", "cache_folder", "compiler", "library", "why_not"]

RUNTIME = Path(__file__).parent / "runtime"
"""The folder of the headers."""

# No flag changes a result. Without `-fno-math-errno` and `-fno-trapping-math`, loops with square roots and comparisons
# are not vectorized. A product and a sum become one instruction only if the source says so: compilers may choose
# differently for the vectors and for the ends of a loop, and then results would depend on the address of an array.
_FLAGS = (
    *("-std=gnu99", "-O3", "-fPIC", "-shared", "-pthread"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
# For this processor: the first group of options that the compiler knows.
_TUNINGS = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ())
_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
_SECONDS = 120  # after which a compiler is stopped

_failure: str | None = None  # why a library could not be built


class BuildError(RuntimeError):
    """A library cannot be built here; the message says why in one line."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler.

    Attributes:
        command: its path, followed by the arguments that `CC` has.
        version: what `--version` prints.
    """

    command: tuple[str, ...]
    version: str

    @property
    def name(self) -> str:
        """The first line of its version."""
        return next(iter(self.version.splitlines()), self.command[0])


def library(name: str, source: str) -> ctypes.CDLL:
    """The shared library that the C source defines, loaded.

    It is built only if the cache does not have it, and loaded once per process. Calls of its functions release the
    interpreter's lock:

        square = library("square", "double square(double x) { return x * x; }").square
        square.argtypes, square.restype = [ctypes.c_double], ctypes.c_double
        square(3.0)

    Args:
        name: a short name for the files in the cache, such as "lstm".
        source: the text of a C file. It is C99 with GCC's extensions, such as vector types and `__atomic` functions,
            and may include the headers of `runtime/`, as in `#include "functions.h"`.

    Raises:
        BuildError: there is no compiler, or it fails. The same source is not tried again in this process.
    """
    global _failure
    found = _library_or_reason(name, source)
    if isinstance(found, str):
        _failure = found
        raise BuildError(found)
    return found


def compiler() -> Compiler:
    """The C compiler that is used.

    Raises:
        BuildError: there is none, or it cannot be run.
    """
    found = _compiler_or_reason()
    if isinstance(found, str):
        raise BuildError(found)
    return found


def why_not() -> str | None:
    """Why C is not compiled here, or why a library could not be built, in one line; None if all were built."""
    found = _compiler_or_reason()
    return found if isinstance(found, str) else _failure


def cache_folder() -> Path:
    """The folder of the cache, which is created if it does not exist.

    Raises:
        OSError: it cannot be created, it belongs to a different user, or other users may write to it.
    """
    folder = Path(os.environ.get("TINYGRAD_LSTM_CACHE") or _users_cache() / "tinygrad_lstm").absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform != "win32":
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to a different user")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"other users may write to {folder}")
    return folder


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
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache")


# Results and reasons are remembered, as a call that falls back to NumPy must cost nothing.


@functools.cache
def _library_or_reason(name: str, source: str) -> ctypes.CDLL | str:
    try:
        return _loaded(name, source, compiler())
    except BuildError as error:
        return str(error)


@functools.cache
def _compiler_or_reason() -> Compiler | str:
    import shlex

    try:
        given = shlex.split(os.environ.get("CC", ""), posix=os.name == "posix")
    except ValueError as error:
        return f"CC cannot be read: {error}"
    names = given[:1] or ["cc", "gcc", "clang"]
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        return f"CC is {given[0]}, which is not found" if given else "no C compiler is found (cc, gcc, clang, or CC)"
    if sys.platform == "darwin" and path.startswith("/usr/bin/"):
        # Without Apple's tools this compiler is a program that opens a window.
        if _run(["/usr/bin/xcode-select", "-p"]).failed:
            return "Apple's command line tools are not installed"
    command = (path, *given[1:])
    try:
        ended = _run([*command, "--version"])
    except OSError as error:
        return f"{path} cannot be run: {error}"
    if ended.failed:
        return f"{path} --version fails: {_one_line(ended.errors)}"
    return Compiler(command, ended.out)


def _loaded(name: str, source: str, compiler: Compiler) -> ctypes.CDLL:
    """The library, from the cache if it can be read or written, or else built in a temporary folder."""
    file = f"{re.sub(r'[^A-Za-z0-9_]', '_', name)[:40]}-{_key(source, compiler)}{_SUFFIX}"
    with suppress(OSError):  # a cache that cannot be used
        return _from_folder(cache_folder(), file, source, compiler)
    try:
        with tempfile.TemporaryDirectory(prefix="tinygrad_lstm-", ignore_cleanup_errors=True) as folder:
            return _from_folder(Path(folder), file, source, compiler)
    except OSError as error:
        raise BuildError(f"a library built by {compiler.command[0]} cannot be loaded: {error}") from error


def _from_folder(folder: Path, file: str, source: str, compiler: Compiler) -> ctypes.CDLL:
    """The library of this file name in a folder, built if it is missing or damaged.

    Raises:
        OSError: the folder cannot be written, or libraries in it cannot be loaded.
    """
    path = folder / file
    if not _is_intact(path):
        _build(source, compiler, path)
    return ctypes.CDLL(str(path))


def _is_intact(path: Path) -> bool:
    """Whether a library is as it was built. Loading a truncated one could end the process."""
    try:
        return _digest_file(path).read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError):
        return False


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _build(source: str, compiler: Compiler, path: Path) -> None:
    """Builds a library, its source beside it. Several processes may do so at once: each file is moved into place."""
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as place:
        text, built = Path(place, "source.c"), Path(place, path.name)
        text.write_text(source, encoding="utf-8")
        os.replace(text, path.with_suffix(".c"))
        _compile(compiler, path.with_suffix(".c"), built)
        digest = Path(place, "digest")
        digest.write_text(hashlib.sha256(built.read_bytes()).hexdigest())
        os.replace(digest, _digest_file(path))
        os.replace(built, path)


def _compile(compiler: Compiler, source: Path, built: Path) -> None:
    for tuning in _TUNINGS:
        command = [*compiler.command, *_FLAGS, *tuning, f"-I{RUNTIME}", str(source), "-o", str(built), "-lm"]
        try:
            ended = _run(command)
        except OSError as error:
            raise BuildError(f"{compiler.command[0]} cannot be run: {error}") from error
        if not ended.failed:
            return
        if not any(option.partition("=")[0] in ended.errors for option in tuning):
            break
    raise BuildError(f"{compiler.command[0]} fails: {_one_line(ended.errors)}")


class _Ended(NamedTuple):
    """A command that has ended, and what it printed."""

    failed: bool
    out: str
    errors: str


def _run(command: list[str]) -> _Ended:
    """Runs a command to its end.

    Raises:
        OSError: it cannot be run, or does not end.
    """
    import subprocess  # takes 4 ms, which most programs need not spend

    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C"},  # messages in English
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"it did not end after {_SECONDS} s") from error
    return _Ended(ended.returncode != 0, ended.stdout, ended.stderr)


def _one_line(message: str) -> str:
    """The first error of a compiler's message."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "it prints no message")[
        :300
    ]


def _key(source: str, compiler: Compiler) -> str:
    """A digest of everything that a library's code depends on."""
    headers = [(path.name, path.read_bytes()) for path in sorted(RUNTIME.glob("*.h"))]
    parts = (source, headers, _FLAGS, _TUNINGS, compiler, _processor())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


# The lines of /proc/cpuinfo that say which instructions a processor has; the others change, or say how fast it is.
_IDENTITY = re.compile(r"(vendor_id|cpu family|model|model name|stepping|flags|Features|CPU \w+|cpu|isa|uarch)\s*:")


@functools.cache
def _processor() -> str:
    """The identity of this processor: its model and its instructions."""
    described = platform.machine()
    if sys.platform == "win32":
        return f"{described} {platform.processor()}"
    with suppress(OSError):  # a sandbox may have neither
        if sys.platform == "darwin":
            described += _run(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]).out
        else:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
                first_core = itertools.takewhile(str.strip, file)
                described += "".join(line for line in first_core if _IDENTITY.match(line))
    return described
