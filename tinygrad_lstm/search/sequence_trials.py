"""Trials of classifiers and regressors of sequences."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from ..estimators import SequenceClassifier, SequenceRegressor
from ..train import Progress, Summary, Trainer
from .pruning import Pruning

__all__ = ["SequenceTask"]

MODEL = "model.safetensors"
"""The file of a trial's estimator."""


@dataclass(frozen=True, eq=False)
class SequenceTask:
    """A classifier or a regressor of sequences, which trials fit with different parameters.

    A trial trains one network, on all sequences except those of `validation`, which it is validated with after each
    epoch. `fit` would train a second network on all sequences; a trial does not. The trial's folder has the
    checkpoints, and the estimator in `model.safetensors`, with the weights of the lowest validation loss.

    Args:
        estimator: has the parameters of all trials. Those of a trial replace some of them. The same sequences are used
            for validation in all trials. It is not changed.
        sequences: X of `fit`.
        targets: y of `fit`.
        about: what is saved with a trial's estimator, as `about_`.
        groups: `groups` of `fit`.

    Raises:
        ValueError: `random_state` of the estimator is not a seed, or `validation` is 0.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> X = np.random.default_rng(0).normal(size=(40, 6, 1))
    >>> estimator = tg.estimators.SequenceClassifier(hidden_size=4, epochs=3, random_state=0)
    >>> task = tg.search.SequenceTask(estimator, X, X[:, -1, 0] > 0)
    >>> trial = tg.search.run_trial(task, {"lr": 0.05, "cell": "gru_reset_after"})
    >>> trial.outcome, len(trial.losses)
    ('finished', 3)
    """

    estimator: SequenceClassifier | SequenceRegressor
    sequences: Sequence[HostArray] | HostArray
    targets: HostArray
    about: Mapping[str, Any] = field(default_factory=dict)
    groups: HostArray | None = None

    def __post_init__(self) -> None:
        name = type(self.estimator).__name__
        if not isinstance(self.estimator.random_state, int):
            raise ValueError(
                f"SequenceTask: expected a {name} whose random_state is a seed, got {self.estimator.random_state!r}"
            )
        if not self.estimator.validation:
            raise ValueError(
                f"SequenceTask: expected a {name} whose validation is above 0, by which trials are compared, got "
                f"{self.estimator.validation!r}"
            )

    def with_options(self, options: Mapping[str, Any]) -> SequenceClassifier | SequenceRegressor:
        """The estimator of a trial.

        Raises:
            TypeError, ValueError: a parameter is unknown or invalid.
        """
        estimator = type(self.estimator)(**self.estimator.get_params()).set_params(**options)
        estimator.check_parameters()
        return estimator

    def train(self, options: Mapping[str, Any], out: Path | None, pruning: Pruning) -> tuple[int, float]:
        """Trains an estimator, and saves it in a folder. Returns the steps and epochs."""
        estimator, following = self.with_options(options), _First(pruning)
        with warnings.catch_warnings(category=UserWarning, action="ignore"):  # that it was interrupted
            estimator.fit(self.sequences, self.targets, groups=self.groups, callbacks=[following], out=out)
        if following.summary is None:  # `fit` has caught it, to keep the best network
            raise KeyboardInterrupt
        if out is not None:
            estimator.about_ = dict(self.about)
            estimator.save(out / MODEL)
        return following.summary.step, following.summary.epoch


class _First:
    """A callback that follows the first training of a fit, which is validated, and stops the second at once."""

    def __init__(self, pruning: Pruning) -> None:
        self.pruning = pruning
        self.summary: Summary | None = None
        """How the first training ended."""

    def on_start(self, trainer: Trainer[Any]) -> None:
        if self.summary is not None:
            trainer.stop()

    def on_report(self, trainer: Trainer[Any], progress: Progress) -> None:
        if self.summary is None:
            self.pruning.on_report(trainer, progress)

    def on_end(self, trainer: Trainer[Any], summary: Summary) -> None:
        self.summary = self.summary or summary
