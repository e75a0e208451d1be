"""Adam and AdamW."""

import math
from collections.abc import Sequence
from typing import ClassVar

from tinygrad_lstm.backends.base import Array, Backend

from .elementwise import Scratch, Update
from .moments import Moments
from .optimizer import Group, Parameters

__all__ = ["Adam", "AdamW"]


class Adam(Moments):
    """Steps along the running mean of the gradient divided by the root of the running mean of its square.

    m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  p = p - lr · m̂ / (√v̂ + eps), with m̂ = m / (1 - β₁ᵗ) and
    v̂ = v / (1 - β₂ᵗ) at step t.

    Kingma and Ba, "Adam: a method for stochastic optimization" (2015); AMSGrad: Reddi, Kale and Kumar, "On the
    convergence of Adam and beyond" (2018).

    Args:
        params: tensors, or groups of them; see `Optimizer`.
        lr: the learning rate.
        betas: β₁ and β₂, the decay rates of the running means.
        eps: added to the root.
        weight_decay: its product with the parameter is added to the gradient.
        amsgrad: whether to use the maximum of all v so far.
        maximize: whether to increase the objective instead of decreasing it.

    Raises:
        TypeError, ValueError: as for `Optimizer`.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> adam = tg.optim.Adam([x], lr=0.1)
    >>> for _ in range(200):
    ...     adam.zero_grad()
    ...     (x * x).backward()
    ...     adam.step()
    >>> abs(x.item()) < 0.01
    True
    """

    flags: ClassVar[tuple[str, ...]] = (*Moments.flags, "amsgrad")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def initial_state(self, group: Group) -> dict[str, int | float]:
        largest = {"max_exp_avg_sq": 0.0} if group["amsgrad"] else {}
        return {**super().initial_state(group), **largest}

    def decays(self, group: Group) -> tuple[float, float]:
        """The arguments `shrink` and `decay` of `Backend.adam_update`."""
        return 1.0, float(group["weight_decay"])

    def update(self, backend: Backend, updates: Sequence[Update], group: Group, scratch: Scratch) -> None:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * group["amsgrad"]
        by_step: dict[int, list[list[Array]]] = {}  # a parameter may have had no gradient in some steps
        for p, g, state in updates:
            by_step.setdefault(state["step"] + 1, []).append([p, g, *(state[name] for name in names)])
        for step, parameters in by_step.items():
            # m̂ / (√v̂ + eps), with both corrections moved into the scalars.
            root = math.sqrt(1 - beta2**step)
            rate = float(group["lr"]) * root / (1 - beta1**step)
            backend.adam_update(parameters, *self.decays(group), beta1, beta2, float(group["eps"]) * root, rate)
        for _, _, state in updates:
            state["step"] += 1


class AdamW(Adam):
    """Adam with decoupled weight decay: p = p · (1 - lr · weight_decay), not through the running means.

    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019). Arguments and errors are Adam's.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)

    def decays(self, group: Group) -> tuple[float, float]:
        return 1 - float(group["lr"]) * float(group["weight_decay"]), 0.0
