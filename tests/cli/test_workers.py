"""`train --workers`: the launcher, its workers, and what is said of bad input and of workers that die."""

import hashlib
import os
import re
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from cli_signals import running, wait_for
from commands import COMMAND, environment, fail, fail_here, run, succeed, succeed_here
from small_book import TINY

from tinygrad_lstm.distributed import launcher
from tinygrad_lstm.train import TextCheckpoint

SIZES = [*TINY, "--dropout", "0.2", "--micro-batches", "4"]
PROGRAM = Path(sys.executable).with_name("mpiexec")

needs_mpi = pytest.mark.skipif(not PROGRAM.exists(), reason="there is no mpiexec beside Python: pip install mpich")


def digest(out: Path) -> str:
    checkpoint = TextCheckpoint.load(out / "last.safetensors")
    arrays = [*checkpoint.weights.values(), *checkpoint.optimizer["state"].values()]
    return f"{checkpoint.step} {hashlib.sha256(b''.join(array.tobytes() for array in arrays)).hexdigest()[:16]}"


@pytest.fixture(scope="module")
def alone(book: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of a run in this process, of as many micro-batches."""
    out = tmp_path_factory.mktemp("alone") / "run"
    succeed_here("train", "--data", book, "--out", out, "--steps", 30, "--threads", 1, *SIZES)
    return digest(out)


@needs_mpi
def test_the_weights_are_the_same_for_any_number(book: Path, tmp_path: Path, alone: str) -> None:
    """Also if the run is continued with a different number of workers."""
    out = tmp_path / "run"
    printed = succeed("train", "--data", book, "--out", out, "--steps", 13, "--workers", 3, *SIZES)
    assert printed.count("a character model of") == printed.count("a sample:") == 1
    assert f"--resume --out {out} --workers 3 --steps 26" in printed
    succeed("train", "--resume", "--out", out, "--steps", 30, "--workers", 1)
    succeed("train", "--data", book, "--out", tmp_path / "whole", "--steps", 30, "--workers", 1, *SIZES)
    assert digest(tmp_path / "whole") == alone
    whole = TextCheckpoint.load(out / "last.safetensors")
    assert (whole.step, whole.micro_batches) == (30, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", 0], "--workers: expected at least 1, got 0"),
        (["--workers", 2, "--restarts", -1], "--restarts: expected at least 0, got -1"),
        (["--workers", 2, "--micro-batches", 0], "--micro-batches: expected at least 1, got 0"),
        (["--workers", 9], "--workers: expected at most 8, the number of micro-batches, got 9"),
        (["--workers", 3, "--micro-batches", 2], "--workers: expected at most 2, the number of micro-batches, got 3"),
        (["--workers", 5, "--batch", 4], "--workers: expected at most 4, the number of micro-batches, got 5"),
        (
            ["--micro-batches", 5, "--batch", 4],
            "--micro-batches: expected at most 4, the number of streams (--batch), got 5",
        ),
    ],
)
def test_bad_numbers(book: Path, tmp_path: Path, options: list[object], message: str) -> None:
    assert fail_here("train", "--data", book, "--out", tmp_path / "run", *options) == message
    assert not (tmp_path / "run").exists()


def test_without_mpi4py_or_mpiexec(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = "pip install '.[mpi]' in a checkout of tinygrad_lstm"
    command = ("train", "--data", book, "--out", tmp_path / "run", "--workers", 2)
    monkeypatch.setenv("PATH", str(tmp_path))
    with mock.patch("sysconfig.get_path", return_value=str(tmp_path)):
        with mock.patch("importlib.util.find_spec", return_value=None):
            assert fail_here(*command) == f"several workers need mpi4py, which is not installed; {how}"
        if launcher.importlib.util.find_spec("mpi4py") is not None:
            needed = "several workers need the program mpiexec of an MPI, which is not on the PATH"
            assert fail_here(*command) == f"{needed}; {how}"
    assert not (tmp_path / "run").exists()


def run_by(script: str, tmp_path: Path, *command: object) -> str:
    """The error of a command whose mpiexec is a script."""
    program = tmp_path / "mpiexec"
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o755)
    with mock.patch.object(launcher, "mpiexec", return_value=str(program)):
        return fail_here(*command)


@needs_mpi
def test_the_mpiexec_of_a_different_mpi(book: Path, tmp_path: Path) -> None:
    """Each process is the only one that its MPI knows."""
    script = """
        for rank in 0 1; do OMPI_COMM_WORLD_SIZE=$2 OMPI_COMM_WORLD_RANK=$rank PYTHON_ARGS= sh -c '
            shift 2; exec "$@"' sh "$@" & done; wait
    """
    message = run_by(script, tmp_path, "train", "--data", book, "--out", tmp_path / "run", "--workers", 2, *SIZES)
    assert message == (
        "tg.distributed.init: the launcher started 2 workers, but mpi4py sees 1; use the mpiexec of the MPI that "
        "mpi4py was installed with"
    )


def test_an_mpiexec_that_fails(book: Path, tmp_path: Path) -> None:
    command = ("train", "--data", book, "--out", tmp_path / "run", "--workers", 2, *SIZES)
    message = run_by("echo there are not enough slots >&2; exit 1", tmp_path, *command)
    assert message == "the workers could not be started: there are not enough slots"
    assert not (tmp_path / "run").exists()


@needs_mpi
@pytest.mark.parametrize(
    ("end", "how"), [("kill -9 $$", "was killed by SIGKILL while it started"), ("exit 3", "did not start")]
)
def test_a_worker_that_ends_before_it_connects(book: Path, tmp_path: Path, end: str, how: str) -> None:
    """MPI lets the others wait for it for ever if it was not killed."""
    script = f"""
        shift 2; exec {PROGRAM} -n 2 sh -c '[ "$PMI_RANK" = 1 ] && sleep 2 && {end}; exec "$@"' sh "$@"
    """
    command = ("train", "--data", book, "--out", tmp_path / "run", "--workers", 2, "--restarts", 0, *SIZES)
    with mock.patch.object(launcher, "LONGEST_START", 5.0):
        message = run_by(script, tmp_path, *command)
    assert re.fullmatch(rf"(a worker|worker 1) {how}; nothing is saved", message), message


@needs_mpi
def test_faults_that_workers_find(book: Path, tmp_path: Path) -> None:
    """All find the first, and it is said once; the second is found by one of them."""
    assert fail("train", "--data", "no.txt", "--workers", 2, cwd=tmp_path) == (
        f"{tmp_path / 'no.txt'}: No such file or directory"
    )
    assert not (tmp_path / "runs").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").symlink_to(book)
    result = run("train", "--data", book, "--out", tmp_path / "run", "--workers", 2, *SIZES)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: worker 0 on ")
    assert result.stderr.endswith("a symbolic link; expected a file of the run itself\n")


@needs_mpi
@pytest.mark.parametrize(("options", "given"), [(["--workers", "3"], "3"), ([], "none")])
def test_a_number_that_mpiexec_did_not_start(book: Path, tmp_path: Path, options: list[str], given: str) -> None:
    """The command is started by mpiexec itself, as on several machines."""
    command = [*COMMAND, "train", "--data", str(book), "--out", str(tmp_path / "run"), *options]
    with running([str(PROGRAM), "-n", "2", *command]) as process:
        printed, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert errors.count(f"error: --workers: expected 2, the number that mpiexec started, got {given}\n") == 1
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in printed + errors


@needs_mpi
def test_options_that_differ(book: Path, tmp_path: Path) -> None:
    """On several machines, each worker may be given a command of its own."""
    command = [*COMMAND, "train", "--data", str(book), "--out", str(tmp_path / "runs" / "a"), "--workers", "2"]
    one, other = ([*command, *map(str, SIZES), "--lr", rate] for rate in ("0.1", "0.2"))
    with running([str(PROGRAM), "-n", "1", *one, ":", "-n", "1", *other]) as process:
        printed, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    expected = "workers 0 and 1 must have the same options: lr, optimizer, schedule, but have options: lr: 0.1 and 0.2"
    assert errors.count(f"error: Trainer.fit: {expected}\n") == 1
    assert not (tmp_path / "runs").exists()
    assert "Traceback" not in printed + errors


def children(process: int) -> set[str]:
    """The numbers of the processes that belong to a launcher, which their environment tells."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"OF_THIS_TEST={process}\0".encode() in path.read_bytes():
                found.add(path.parent.name)
        except OSError:
            continue
    return found


@needs_mpi
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])  # Windows does not have the last one
def test_signals_end_all_workers(book: Path, tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]
    command = [*COMMAND, "train", "--data", str(book), "--out", str(tmp_path), "--steps", "100000", "--workers", "2"]
    mark = str(os.getpid())
    with mock.patch.dict(os.environ, {"OF_THIS_TEST": mark}), running([*command, *SIZES]) as process:
        wait_for(process, "training")
        assert len(children(os.getpid())) >= 4  # the launcher, mpiexec, two workers
        process.send_signal(number)
        printed, errors = process.communicate(timeout=60)
    end = time.monotonic() + 20
    while children(os.getpid()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not children(os.getpid())
    if name != "SIGKILL":
        assert process.returncode == 128 + number
        step = TextCheckpoint.load(tmp_path / "last.safetensors").step
        assert f"interrupted at step {step} of 100000; saved in {tmp_path / 'last.safetensors'}\n" in printed
        assert errors.startswith("\nstopping after this step") and errors.count("\n") == 2


def test_standard_input(book: Path, tmp_path: Path) -> None:
    with open(book) as file:
        command = [*COMMAND, "train", "--data", "-", "--out", str(tmp_path), "--steps", "2", "--workers", "1", *TINY]
        with running(command, stdin=file) as process:
            printed, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert "characters of standard input" in printed


def test_the_only_worker_dies(tmp_path: Path) -> None:
    """The launcher says how, and starts it again."""
    path = tmp_path / "worker.py"
    path.write_text(
        "import os, sys\n"
        "from tinygrad_lstm.distributed.launched import Launcher\n"
        "found = Launcher(0)\n"
        "found.send(out='begun')\n"
        "{'kill': lambda: os.kill(os.getpid(), 9), 'crash': os.abort, 'end': lambda: found.end(3),\n"
        " 'leave': lambda: os._exit(7), 'fail': lambda: found.fail('no memory left', 'fault')}[sys.argv[1]]()\n"
    )
    said: list[tuple[str, str]] = []

    def outcome(how: str) -> launcher.Outcome:
        launch = launcher.Launch([sys.executable, str(path), how], 1, {}, lambda *each: said.append(each))
        return launch.run()

    with mock.patch.dict(os.environ, environment()):
        assert outcome("end") == launcher.Outcome(3)
        for how, message in (
            ("kill", "was killed by SIGKILL"),
            ("crash", "crashed: Aborted"),
            ("leave", "ended with status 7"),
        ):
            found = outcome(how)
            assert found.failure is not None and found.may_pass
            assert found.failure.startswith("worker 0 on ") and found.failure.endswith(message)
        assert outcome("fail") == launcher.Outcome(failure="no memory left", may_pass=True)
    assert said == [("out", "begun")] * 5
