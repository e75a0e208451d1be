"""Schedules that multiply the initial rate by a factor."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from ..optimizer import Optimizer
from .base import LRScheduler, Replacing, each_group, of_group, require

__all__ = ["ConstantLR", "ExponentialLR", "LambdaLR", "LinearLR", "MultiStepLR", "StepLR"]


class StepLR(LRScheduler):
    """Multiplies the rate by `gamma` every `step_size` steps.

    Raises:
        ValueError: `step_size` is below 1, or `gamma` not above 0.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        require(self, step_size >= 1, f"step_size must be 1 or more, got {step_size}")
        require(self, gamma > 0, f"gamma must be above 0, got {gamma}")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        return base_lr * self.gamma ** (epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """Multiplies the rate by `gamma` at each of `milestones`, which are numbers of steps.

    Raises:
        ValueError: a milestone is negative, or `gamma` not above 0.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.optim.lr_scheduler import MultiStepLR
    >>> sgd = tg.optim.SGD([tg.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = MultiStepLR(sgd, milestones=[2, 3], gamma=0.5)
    >>> for _ in range(4):
    ...     print(sgd.param_groups[0]["lr"])
    ...     schedule.step()
    1.0
    1.0
    0.5
    0.25
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1) -> None:
        self.milestones = sorted(milestones)
        require(self, min(self.milestones, default=0) >= 0, f"milestones must be 0 or more, got {self.milestones}")
        require(self, gamma > 0, f"gamma must be above 0, got {gamma}")
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        return base_lr * float(self.gamma ** bisect_right(self.milestones, epoch))


class ExponentialLR(LRScheduler):
    """Multiplies the rate by `gamma` at every step.

    Raises:
        ValueError: `gamma` is not above 0.
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        require(self, gamma > 0, f"gamma must be above 0, got {gamma}")
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        return base_lr * float(self.gamma**epoch)


class ConstantLR(LRScheduler):
    """`factor` times the rate for `total_iters` steps, then the rate.

    Raises:
        ValueError: `factor` is not within [0, 1], or `total_iters` below 1.
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5) -> None:
        require(self, 0 <= factor <= 1, f"factor must be within [0, 1], got {factor}")
        require(self, total_iters >= 1, f"total_iters must be 1 or more, got {total_iters}")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        return base_lr * (self.factor if epoch < self.total_iters else 1.0)


class LinearLR(LRScheduler):
    """Linear warm-up: from `start_factor` to `end_factor` times the rate in `total_iters` steps, then constant.

    Raises:
        ValueError: `start_factor` is not within (0, 1], `end_factor` not within [0, 1], or `total_iters` below 1.
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        require(self, 0 < start_factor <= 1, f"start_factor must be within (0, 1], got {start_factor}")
        require(self, 0 <= end_factor <= 1, f"end_factor must be within [0, 1], got {end_factor}")
        require(self, total_iters >= 1, f"total_iters must be 1 or more, got {total_iters}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        done = min(epoch, self.total_iters) / self.total_iters
        return base_lr * (self.start_factor + (self.end_factor - self.start_factor) * done)


class LambdaLR(Replacing):
    """The initial rate times what a function of the number of steps returns.

    As in PyTorch, each step replaces the rate. The state does not have the functions: make the schedule with the same
    ones before you load it.

    Args:
        optimizer: the optimizer.
        lr_lambda: the function, or a list with one for each group.

    Raises:
        TypeError: `lr_lambda` is not a function, or has an element that is not.
        ValueError: the list does not have one function for each group.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.optim.lr_scheduler import LambdaLR
    >>> sgd = tg.optim.SGD([tg.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = LambdaLR(sgd, lambda step: 1 / (1 + step))
    >>> schedule.step()
    >>> sgd.param_groups[0]["lr"]
    0.5
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        for function in lr_lambda if isinstance(lr_lambda, list | tuple) else [lr_lambda]:
            if not callable(function):
                raise TypeError(f"LambdaLR: lr_lambda must be a function, got {type(function).__name__}")
        self.lr_lambda = each_group(self, "lr_lambda", lr_lambda, optimizer)
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        return base_lr * float(of_group(self, "lr_lambda", self.lr_lambda, group)(epoch))
