"""Schedules one after the other."""

from bisect import bisect_right
from collections.abc import Sequence

from ..optimizer import Optimizer
from .base import LRScheduler, require

__all__ = ["SequentialLR"]


class SequentialLR(LRScheduler):
    """One schedule after the other; each counts from its own beginning.

    As in PyTorch, each starts from the optimizer's initial rate: earlier changes of the rate are discarded.

    Args:
        optimizer: the optimizer of all schedules.
        schedulers: the schedules; their own `step()` must not be called.
        milestones: the steps at which the second, the third, ... begin.

    Raises:
        TypeError: a schedule is not an `LRScheduler`.
        ValueError: the number of milestones is not that of schedules minus one, the milestones do not increase, or a
            schedule belongs to a different optimizer.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
    >>> sgd = tg.optim.SGD([tg.zeros(1, requires_grad=True)], lr=1.0)
    >>> warm_up = LinearLR(sgd, start_factor=0.5, total_iters=2)
    >>> schedule = SequentialLR(sgd, [warm_up, CosineAnnealingLR(sgd, T_max=2)], milestones=[2])
    >>> for _ in range(5):
    ...     print(round(sgd.param_groups[0]["lr"], 6))
    ...     schedule.step()
    0.5
    0.75
    1.0
    0.5
    0.0
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]) -> None:
        for scheduler in schedulers:
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(
                    f"SequentialLR: expected schedules that need no metric, got {type(scheduler).__name__}; "
                    "step a ReduceLROnPlateau on its own"
                )
        require(
            self,
            len(schedulers) == len(milestones) + 1,
            f"{len(schedulers)} schedules need {len(schedulers) - 1} milestones, got {len(milestones)}",
        )
        rises = all(before < after for before, after in zip([0, *milestones], milestones))
        require(self, rises, f"milestones must rise from above 0, got {list(milestones)}")
        own = all(scheduler.optimizer is optimizer for scheduler in schedulers)
        require(self, own, "every schedule must be of the same optimizer")
        self.schedulers = list(schedulers)
        self.milestones = list(milestones)
        for group in optimizer.param_groups:  # undoes the changes by the constructors of its schedules
            group["lr"] = group["initial_lr"]
        super().__init__(optimizer)

    def _turn(self, epoch: int) -> tuple[LRScheduler, int]:
        """The current schedule after `epoch` steps, and the number of steps since it began."""
        turn = bisect_right(self.milestones, epoch)
        return self.schedulers[turn], epoch - (self.milestones[turn - 1] if turn else 0)

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        schedule, own = self._turn(epoch)
        return schedule.rate(own, base_lr, group)

    def next_rate(self, epoch: int, base_lr: float, lr: float, group: int) -> float:
        schedule, own = self._turn(epoch)
        return schedule.next_rate(own, base_lr, lr, group) if own or not epoch else schedule.rate(0, base_lr, group)

    def settle(self, epoch: int) -> None:
        schedule, own = self._turn(epoch)
        schedule.settle(own)
