"""A schedule that follows a metric."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from ..optimizer import Optimizer
from .base import check_keys, check_optimizer, require

__all__ = ["ReduceLROnPlateau"]


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
        check_optimizer(self, optimizer)
        require(self, mode in ("min", "max"), f"mode must be 'min' or 'max', got {mode!r}")
        require(
            self, threshold_mode in ("rel", "abs"), f"threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}"
        )
        require(self, 0 < factor < 1, f"factor must be within (0, 1), got {factor}")
        require(self, patience >= 0, f"patience must be 0 or more, got {patience}")
        require(self, cooldown >= 0, f"cooldown must be 0 or more, got {cooldown}")
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
        check_keys(self, state_dict, _PLATEAU_STATE)
        for name in _PLATEAU_STATE:
            setattr(self, name, state_dict[name])


_PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
