"""A sample of what `make fuzz` does, and that it would notice what it looks for."""

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fuzz_files
import pytest
from fuzz_damage import bytes_changed
from fuzz_files import case, fuzz, lines_of, outcome
from fuzz_formats import FORMATS, whole_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="this system has no limit on a process's memory")


def test_a_sample_of_damaged_files_is_read_or_refused() -> None:
    found = list(fuzz(seed=1, formats=list(FORMATS), first=0, cases=800))
    assert [number for number, _ in found] == list(range(800))
    assert {what for _, what in found} == {"read", "refused"}


@pytest.mark.parametrize("format", FORMATS)
def test_whole_files_are_read(tmp_path: Path, format: str) -> None:
    for name, content in whole_files()[format].items():
        (tmp_path / "model").write_bytes(content)
        assert outcome(FORMATS[format].read, tmp_path / "model") == "read", name


def test_a_number_tells_the_file() -> None:
    assert [case(0, number) for number in range(400)] == [case(0, number) for number in range(400)]
    assert len({case(0, number).content for number in range(40)}) > 35


def test_damage_is_done() -> None:
    rng = random.Random(0)
    assert sum(bytes_changed(rng, b"0123456789" * 20) != b"0123456789" * 20 for _ in range(100)) > 80


def raising(error: BaseException) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        raise error

    return read


@pytest.mark.parametrize(("error", "what"), [
    (ValueError("a: one line"), "refused"),
    (FileNotFoundError("a: one line"), "refused"),
    (ValueError("two\nlines"), "wrong: ValueError, in no line"),
    (ValueError("\x1b[31m"), "wrong: ValueError, in no line"),
    (KeyError("a"), "wrong: KeyError"),
    (MemoryError(), "wrong: MemoryError"),
    (RecursionError("deep"), "wrong: RecursionError"),
    (SystemExit(0), "wrong: SystemExit"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "wrong: UnicodeDecodeError"),
])  # fmt: skip
def test_what_is_wrong_is_noticed(error: BaseException, what: str) -> None:
    assert outcome(raising(error), Path("a")).startswith(what)


def test_crashes_are_noticed() -> None:
    program = "import os, signal; print('1 read', flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
    assert list(lines_of([sys.executable, "-c", program])) == ["1 read", "wrong: crashed, with status -11"]


def test_hanging_is_noticed_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_files, "SECONDS", 1)
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    begun = time.monotonic()
    pid, what = lines_of([sys.executable, "-c", program])
    assert what == "wrong: hung, for 1 s" and time.monotonic() - begun < 100
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_large_memory_is_noticed(tmp_path: Path) -> None:
    """By a limit that `serve` sets to its process."""
    program = f"""
import sys
sys.path.insert(0, {str(Path(fuzz_files.__file__).parent)!r})
import fuzz_files, fuzz_formats
fuzz_files.whole_files = lambda: None
fuzz_files.case = lambda seed, number: fuzz_files.Case("state", "", b"")
fuzz_files.FORMATS["state"] = fuzz_formats.Format(list, lambda path: bytearray(2 * fuzz_files.MEMORY))
fuzz_files.serve(0, [7])
"""
    assert list(lines_of([sys.executable, "-c", program])) == ["ready", "7 wrong: MemoryError()"]
