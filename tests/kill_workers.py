"""Kills workers at random moments, continues with different numbers of them, and compares weights: see `main`."""

import argparse
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from commands import COMMAND, environment
from small_book import TEXT

from tinygrad_lstm.train import Checkpoint

ROOT = Path(__file__).parents[1]
NUMBERS = (1, 2, 3, 4)
DIED = re.compile(r"(a worker|worker \d( on \S+ \(process \d+\))?) was killed by SIGKILL.*; restart \d+ of \d+")
LEFT = re.compile(rf"error: {DIED.pattern.split(';')[0]}; .*")
"""A run that was to stop is not started again."""
LONGEST = 300


class Problem(Protocol):
    """A training that is killed."""

    name: str
    steps: int

    def command(self, folder: Path, workers: int, resume: bool) -> list[str]:
        """What starts or resumes the run in a folder."""

    def saved(self, folder: Path) -> Path:
        """The path of the last checkpoint."""


def digest_of(path: Path) -> str:
    """A digest of the weights and of the optimizer's state."""
    checkpoint = Checkpoint.load(path)
    digest = hashlib.sha256(str(checkpoint.step).encode())
    for name, array in {**checkpoint.weights, **checkpoint.optimizer["state"]}.items():
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()[:16]


@dataclass
class Characters:
    """The command `train`, which continues by itself when a worker dies."""

    book: Path
    steps: int
    name: str = "characters"

    def command(self, folder: Path, workers: int, resume: bool) -> list[str]:
        given = ["train", "--out", folder, "--workers", workers, "--restarts", 100]
        sizes = {"hidden": 6, "embedding": 4, "seq-len": 6, "batch": 7, "micro-batches": 6, "dropout": 0.2}
        options = [word for name, value in sizes.items() for word in (f"--{name}", value)]
        more = ["--resume"] if resume else ["--data", self.book, "--steps", self.steps, *options]
        return [*COMMAND, *map(str, [*given, *more])]

    def saved(self, folder: Path) -> Path:
        return folder / "last.safetensors"


@dataclass
class Classes:
    """A program with a `Trainer`, which is started again when a worker dies."""

    steps: int
    name: str = "classes"

    def command(self, folder: Path, workers: int, resume: bool) -> list[str]:
        start = [str(Path(sys.executable).with_name("mpiexec")), "-n", str(workers)]
        program = [sys.executable, str(ROOT / "tests" / "shared_runs.py"), self.name, str(self.steps), str(folder)]
        return [*start, *program]

    def saved(self, folder: Path) -> Path:
        return folder / "run" / "last.safetensors"


# -- processes ---------------------------------------------------------------------------------------------------------


