"""Schedules along cosines."""

import math

from ..optimizer import Optimizer
from .base import LRScheduler, Replacing, moved, require

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts"]


class CosineAnnealingLR(LRScheduler):
    """From the initial rate down to `eta_min` along half a cosine of `T_max` steps, and then up again.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017).

    Raises:
        ValueError: `T_max` is below 1, or `eta_min` negative.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        require(self, T_max >= 1, f"T_max must be 1 or more, got {T_max}")
        require(self, eta_min >= 0, f"eta_min must be 0 or more, got {eta_min}")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        return along_cosine(base_lr, self.eta_min, epoch / self.T_max)

    def next_rate(self, epoch: int, base_lr: float, lr: float, group: int) -> float:
        return moved(lr, self._before(epoch, base_lr, group), self.rate(epoch, base_lr, group), self.eta_min)


class CosineAnnealingWarmRestarts(Replacing):
    """From the initial rate down to `eta_min` along half a cosine, then from the initial rate again, and so on.

    As in PyTorch, each step replaces the rate. PyTorch's `step(epoch)` with a fraction of an epoch is not there: call
    `step()` after each batch, with `T_0` in batches.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017).

    Args:
        optimizer: the optimizer.
        T_0: the number of steps until the first restart.
        T_mult: the number of steps until each later restart is this multiple of the number before.
        eta_min: the lowest rate.

    Raises:
        ValueError: `T_0` or `T_mult` is below 1, or `eta_min` negative.
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:
        require(self, T_0 >= 1, f"T_0 must be 1 or more, got {T_0}")
        require(self, T_mult >= 1, f"T_mult must be 1 or more, got {T_mult}")
        require(self, eta_min >= 0, f"eta_min must be 0 or more, got {eta_min}")
        self.T_0 = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        length = self.T_0
        if self.T_mult == 1:
            epoch %= length
        while epoch >= length:
            epoch -= length
            length *= self.T_mult
        return along_cosine(base_lr, self.eta_min, epoch / length)


def along_cosine(start: float, end: float, share: float) -> float:
    """The value after this share of the way from `start` to `end` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
