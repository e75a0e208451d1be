"""The learning rate schedule of a run."""

import math
from collections.abc import Callable

from ..optim import Optimizer
from ..optim.lr_scheduler import LRScheduler
from .options import TrainingOptions

__all__ = ["RunSchedule"]

FINAL_SHARE = 1 / 50
"""The learning rate after the last step, as a fraction of the highest."""


class RunSchedule(LRScheduler):
    """A linear rise to `lr` over `warmup` steps, then a fall to a fiftieth of that after the last step.

    `TrainingOptions.schedule` says how it falls: in a line, along a cosine, or not at all. The fall starts from the
    present rate, whatever it is. So a run that is resumed with more steps continues from its last rate to the new end.

    Args:
        optimizer: the optimizer.
        options: their `steps` are the steps until the end of the run.
        steps_left: called before a step, returns the number of steps that the run still has time for.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.train import TrainingOptions
    >>> for name in ("linear", "cosine"):
    ...     adam = tg.optim.Adam([tg.zeros(1, requires_grad=True)], lr=1.0)
    ...     schedule = RunSchedule(adam, TrainingOptions(lr=1.0, warmup=2, steps=6, schedule=name))
    ...     rates = []
    ...     for _ in range(7):
    ...         rates.append(round(adam.param_groups[0]["lr"], 4))
    ...         schedule.step()
    ...     print(rates)
    [0.5, 0.75, 1.0, 0.755, 0.51, 0.265, 0.02]
    [0.5, 0.75, 1.0, 0.8565, 0.51, 0.1635, 0.02]
    """

    def __init__(
        self, optimizer: Optimizer, options: TrainingOptions, steps_left: Callable[[], float] = lambda: math.inf
    ) -> None:
        self._warmup = options.warmup
        self._steps = math.inf if options.steps is None else options.steps
        self._kind = options.schedule
        self._steps_left = steps_left
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        if epoch < self._warmup:
            return base_lr * (1 + (self._warmup - 1) * epoch / self._warmup) / self._warmup
        share = (epoch - self._warmup) / max(1, self._steps - self._warmup)
        return base_lr * (1 - (1 - FINAL_SHARE) * _fallen(self._kind, min(1.0, share)))

    def next_rate(self, epoch: int, base_lr: float, lr: float, group: int) -> float:
        left = self._steps - epoch + 1  # steps until the end, before this one
        if epoch <= self._warmup or left < 1 or self._kind == "constant":
            return super().next_rate(epoch, base_lr, lr, group)
        final = base_lr * FINAL_SHARE
        left = min(left, max(1.0, self._steps_left()))
        if self._kind == "linear":
            return lr + (final - lr) / left
        done = epoch - 1 - self._warmup
        before, after = (1 - _fallen(self._kind, steps / (done + left)) for steps in (done, done + 1))
        return final + (lr - final) * (after / before)


def _fallen(kind: str, share: float) -> float:
    """How much of the fall is done after this share of its steps."""
    return {"linear": share, "cosine": (1 - math.cos(math.pi * share)) / 2, "constant": 0.0}[kind]
