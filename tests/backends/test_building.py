"""C sources are built once and cached; what a machine lacks, or what lies in the cache, never breaks a program."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tinygrad_lstm.backends.compiled import building, caching

needs_compiler = pytest.mark.skipif(isinstance(building.why_not(), str), reason="there is no C compiler")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="the compilers of these tests are shell scripts")

SOURCE = '#include "factor.h"\\ndouble times(double x) { return FACTOR * x; }'
# It takes two modules of the library, as importing all of it would take longer than the rest.
PROGRAM = f"""
import ctypes, os, signal, sys
from pathlib import Path
from types import ModuleType

package = sys.modules["compiled"] = ModuleType("compiled")
package.__path__ = [{str(Path(building.__file__).parent)!r}]
from compiled import building, caching

building.RUNTIME = Path(sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run in the background
exec(os.environ.get("BEFORE", ""))
for _ in range(2):
    try:
        times = building.library("times", '{SOURCE}').times
    except building.BuildError as error:
        print("BuildError:", error)
    else:
        times.argtypes, times.restype = [ctypes.c_double], ctypes.c_double
        print(times(5.0))
exec(os.environ.get("AFTER", "print(building.why_not())"))
"""
WHY_NOT_CACHED = "print(building.why_not_cached())"


class Machine:
    """A machine of the test's own: its compiler, which notes its calls, its cache and its headers."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.calls, self.headers = folder / "cache", folder / "calls", folder / "runtime"
        self.compiler, self.temporary = folder / "compiler", folder / "temporary"
        self.headers.mkdir()
        self.temporary.mkdir()
        self.header(3)
        self.build = f'exec {shutil.which("cc")} "$@"'
        self.script(self.build)

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

    def why_not_cached(self, **environment: str) -> str:
        """Why a library that is built is not cached."""
        *numbers, reason = self.run(AFTER=WHY_NOT_CACHED, **environment)
        assert numbers == BUILT[:-1]
        return reason


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
    calls = machine.calls.read_text()
    assert machine.why_not_cached() == "None"
    assert machine.calls.read_text() == calls


@needs_compiler
def test_a_changed_header_a_different_compiler_or_argument_builds_anew(machine: Machine) -> None:
    assert machine.run() == BUILT
    machine.header(4)
    assert machine.run() == ["20.0", "20.0", "None"]
    assert len(machine.builds()) == 2
    machine.script(f'test "$1" = --version && echo newer && exit\n{machine.build}')
    assert machine.run() == ["20.0", "20.0", "None"]
    assert len(machine.builds()) == 3
    assert machine.run(CC=f"{machine.compiler} -UNOTHING '-DANY=\"a b\"'") == ["20.0", "20.0", "None"]
    assert machine.builds()[3].startswith('-UNOTHING -DANY="a b" -std=')
    assert len(machine.libraries()) == 4


@needs_compiler
def test_a_different_compiler_behind_a_program_that_runs_it(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "cache_of_objects").write_text('#!/bin/sh\nexec "$@"')
    (tmp_path / "cache_of_objects").chmod(0o700)
    for number in (1, 2):
        assert machine.run(CC=f"{tmp_path / 'cache_of_objects'} {machine.compiler}") == BUILT
        assert len(machine.builds()) == number
        machine.compiler.write_text(f"{machine.compiler.read_text()} ")


@needs_compiler
def test_threads_build_a_library_once(machine: Machine) -> None:
    threads = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    print(len(set(pool.map(lambda _: id(building.library("of_threads", "int one;")), range(8)))))
sys.exit()
"""
    assert machine.run(BEFORE=threads) == ["1"]
    assert len(machine.builds()) == 1


@needs_compiler
def test_a_process_that_is_forked_during_a_build_does_not_wait_for_it(machine: Machine) -> None:
    machine.script(f'test "$1" = --version || sleep 0.5\n{machine.build}')
    forking = """
import threading, time, warnings
warnings.simplefilter("ignore")  # of a fork with threads
thread = threading.Thread(target=building.library, args=("slow", "int one;"))
thread.start()
while not building.running.running:
    time.sleep(0.01)
child = os.fork()
if child == 0:
    building.library("slow", "int one;")
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
sys.exit()
"""
    assert machine.run(BEFORE=forking) == ["7"]


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
def test_a_library_that_others_may_write_is_built_anew(machine: Machine) -> None:
    machine.run()
    (library,) = machine.libraries()
    assert stat.S_IMODE(library.stat().st_mode) == 0o700
    library.chmod(0o720)
    assert machine.run() == BUILT
    assert len(machine.builds()) == 2


@needs_compiler
@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_to_which_others_may_write_is_not_used(machine: Machine, mode: int) -> None:
    machine.run()
    machine.cache.chmod(mode)
    (library,) = machine.libraries()
    library.write_bytes(b"something else")
    assert machine.why_not_cached().startswith(f"other users may write to {machine.cache}; chmod go-w it, or ")
    assert len(machine.builds()) == 2
    assert library.read_bytes() == b"something else"


@needs_compiler
def test_a_folder_that_others_may_replace_is_not_used(machine: Machine, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for mode, reason in ((0o777, f"all users may replace {shared / 'cache'}, as they may write to {shared}, or "),
                         (0o1777, "None")):  # fmt: skip
        shared.chmod(mode)
        assert machine.why_not_cached(TINYGRAD_LSTM_CACHE=str(shared / "cache")).startswith(reason)


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_or_a_link_of_a_different_user_is_not_used(machine: Machine, tmp_path: Path) -> None:
    machine.run()
    link = tmp_path / "link"
    link.symlink_to(machine.cache)
    assert machine.why_not_cached(TINYGRAD_LSTM_CACHE=str(link)) == "None"
    assert len(machine.builds()) == 1
    os.lchown(link, 12345, -1)
    reason = machine.why_not_cached(TINYGRAD_LSTM_CACHE=str(link))
    assert reason.startswith(f"{link} is a symbolic link of a different user; remove it, or ")
    os.chown(machine.cache, 12345, -1)
    assert machine.why_not_cached().startswith(f"{machine.cache} belongs to a different user, or ")
    assert len(machine.builds()) == 3


@needs_compiler
@pytest.mark.parametrize("place", ["/proc/nothing", "/dev/null/kernels"])
def test_without_a_writable_cache_it_is_built_in_a_temporary_folder(machine: Machine, place: str) -> None:
    for number in (1, 2):
        assert place in machine.why_not_cached(TINYGRAD_LSTM_CACHE=place)
        assert len(machine.builds()) == number


@needs_compiler
@pytest.mark.parametrize("home", ["/", "", "relative", "/nothing/here"])
def test_without_a_home_folder_it_is_built_in_a_temporary_folder(machine: Machine, home: str) -> None:
    reason = machine.why_not_cached(TINYGRAD_LSTM_CACHE="", XDG_CACHE_HOME="", HOME=home)
    assert reason == f"the home folder is {home or '/'}, which has no caches; name a folder in TINYGRAD_LSTM_CACHE"


@needs_compiler
def test_the_cache_is_in_the_users_folder_for_caches(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    machine.run(TINYGRAD_LSTM_CACHE="", XDG_CACHE_HOME=str(tmp_path / "xdg"), HOME=str(tmp_path / "home"))
    machine.run(TINYGRAD_LSTM_CACHE="", XDG_CACHE_HOME="relative", HOME=str(tmp_path / "home"))
    within = "Library/Caches" if sys.platform == "darwin" else ".cache"
    found = [tmp_path / "home" / within, *([tmp_path / "xdg"] if sys.platform == "linux" else [])]
    assert [len(list((folder / "tinygrad_lstm").iterdir())) for folder in found] == [3] * len(found)


@needs_compiler
def test_a_full_disk_or_a_folder_that_vanishes_does_not_stop_a_build(machine: Machine) -> None:
    in_cache = f'case "$*" in *-o\\ {machine.cache}*)'
    machine.script(f"{in_cache} echo 'cannot write: No space left on device' >&2; exit 1;; esac\n{machine.build}")
    assert machine.why_not_cached() == f"{machine.cache} cannot be written: No space left on device"
    assert list(machine.cache.glob("*.so")) == []
    machine.script(f"{in_cache} rm -r {machine.cache};; esac\n{machine.build}")
    assert str(machine.cache) in machine.why_not_cached()
    machine.script(machine.build)
    assert machine.why_not_cached() == "None"


@needs_compiler
def test_libraries_that_were_not_used_for_long_are_removed(machine: Machine) -> None:
    machine.run()
    machine.header(4)
    machine.run()
    old, new = sorted(machine.libraries(), key=lambda path: path.stat().st_mtime)
    machine.header(3)
    os.utime(old.with_suffix(".sha256"), (0, 0))
    assert machine.run() == BUILT  # which uses the old one
    assert old.with_suffix(".sha256").stat().st_mtime > new.stat().st_mtime
    abandoned, foreign = machine.cache / f"{caching.PREFIX}abandoned", machine.cache / "notes.c"
    abandoned.mkdir()
    foreign.touch()
    for path in (*new.parent.glob(f"{new.stem}.*"), abandoned):
        os.utime(path, (0, 0))
    machine.header(5)
    assert machine.run(BEFORE="caching._MOST, caching._KEPT = 2, 2")[0] == "25.0"
    assert sorted(machine.cache.iterdir()) == sorted(
        [foreign, *(path.with_suffix(suffix) for path in machine.libraries() for suffix in (".c", ".sha256", ".so"))]
    )
    assert len(machine.libraries()) == 2 and old in machine.libraries()


@needs_compiler
def test_processes_that_remove_the_libraries_of_others_compute_the_same(machine: Machine) -> None:
    started = [machine.start(BEFORE="caching._MOST, caching._KEPT = 0, 0") for _ in range(4)]
    for process in started:
        out, errors = process.communicate(timeout=60)
        assert (out.splitlines(), errors) == (BUILT, "")
    assert list(machine.cache.iterdir()) == []


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
    reason = f"{machine.compiler} fails: times.c:1: error: factor of what?"
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


OTHER = """
print(building.why_not())
try:
    building.library("other", "int other;")
except building.BuildError as error:
    print("BuildError:", error)
"""


def is_running(process: str) -> bool:
    """Whether the process of this id runs, and is not merely kept for its parent."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", process], capture_output=True, text=True).stdout.strip()
    return found[:1] not in ("", "Z")


