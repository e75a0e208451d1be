"""The learning rate schedule of a run."""

from ..optim import Optimizer
from ..optim.lr_scheduler import LRScheduler
from .options import TrainingOptions

__all__ = ["WarmupLinearDecay"]

FINAL_SHARE = 1 / 10
"""The learning rate after the last step, as a fraction of the highest."""


class WarmupLinearDecay(LRScheduler):
    """A linear rise to `lr` over `warmup` steps, then a linear fall to a tenth of that after the last step.

    The fall starts from the present rate, whatever it is. So a run that is resumed with more steps continues from its
    last rate, in a straight line to the new end.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.train import TrainingOptions
    >>> adam = tg.optim.Adam([tg.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = WarmupLinearDecay(adam, TrainingOptions(lr=1.0, warmup=2, steps=6))
    >>> for _ in range(7):
    ...     print(round(adam.param_groups[0]["lr"], 4))
    ...     schedule.step()
    0.5
    0.75
    1.0
    0.775
    0.55
    0.325
    0.1
    """

    def __init__(self, optimizer: Optimizer, options: TrainingOptions) -> None:
        self._warmup = options.warmup
        self._steps = options.steps
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        if epoch < self._warmup:
            return base_lr * (1 + (self._warmup - 1) * epoch / self._warmup) / self._warmup
        fallen = (epoch - self._warmup) / max(1, self._steps - self._warmup)
        return base_lr * (1 - (1 - FINAL_SHARE) * min(1.0, fallen))

    def next_rate(self, epoch: int, base_lr: float, lr: float, group: int) -> float:
        left = self._steps - epoch + 1  # steps until the end, before this one
        if epoch <= self._warmup or left < 1:
            return super().next_rate(epoch, base_lr, lr, group)
        final = base_lr * FINAL_SHARE
        return lr + (final - lr) / left
