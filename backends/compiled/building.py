"""Builds C sources with the machine's own compiler, and loads the libraries.

The compiler is `CC`, which may have arguments, or else cc, gcc or clang; on Windows it is only `CC`. Sources may
include the headers in `runtime/`. Libraries are kept in the user's cache folder; see `caching.py`. Code is built for
this processor, so a library's name contains a digest of everything that its code depends on: the source, the headers,
the flags, the compiler and the processor. If the folder cannot be used, the library is built in a temporary one.
"""

import ctypes
import functools
import hashlib
import itertools
import os
import platform
import re
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from . import caching, running
from .errors import BuildError

__all__ = ["Compiler", "Source", "compiler", "libraries", "library", "why_not", "why_not_cached"]

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

_failure: str | None = None  # why a library could not be built
_hangs: str | None = None  # why the compiler is not run again
_not_cached: str | None = None  # why a library could not be cached
_not_loadable = set[Path]()  # folders whose libraries cannot be loaded


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
        return next(iter(running.lines_of(self.version)), self.command[0])


class Source(NamedTuple):
    """The source of a library.

    Attributes:
        name: a short name for the files in the cache, such as "lstm".
        text: the text of a C file. It is C99 with GCC's extensions, such as vector types and `__atomic` functions, and
            may include the headers of `runtime/`, as in `#include "functions.h"`.
        options: of the compiler, such as "-O2", after those of all libraries.
    """

    name: str
    text: str
    options: tuple[str, ...] = ()