def test_a_compiler_that_does_not_end_is_stopped(machine: Machine, tmp_path: Path) -> None:
    """With the processes that it has started, and it is not run again."""
    started = tmp_path / "started"
    machine.script(f'test "$1" = --version && echo mine && exit\nsleep 100 & echo $! >{started}\nwait')
    reason = f"{machine.compiler} did not end after 0.5 s"
    lines = machine.run(BEFORE="building.running.SECONDS = 0.5", AFTER=OTHER)
    assert lines == [f"BuildError: {reason}", f"BuildError: {reason}", reason, f"BuildError: {reason}"]
    assert len(machine.builds()) == 1
    assert not is_running(started.read_text().strip())


def test_a_compiler_that_prints_without_end_is_stopped(machine: Machine) -> None:
    machine.script('test "$1" = --version && echo mine && exit\nexec yes error')
    assert machine.run()[2] == f"{machine.compiler} fails: error"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('while [ "$1" != -o ]; do shift; done; echo garbage >"$2"', "True a library built by {} cannot be loaded: "),
        (":", "True {} builds nothing, without an error"),
    ],
)
def test_a_compiler_that_builds_no_library(machine: Machine, body: str, reason: str) -> None:
    machine.script(f'test "$1" = --version && printf "\\001\\377mine\\n" && exit\n{body}')
    *lines, last = machine.run(AFTER="print(building.compiler().name.isprintable(), building.why_not())")
    assert last.startswith(reason.format(machine.compiler))
    assert lines == [f"BuildError: {last.removeprefix('True ')}"] * 2
    assert machine.libraries() == []


