"""Every file that the library writes is whole or as it was before, keeps its permissions, and goes where it should."""

import ast
import errno
import os
import secrets
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.inspect.plots import new_figure, write_figure
from tinygrad_lstm.io import checkpoint, export_onnx, save_weights
from tinygrad_lstm.io.atomic import check_writable, write_atomically
from tinygrad_lstm.metrics import plot_metrics
from tinygrad_lstm.models import LSTM

resource = pytest.importorskip("resource", reason="permissions, links and signals are POSIX's")

ROOT = Path(__file__).parents[2]
LINE = '{"step": 1, "loss": 2.0, "validation_loss": null}\n'


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- one way of writing -----------------------------------------------------------------------------------------------


def write_plot(path: Path) -> None:
    metrics = path.parent / "metrics"
    metrics.mkdir(exist_ok=True)
    (metrics / "metrics.jsonl").write_text(LINE)
    plot_metrics(metrics / "metrics.jsonl", path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: write_atomically(path, b"new"),
    "weights.safetensors": lambda path: save_weights(path, {"x": np.ones(2)}),
    "weights.npz": lambda path: save_weights(path, {"x": np.ones(2)}),
    "checkpoint.safetensors": lambda path: checkpoint.save(path, {"x": np.ones(2)}),
    "stream.safetensors": lambda path: LSTM(2, 3).stream(1).save(path),
    "model.onnx": lambda path: export_onnx(LSTM(2, 3), path, {"x": tg.ones(4, 1, 2)}),
    "page.html": lambda path: tg.inspect.page(tg.inspect.trace(LSTM(2, 3), tg.ones(4, 1, 2)), path),
    "graph.dot": lambda path: tg.inspect.graph(tg.ones(2, requires_grad=True).sum()).save(path),
    "figure.png": lambda path: write_figure(path, new_figure()),
    "loss.png": write_plot,
}


@pytest.fixture(params=WRITERS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Callable[[Path], object], Path]:
    """A function of the library that writes a file, and a path for it where an old file lies."""
    path = tmp_path / "folder" / request.param
    path.parent.mkdir()
    path.write_bytes(b"old")
    return WRITERS[request.param], path


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    written: tuple[Callable[[Path], object], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, path = written

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    before = names(path.parent)
    with pytest.raises(OSError, match=rf"No space left on device: .*{path.name}"):
        write(path)
    assert path.read_bytes() == b"old"
    assert [name for name in names(path.parent) if name != "metrics"] == before


def test_permissions_are_kept_and_links_stay_links(written: tuple[Callable[[Path], object], Path]) -> None:
    write, path = written
    path.chmod(0o640)
    link = path.parent.parent / path.name
    link.symlink_to(path)
    write(link)
    assert link.is_symlink()
    assert path.read_bytes() != b"old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_nothing_else_in_the_library_writes_files() -> None:
    """But for a run's metrics, to which lines are added."""
    found = set()
    for source in [path for floor in ("backends", "models", "tinygrad_lstm") for path in (ROOT / floor).rglob("*.py")]:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _writes(node):
                found.add(f"{source.relative_to(ROOT).as_posix()}: {ast.unparse(node.func)}")
    assert {place for place in found if not place.startswith("tinygrad_lstm/io/atomic.py: ")} == {
        "backends/compiled/building.py: digest.write_text",  # both are then moved into the cache
        "backends/compiled/building.py: text.write_text",
        "tinygrad_lstm/train/folder.py: open",
        "tinygrad_lstm/inspect/plots.py: figure.savefig",  # into memory
        "tinygrad_lstm/io/npz_file.py: archive.open",  # into memory
        "tinygrad_lstm/cli/interruption.py: open",  # of /dev/null
        "tinygrad_lstm/cli/interruption.py: os.open",
        "tinygrad_lstm/cli/workers.py: open",  # of /dev/null
    }


def _writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if ast.unparse(call.func) == "os.open":
        return any(flag in ast.unparse(call) for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
    if name == "open":
        mode = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        return any(not isinstance(part, ast.Constant) or set(str(part.value)) & set("wax+") for part in mode)
    return name in {
        "write_text",
        "write_bytes",
        "save_file",
        "savefig",
        "savez",
        "savez_compressed",
        "savetxt",
        "tofile",
    }


# -- several writers --------------------------------------------------------------------------------------------------

# Writes files of one letter, of many lengths.
WRITING = """
import sys
from tinygrad_lstm.io.atomic import write_atomically
for k in range(60):
    write_atomically(sys.argv[1], sys.argv[2].encode() * (1 + 4001 * k % 300_000))
"""


def test_of_several_writers_one_wins_whole(tmp_path: Path) -> None:
    path, seen = tmp_path / "file", set()
    path.write_bytes(b"-")
    writers = [subprocess.Popen([sys.executable, "-c", WRITING, str(path), letter]) for letter in "abcd"]
    while any(writer.poll() is None for writer in writers):
        letters = set(path.read_bytes().decode())
        assert len(letters) == 1
        seen |= letters
    assert [writer.wait() for writer in writers] == [0] * 4
    assert len(seen & set("abcd")) > 1  # they did write at the same time
    assert names(tmp_path) == ["file"]


def test_threads_too(tmp_path: Path) -> None:
    def write(letter: bytes) -> None:
        for _ in range(20):
            write_atomically(tmp_path / "file", letter * 100_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set((tmp_path / "file").read_bytes())) == 1
    assert names(tmp_path) == ["file"]


# Stops while it writes: its temporary file is there, whole, and not yet in place.
WAITING = """
import os, sys, time
from tinygrad_lstm.io.atomic import write_atomically
def wait(*args):
    print("waiting", flush=True)
    sys.stdin.read()
os.fsync = wait
write_atomically(sys.argv[1], b"from the other process")
"""


def test_leftovers_of_killed_writers_are_removed_and_those_of_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    command = [sys.executable, "-c", WAITING, str(path)]
    killed, alive = (subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2))
    try:
        for process in (killed, alive):
            assert process.stdout is not None and process.stdout.readline() == b"waiting\n"
        killed.kill()
        killed.wait()
        assert len(names(tmp_path)) == 2
        write_atomically(path, b"from here")
        assert path.read_bytes() == b"from here"
        assert len(names(tmp_path)) == 2
        alive.communicate(timeout=60)
        assert path.read_bytes() == b"from the other process"
        assert names(tmp_path) == ["file"]
    finally:
        for process in (killed, alive):
            process.kill()
            process.communicate()


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX's")
def test_a_pipe_that_has_the_name_of_a_leftover_does_not_hold_up_a_writer(tmp_path: Path) -> None:
    """Nobody reads from it, so that opening it would wait."""
    os.mkfifo(tmp_path / f".file.{'0' * 16}.tmp")
    write_atomically(tmp_path / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"


# -- where it goes ----------------------------------------------------------------------------------------------------


def test_a_link_in_the_temporary_files_place_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".file.tmp").symlink_to(victim)
    write_atomically(tmp_path / "file", b"data")
    monkeypatch.setattr(secrets, "token_hex", lambda size: "0" * 2 * size)  # even if its name could be known
    (tmp_path / f".file.{'0' * 16}.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError, match="file"):
        write_atomically(tmp_path / "file", b"more")
    assert victim.read_bytes() == b"precious"
    assert (tmp_path / "file").read_bytes() == b"data"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0])
