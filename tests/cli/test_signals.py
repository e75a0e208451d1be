"""Signals, and readers that leave, while a command runs: what was trained is saved before anything is said."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_signals import running, wait_for
from commands import COMMAND, succeed

from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import TextCheckpoint, TextTrainer, TrainingOptions

if sys.platform == "win32":
    pytest.skip("this system has no such signals", allow_module_level=True)

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 9
TINY = ["--hidden", "6", "--seq-len", "8", "--batch", "4"]
TERM_MESSAGE = "\nstopping after this step (SIGTERM); Ctrl-C quits without saving\n"


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def endless(book: Path, tmp_path: Path) -> list[str]:
    """The command of a run that does not end by itself, in the folder `tmp_path`."""
    return [*COMMAND, "train", "--data", str(book), "--out", str(tmp_path), "--steps", "1000000", *TINY]


# -- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_prints_how_to_resume(
    endless: list[str], tmp_path: Path, number: signal.Signals, status: int
) -> None:
    with running(endless) as process:
        wait_for(process, "training")
        process.send_signal(number)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == status
    cause = "; Ctrl-C again" if number == signal.SIGINT else f" ({number.name}); Ctrl-C"
    assert errors == f"\nstopping after this step{cause} quits without saving\n"
    step = TextCheckpoint.load(tmp_path / "last.safetensors").step
    assert f"interrupted at step {step} of 1000000; saved in {tmp_path / 'last.safetensors'}\n" in printed
    resume = re.search(r"resume with: (.*)\n", printed)
    assert resume is not None
    if number == signal.SIGTERM:
        assert f"step {step + 1}/{step + 1}" in succeed(*shlex.split(resume[1])[3:], "--steps", step + 1)


def test_signals_that_were_ignored_at_the_start_stay_ignored(endless: list[str], tmp_path: Path) -> None:
    """As nohup ignores SIGHUP, and a shell's script SIGINT for its jobs in the background."""

    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with running(endless, ignore) as process:
        wait_for(process, "training")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
        wait_for(process, "step  ")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, TERM_MESSAGE)
    assert TextCheckpoint.load(tmp_path / "last.safetensors").step >= 200


# The command, which says when a save begins, and waits there.
SLOW_TO_SAVE = """
import os, time
from tinygrad_lstm import cli
fsync = os.fsync
def slow(descriptor):
    print("saving", flush=True)
    time.sleep(0.5)
    fsync(descriptor)
os.fsync = slow
cli.main()
"""


def test_of_several_signals_the_first_counts_and_none_spoils_the_save(endless: list[str], tmp_path: Path) -> None:
    """A terminal that closes, or a service that is stopped, may send SIGHUP and SIGTERM, and again."""
    with running([sys.executable, "-c", SLOW_TO_SAVE, *endless[3:]]) as process:
        wait_for(process, "training")
        process.send_signal(signal.SIGTERM)
        wait_for(process, "saving")
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            process.send_signal(number)
        printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, TERM_MESSAGE)
    assert "interrupted at step" in printed
    assert TextCheckpoint.load(tmp_path / "last.safetensors").step >= 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_ctrl_c_during_a_long_save_aborts_it(endless: list[str], tmp_path: Path) -> None:
    with running([sys.executable, "-c", SLOW_TO_SAVE, *endless[3:]]) as process:
        wait_for(process, "training")
        process.send_signal(signal.SIGTERM)
        wait_for(process, "saving")
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"quit at step \d+; nothing is saved\n", printed)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_other_commands_end_without_leaving_temporary_files(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    options = TrainingOptions(steps=1, hidden=4, seq_len=8, batch=4)
    trainer = TextTrainer.start(lambda size, options: CharLM(size, options.embedding, 4), TEXT, options, tmp_path)
    trainer.run()
    arguments = ["inspect", str(trainer.last_path), "--text", "the dog", "--out", str(pages / "page.html")]
    with running([sys.executable, "-c", SLOW_TO_SAVE, *arguments]) as process:
        wait_for(process, "saving")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert list(pages.iterdir()) == []


# -- output that cannot be written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_ends_the_reader_too_saves(endless: list[str], tmp_path: Path, number: signal.Signals) -> None:
    """As Ctrl-C in `train 2>&1 | tee log` does."""
    with running(endless, stderr=subprocess.STDOUT) as process:
        wait_for(process, "training")
        assert process.stdout is not None
        process.stdout.close()
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
    assert TextCheckpoint.load(tmp_path / "last.safetensors").step >= 0


@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_streams_that_are_closed_from_the_start(endless: list[str], tmp_path: Path, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    metrics = tmp_path / "metrics.jsonl"
    with running(endless, close) as process:
        while not metrics.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert ("resume with" in printed) == (1 not in closed)
    assert errors == ("" if 2 in closed else TERM_MESSAGE)
    assert TextCheckpoint.load(tmp_path / "last.safetensors").step >= 0
    assert all(line.startswith("{") for line in metrics.read_text().splitlines())


# The command, whose progress is more than fits into a pipe.
MUCH_PROGRESS = """
from tinygrad_lstm import cli
from tinygrad_lstm.cli import train_progress
train_progress._line = lambda progress, steps: "x" * 1_000_000
cli.main()
"""


@pytest.mark.parametrize("together", [False, True])
def test_a_signal_saves_though_the_reader_does_not_read(endless: list[str], tmp_path: Path, together: bool) -> None:
    """As `less`, or a terminal that was stopped by Ctrl-S."""
    stderr = subprocess.STDOUT if together else subprocess.PIPE
    with running([sys.executable, "-c", MUCH_PROGRESS, *endless[3:]], stderr=stderr) as process:
        wait_for(process, "training")
        assert process.stdout is not None
        assert process.stdout.read(10) == "x" * 10  # and no more
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
        if process.stderr is not None:
            errors = process.stderr.read()
            assert errors.startswith(TERM_MESSAGE) and "resume with: " in errors
    assert TextCheckpoint.load(tmp_path / "last.safetensors").step >= 200


def test_a_run_whose_reader_leaves_is_saved(endless: list[str], tmp_path: Path) -> None:
    """As in `train | head -1`."""
    with running(endless) as process:
        wait_for(process, "training")
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(timeout=60) == 1
    step = TextCheckpoint.load(tmp_path / "last.safetensors").step
    assert errors.startswith(
        f"interrupted at step {step} of 1000000; saved in {tmp_path / 'last.safetensors'}\nresume "
    )
    assert errors.count("\n") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_log_that_is_full(endless: list[str], tmp_path: Path) -> None:
    endless[endless.index("1000000")] = "30"
    with open("/dev/full", "w") as full, running(endless, stdout=full) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "No space left on device" in errors and "Traceback" not in errors


def test_a_terminal_that_closes(endless: list[str], tmp_path: Path) -> None:
    import fcntl
    import pty
    import termios

    own, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with running(endless, take_terminal, **streams) as process:
        os.close(theirs)
        while b"loss" not in os.read(own, 4096):
            assert process.poll() is None
        os.close(own)
        assert process.wait(timeout=60) == 129
    assert TextCheckpoint.load(tmp_path / "last.safetensors").step >= 0