@pytest.mark.parametrize("number", [1, 2])
def test_ctrl_c_stops_compilers(machine: Machine, tmp_path: Path, number: int) -> None:
    started = tmp_path / "started"
    machine.script(f'test "$1" = --version && echo mine && exit\necho $$ >>{started}\nsleep 100')
    sources = f"[building.Source(name, 'int one;') for name in 'ab'[:{number}]]"
    process = machine.start(BEFORE=f"building.libraries(*{sources})")
    while not started.exists() or len(started.read_text().split()) < number:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.strip().endswith("KeyboardInterrupt")
    assert not any(map(is_running, started.read_text().split()))


@needs_compiler
def test_ctrl_c_stops_no_compiler_of_a_different_thread(machine: Machine, tmp_path: Path) -> None:
    started = tmp_path / "started"
    slowly = f'echo $$ >>{started}; case "$*" in *-O1*) sleep 2;; *) sleep 100;; esac'
    machine.script(f'test "$1" = --version || {{ {slowly}; }}\n{machine.build}')
    building_one = """
import threading
def build():
    print(building.library("other", "int one;", ("-O1",)) is not None)
threading.Thread(target=build).start()
building.libraries(*[building.Source(name, "int one;") for name in "ab"])
"""
    process = machine.start(BEFORE=building_one)
    while not started.exists() or len(started.read_text().split()) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=30)
    assert (printed.strip(), errors.strip().endswith("KeyboardInterrupt")) == ("True", True)


@needs_compiler
def test_libraries_that_are_missing_are_built_at_once(machine: Machine) -> None:
    """Each compiler waits until there are two."""
    waiting = f"while [ $(grep -c shared {machine.calls}) -lt 2 ]; do sleep 0.01; done"
    machine.script(f'test "$1" = --version || {waiting}\n{machine.build}')
    both = "print(len(building.libraries(*(building.Source(name, f'int {name};', ('-O1',)) for name in 'ab'))))"
    assert machine.run(BEFORE=f"building.running.SECONDS = 20; {both}; sys.exit()") == ["2"]
    assert all(line.index("-O3 ") < line.index("-O1 ") for line in machine.builds())
