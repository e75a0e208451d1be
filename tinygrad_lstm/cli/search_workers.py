"""Processes that run the trials of a search."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, Protocol

from ..search import TrialSummary, run_trial
from ..search.trials import Task
from .interruption import end_at_signals
from .shared import with_notes

__all__ = ["Job", "Jobs", "Workers"]


class Job(NamedTuple):
    """A trial that is to be run."""

    number: int
    options: dict[str, Any]
    """By the library's names."""
    folder: Path


class Jobs(Protocol):
    """The trials of a search, as the workers see them."""

    def next(self) -> Job | None:
        """The next trial; None if there are enough."""

    def validated(self, job: Job, number: int, loss: float) -> bool:
        """Notes a validation, and returns whether the trial is to end."""

    def ended(self, job: Job, summary: TrialSummary) -> None:
        """Notes how a trial has ended."""

    def failed(self, job: Job, reason: str) -> None:
        """Notes why a trial could not be run."""


# -- in a worker's process ---------------------------------------------------------------------------------------------


class _Validation(NamedTuple):
    number: int
    loss: float


class _Failure(NamedTuple):
    reason: str


def _work(connection: Connection, make_task: Callable[[], Task], threads: int) -> None:
    """Runs the trials that arrive, until there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the search ends its workers
    end_at_signals()
    Thread(target=_end_with_the_search, daemon=True).start()

    def report(number: int, loss: float) -> bool:
        connection.send(_Validation(number, loss))
        return bool(connection.recv())

    with suppress(EOFError, BrokenPipeError):  # the search was killed
        try:
            task = make_task()
            while (job := connection.recv()) is not None:
                connection.send(_outcome(task, job, report, threads))
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:  # such as a full disk: all further trials would fail
            connection.send(error)


def _end_with_the_search() -> None:
    """Ends this process if that of the search is killed: the next search may run this trial again."""
    search = multiprocessing.parent_process()
    if search is not None:
        search.join()
        os._exit(1)


def _outcome(task: Task, job: Job, report: Callable[[int, float], bool], threads: int) -> TrialSummary | _Failure:
    try:
        return run_trial(task, job.options, job.folder, report, threads)
    except (OSError, EOFError):
        raise
    except Exception as error:
        return _Failure(" ".join(with_notes(error).split()))


# -- in the search's process -------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Worker:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    job: Job | None = None


class Workers:
    """Processes that run trials.

    Args:
        number: the most of them. They are started when there is work.
        make_task: makes the task in each process; it is pickled.
        threads: the number of threads of each.
    """

    def __init__(self, number: int, make_task: Callable[[], Task], threads: int) -> None:
        self.number, self._make_task, self._threads = number, make_task, threads
        self._workers: list[_Worker] = []
        self.stopped = False

    def run(self, jobs: Jobs) -> None:
        """Runs trials until there are enough or `stop` is called.

        Raises:
            OSError: a worker cannot read its data or write its files.
            RuntimeError: a worker ended before its first trial.
        """
        try:
            while not self.stopped:
                self._give_work(jobs)
                busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
                if not busy:
                    break
                for connection in wait(list(busy)):
                    self._hear(busy[connection], jobs)  # type: ignore[index]
        finally:
            try:
                self._end()
            except KeyboardInterrupt:
                for worker in self._workers:
                    worker.process.kill()
                raise

    def stop(self) -> None:
        """Ends the processes, and so `run`. Signal handlers may call it."""
        self.stopped = True
        for worker in self._workers:
            worker.process.terminate()

    def unfinished(self) -> list[Job]:
        """The trials that were running when `run` ended."""
        return [worker.job for worker in self._workers if worker.job is not None]

    def _give_work(self, jobs: Jobs) -> None:
        """Gives a trial to each worker that has none, while there are trials."""
        while not self.stopped:
            idle = next((worker for worker in self._workers if worker.job is None), None)
            if idle is None and len(self._workers) >= self.number:
                return
            job = jobs.next()
            if job is None:
                return
            idle = idle or self._started()
            idle.job = job
            with suppress(BrokenPipeError):  # it has ended: `_hear` notices that
                idle.connection.send(job)

    def _started(self) -> _Worker:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._make_task, self._threads), daemon=True)
        process.start()
        theirs.close()  # so that the end of the process is the end of what can be received
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _hear(self, worker: _Worker, jobs: Jobs) -> None:
        """Takes a message of a worker that has a trial."""
        job = worker.job
        assert job is not None
        try:
            message = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            if not self.stopped:
                self._lost(worker, job, jobs)
            return
        match message:
            case Exception():
                raise message
            case _Validation(number, loss):
                ends = jobs.validated(job, number, loss)
                with suppress(BrokenPipeError):
                    worker.connection.send(ends)
                return
            case _Failure(reason):
                jobs.failed(job, reason)
            case _:
                jobs.ended(job, message)
        worker.job = None

    def _lost(self, worker: _Worker, job: Job, jobs: Jobs) -> None:
        """Notes the end of a process within a trial, such as by the system for lack of memory."""
        worker.process.join()
        self._workers.remove(worker)
        code = worker.process.exitcode or 0
        jobs.failed(job, f"its process ended {f'by signal {-code}' if code < 0 else f'with status {code}'}")

    def _end(self) -> None:
        for worker in self._workers:
            if worker.job is None:
                with suppress(BrokenPipeError):
                    worker.connection.send(None)
            else:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(10)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
