"""Stochastic gradient descent."""

import math
from collections.abc import Sequence
from typing import ClassVar

from tinygrad_lstm.backends.base import Array, Backend

from .elementwise import ElementwiseOptimizer, Scratch, Update
from .optimizer import Group, Parameters

__all__ = ["SGD"]


class SGD(ElementwiseOptimizer):
    """Steps along the gradient, or along its running sum: p = p - lr · b, with b = momentum · b + g.

    Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning" (2013), in
    the form in which b does not contain the learning rate.

    Args:
        params: tensors, or groups of them; see `Optimizer`.
        lr: the learning rate.
        momentum: the decay rate of b; if 0, b is g.
        dampening: the gradients after the first are multiplied by (1 - dampening) in b.
        weight_decay: its product with the parameter is added to the gradient.
        nesterov: whether to step along g + momentum · b.
        maximize: whether to increase the objective instead of decreasing it.

    Raises:
        TypeError: as for `Optimizer`.
        ValueError: as for `Optimizer`; or `nesterov` without momentum, or with dampening.
    """

    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        **ElementwiseOptimizer.bounds,
        "momentum": (0.0, math.inf),
        "dampening": (-math.inf, math.inf),
    }
    flags: ClassVar[tuple[str, ...]] = (*ElementwiseOptimizer.flags, "nesterov")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check_settings(self, settings: Group) -> None:
        super().check_settings(settings)
        if settings["nesterov"] and (not settings["momentum"] or settings["dampening"]):
            raise ValueError("SGD: nesterov needs a momentum above 0, and no dampening")

    def initial_state(self, group: Group) -> dict[str, int | float]:
        return {"step": 0, "momentum_buffer": 0.0} if group["momentum"] else {}

    def update(self, backend: Backend, updates: Sequence[Update], group: Group, scratch: Scratch) -> None:
        momentum, decay, rate = (float(group[name]) for name in ("momentum", "weight_decay", "lr"))
        if not momentum:
            backend.sgd_update([(p, g) for p, g, _ in updates], decay, 0.0, 1.0, rate, False)
            return
        by_share: dict[float, list[tuple[Array, ...]]] = {}  # by the factor of the gradient in the running sum
        for p, g, state in updates:
            share = 1 - float(group["dampening"]) if state["step"] else 1.0
            by_share.setdefault(share, []).append((p, g, state["momentum_buffer"]))
        for share, parameters in by_share.items():
            backend.sgd_update(parameters, decay, momentum, share, rate, group["nesterov"])
        for _, _, state in updates:
            state["step"] += 1
