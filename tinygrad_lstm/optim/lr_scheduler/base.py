"""What schedules share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..optimizer import Optimizer

__all__ = ["LRScheduler"]

V = TypeVar("V")


def require(schedule: object, holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(f"{type(schedule).__name__}: {message}")


def check_optimizer(schedule: object, optimizer: object) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(schedule).__name__}: expected an Optimizer, got {type(optimizer).__name__}")


def each_group(schedule: object, name: str, given: V | Sequence[V], optimizer: Optimizer) -> V | list[V]:
    """A setting that is one for all groups, or a list with one for each.

    Raises:
        ValueError: the list has a different length.
    """
    if not isinstance(given, list | tuple):
        return given  # type: ignore[return-value]
    check_optimizer(schedule, optimizer)
    groups = len(optimizer.param_groups)
    require(schedule, len(given) == groups, f"{name} has {len(given)} values, the optimizer has {groups} groups")
    return list(given)


def of_group(schedule: object, name: str, values: V | list[V], group: int) -> V:
    """One group's value of such a setting."""
    if not isinstance(values, list):
        return values
    require(schedule, group < len(values), f"{name} has {len(values)} values, group {group} was added later")
    return values[group]


def moved(lr: float, before: float, after: float, origin: float = 0.0) -> float:
    """The rate after the formula went from `before` to `after`: its distance to `origin` is scaled in the same way."""
    if lr == before:  # exactly the formula if nothing else changed the rate
        return after
    if before == origin:
        return lr + (after - before)
    return origin + (lr - origin) * ((after - origin) / (before - origin))


class LRScheduler(ABC):
    """A schedule defined by a formula: `rate` returns the learning rate after a number of steps.

    This is the rate if nothing else changes it. Otherwise each step scales the current rate as the formula changes; a
    `Replacing` schedule replaces it.
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
        check_optimizer(self, optimizer)
        self.optimizer = optimizer
        self.last_epoch = 0
        for number, (group, base_lr) in enumerate(zip(optimizer.param_groups, self.base_lrs, strict=True)):
            # Kept in the group, so that several schedules of one optimizer start from the same rate.
            group["initial_lr"] = base_lr
            group["lr"] = self.next_rate(0, base_lr, group["lr"], number)
        self.settle(0)

    @property
    def base_lrs(self) -> list[float]:
        """The initial learning rate of each group of the optimizer."""
        groups = self.optimizer.param_groups
        return [float(group["initial_lr"] if "initial_lr" in group else group["lr"]) for group in groups]

    @abstractmethod
    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        """The learning rate after `epoch` steps.

        Args:
            epoch: the number of steps.
            base_lr: the group's initial rate.
            group: the group's position in `param_groups`.
        """

    def next_rate(self, epoch: int, base_lr: float, lr: float, group: int) -> float:
        """The learning rate after step `epoch`, if it is `lr` before. The other arguments are those of `rate`."""
        return moved(lr, self._before(epoch, base_lr, group), self.rate(epoch, base_lr, group))

    def _before(self, epoch: int, base_lr: float, group: int) -> float:
        """The value of the formula before step `epoch`."""
        return self.rate(epoch - 1, base_lr, group) if epoch else base_lr

    def settle(self, epoch: int) -> None:  # noqa: B027
        """Sets settings that are not rates to their values after `epoch` steps. By default there are none."""

    def step(self) -> None:
        """Advances by one step, and changes the optimizer's rates."""
        epoch, groups, base_lrs = self.last_epoch + 1, self.optimizer.param_groups, self.base_lrs
        lrs = [
            self.next_rate(epoch, base_lr, group["lr"], number)
            if "initial_lr" in group
            else self.rate(epoch, base_lr, number)  # it was added after the last step
            for number, (group, base_lr) in enumerate(zip(groups, base_lrs, strict=True))
        ]
        for group, base_lr, lr in zip(groups, base_lrs, lrs, strict=True):
            group["initial_lr"], group["lr"] = base_lr, lr
        self.last_epoch = epoch
        self.settle(epoch)

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
        check_keys(self, state_dict, ("last_epoch", "base_lrs"))
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
        self.settle(last_epoch)


class Replacing(LRScheduler):
    """The base of schedules that replace the rate, as PyTorch's do, whatever else has changed it."""

    def next_rate(self, epoch: int, base_lr: float, lr: float, group: int) -> float:
        return self.rate(epoch, base_lr, group)


def check_keys(schedule: object, state_dict: Mapping[str, Any], keys: Sequence[str]) -> None:
    if missing := [key for key in keys if key not in state_dict]:
        raise ValueError(f"{type(schedule).__name__}: this is not its state, it lacks {', '.join(missing)}")
