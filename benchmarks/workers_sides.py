"""The sides of workers.py: processes that train the character model, and say how long a step takes. Also their program.

A side is one process, or several that mpiexec starts. Each process connects to a socket, and then does as it is told.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Protocol

import numpy as np

VOCABULARY, EMBEDDING, BATCH, STEPS_IN_TIME = 100, 64, 32, 64
ROOT = Path(__file__).resolve().parents[1]


class Network(Protocol):
    """What a side needs of a `DelayedNetwork`."""

    def mpiexec(self, command: Sequence[str]) -> list[str]: ...


@dataclass(frozen=True)
class Task:
    """What each process of a side trains.

    Args:
        threads: of each process.
        micro_batches: None makes a trainer that has never heard of workers, as an earlier version of the library.
        hidden: the units of each layer.
        layers: the number of layers.
    """

    threads: int = 1
    micro_batches: int | None = None
    hidden: int = 512
    layers: int = 1


@dataclass
class Turn:
    """What a process measured in a turn, in seconds a step.

    Args:
        seconds: the time.
        cpu: the time for which all its threads had a processor.
        communicating: the time for which at least one bucket of gradients was under way.
        waiting: the time for which the step waited for the sums of the buckets.
    """

    seconds: float
    cpu: float
    communicating: float = 0.0
    waiting: float = 0.0

    @property
    def hidden(self) -> float:
        """The share of the communication for which the step did not wait."""
        return max(0.0, 1 - self.waiting / self.communicating) if self.communicating else float("nan")


class Group:
    """Processes that do as they are told.

    Args:
        program: what each of them runs, which calls `serve`.
        workers: the number of processes that mpiexec starts; None starts one process without it.
        threads: of each.
        network: the network between them; each is then on a host of its own.
        library: the root of a checkout, to measure a different version of the library.
    """

    def __init__(
        self,
        program: str,
        workers: int | None = None,
        threads: int = 1,
        network: Network | None = None,
        library: Path = ROOT,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        address = str(Path(self._folder.name) / "socket")
        command = [sys.executable, program, address]
        if network is not None:
            command = network.mpiexec(command)
        elif workers is not None:
            command = [str(Path(sys.executable).with_name("mpiexec")), "-n", str(workers), *command]
        environment = {**os.environ, "PYTHONPATH": str(library), "OMP_NUM_THREADS": str(threads)}
        with Listener(address, "AF_UNIX") as listener:
            self._process = subprocess.Popen(command, env=environment)
            self._connections: list[Connection] = [listener.accept() for _ in range(workers or 1)]

    def ask(self, request: Any) -> list[Any]:
        """The answers of all processes to a request."""
        for connection in self._connections:
            connection.send(request)
        return [connection.recv() for connection in self._connections]

    def close(self) -> None:
        """Ends the processes."""
        for connection in self._connections:
            connection.close()
        self._process.wait()
        self._folder.cleanup()


def serve(answer: Callable[[Any], Any]) -> None:
    """Answers the requests to this process, until there are no more."""
    with Client(sys.argv[1], "AF_UNIX") as connection:
        while True:
            try:
                request = connection.recv()
            except EOFError:
                return
            connection.send(answer(request))


class Side:
    """Processes that train together; see `Group`."""

    def __init__(
        self, task: Task, workers: int | None = None, network: Network | None = None, library: Path = ROOT
    ) -> None:
        self._group = Group(__file__, workers, task.threads, network, library)
        self.close = self._group.close
        self._group.ask(task)

    def turn(self, steps: int) -> Turn:
        """What the processes measured in some steps: of each value the largest."""
        turns = self._group.ask(steps)
        return Turn(*(max(values) for values in zip(*(vars(turn).values() for turn in turns), strict=True)))


class _Batches:
    """Batches of a text without end, which note when the trainer takes one."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self._batches = batches
        self.taken: list[tuple[float, float]] = []

    def epoch(self, number: int, start: int) -> Iterator[Any]:
        while True:
            self.taken.append((time.perf_counter(), time.process_time()))
            yield self._batches[start % len(self._batches)]
            start += 1


