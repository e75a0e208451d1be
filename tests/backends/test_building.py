"""C sources are built once and cached; what a machine lacks, or what lies in the cache, never breaks a program."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tinygrad_lstm.backends.compiled import building

needs_compiler = pytest.mark.skipif(isinstance(building.why_not(), str), reason="there is no C compiler")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="the compilers of these tests are shell scripts")

SOURCE = '#include "factor.h"\\ndouble times(double x) { return FACTOR * x; }'
PROGRAM = f"""
import ctypes, sys
from pathlib import Path
from tinygrad_lstm.backends.compiled import building

if sys.argv[1:]:
    building.RUNTIME = Path(sys.argv[1])
for _ in range(2):
    try:
        times = building.library("times", '{SOURCE}').times
    except building.BuildError as error:
        print("BuildError:", error)
    else:
        times.argtypes, times.restype = [ctypes.c_double], ctypes.c_double
        print(times(5.0))
print(building.why_not())
"""


class Machine:
    """A machine of the test's own: its compiler, which notes its calls, its cache and its headers."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.calls, self.headers = folder / "cache", folder / "calls", folder / "runtime"
        self.compiler, self.temporary = folder / "compiler", folder / "temporary"
        self.headers.mkdir()
        self.temporary.mkdir()
        self.header(3)
        self.script(f'exec {shutil.which("cc")} "$@"')

    def header(self, factor: int) -> None:
        (self.headers / "factor.h").write_text(f"#define FACTOR {factor}\n")

    def script(self, body: str) -> None:
        self.compiler.write_text(f'#!/bin/sh\necho "$*" >>{self.calls}\n{body}\n')
        self.compiler.chmod(0o700)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("CC", "TINYGRAD_LSTM_CACHE")}
        chosen = {"CC": str(self.compiler), "TINYGRAD_LSTM_CACHE": str(self.cache), "TMPDIR": str(self.temporary)}
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, str(self.headers)],
            env={**kept, **chosen, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **environment: str) -> list[str]:
        """The lines that the program prints."""
        process = self.start(**environment)
        out, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        assert list(self.temporary.iterdir()) == []
        return out.splitlines()

    def builds(self) -> list[str]:
        """The calls of the compiler that built a library."""
        return [line for line in self.calls.read_text().splitlines() if not line.endswith("--version")]

    def libraries(self) -> list[Path]:
        return sorted(path for path in self.cache.iterdir() if path.suffix not in (".c", ".sha256"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


BUILT = ["15.0", "15.0", "None"]


@needs_compiler
def test_a_library_is_built_once(machine: Machine) -> None:
    assert machine.run() == BUILT
    assert len(machine.builds()) == 1
    assert stat.S_IMODE(machine.cache.stat().st_mode) == 0o700
    (library,) = machine.libraries()
    assert library.with_suffix(".c").read_text() == SOURCE.replace("\\n", "\n")
    assert machine.run() == BUILT
    assert len(machine.builds()) == 1


@needs_compiler
def test_a_changed_header_a_different_compiler_or_argument_builds_anew(machine: Machine) -> None:
    assert machine.run() == BUILT
    machine.header(4)
    assert machine.run() == ["20.0", "20.0", "None"]
    assert len(machine.builds()) == 2
    machine.script(f'test "$1" = --version && echo newer && exit\nexec {shutil.which("cc")} "$@"')
    assert machine.run() == ["20.0", "20.0", "None"]
    assert len(machine.builds()) == 3
    assert machine.run(CC=f"{machine.compiler} -UNOTHING '-DANY=\"a b\"'") == ["20.0", "20.0", "None"]
    assert machine.builds()[3].startswith('-UNOTHING -DANY="a b" -std=')
    assert len(machine.libraries()) == 4


@needs_compiler
def test_several_processes_build_at_once(machine: Machine) -> None:
    started = [machine.start() for _ in range(4)]
    for process in started:
        out, errors = process.communicate(timeout=60)
        assert (out.splitlines(), errors) == (BUILT, "")
    assert len(list(machine.cache.iterdir())) == 3
    built = len(machine.builds())
    assert machine.run() == BUILT
    assert len(machine.builds()) == built


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "an empty library": (".so", lambda whole: b""),
    "half a library": (".so", lambda whole: whole[: len(whole) // 2]),
    "one different bit": (".so", lambda whole: whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]),
    "a wrong digest": (".sha256", lambda whole: b"\xff" + whole[1:]),
}


@needs_compiler
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_built_anew(machine: Machine, how: str) -> None:
    machine.run()
    suffix, damage = DAMAGE[how]
    (library,) = machine.libraries()
    damaged = library if suffix == ".so" else library.with_suffix(suffix)
    damaged.write_bytes(damage(damaged.read_bytes()))
    for _ in range(2):
        assert machine.run() == BUILT
        assert len(machine.builds()) == 2


@needs_compiler
@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_to_which_others_may_write_is_not_used(machine: Machine, mode: int) -> None:
    machine.run()
    machine.cache.chmod(mode)
    (library,) = machine.libraries()
    library.write_bytes(b"something else")
    assert machine.run() == BUILT
    assert len(machine.builds()) == 2
    assert library.read_bytes() == b"something else"


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_a_different_user_is_not_used(machine: Machine) -> None:
    machine.run()
    os.chown(machine.cache, 12345, -1)
    assert machine.run() == BUILT
    assert len(machine.builds()) == 2


@needs_compiler
@pytest.mark.parametrize("place", ["/proc/nothing", "/dev/null/kernels"])
def test_without_a_writable_cache_it_is_built_in_a_temporary_folder(machine: Machine, place: str) -> None:
    for number in (1, 2):
        assert machine.run(TINYGRAD_LSTM_CACHE=place) == BUILT
        assert len(machine.builds()) == number


@needs_compiler
def test_the_cache_is_in_the_users_folder_for_caches(machine: Machine, tmp_path: Path) -> None:
    machine.run(TINYGRAD_LSTM_CACHE="", XDG_CACHE_HOME=str(tmp_path / "xdg"), HOME=str(tmp_path / "home"))
    machine.run(TINYGRAD_LSTM_CACHE="", XDG_CACHE_HOME="relative", HOME=str(tmp_path / "home"))
    within = "Library/Caches" if sys.platform == "darwin" else ".cache"
    found = [tmp_path / "home" / within, *([tmp_path / "xdg"] if sys.platform == "linux" else [])]
    assert [len(list((folder / "tinygrad_lstm").iterdir())) for folder in found] == [3] * len(found)


def test_without_a_compiler_the_reason_says_so(machine: Machine, tmp_path: Path) -> None:
    lines = machine.run(CC="", PATH=str(tmp_path / "nothing"))
    reason = "no C compiler is found (cc, gcc, clang, or CC)"
    assert lines == [f"BuildError: {reason}", f"BuildError: {reason}", reason]
    assert machine.run(CC="no-such-compiler -O1")[2] == "CC is no-such-compiler, which is not found"
    assert machine.run(CC="'cc")[2] == "CC cannot be read: No closing quotation"
    machine.script("echo no license >&2; exit 1")
    assert machine.run()[2] == f"{machine.compiler} --version fails: no license"
    machine.compiler.write_text("no program")
    assert machine.run()[2].startswith(f"{machine.compiler} cannot be run: ")


def test_a_compiler_that_fails_is_not_tried_again(machine: Machine) -> None:
    machine.script(
        'test "$1" = --version && echo mine && exit\n'
        "printf 'In file:\\n  times.c:1: error: factor of\\twhat?\\nmore\\n' >&2; exit 1"
    )
    reason = f"{machine.compiler} fails: times.c:1: error: factor of\twhat?"
    assert machine.run() == [f"BuildError: {reason}", f"BuildError: {reason}", reason]
    assert len(machine.builds()) == 1
    assert list(machine.cache.glob("*.so")) == []


@needs_compiler
def test_options_that_a_compiler_does_not_know_are_left_out(machine: Machine) -> None:
    machine.script(
        f'case "$*" in *=native*) echo "error: the compiler does not support ${{4%native}}-march=-mcpu=" >&2; exit 1;; '
        f'esac\nexec {shutil.which("cc")} "$@"'
    )
    assert machine.run() == BUILT
    assert ["=native" in line for line in machine.builds()] == [True, True, True, False]
