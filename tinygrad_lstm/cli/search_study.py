"""The trials of a search, which Optuna proposes and keeps in a file of the search's folder."""

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lstm.backends.installing import how_to_install

from ..io.atomic import write_atomically
from ..io.errors import shown
from ..search import TrialSummary
from .search_space import Choice, Range, Space

__all__ = ["Proposal", "Record", "Study", "check_optuna"]

JOURNAL = "journal.log"
"""The file of the trials, which Optuna's own tools read, too."""
STUDY = "search"
"""The study's name in it."""

WARMUP = 1 / 4
"""The part of a trial that is never pruned: early losses say little."""


def check_optuna() -> None:
    """Raises ValueError if Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ValueError(f"search: Optuna is not installed; {how_to_install('search')}") from error


@dataclass(frozen=True)
class Proposal:
    """The options of a trial that begins."""

    number: int
    values: Mapping[str, Any]
    again: bool
    """Whether it was begun before, and interrupted."""
    trial: Any = field(repr=False)
    """Optuna's object."""


@dataclass(frozen=True)
class Record:
    """A trial that has ended."""

    number: int
    values: Mapping[str, Any]
    outcome: str
    """That of the summary, or "failed"."""
    loss: float | None
    """The lowest validation loss; None if there was no validation."""
    losses: Mapping[int, float]
    """The losses by the numbers of their validations."""
    step: int
    seconds: float
    reason: str
    """Why it failed."""


class Study:
    """The trials of a search.

    The options of a trial depend on the seed, its number, and the trials that have ended before it, but not on
    interruptions.

    Args:
        folder: the folder of the search. If it has one already, that is continued.
        facts: what is searched, by names that users know.
        space: the options that vary.
        seed: the seed of the proposals.
        validations: the number of validations of a trial that is not pruned; 0 prunes none.

    Raises:
        ValueError: the folder has a different search, or its file is damaged.
        OSError: the file cannot be read or written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], space: Space, seed: int, validations: int) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        make = optuna.pruners
        self._optuna, self.space, self._seed = optuna, space, seed
        self.path = folder / JOURNAL
        is_new = not self.path.exists()
        if not is_new:
            self._repair()
        try:
            backend = JournalFileBackend(str(self.path), JournalFileOpenLock(str(self.path)))
            self._storage = JournalStorage(backend)
            pruner = make.MedianPruner(n_warmup_steps=math.ceil(WARMUP * validations)) if validations else None
            self._study = optuna.create_study(
                storage=self._storage, study_name=STUDY, pruner=pruner or make.NopPruner(), load_if_exists=True
            )
            earlier = self._study.user_attrs.get("facts")
        except OSError:
            raise
        except Exception as error:  # Optuna's errors for a damaged file are of many kinds
            raise ValueError(f"{self.path}: not the file of a search, or damaged ({error})") from error
        facts = json.loads(json.dumps({**facts, "--seed": seed, "--pruning": validations > 0, **_facts_of(space)}))
        if is_new or earlier is None:
            self._study.set_user_attr("facts", facts)
        elif earlier != facts:
            raise ValueError(f"{folder}: holds a different search: {_difference(earlier, facts)}; give another --out")
        for trial in self._study.get_trials(deepcopy=False):  # the process that ran them was killed
            if trial.state == optuna.trial.TrialState.RUNNING:
                self._put_back(trial._trial_id)

    def _repair(self) -> None:
        """Removes what a killed process has left: an incomplete last line, and a lock."""
        data = self.path.read_bytes()
        if data and not data.endswith(b"\n"):
            write_atomically(self.path, data[: data.rfind(b"\n") + 1])
        self.path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)

    def ask(self) -> Proposal:
        """The next trial: one that was interrupted, or a new one."""
        trials = self._study.get_trials(deepcopy=False)
        waiting = [each.number for each in trials if each.state == self._optuna.trial.TrialState.WAITING]
        number = min(waiting, default=len(trials))
        # A sampler for each trial: so its draws do not depend on what was drawn before an interruption.
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        with warnings.catch_warnings(action="ignore"):  # Optuna 4 calls the second argument experimental
            self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        trial = self._study.ask({name: self._distribution(values) for name, values in self.space.items()})
        return Proposal(trial.number, self._values(trial.params), bool(waiting), trial)

    def _distribution(self, values: Choice | Range) -> Any:
        make = self._optuna.distributions
        if isinstance(values, Choice):
            return make.CategoricalDistribution(values.values)
        if isinstance(values.low, int) and isinstance(values.high, int):
            return make.IntDistribution(values.low, values.high, values.log, int(values.step or 1))
        return make.FloatDistribution(values.low, values.high, values.log, values.step)

    def _values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        near = {name: values.near for name, values in self.space.items() if isinstance(values, Range)}
        return {name: near[name](drawn[name]) if name in near else drawn[name] for name in self.space if name in drawn}

    def report(self, proposal: Proposal, number: int, loss: float) -> bool:
        """Notes the loss of a validation, and returns whether the trial is to end."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # known from before an interruption
            proposal.trial.report(loss, number)
        return bool(proposal.trial.should_prune())

    def end(self, proposal: Proposal, summary: TrialSummary) -> None:
        """Notes how a trial has ended."""
        state = self._optuna.trial.TrialState
        about = {"outcome": summary.outcome, "step": summary.step, "seconds": round(summary.seconds, 3)}
        for name, value in about.items():
            proposal.trial.set_user_attr(name, value)
        if summary.outcome == "finished" and summary.loss is not None:
            self._study.tell(proposal.trial, summary.loss)
        else:
            self._study.tell(proposal.trial, state=state.PRUNED)

    def fail(self, proposal: Proposal, reason: str) -> None:
        """Notes that a trial has failed."""
        proposal.trial.set_user_attr("outcome", "failed")
        proposal.trial.set_user_attr("reason", reason)
        self._study.tell(proposal.trial, state=self._optuna.trial.TrialState.FAIL)

    def put_back(self, proposal: Proposal) -> None:
        """Notes that a trial was interrupted: the next one has its number and its options."""
        self._put_back(proposal.trial._trial_id)

    def _put_back(self, trial: int) -> None:
        self._storage.set_trial_state_values(trial, self._optuna.trial.TrialState.WAITING)

    def records(self) -> list[Record]:
        """The trials that have ended, by their numbers."""
        ended = [each for each in self._study.get_trials(deepcopy=False) if each.state.is_finished()]
        return [self._record(each) for each in sorted(ended, key=lambda each: each.number)]

    def _record(self, trial: Any) -> Record:
        about = trial.user_attrs
        return Record(
            number=trial.number,
            values=self._values(trial.params),
            outcome=str(about.get("outcome", "failed")),
            loss=min(trial.intermediate_values.values(), default=None),
            losses=trial.intermediate_values,
            step=int(about.get("step", 0)),
            seconds=float(about.get("seconds", 0.0)),
            reason=str(about.get("reason", "")),
        )


def _facts_of(space: Space) -> dict[str, str]:
    return {f"--space {name.replace('_', '-')}": str(values) for name, values in space.items()}


def _difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, in words."""
    names = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
    return ", ".join(f"{name} {_written(earlier.get(name))}, not {_written(now.get(name))}" for name in names)


def _written(value: Any) -> str:
    if value is None:
        return "none"
    text = str(value)
    return shown(text[:12] + "…") if len(text) == 64 else shown(text)[1:-1]
