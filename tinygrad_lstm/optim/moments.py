"""What Adam and its kind share: running means of the gradient and of its square."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from tinygrad_lstm.backends import moments
from tinygrad_lstm.backends.base import Backend

from .elementwise import ElementwiseOptimizer, Scratch, Update, decayed
from .optimizer import Group

__all__ = ["Moments"]


class Moments(ElementwiseOptimizer):
    """The base of Adam, NAdam and RAdam: the settings `betas` and `eps`, and the state of each parameter."""

    bounds: ClassVar[dict[str, tuple[float, float]]] = {**ElementwiseOptimizer.bounds, "eps": (0.0, math.inf)}

    def check_settings(self, settings: Group) -> None:
        super().check_settings(settings)
        betas = settings["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"{self._name}: betas must be two numbers, got {betas!r}")
        for beta in betas:
            self._check_number("betas", beta, (0.0, 1.0))

    def initial_state(self, group: Group) -> dict[str, int | float]:
        return {"step": 0, "exp_avg": 0.0, "exp_avg_sq": 0.0}


class DecayingMoments(Moments):
    """The base of NAdam and RAdam: the weight decay is either added to the gradient or decoupled from it."""

    flags: ClassVar[tuple[str, ...]] = (*Moments.flags, "decoupled_weight_decay")

    def update(self, backend: Backend, updates: Sequence[Update], group: Group, scratch: Scratch) -> None:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        for p, given, state in updates:
            if group["decoupled_weight_decay"]:
                g = given
                p *= 1 - float(group["lr"]) * float(group["weight_decay"])
            else:
                g = decayed(backend, p, given, group, scratch)
            part = scratch.like(backend, p, 0)
            moments.follow(backend.xp, g, state["exp_avg"], state["exp_avg_sq"], beta1, beta2, part)
            state["step"] += 1
            self.move(backend, Update(p, g, state), group, scratch)

    @abstractmethod
    def move(self, backend: Backend, update: Update, group: Group, scratch: Scratch) -> None:
        """Changes one parameter, after its running means and its counter. Scratch 0 and 2 may be overwritten."""