def descendants(process: int) -> list[int]:
    """The processes that a process has started, and those that these have started."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(path.parent.name))
    found = [process]
    for each in found:
        found += children.get(each, [])
    return found[1:]


def workers_of(process: int) -> list[int]:
    """The workers among the descendants: those that run Python."""
    found = []
    for each in descendants(process):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")
            if os.path.basename(words[0]).startswith(b"python"):
                found.append(each)
    return found


def is_saving(folder: Path) -> bool:
    """Whether a file of a run is being written."""
    return any(path.suffix in (".tmp", ".next") for each in (folder, folder / "run") for path in each.glob(".*"))


@dataclass
class Killer:
    """Runs a problem, and kills its workers at random moments."""

    problem: Problem
    expected: str
    usual: float
    """The seconds that an unbroken run takes."""
    draw: random.Random
    kills: int = 0
    while_saving: int = 0
    history: list[str] = field(default_factory=list)

    def run(self, folder: Path, kills: int) -> None:
        """Runs the problem to its end, with at least so many kills unless it ends before."""
        workers, before = 0, self.kills
        self.history = []
        saved = self.problem.saved(folder)
        ended = False
        while not ended:
            workers = self.draw.choice([number for number in NUMBERS if number != workers])
            self.history.append(f"{workers} worker{'s' * (workers > 1)}")
            ended = self._run_once(folder, workers, saved.exists(), kills - (self.kills - before))
            ended = ended or (saved.exists() and Checkpoint.load(saved).step == self.problem.steps)
        found = digest_of(saved)
        if found != self.expected:
            raise AssertionError(f"{self}: expected {self.expected}, got {found}")

    def __str__(self) -> str:
        return f"{self.problem.name}: {', '.join(self.history)}"

    def _run_once(self, folder: Path, workers: int, resume: bool, kills: int) -> bool:
        """Runs the command once. Returns whether the run has ended."""
        with processes(self.problem.command(folder, workers, resume)) as (process, seen):
            here = self.draw.randint(1, kills) if kills > 0 else 0
            done = 0
            while done < here and self._kill(process, seen, folder):
                done += 1
                if isinstance(self.problem, Classes):
                    process.wait(LONGEST)
                    return False
            if process.poll() is None and kills > here and self.draw.random() < 0.5:
                time.sleep(self.draw.uniform(0, self.usual / 4))
                number = self.draw.choice([signal.SIGTERM, signal.SIGKILL])
                seen.update(descendants(process.pid))
                process.send_signal(number)
                self.history.append(f"{number.name} for the launcher")
            _, errors = process.communicate(timeout=LONGEST)
        said = [line for line in errors.splitlines() if line and not line.startswith("stopping after")]
        if isinstance(self.problem, Characters):
            stopped = "SIGTERM" in self.history[-1]
            good = [DIED.fullmatch(line) or (stopped and LEFT.fullmatch(line)) for line in said]
            if len(said) > done or not all(good):
                raise AssertionError(f"{self}: {done} kills, and the launcher said: {errors}")
            if process.returncode not in (0, 143, -signal.SIGTERM, -signal.SIGKILL, *([2] if stopped else [])):
                raise AssertionError(f"{self}: the launcher ended with {process.returncode}: {errors}")
        return process.returncode == 0

    def _kill(self, process: "subprocess.Popen[str]", seen: set[int], folder: Path) -> bool:
        """Kills a worker at a random moment, perhaps while a file is written. Returns whether there still was one."""
        saving = self.draw.random() < 0.4
        end = time.monotonic() + self.draw.uniform(0, self.usual * (1 if saving else 0.5))
        while time.monotonic() < end and process.poll() is None and not (saving and is_saving(folder)):
            time.sleep(0.0005 if saving else 0.01)
        there = workers_of(process.pid)
        if process.poll() is not None or not there:
            return False
        self.while_saving += is_saving(folder)
        seen.update(descendants(process.pid))
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.draw.choice(there), signal.SIGKILL)
            self.kills += 1
            self.history.append("a kill")
        return True


@contextlib.contextmanager
def processes(command: list[str]) -> Iterator[tuple["subprocess.Popen[str]", set[int]]]:
    """The process of a command, and a set for what it has started, which must end by itself."""
    seen: set[int] = set()
    process = subprocess.Popen(
        command,
        env={**environment(), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process, seen
        end = time.monotonic() + 10
        while left := [each for each in seen if Path(f"/proc/{each}").exists()]:
            if time.monotonic() > end:
                raise AssertionError(f"these processes are left: {left}")
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()


def unbroken(problem: Problem, folder: Path) -> tuple[str, float]:
    """The digest of an unbroken run, and the seconds that it took."""
    folder.mkdir()
    began = time.monotonic()
    subprocess.run(problem.command(folder, 2, False), env=environment(), check=True, stdout=subprocess.DEVNULL)
    return digest_of(problem.saved(folder)), time.monotonic() - began


def main(arguments: list[str] | None = None) -> None:
    """Kills workers of a character model, trained by the command `train`, and of a classifier, trained by a program."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=100, help="the least number of kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--quick", action="store_true", help="with short runs, for make test")
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "book.txt").write_text(TEXT * 3)
        problems = [
            Characters(place / "book.txt", 440 if options.quick else 600),
            Classes(20 if options.quick else 100),
        ]
        killers = []
        for problem in problems:
            digest, seconds = unbroken(problem, place / problem.name)
            print(f"{problem.name}: an unbroken run took {seconds:.1f} s", flush=True)
            killers.append(Killer(problem, digest, seconds, draw))
        runs = 0
        while (left := options.kills - sum(each.kills for each in killers)) > 0:
            killer = killers[runs % 2]
            folder = place / "killed"
            folder.mkdir()
            killer.run(folder, min(left, draw.randint(1, 2 if options.quick else 5)))
            shutil.rmtree(folder)
            runs += 1
            print(f"{killer}: the same weights", flush=True)
    kills, saving = (sum(getattr(each, name) for each in killers) for name in ("kills", "while_saving"))
    print(
        f"{kills} kills, {saving} of them while a file was written; {runs} runs, all with the weights of unbroken ones"
    )


if __name__ == "__main__":
    main()
