"""Schedules: learning rates that change during training.

A schedule starts from the learning rates of its optimizer's groups. Its `step()` is called once an epoch, or once a
step, after the optimizer's.

As in PyTorch, a step changes the current rate instead of replacing it. So several schedules of one optimizer compose, a
`ReduceLROnPlateau` beside a warm-up keeps its reductions, and a rate that was set by hand stays.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .optimizer import Optimizer

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LinearLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


def _require(schedule: object, holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(f"{type(schedule).__name__}: {message}")


def _moved(lr: float, before: float, after: float, origin: float = 0.0) -> float:
    """The rate after the formula went from `before` to `after`: its distance to `origin` is scaled in the same way."""
    if lr == before:  # exactly the formula if nothing else changed the rate
        return after
    if before == origin:
        return lr + (after - before)
    return origin + (lr - origin) * ((after - origin) / (before - origin))


class LRScheduler(ABC):
    """A schedule defined by a formula: `rate` returns the learning rate after a number of steps.

    This is the rate if nothing else changes it. Otherwise each step scales the current rate as the formula changes.
    A group that is added to the optimizer later takes part from the next step on, and starts from its rate then.

    Attributes:
        last_epoch: the number of calls of `step()`.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.optim.lr_scheduler import ExponentialLR, StepLR
    >>> sgd = tg.optim.SGD([tg.zeros(1, requires_grad=True)], lr=1.0)
    >>> falling, halved = ExponentialLR(sgd, gamma=0.9), StepLR(sgd, step_size=2, gamma=0.5)
    >>> for _ in range(4):
    ...     falling.step()
    ...     halved.step()
    ...     print(round(sgd.param_groups[0]["lr"], 6))
    0.9
    0.405
    0.3645
    0.164025
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.last_epoch = 0
        for group, base_lr in zip(optimizer.param_groups, self.base_lrs, strict=True):
            # Kept in the group, so that several schedules of one optimizer start from the same rate.
            group["initial_lr"] = base_lr
            group["lr"] = self.next_rate(0, base_lr, group["lr"])

    @property
    def base_lrs(self) -> list[float]:
        """The initial learning rate of each group of the optimizer."""
        groups = self.optimizer.param_groups
        return [float(group["initial_lr"] if "initial_lr" in group else group["lr"]) for group in groups]

    @abstractmethod
    def rate(self, epoch: int, base_lr: float) -> float:
        """The learning rate after `epoch` steps of a group whose initial rate is `base_lr`."""

    def next_rate(self, epoch: int, base_lr: float, lr: float) -> float:
        """The learning rate after step `epoch` of a group whose rate before it is `lr`."""
        return _moved(lr, self._before(epoch, base_lr), self.rate(epoch, base_lr))

    def _before(self, epoch: int, base_lr: float) -> float:
        """The value of the formula before step `epoch`."""
        return self.rate(epoch - 1, base_lr) if epoch else base_lr

    def step(self) -> None:
        """Advances by one step, and changes the optimizer's rates."""
        self.last_epoch += 1
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            if "initial_lr" in group:
                group["lr"] = self.next_rate(self.last_epoch, base_lr, group["lr"])
            else:  # it was added after the last step
                group["initial_lr"], group["lr"] = base_lr, self.rate(self.last_epoch, base_lr)

    def get_last_lr(self) -> list[float]:
        """The current rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The state of the schedule and the current rates, as plain values, without the constructor's settings."""
        return {"last_epoch": self.last_epoch, "base_lrs": self.base_lrs, "lrs": self.get_last_lr()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores a state from `state_dict`, with its rates.

        Raises:
            ValueError: the state is not a schedule's, or has a different number of groups.
        """
        _check_keys(self, state_dict, ("last_epoch", "base_lrs"))
        last_epoch, base_lrs = int(state_dict["last_epoch"]), [float(lr) for lr in state_dict["base_lrs"]]
        lrs = [float(lr) for lr in state_dict.get("lrs", self.get_last_lr())]  # a state without them leaves these
        groups = self.optimizer.param_groups
        if not len(base_lrs) == len(lrs) == len(groups):
            raise ValueError(
                f"{type(self).__name__}: the state is of {len(base_lrs)} groups, the optimizer has {len(groups)}"
            )
        for group, base_lr, lr in zip(groups, base_lrs, lrs, strict=True):
            group["initial_lr"], group["lr"] = base_lr, lr
        self.last_epoch = last_epoch


def _check_keys(schedule: object, state_dict: Mapping[str, Any], keys: Sequence[str]) -> None:
    if missing := [key for key in keys if key not in state_dict]:
        raise ValueError(f"{type(schedule).__name__}: this is not its state, it lacks {', '.join(missing)}")


class StepLR(LRScheduler):
    """Multiplies the rate by `gamma` every `step_size` steps.

    Raises:
        ValueError: `step_size` is below 1, or `gamma` not above 0.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        _require(self, step_size >= 1, f"step_size must be 1 or more, got {step_size}")
        _require(self, gamma > 0, f"gamma must be above 0, got {gamma}")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float) -> float:
        return base_lr * self.gamma ** (epoch // self.step_size)


class ExponentialLR(LRScheduler):
    """Multiplies the rate by `gamma` at every step.

    Raises:
        ValueError: `gamma` is not above 0.
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        _require(self, gamma > 0, f"gamma must be above 0, got {gamma}")
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float) -> float:
        return base_lr * float(self.gamma**epoch)


class CosineAnnealingLR(LRScheduler):
    """From the initial rate down to `eta_min` along half a cosine of `T_max` steps, and then up again.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017).

    Raises:
        ValueError: `T_max` is below 1, or `eta_min` negative.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        _require(self, T_max >= 1, f"T_max must be 1 or more, got {T_max}")
        _require(self, eta_min >= 0, f"eta_min must be 0 or more, got {eta_min}")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float) -> float:
        return self.eta_min + (base_lr - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2

    def next_rate(self, epoch: int, base_lr: float, lr: float) -> float:
        return _moved(lr, self._before(epoch, base_lr), self.rate(epoch, base_lr), self.eta_min)


class LinearLR(LRScheduler):
    """Linear warm-up: from `start_factor` to `end_factor` times the rate in `total_iters` steps, then constant.

    Raises:
        ValueError: `start_factor` is not within (0, 1], `end_factor` not within [0, 1], or `total_iters` below 1.
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        _require(self, 0 < start_factor <= 1, f"start_factor must be within (0, 1], got {start_factor}")
        _require(self, 0 <= end_factor <= 1, f"end_factor must be within [0, 1], got {end_factor}")
        _require(self, total_iters >= 1, f"total_iters must be 1 or more, got {total_iters}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def rate(self, epoch: int, base_lr: float) -> float:
        done = min(epoch, self.total_iters) / self.total_iters
        return base_lr * (self.start_factor + (self.end_factor - self.start_factor) * done)


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
        _require(
            self,
            len(schedulers) == len(milestones) + 1,
            f"{len(schedulers)} schedules need {len(schedulers) - 1} milestones, got {len(milestones)}",
        )
        rises = all(before < after for before, after in zip([0, *milestones], milestones))
        _require(self, rises, f"milestones must rise from above 0, got {list(milestones)}")
        own = all(scheduler.optimizer is optimizer for scheduler in schedulers)
        _require(self, own, "every schedule must be of the same optimizer")
        self.schedulers = list(schedulers)
        self.milestones = list(milestones)
        for group in optimizer.param_groups:  # undoes the changes by the constructors of its schedules
            group["lr"] = group["initial_lr"]
        super().__init__(optimizer)

    def _turn(self, epoch: int) -> tuple[LRScheduler, int]:
        """The current schedule after `epoch` steps, and the number of steps since it began."""
        turn = bisect_right(self.milestones, epoch)
        return self.schedulers[turn], epoch - (self.milestones[turn - 1] if turn else 0)

    def rate(self, epoch: int, base_lr: float) -> float:
        schedule, own = self._turn(epoch)
        return schedule.rate(own, base_lr)

    def next_rate(self, epoch: int, base_lr: float, lr: float) -> float:
        schedule, own = self._turn(epoch)
        return schedule.next_rate(own, base_lr, lr) if own or not epoch else schedule.rate(0, base_lr)


class ReduceLROnPlateau:
    """Multiplies the rates by `factor` when a metric has not improved for more than `patience` steps.

    Args:
        optimizer: the optimizer.
        mode: "min" if a lower metric is better, "max" if a higher one is.
        factor: the factor of the rates.
        patience: the number of steps without improvement before a reduction.
        threshold: the smallest change that is an improvement. The first metric is an improvement unless it is NaN or
            the worst value: inf with "min", -inf with "max".
        threshold_mode: "rel" for a threshold relative to the best metric so far, "abs" for an absolute one.
        cooldown: the number of steps after a reduction that do not count.
        min_lr: the lower bound of the rates.
        eps: smaller changes of a rate are skipped.

    Raises:
        ValueError: `mode` or `threshold_mode` is invalid; `factor` is not within (0, 1); `patience` or `cooldown` is
            negative.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"ReduceLROnPlateau: expected an Optimizer, got {type(optimizer).__name__}")
        _require(self, mode in ("min", "max"), f"mode must be 'min' or 'max', got {mode!r}")
        _require(
            self, threshold_mode in ("rel", "abs"), f"threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}"
        )
        _require(self, 0 < factor < 1, f"factor must be within (0, 1), got {factor}")
        _require(self, patience >= 0, f"patience must be 0 or more, got {patience}")
        _require(self, cooldown >= 0, f"cooldown must be 0 or more, got {cooldown}")
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.eps = eps
        self.best: float | None = None
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch = 0

    def step(self, metric: float) -> None:
        """Records the metric's new value, and reduces the rates if it has not improved for long enough."""
        metric = float(metric)
        self.last_epoch += 1
        if self._is_better(metric):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0

    def _is_better(self, metric: float) -> bool:
        worst = math.inf if self.mode == "min" else -math.inf
        if self.best is None or self.best == worst:
            return metric != worst and not math.isnan(metric)
        by = self.threshold if self.threshold_mode == "abs" else self.threshold * abs(self.best)
        return metric < self.best - by if self.mode == "min" else metric > self.best + by

    def _reduce(self) -> None:
        for group in self.optimizer.param_groups:
            reduced = max(group["lr"] * self.factor, self.min_lr)
            if group["lr"] - reduced > self.eps:
                group["lr"] = reduced

    def get_last_lr(self) -> list[float]:
        """The current rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The state of the schedule, as plain values. The rates are part of the optimizer's state."""
        return {name: getattr(self, name) for name in _PLATEAU_STATE}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores a state from `state_dict`. The rates are part of the optimizer's state.

        Raises:
            ValueError: the state is not a `ReduceLROnPlateau`'s.
        """
        _check_keys(self, state_dict, _PLATEAU_STATE)
        for name in _PLATEAU_STATE:
            setattr(self, name, state_dict[name])


_PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
