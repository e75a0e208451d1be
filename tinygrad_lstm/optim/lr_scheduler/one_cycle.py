"""The one-cycle policy."""

from collections.abc import Sequence
from typing import Literal

from ..optimizer import Optimizer
from .base import Replacing, check_optimizer, each_group, of_group, require
from .cosine import along_cosine

__all__ = ["OneCycleLR"]

Setting = float | Sequence[float]


class OneCycleLR(Replacing):
    """The rate rises to `max_lr` and falls to nearly 0, while the momentum falls and rises.

    As in PyTorch, each step replaces the rate and the momentum, which is `momentum` or the first of `betas`. Unlike
    PyTorch's, it leaves the groups' `initial_lr` unchanged.

    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates" (2019).

    Args:
        optimizer: the optimizer.
        max_lr: the highest rate, for all groups or a list with one for each.
        total_steps: the number of steps; by default `epochs` times `steps_per_epoch`.
        epochs: the number of epochs.
        steps_per_epoch: the number of steps of an epoch.
        pct_start: the share of the steps in which the rate rises.
        anneal_strategy: "cos" or "linear", how the rate moves.
        cycle_momentum: whether the momentum moves as well.
        base_momentum: the lowest momentum, for all groups or a list.
        max_momentum: the highest momentum, for all groups or a list.
        div_factor: the first rate is `max_lr / div_factor`.
        final_div_factor: the last rate is the first divided by this.
        three_phase: whether the rate falls to the first one in as many steps as it rose, and then to the last.

    Raises:
        ValueError: the number of steps is missing or below 1; `pct_start` is not within [0, 1]; `anneal_strategy` is
            unknown; a list does not have one value for each group; or the optimizer has no momentum and
            `cycle_momentum` is True. `step` raises it after more than `total_steps` steps.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.optim.lr_scheduler import OneCycleLR
    >>> sgd = tg.optim.SGD([tg.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    >>> schedule = OneCycleLR(sgd, max_lr=1.0, total_steps=5, pct_start=0.6)
    >>> for _ in range(5):
    ...     print(round(sgd.param_groups[0]["lr"], 4), round(sgd.param_groups[0]["momentum"], 4))
    ...     schedule.step()
    0.04 0.95
    0.52 0.9
    1.0 0.85
    0.5 0.9
    0.0 0.95
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: Setting,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: Setting = 0.85,
        max_momentum: Setting = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        check_optimizer(self, optimizer)
        if total_steps is None and epochs is not None and steps_per_epoch is not None:
            total_steps = epochs * steps_per_epoch
        require(self, total_steps is not None, "expected total_steps, or epochs and steps_per_epoch")
        assert total_steps is not None
        require(self, total_steps >= 1, f"total_steps must be 1 or more, got {total_steps}")
        require(self, 0 <= pct_start <= 1, f"pct_start must be within [0, 1], got {pct_start}")
        known = anneal_strategy in ("cos", "linear")
        require(self, known, f"anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        require(self, div_factor > 0, f"div_factor must be above 0, got {div_factor}")
        require(self, final_div_factor > 0, f"final_div_factor must be above 0, got {final_div_factor}")
        if cycle_momentum:
            moves = all("betas" in group or "momentum" in group for group in optimizer.param_groups)
            require(self, moves, "the optimizer has neither momentum nor betas; pass cycle_momentum=False")
        self.total_steps = total_steps
        self.pct_start = pct_start
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.max_lr = each_group(self, "max_lr", max_lr, optimizer)
        self.base_momentum = each_group(self, "base_momentum", base_momentum, optimizer)
        self.max_momentum = each_group(self, "max_momentum", max_momentum, optimizer)
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.three_phase = three_phase
        super().__init__(optimizer)

    def _between(self, epoch: int, low: float, high: float, end: float) -> float:
        """The value after `epoch` steps of what goes from `low` to `high`, perhaps to `low` again, and to `end`."""
        rise, last = self.pct_start * self.total_steps - 1, self.total_steps - 1.0
        ends, values = [0.0, rise, last], [low, high, end]
        if self.three_phase:
            ends, values = [0.0, rise, 2 * rise, last], [low, high, low, end]
        phase = next((k for k in range(1, len(ends) - 1) if epoch <= ends[k]), len(ends) - 1)
        length = ends[phase] - ends[phase - 1]
        share = (epoch - ends[phase - 1]) / length if length else 1.0
        start, stop = values[phase - 1 : phase + 1]
        return along_cosine(start, stop, share) if self.anneal_strategy == "cos" else start + (stop - start) * share

    def rate(self, epoch: int, base_lr: float, group: int) -> float:
        enough = f"there are {self.total_steps} steps in total, this would be step {epoch}"
        require(self, epoch <= self.total_steps, enough)
        highest = of_group(self, "max_lr", self.max_lr, group)
        first = highest / self.div_factor
        return self._between(epoch, first, highest, first / self.final_div_factor)

    def settle(self, epoch: int) -> None:
        for number, group in enumerate(self.optimizer.param_groups if self.cycle_momentum else ()):
            low = of_group(self, "base_momentum", self.base_momentum, number)
            high = of_group(self, "max_momentum", self.max_momentum, number)
            momentum = self._between(epoch, high, low, high)
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum
