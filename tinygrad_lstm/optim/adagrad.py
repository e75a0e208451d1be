"""Adagrad."""

import math
from collections.abc import Sequence
from typing import ClassVar

from tinygrad_lstm.backends.base import Backend

from .elementwise import ElementwiseOptimizer, Scratch, Update, decayed
from .optimizer import Group, Parameters

__all__ = ["Adagrad"]


class Adagrad(ElementwiseOptimizer):
    """Steps along the gradient divided by the root of the sum of its squares in all steps so far.

    s = s + g²;  p = p - lr / (1 + (t - 1) lr_decay) · g / (√s + eps), at step t.

    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization" (2011).

    Args:
        params: tensors, or groups of them; see `Optimizer`.
        lr: the learning rate.
        lr_decay: how fast the learning rate decays.
        weight_decay: its product with the parameter is added to the gradient.
        initial_accumulator_value: the initial value of s.
        eps: added to the root.
        maximize: whether to increase the objective instead of decreasing it.

    Raises:
        TypeError, ValueError: as for `Optimizer`.
    """

    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        **ElementwiseOptimizer.bounds,
        "lr_decay": (0.0, math.inf),
        "initial_accumulator_value": (0.0, math.inf),
        "eps": (0.0, math.inf),
    }

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def initial_state(self, group: Group) -> dict[str, int | float]:
        return {"step": 0, "sum": float(group["initial_accumulator_value"])}

    def update(self, backend: Backend, updates: Sequence[Update], group: Group, scratch: Scratch) -> None:
        xp = backend.xp
        for p, g, state in updates:
            lr = float(group["lr"]) / (1 + state["step"] * float(group["lr_decay"]))
            g = decayed(backend, p, g, group, scratch)
            total, part = state["sum"], scratch.like(backend, p, 0)

            total += xp.multiply(g, g, out=part)
            xp.sqrt(total, out=part)
            part += float(group["eps"])
            xp.divide(g, part, out=part)
            part *= lr
            p -= part
            state["step"] += 1
