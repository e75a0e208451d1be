"""RAdam."""

import math

from tinygrad_lstm.backends.base import Backend

from .elementwise import Scratch, Update
from .moments import DecayingMoments
from .optimizer import Group, Parameters

__all__ = ["RAdam"]


class RAdam(DecayingMoments):
    """Adam whose first steps are not adaptive, because the mean of few squares has a large variance.

    m, v and m̂ are Adam's. With ρ∞ = 2 / (1 - β₂) - 1 and ρ = ρ∞ - 2 t β₂ᵗ / (1 - β₂ᵗ) at step t,

    p = p - lr · r · m̂ · √(1 - β₂ᵗ) / (√v + eps) if ρ > 5, and p = p - lr · m̂ otherwise, with
    r = √((ρ - 4)(ρ - 2) ρ∞ / ((ρ∞ - 4)(ρ∞ - 2) ρ)).

    Liu, Jiang, He, Chen, Liu, Gao and Han, "On the variance of the adaptive learning rate and beyond" (2020).

    Args:
        params: tensors, or groups of them; see `Optimizer`.
        lr: the learning rate.
        betas: β₁ and β₂, the decay rates of the running means.
        eps: added to the root.
        weight_decay: its product with the parameter is added to the gradient.
        decoupled_weight_decay: whether weights decay as in AdamW: p = p · (1 - lr · weight_decay).
        maximize: whether to increase the objective instead of decreasing it.

    Raises:
        TypeError, ValueError: as for `Optimizer`.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> radam = tg.optim.RAdam([x], lr=0.1)
    >>> for _ in range(200):
    ...     radam.zero_grad()
    ...     (x * x).backward()
    ...     radam.step()
    >>> abs(x.item()) < 0.01
    True
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def move(self, backend: Backend, update: Update, group: Group, scratch: Scratch) -> None:
        xp, (p, _, state) = backend.xp, update
        (beta1, beta2), step = (float(beta) for beta in group["betas"]), state["step"]
        rate, correction = float(group["lr"]) / (1 - beta1**step), 1 - beta2**step
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * step * beta2**step / correction

        part = scratch.like(backend, p, 0)
        if length > 5:
            rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            xp.sqrt(state["exp_avg_sq"], out=part)
            part += float(group["eps"])
            xp.divide(state["exp_avg"], part, out=part)
            part *= rate * math.sqrt(correction * rectified)
        else:
            xp.multiply(state["exp_avg"], rate, out=part)
        p -= part
