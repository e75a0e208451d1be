"""Ends a training early that does not promise enough."""

from collections.abc import Callable
from typing import Any

from ..train import Progress

__all__ = ["Pruning", "Report"]

Report = Callable[[int, float], bool]
"""Called with the number of a validation, from 1, and its loss. Returns whether the training is to end."""


class Pruning:
    """A callback that stops a training when a function of its validation losses says so.

    The training is stopped as by `Trainer.stop`, so that it can be resumed.

    Args:
        report: called after each validation with its number, from 1, and its loss. Returns whether to stop. None
            never stops.

    >>> import tinygrad_lstm as tg
    >>> model = tg.nn.Linear(1, 1)
    >>> pruning = tg.search.Pruning(lambda number, loss: number == 3)
    >>> trainer = tg.train.Trainer(
    ...     model,
    ...     lambda model, batch, carry: (model(batch).square().mean(), None),
    ...     tg.optim.SGD(model.parameters(), lr=0.0),
    ...     callbacks=[pruning],
    ... )
    >>> trainer.fit([tg.ones(1)], validation=[tg.ones(1)], epochs=100).epoch
    3.0
    >>> pruning.pruned, len(pruning.losses)
    (True, 3)

    With Optuna:

        def report(number, loss):
            trial.report(loss, number)
            return trial.should_prune()
    """

    def __init__(self, report: Report | None = None) -> None:
        self.report = report
        self.losses: list[float] = []
        """The losses of the validations."""
        self.pruned = False
        """Whether the training was stopped."""

    def on_report(self, trainer: Any, progress: Progress) -> None:
        if progress.validation_loss is None:
            return
        self.losses.append(progress.validation_loss)
        if self.report is not None and self.report(len(self.losses), progress.validation_loss):
            self.pruned = True
            trainer.stop()
