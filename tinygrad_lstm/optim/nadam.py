"""NAdam."""

import math
from typing import ClassVar

from tinygrad_lstm.backends.base import Backend

from .elementwise import Number, Scratch, Update
from .moments import DecayingMoments
from .optimizer import Group, Parameters

__all__ = ["NAdam"]


class NAdam(DecayingMoments):
    """Adam with Nesterov's momentum: the step uses the mean that the next step would use.

    m and v are Adam's. With μₜ = β₁ (1 - ½ · 0.96^(t · momentum_decay)) and Mₜ = μ₁ μ₂ ⋯ μₜ,

    p = p - lr · (μₜ₊₁ m / (1 - Mₜ₊₁) + (1 - μₜ) g / (1 - Mₜ)) / (√v̂ + eps), with v̂ = v / (1 - β₂ᵗ) at step t.

    Dozat, "Incorporating Nesterov momentum into Adam" (2016).

    Args:
        params: tensors, or groups of them; see `Optimizer`.
        lr: the learning rate.
        betas: β₁ and β₂, the decay rates of the running means.
        eps: added to the root.
        weight_decay: its product with the parameter is added to the gradient.
        momentum_decay: how fast μ rises from β₁ / 2 to β₁.
        decoupled_weight_decay: whether weights decay as in AdamW: p = p · (1 - lr · weight_decay).
        maximize: whether to increase the objective instead of decreasing it.

    Raises:
        TypeError, ValueError: as for `Optimizer`.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> nadam = tg.optim.NAdam([x], lr=0.1)
    >>> for _ in range(200):
    ...     nadam.zero_grad()
    ...     (x * x).backward()
    ...     nadam.step()
    >>> abs(x.item()) < 0.01
    True
    """

    bounds: ClassVar[dict[str, tuple[float, float]]] = {**DecayingMoments.bounds, "momentum_decay": (0.0, math.inf)}

    def __init__(
        self,
        params: Parameters,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def initial_state(self, group: Group) -> dict[str, int | float]:
        return {**super().initial_state(group), "mu_product": Number(1.0)}

    def move(self, backend: Backend, update: Update, group: Group, scratch: Scratch) -> None:
        xp, (p, g, state) = backend.xp, update
        (beta1, beta2), lr, step = (float(beta) for beta in group["betas"]), float(group["lr"]), state["step"]
        decay = float(group["momentum_decay"])
        mu, next_mu = (beta1 * (1 - 0.5 * 0.96 ** (t * decay)) for t in (step, step + 1))
        state["mu_product"] *= mu

        root, part = scratch.like(backend, p, 0), scratch.like(backend, p, 2)
        xp.divide(state["exp_avg_sq"], 1 - beta2**step, out=root)
        xp.sqrt(root, out=root)
        root += float(group["eps"])
        for mean, share in (
            (g, (1 - mu) / (1 - state["mu_product"])),
            (state["exp_avg"], next_mu / (1 - state["mu_product"] * next_mu)),
        ):
            xp.multiply(mean, lr * share, out=part)
            part /= root
            p -= part