def library(name: str, text: str, options: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The shared library that a C source defines, loaded; see `Source` for the arguments.

    It is built only if the cache does not have it, and loaded once per process. Calls of its functions release the
    interpreter's lock:

        square = library("square", "double square(double x) { return x * x; }").square
        square.argtypes, square.restype = [ctypes.c_double], ctypes.c_double
        square(3.0)

    Raises:
        BuildError: there is no compiler, or it fails. The same source is not tried again in this process.
    """
    global _failure
    found = _library_or_reason(Source(name, text, options))
    if isinstance(found, str):
        _failure = found
        raise BuildError(found)
    return found


def libraries(*sources: Source) -> list[ctypes.CDLL]:
    """The libraries of several sources; several compilers run at once for those that have to be built.

    Raises:
        BuildError: one cannot be built.
    """
    missing = [source for source in sources if _must_be_built(source)]
    if len(missing) > 1:
        from concurrent.futures import ThreadPoolExecutor, wait  # takes 5 ms, which most programs need not spend

        with ThreadPoolExecutor(len(missing)) as pool:
            call = running.Owner()
            try:
                built = [pool.submit(_library_for, call, source) for source in missing]
                while wait(built, timeout=0.1).not_done:  # a signal just before a wait without end would not end it
                    pass
            except BaseException:  # KeyboardInterrupt: the pool waits for its threads
                running.stop(call)
                raise
    return [library(*source) for source in sources]


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
    """Why C is not compiled here, in one line; None if it is. If some libraries were built, the others do not count."""
    found = _compiler_or_reason()
    if isinstance(found, str):
        return found
    return None if any(isinstance(each, ctypes.CDLL) for each in list(_found.values())) else _failure


def why_not_cached() -> str | None:
    """Why a library of this process could not be cached, in one line; None if all were."""
    return _not_cached


# Results and reasons are remembered, as a call that falls back to NumPy must cost nothing.

_found: dict[str, ctypes.CDLL | str] = {}  # by file name, which a source determines
_locks: dict[str, Lock] = {}  # held while a library is built
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_locks.clear)  # a forked process does not have the threads that hold them


def _library_for(call: running.Owner, source: Source) -> ctypes.CDLL | str:
    running.own(call)
    return _library_or_reason(source)


def _library_or_reason(source: Source) -> ctypes.CDLL | str:
    try:
        file = _file_name(source)
    except BuildError as error:
        return str(error)
    if file not in _found:
        with _locks.setdefault(file, Lock()):
            if file not in _found:
                try:
                    _found[file] = _loaded(source, file)
                except BuildError as error:
                    _found[file] = str(error)
        _locks.pop(file, None)
    return _found[file]


class _Command(NamedTuple):
    """The command of a compiler.

    Attributes:
        words: its path, followed by the arguments that `CC` has.
        files: the path, size and time of each program among the words: of two for "ccache gcc". They are different
            after an update, which is found faster in this way than by running the compiler.
    """

    words: tuple[str, ...]
    files: tuple[tuple[str, int, int], ...]


@functools.cache
def _command_or_reason() -> _Command | str:
    import shlex

    if sys.platform in ("emscripten", "wasi"):
        return "WebAssembly cannot start a compiler"
    try:
        words = shlex.split(os.environ.get("CC", ""), posix=os.name == "posix")
    except ValueError as error:
        return f"CC cannot be read: {error}"
    if not words and sys.platform == "win32":
        # GCC misaligns vectors on the stack there (its bug 54412), which would end the process.
        return "on Windows, C is compiled only if CC names a compiler"
    path = next(filter(None, map(shutil.which, words[:1] or ["cc", "gcc", "clang"])), None)
    if path is None:
        return f"CC is {words[0]}, which is not found" if words else "no C compiler is found (cc, gcc, clang, or CC)"
    programs = [os.path.realpath(found) for found in (path, *map(shutil.which, words[1:])) if found]
    try:
        files = [(program, os.stat(program)) for program in programs]
    except OSError as error:
        return f"{path} cannot be run: {error}"
    return _Command(
        (path, *words[1:]), tuple([(program, status.st_size, status.st_mtime_ns) for program, status in files])
    )


@functools.cache
def _compiler_or_reason() -> Compiler | str:
    """The compiler, if it can be run."""
    found = _command_or_reason()
    if isinstance(found, str):
        return found
    path = found.words[0]
    try:
        if sys.platform == "darwin" and path.startswith("/usr/bin/"):
            # Without Apple's tools this compiler is a program that opens a window.
            if running.run(["/usr/bin/xcode-select", "-p"]).failed:
                return "Apple's command line tools are not installed"
        ended = running.run([*found.words, "--version"])
    except OSError as error:
        return f"{path} cannot be run: {error}"
    if ended.failed:
        return f"{path} --version fails: {running.one_line(ended.printed)}"
    return Compiler(found.words, ended.printed)


def _file_name(source: Source) -> str:
    """The name of a library's file.

    Raises:
        BuildError: there is no compiler.
    """
    command = _command_or_reason()
    if isinstance(command, str):
        raise BuildError(command)
    name = re.sub(r"[^A-Za-z0-9_]", "_", source.name)[:40]
    return f"{name}-{_key(source, command)}{_SUFFIX}"


def _must_be_built(source: Source) -> bool:
    """Whether a library is neither loaded nor in the cache, and there is a compiler to build it."""
    try:
        file = _file_name(source)
        return file not in _found and not caching.is_intact(caching.cache_folder() / file)
    except OSError:
        return True
    except BuildError:
        return False


def _loaded(source: Source, file: str) -> ctypes.CDLL:
    """The library, from the cache if it can be read or written, or else built in a temporary folder."""
    global _not_cached
    try:
        return _from_folder(caching.cache_folder(), file, source)
    except OSError as error:  # the cache cannot be used
        _not_cached = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    try:
        with tempfile.TemporaryDirectory(prefix=caching.PREFIX[1:], ignore_cleanup_errors=True) as folder:
            return _from_folder(Path(folder), file, source)
    except OSError as error:
        raise BuildError(f"a library built by {compiler().command[0]} cannot be loaded: {error}") from error


def _from_folder(folder: Path, file: str, source: Source) -> ctypes.CDLL:
    """The library of this file name in a folder, built if it is missing or damaged.

    Raises:
        BuildError: the compiler fails.
        OSError: the folder cannot be written, or libraries in it cannot be loaded.
    """
    path = folder / file
    if folder in _not_loadable:
        raise OSError(f"libraries in {folder} cannot be loaded")
    if caching.is_intact(path):
        with suppress(OSError):  # it was removed just now, or it needs a missing library
            found = ctypes.CDLL(str(path))
            caching.note_use(path)
            return found
    _build(source, path)
    try:
        found = ctypes.CDLL(str(path))
    except OSError:
        _not_loadable.add(folder)
        caching.remove(path)
        raise
    caching.prune(folder)
    return found


def _build(source: Source, path: Path) -> None:
    """Builds a library, its source beside it. Several processes may do so at once: each file is moved into place."""
    found = compiler()
    with tempfile.TemporaryDirectory(prefix=caching.PREFIX, dir=path.parent, ignore_cleanup_errors=True) as place:
        text, built, digest = Path(place, "source.c"), Path(place, path.name), Path(place, "digest")
        text.write_text(source.text, encoding="utf-8")
        _compile(found, source.options, text, built)
        built.chmod(0o700)
        digest.write_text(hashlib.sha256(built.read_bytes()).hexdigest())
        os.replace(text, path.with_suffix(".c"))
        os.replace(digest, caching.digest_file(path))
        os.replace(built, path)


# What compilers print if a file cannot be written. A different folder may be on a disk that is not full.
_FULL = ("No space left on device", "Disk quota exceeded", "Read-only file system")


def _compile(compiler: Compiler, options: tuple[str, ...], source: Path, built: Path) -> None:
    global _hangs
    if _hangs is not None:
        raise BuildError(_hangs)
    for tuning in _TUNINGS:
        flags = (*_FLAGS, *options, *tuning, f"-I{RUNTIME}")
        try:
            ended = running.run([*compiler.command, *flags, str(source), "-o", str(built), "-lm"])
        except TimeoutError as error:
            _hangs = f"{compiler.command[0]} {error}"
            raise BuildError(_hangs) from error
        except OSError as error:
            raise BuildError(f"{compiler.command[0]} cannot be run: {error}") from error
        if not ended.failed:
            if not built.exists() and source.exists():
                raise BuildError(f"{compiler.command[0]} builds nothing, without an error")
            return
        if not any(option.partition("=")[0] in ended.printed for option in tuning):
            break
    folder = source.parent.parent  # the source is in a temporary folder in it
    reason = next((reason for reason in _FULL if reason in ended.printed), None)
    if reason is not None:
        raise OSError(f"{folder} cannot be written: {reason}")
    if not source.exists():
        raise OSError(f"{folder} was removed")
    raise BuildError(f"{compiler.command[0]} fails: {running.one_line(ended.printed)}")


@functools.cache
def _headers() -> str:
    """A digest of the headers in `runtime/`."""
    return _digest([(path.name, path.read_bytes()) for path in sorted(RUNTIME.glob("*.h"))])


def _key(source: Source, command: _Command) -> str:
    """A digest of everything that a library's code depends on."""
    return _digest((source.text, source.options, _headers(), _FLAGS, _TUNINGS, command, _processor()))


def _digest(parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


# The lines of /proc/cpuinfo that say which instructions a processor has; the others change, or say how fast it is.
_IDENTITY = re.compile(r"(vendor_id|cpu family|model|model name|stepping|flags|Features|CPU \w+|cpu|isa|uarch)\s*:")


@functools.cache
def _processor() -> str:
    """The identity of this processor, its model and its instructions, and of the C library."""
    described = platform.machine()
    with suppress(AttributeError, ValueError, OSError):  # not all systems have it
        described += os.confstr("CS_GNU_LIBC_VERSION") or ""
    if sys.platform == "win32":
        return f"{described} {platform.processor()}"
    with suppress(OSError):  # a sandbox may have neither
        if sys.platform == "darwin":
            described += running.run(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]).printed
        else:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
                first_core = itertools.takewhile(str.strip, file)
                described += "".join(line for line in first_core if _IDENTITY.match(line))
    return described
