"""A search while it runs: gives trials to its processes, and notes what they send."""

import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from ..search import TrialSummary
from .interruption import Stop
from .search_commands import Searched
from .search_progress import SearchProgress, following_search
from .search_results import counted, written
from .search_study import Proposal, Study
from .search_workers import Job, Validation

__all__ = ["Search"]


class Search:
    """A search that runs.

    Args:
        searched: the command.
        study: the trials.
        folder: where the folders of the trials are made.
        trials: the number of trials in all.
        workers: the largest number of processes. They are started when there is work.
        start: starts a process, and returns it and the connection to it.
    """

    def __init__(
        self,
        searched: Searched,
        study: Study,
        folder: Path,
        trials: int,
        workers: int,
        start: Callable[[], tuple[BaseProcess, Connection]],
    ) -> None:
        self._searched, self._study, self._folder, self._trials = searched, study, folder, trials
        self._number, self._start = workers, start
        self._processes: dict[Connection, BaseProcess] = {}
        self._running: dict[Connection, Proposal] = {}
        """The trials that run, by the connections to their processes."""
        self._stopped = False
        self._best = math.inf
        self._progress: SearchProgress

    def run(self) -> Stop:
        """Runs the trials that are left, and returns why it was stopped, if it was.

        Raises:
            OSError, ValueError: a worker cannot read its data, or a file cannot be written.
        """
        records = self._study.records()
        losses = [each.loss for each in records if each.outcome == "finished" and each.loss is not None]
        self._best = min(losses, default=math.inf)
        try:
            with following_search(self._trials, len(records), self._stop) as self._progress:
                known = f" of which {len(records)} ended earlier," if records else ""
                processes = counted(self._number, "process", "processes")
                self._progress.say(f"{counted(self._trials, 'trial')},{known} by {processes}, in {self._folder}")
                with suppress(KeyboardInterrupt):  # the second Ctrl-C
                    try:
                        self._run_trials()
                    finally:
                        self._end_processes()
        finally:
            for proposal in self._running.values():
                self._study.put_back(proposal)
        return self._progress.stop

    def _run_trials(self) -> None:
        while not self._stopped:
            self._begin_trials()
            if not self._running:
                return
            for connection in wait(list(self._running)):
                self._hear(connection)  # type: ignore[arg-type]

    def _begin_trials(self) -> None:
        """Gives a trial to each process that has none, while there are trials."""
        while not self._stopped and self._progress.ended + len(self._running) < self._trials:
            idle = next((each for each in self._processes if each not in self._running), None)
            if idle is not None:
                self._begin_trial(idle)
            elif len(self._processes) < self._number:
                process, connection = self._start()
                self._processes[connection] = process
            else:
                return

    def _begin_trial(self, connection: Connection) -> None:
        proposal = self._running[connection] = self._study.ask()
        folder = self._folder / f"trial-{proposal.number}"
        if proposal.again and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        self._searched.prepare(self._folder, folder)
        self._show(f"trial {proposal.number}")
        with suppress(BrokenPipeError):  # the process has ended: `_hear` notices that
            connection.send(Job(self._searched.options_of(proposal.values), folder))

    def _show(self, trial: str) -> None:
        more = len(self._running) - 1
        self._progress.update(f"{trial} and {more} more" if more else trial)

    def _hear(self, connection: Connection) -> None:
        """Takes a message of a process that has a trial."""
        proposal = self._running[connection]
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            if self._stopped:
                return
            message = self._lost(connection)
        match message:
            case Exception():
                raise message
            case Validation(number, loss):
                self._show(f"trial {proposal.number}: validation {number}, {loss:.4f}")
                ends = self._study.report(proposal, number, loss)
                with suppress(BrokenPipeError):
                    connection.send(ends)
            case _:
                del self._running[connection]
                self._end_trial(proposal, message)

    def _lost(self, connection: Connection) -> str:
        """Forgets a process that ended within a trial, as for lack of memory, and returns how it ended."""
        process = self._processes.pop(connection)
        process.join()
        connection.close()
        code = process.exitcode or 0
        return f"its process ended {f'by signal {-code}' if code < 0 else f'with status {code}'}"

    def _end_trial(self, proposal: Proposal, result: TrialSummary | str) -> None:
        """Notes and says what became of a trial: its summary, or why it failed."""
        if isinstance(result, str):
            self._study.fail(proposal, result)
            what = f"failed: {result}"
        else:
            self._study.end(proposal, result)
            what = result.outcome if result.loss is None else f"{result.outcome}, validation {result.loss:.4f}"
            if result.outcome == "finished" and result.loss is not None and result.loss < self._best:
                self._best = result.loss
                what += ", the best so far"
        self._progress.has_ended(proposal.number, f"{what}  {written(proposal.values)}")

    def _stop(self) -> None:
        """Ends the processes, and so the search. A signal handler calls it."""
        self._stopped = True
        for process in self._processes.values():
            process.terminate()

    def _end_processes(self) -> None:
        self._stop()
        try:
            for process in self._processes.values():
                process.join(10)
        finally:
            for connection, process in self._processes.items():
                process.kill()
                process.join()
                connection.close()
