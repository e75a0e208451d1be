"""RMSprop."""

import math
from collections.abc import Sequence
from typing import ClassVar

from tinygrad_lstm.backends.base import Backend

from .elementwise import ElementwiseOptimizer, Scratch, Update, decayed
from .optimizer import Group, Parameters

__all__ = ["RMSprop"]


class RMSprop(ElementwiseOptimizer):
    """Steps along the gradient divided by the root of the running mean of its square.

    v = alpha · v + (1 - alpha) g²;  p = p - lr · g / (√v + eps).

    Tieleman and Hinton, "Lecture 6.5: rmsprop" (Neural networks for machine learning, 2012); centered: Graves,
    "Generating sequences with recurrent neural networks" (2013).

    Args:
        params: tensors, or groups of them; see `Optimizer`.
        lr: the learning rate.
        alpha: the decay rate of the running means.
        eps: added to the root.
        weight_decay: its product with the parameter is added to the gradient.
        momentum: if above 0, steps follow their running sum, with this decay rate.
        centered: whether to divide by the root of the running variance: v minus the square of the gradient's running
            mean.
        maximize: whether to increase the objective instead of decreasing it.

    Raises:
        TypeError, ValueError: as for `Optimizer`.
    """

    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        **ElementwiseOptimizer.bounds,
        "alpha": (0.0, 1.0),
        "eps": (0.0, math.inf),
        "momentum": (0.0, math.inf),
    }
    flags: ClassVar[tuple[str, ...]] = (*ElementwiseOptimizer.flags, "centered")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def initial_state(self, group: Group) -> dict[str, int | float]:
        names = ["square_avg"]
        names += ["momentum_buffer"] if group["momentum"] else []
        names += ["grad_avg"] if group["centered"] else []
        return dict.fromkeys(names, 0.0)

    def update(self, backend: Backend, updates: Sequence[Update], group: Group, scratch: Scratch) -> None:
        xp, alpha, momentum = backend.xp, float(group["alpha"]), float(group["momentum"])
        for p, g, state in updates:
            g = decayed(backend, p, g, group, scratch)
            v, part = state["square_avg"], scratch.like(backend, p, 0)

            xp.multiply(g, g, out=part)
            part *= 1 - alpha
            v *= alpha
            v += part
            if group["centered"]:
                mean = state["grad_avg"]
                xp.subtract(g, mean, out=part)
                part *= 1 - alpha
                mean += part
                xp.multiply(mean, mean, out=part)
                xp.subtract(v, part, out=part)
                # Rounding can make a variance near zero negative, and its root a NaN.
                v = xp.maximum(part, 0.0, out=part)

            xp.sqrt(v, out=part)
            part += float(group["eps"])
            direction = xp.divide(g, part, out=part)
            if momentum:
                steps = state["momentum_buffer"]
                steps *= momentum
                steps += direction
                direction = steps
            p -= xp.multiply(direction, float(group["lr"]), out=part)
