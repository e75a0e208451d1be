"""`tinygrad-lstm search`."""

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..train.folder import RunFolder
from .interruption import say
from .search_commands import Searched, command_of
from .search_results import best_of, counted, outcomes, table, write_search
from .search_running import Search
from .search_space import described
from .search_study import Study, check_optuna
from .search_workers import started
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
            start = partial(started, searched.typed({}), seed, threads)
            stop = Search(searched, study, made, trials, workers, start).run()
            if stop.signal is not None or stop.failure is not None:
                again = [*program(), *sys.argv[1:], *([] if out else ["--out", str(made)])]
                say(f"interrupted; {made} keeps {len(study.records())} of {counted(trials, 'trial')}")
                say(f"continue with: {shlex.join(again)}")
                stop.end()
            _conclude(searched, study, made)


def _conclude(searched: Searched, study: Study, folder: Path) -> None:
    """Prints what was found, and the next commands."""
    records = study.records()
    best = best_of(records)
    run = folder / f"trial-{best.number}"
    print(f"\nthe best of {counted(len(records), 'trial')} ({outcomes(records)}):\n\n{table(records, study.space)}\n")
    print(f"files:       {'  '.join(map(str, write_search(records, study.space, folder)))}")
    print(f"try it with: {shlex.join([*program(), *searched.looking(run)])}")
    print(f"train with:  {shlex.join([*program(), *searched.typed(best.values)])}")