def test_a_new_file_gets_the_usual_permissions(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o660, 0o755])
def test_the_data_is_never_more_readable_than_the_old_file(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    seen = []
    chmod = os.fchmod

    def look(descriptor: int, mode: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        chmod(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", look)
    write_atomically(path, b"secret")
    assert seen == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only the superuser gives files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 4321, 1234)
    write_atomically(path, b"data")
    assert (path.stat().st_uid, path.stat().st_gid) == (4321, 1234)


def test_links_that_lead_nowhere_or_round(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "link").symlink_to("below/file")
    write_atomically(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "below" / "file").read_bytes() == b"data"
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="round"):
        write_atomically(tmp_path / "round", b"data")
    assert names(tmp_path) == ["below", "link", "round"]


def test_folders_and_missing_folders_are_named(tmp_path: Path) -> None:
    for write in (lambda path: write_atomically(path, b""), check_writable):
        with pytest.raises(IsADirectoryError, match=str(tmp_path)):
            write(tmp_path)
        with pytest.raises(FileNotFoundError, match="none/file"):
            write(tmp_path / "none" / "file")
    assert names(tmp_path) == []


def test_the_longest_names(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127, "😀" * 63):
        write_atomically(tmp_path / name, b"data")
        assert (tmp_path / name).read_bytes() == b"data"
    with pytest.raises(OSError, match="too long"):
        write_atomically(tmp_path / ("n" * 256), b"data")


def test_pipes_and_devices_are_written_to_as_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_atomically(tmp_path / "pipe", b"data" * 100_000)
    reader.join()
    assert received == [b"data" * 100_000]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    write_atomically("/dev/null", b"data")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    if Path("/dev/full").exists():
        with pytest.raises(OSError, match=r"No space left on device: .*full"):
            write_atomically("/dev/full", b"data")


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1"])
def test_standard_output(tmp_path: Path, path: str) -> None:
    program = "from tinygrad_lstm.io.atomic import *; import sys; print('a', flush=True); "
    program += "check_writable(sys.argv[1]); write_atomically(sys.argv[1], b'data'); print('b')"
    command = [sys.executable, "-c", program, path]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == b"a\ndatab\n"
    with open(tmp_path / "file", "wb") as file:
        subprocess.run(command, stdout=file, check=True)
    assert (tmp_path / "file").read_bytes() == b"a\ndatab\n"


def test_a_file_that_grows_too_large(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = "from tinygrad_lstm.io.atomic import *; import sys; write_atomically(sys.argv[1], bytes(10**6))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"File too large: '{path}'" in done.stderr
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_raises_removes_the_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    class SignalledError(BaseException):
        pass

    def handle(*args: object) -> None:
        raise SignalledError

    before = signal.signal(number, handle)
    monkeypatch.setattr(os, "fsync", lambda descriptor: signal.raise_signal(number))
    try:
        with pytest.raises(SignalledError):
            write_atomically(tmp_path / "file", b"data")
    finally:
        signal.signal(number, before)
    assert names(tmp_path) == []
