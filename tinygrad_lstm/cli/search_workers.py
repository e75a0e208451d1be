"""Processes that run the trials of a search."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from ..search import TrialSummary, run_trial
from ..search.trials import Task
from .interruption import end_at_signals
from .search_commands import command_of
from .shared import with_notes

__all__ = ["Job", "Validation", "started"]


class Job(NamedTuple):
    """What is sent to a worker: a trial that it is to run."""

    options: dict[str, Any]
    """By the library's names."""
    folder: Path


class Validation(NamedTuple):
    """What a worker sends after each validation. The answer is whether the trial is to end."""

    number: int
    loss: float


def started(command: Sequence[str], seed: int, threads: int) -> tuple[BaseProcess, Connection]:
    """A new process, and the connection to it.

    Args:
        command: what is searched, with its arguments, as they are typed.
        seed: the seed of all trials.
        threads: the number of threads of the process.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, command, seed, threads), daemon=True)
    if sys.platform == "win32":
        process.start()
    else:  # Ctrl-C reaches all processes of a terminal: this one inherits that it is blocked
        resource_tracker.ensure_running()  # its start would unblock it
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()  # so that the end of the process is the end of what can be received
    return process, ours


# -- in a worker's process ---------------------------------------------------------------------------------------------


def _work(connection: Connection, command: Sequence[str], seed: int, threads: int) -> None:
    """Runs each `Job` that arrives, and sends its summary, or why it failed as a string.

    An error that all further trials would have, such as a full disk, is sent as an exception and ends the process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the search ends its processes at Ctrl-C
    end_at_signals()
    Thread(target=_end_with_the_search, daemon=True).start()

    def report(number: int, loss: float) -> bool:
        connection.send(Validation(number, loss))
        return bool(connection.recv())

    with suppress(EOFError, BrokenPipeError):  # the search was killed
        try:
            task = command_of(command, seed).task()
            while True:
                connection.send(_outcome(task, connection.recv(), report, threads))
        except (OSError, ValueError) as error:
            connection.send(error)


def _end_with_the_search() -> None:
    """Ends this process if that of the search is killed: the next search may run this trial again."""
    search = multiprocessing.parent_process()
    if search is not None:
        search.join()
        os._exit(1)


def _outcome(task: Task, job: Job, report: Callable[[int, float], bool], threads: int) -> TrialSummary | str:
    try:
        return run_trial(task, job.options, job.folder, report, threads)
    except (OSError, EOFError):
        raise
    except Exception as error:
        return " ".join(with_notes(error).split())
