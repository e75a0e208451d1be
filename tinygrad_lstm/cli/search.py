"""`tinygrad-lstm search`."""

import math
import shlex
import shutil
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..search import TrialSummary
from ..search.trials import Task
from ..train.folder import RunFolder
from .interruption import Stop, say
from .search_commands import Searched, command_of
from .search_progress import SearchProgress, following_search
from .search_results import best_of, outcomes, table, value_text, write_search
from .search_space import described
from .search_study import Proposal, Study, check_optuna
from .search_workers import Job, Workers
from .shared import new_folder, path_option, program, require

__all__ = ["search"]

SEARCH_OUT = Path("runs/search")
"""The folder of the first search without --out; the next ones are search-2, search-3, ..."""


def search(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            help="What is searched: train or fit, with the options that all trials have, as they are typed for that "
            "command.  [default: train]",
            metavar="COMMAND",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="The number of trials in all.")] = 40,
    workers: Annotated[int, typer.Option(help="Processes that run trials at the same time.")] = 1,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="An option to search and its values: lr=1e-3:1e-1:log, dropout=0:0.5, hidden=32:256:32 (a step), or "
            "hidden=64,128,256; may be repeated.  [default: a space of the command]",
            metavar="NAME=VALUES",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="The folder for the trials; if it has this search already, that is continued.  [default: the next "
            f"free of {SEARCH_OUT}, {SEARCH_OUT}-2, ...]",
            metavar="DIR",
        ),
    ] = None,
    pruning: Annotated[
        bool,
        typer.Option("--pruning/--no-pruning", help="End trials that are worse than the median of the earlier ones."),
    ] = True,
    threads: Annotated[int, typer.Option(help="Threads of each process, on the CPU.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the proposals and of each trial.")] = 0,
) -> None:
    """Search for good options of train or fit, by the validation loss.

    Each trial is a run in a folder of its own. Ctrl-C keeps the trials that have ended; the same command with the same
    --out continues. Needs Optuna, the extra search.
    """
    for option, number in (("--trials", trials), ("--workers", workers), ("--threads", threads)):
        require(option, number >= 1, "at least 1", number)
    require("--seed", seed >= 0, "at least 0", seed)
    searched = command_of(command or (), seed)
    varied = searched.space(space or ())
    check_optuna()
    folder = None if out is None else path_option("--out", out)
    task = searched.task()
    with new_folder(folder, SEARCH_OUT) as made:
        runs = RunFolder(made)
        if runs.is_used():
            raise ValueError(f"{made}: holds a run of train; give another --out")
        runs.make()
        with runs.locked():
            study = Study(made, searched.facts(task), varied, seed, searched.validations if pruning else 0)
            print(f"{searched.described(task)}: {described(varied)}", flush=True)
            search = Search(searched, study, made, trials)
            stop = search.run(Workers(workers, partial(_task, searched.NAME, searched.arguments, seed), threads))
            if stop.signal is not None or stop.failure is not None:
                again = [*program(), *sys.argv[1:], *([] if out else ["--out", str(made)])]
                say(f"interrupted; {made} keeps {len(study.records())} of {_number(trials, 'trial')}")
                say(f"continue with: {shlex.join(again)}")
                stop.end()
            _conclude(searched, study, made)


def _task(name: str, arguments: list[str], seed: int) -> Task:
    """The task, in a worker."""
    return command_of([name, *arguments], seed).task()


class Search:
    """A search that runs: what its workers ask and say.

    Args:
        searched: the command.
        study: the trials.
        folder: where the folders of the trials are made.
        trials: the number of trials in all.
    """

    def __init__(self, searched: Searched, study: Study, folder: Path, trials: int) -> None:
        self._searched, self._study, self._folder, self._trials = searched, study, folder, trials
        self._running: dict[int, Proposal] = {}
        self._best = math.inf
        self._progress: SearchProgress

    def run(self, workers: Workers) -> Stop:
        """Runs the trials that are left, and returns why it was stopped, if it was."""
        records = self._study.records()
        self._best = min((each.loss for each in records if each.outcome == "finished" and each.loss), default=math.inf)
        try:
            with following_search(self._trials, len(records), workers.stop) as self._progress:
                known = f" of which {len(records)} ended earlier," if records else ""
                processes = _number(workers.number, "process", "processes")
                self._progress.say(f"{_number(self._trials, 'trial')},{known} by {processes}, in {self._folder}")
                with suppress(KeyboardInterrupt):  # the second Ctrl-C
                    workers.run(self)
        finally:
            for proposal in self._running.values():
                self._study.put_back(proposal)
        return self._progress.stop

    def next(self) -> Job | None:
        if self._progress.ended + len(self._running) >= self._trials:
            return None
        proposal = self._study.ask()
        self._running[proposal.number] = proposal
        folder = self._folder / f"trial-{proposal.number}"
        if proposal.again and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        self._searched.prepare(self._folder, folder)
        self._progress.begun(proposal.number)
        return Job(proposal.number, self._searched.options_of(proposal.values), folder)

    def validated(self, job: Job, number: int, loss: float) -> bool:
        self._progress.validated(job.number, number, loss)
        return self._study.report(self._running[job.number], number, loss)

    def ended(self, job: Job, summary: TrialSummary) -> None:
        proposal = self._running.pop(job.number)
        self._study.end(proposal, summary)
        loss = "" if summary.loss is None else f", validation {summary.loss:.4f}"
        best = ""
        if summary.outcome == "finished" and summary.loss is not None and summary.loss < self._best:
            self._best, best = summary.loss, ", the best so far"
        self._progress.has_ended(job.number, f"{summary.outcome}{loss}{best}  {_written(proposal)}")

    def failed(self, job: Job, reason: str) -> None:
        proposal = self._running.pop(job.number)
        self._study.fail(proposal, reason)
        self._progress.has_ended(job.number, f"failed: {reason}  {_written(proposal)}")


def _written(proposal: Proposal) -> str:
    return " ".join(f"{name.replace('_', '-')}={value_text(value)}" for name, value in proposal.values.items())


def _conclude(searched: Searched, study: Study, folder: Path) -> None:
    """Prints what was found, and the next commands."""
    records = study.records()
    best = best_of(records)
    run = folder / f"trial-{best.number}"
    print(f"\nthe best of {_number(len(records), 'trial')} ({outcomes(records)}):\n\n{table(records, study.space)}\n")
    print(f"files:       {'  '.join(map(str, write_search(records, study.space, folder)))}")
    print(f"try it with: {shlex.join([*program(), *searched.looking(run)])}")
    print(f"train with:  {shlex.join([*program(), *searched.typed(best.values)])}")


def _number(number: int, what: str, several: str | None = None) -> str:
    return f"{number} {what if number == 1 else several or what + 's'}"