class _Watched:
    """A communicator that notes when exchanges of the thread that sums buckets began and ended."""

    def __init__(self, communicator: Any) -> None:
        self._communicator = communicator
        self.rank, self.size, self.fail = communicator.rank, communicator.size, communicator.fail
        self.spans: list[list[float]] = []

    def exchange(self, sent: Mapping[int, Any], received: Mapping[int, Any]) -> Any:
        pending = self._communicator.exchange(sent, received)
        if threading.current_thread() is threading.main_thread():
            return pending
        span = [time.perf_counter(), 0.0]
        self.spans.append(span)
        return _WatchedPending(pending, span)

    def seconds(self, begin: float, end: float) -> float:
        """The time between two moments for which at least one exchange was under way."""
        total, reached = 0.0, begin
        for start, stop in sorted(self.spans):
            start, stop = max(start, reached), min(stop, end)
            if start < stop:
                total, reached = total + stop - start, stop
        return total


class _WatchedPending:
    def __init__(self, pending: Any, span: list[float]) -> None:
        self._pending, self._span = pending, span

    def wait(self) -> None:
        self._pending.wait()
        self._span[1] = self._span[1] or time.perf_counter()


class _Training:
    """What a process does."""

    def __init__(self, task: Task) -> None:
        import tinygrad_lstm as tg
        from tinygrad_lstm.models import CharLM
        from tinygrad_lstm.train.text_evaluation import text_loss

        tg.set_num_threads(task.threads)
        tg.manual_seed(0)
        model = CharLM(VOCABULARY, EMBEDDING, task.hidden, task.layers)
        ids = np.random.default_rng(0).integers(0, VOCABULARY, BATCH * STEPS_IN_TIME * 50)
        self._batches = _Batches(tg.data.TextBatches(ids, BATCH, STEPS_IN_TIME))
        self._watched: _Watched | None = None
        self._waits: list[tuple[float, float]] = []
        of_workers: dict[str, Any] = {}
        if task.micro_batches is not None:
            communicator = tg.distributed.init(timeout=60.0)
            self._watched = _Watched(communicator)
            of_workers = {"communicator": self._watched, "micro_batches": task.micro_batches}
            self._watch_waits()
        optimizer = tg.optim.AdamW(model.parameters(), lr=1e-3)
        self._trainer: Any = tg.train.Trainer(model, text_loss, optimizer, clip=1.0, **of_workers)
        self.turn(2)

    def _watch_waits(self) -> None:
        from tinygrad_lstm.distributed.micro_sums import MicroSums

        totals = MicroSums.totals

        def timed(sums: MicroSums) -> Any:
            begun = time.perf_counter()
            result = totals(sums)
            self._waits.append((begun, time.perf_counter()))
            return result

        MicroSums.totals = timed  # type: ignore[method-assign]

    def turn(self, steps: int) -> Turn:
        """Trains for some steps, of which the first does not count: it comes after what begins a run."""
        self._batches.taken.clear()
        self._waits.clear()
        if self._watched is not None:
            self._watched.spans.clear()
        self._trainer.fit(self._batches, steps=self._trainer.step + steps + 2, log_every=10**9)
        (begin, cpu_begin), *_, (end, cpu_end) = self._batches.taken[1 : steps + 2]
        communicating = 0.0 if self._watched is None else self._watched.seconds(begin, end)
        waiting = sum(stop - start for start, stop in self._waits if begin <= start < end)
        return Turn(*(value / steps for value in (end - begin, cpu_end - cpu_begin, communicating, waiting)))


def main() -> None:
    """A process of a side."""
    training: list[_Training] = []

    def answer(request: Any) -> Any:
        if isinstance(request, Task):
            training.append(_Training(request))
            return None
        return training[-1].turn(request)

    serve(answer)


if __name__ == "__main__":
    import workers_sides  # pickled classes are those of the module, not of the program

    workers_sides.main()
