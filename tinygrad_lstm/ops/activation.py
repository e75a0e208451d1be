"""Activation functions. They are elementwise and keep the shape, except for `glu`.

At ±inf, values and derivatives are the limits, if they exist. NaN returns NaN. `tanh` is in `elementwise.py`.
"""

import math
from collections.abc import Callable
from typing import Any

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import DEFAULT_FLOAT, FLOAT16, limits
from tinygrad_lstm.backends.unflagged import unflagged

from .._tensor import Tensor, operand
from .clamping import clamp
from .define import composite, op
from .elementwise import erf, tanh, where
from .one_pass import one_pass
from .reduction import dim_of

__all__ = [
    "elu",
    "gelu",
    "glu",
    "hardsigmoid",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
]


@op(promotion="float", x=lambda g, out: g * (out * (1 - out)), one_pass=True, method=True)
def sigmoid(xp: Any, x: Array) -> Array:
    """The logistic function σ(x) = 1 / (1 + e⁻ˣ), accurate in both tails down to the smallest normal number."""
    # If e⁻ˣ overflows, σ(x) is below the smallest normal number, so 0 is right. In float16 it would overflow too soon.
    wide = x.astype(DEFAULT_FLOAT) if x.dtype == FLOAT16 else x
    e = unflagged(xp, xp.exp, xp.negative(wide))
    e += 1
    return xp.reciprocal(e).astype(x.dtype, copy=False)


@op(promotion="float", x=lambda g, x, F: g * F.sigmoid(x), one_pass=True)
def log1pexp(xp: Any, x: Array) -> Array:
    """log(1 + eˣ), without overflow."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


@composite
@one_pass
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta·x)) / beta, or x if beta·x is above `threshold`."""
    far = 2 * max(threshold, 1000.0) / (math.fabs(beta) or 1.0)  # nothing changes beyond it, and no product overflows
    scaled = x if beta == 1 else clamp(x, -far, far) * beta
    return where(scaled > threshold, x, log1pexp(scaled) / beta)


@composite
@one_pass
def logsigmoid(x: Tensor) -> Tensor:
    """log σ(x), without overflow."""
    return -log1pexp(-x)


@op(x=lambda g, x, F: F.where(x <= 0, 0, g), one_pass=True, method=True)
def relu(xp: Any, x: Array) -> Array:
    """max(x, 0). The derivative at 0 is 0; NaN stays NaN, with the derivative 1."""
    return xp.maximum(x, 0)


@composite
@one_pass
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x if x > 0, else negative_slope·x. The derivative at 0 is the slope."""
    if not negative_slope:
        return where(x <= 0, 0.0, x)  # 0·x is NaN at -inf
    return where(x > 0, x, x * negative_slope)


@op(
    promotion="float",
    x=lambda g, x, out, alpha, scale, F: g * F.where(x > 0, scale, out + alpha * scale),
    one_pass=True,
    name="elu",
)
def elu_op(xp: Any, x: Array, alpha: float, scale: float) -> Array:
    below = xp.expm1(xp.minimum(x, 0))
    below *= alpha
    below += xp.maximum(x, 0)
    return below if scale == 1 else below * scale


@composite
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x if x > 0, else alpha·(eˣ - 1) (Clevert et al. 2016). The derivative at 0 is alpha."""
    out: Tensor = elu_op(x, alpha, 1.0)
    return out


@composite
def selu(x: Tensor) -> Tensor:
    """1.0507·elu(x, alpha=1.6733), which keeps the mean 0 and the variance 1 of a layer (Klambauer et al. 2017)."""
    out: Tensor = elu_op(x, 1.6732632423543772, 1.0507009873554805)
    return out


@composite
def prelu(x: Tensor, weight: Any) -> Tensor:
    """x if x > 0, else weight·x (He et al. 2015). The derivative at 0 is the weight.

    Args:
        x: (B, C, ...), or of any shape if there is one weight.
        weight: a tensor: (C,), one weight for each channel; or one weight for all.

    Raises:
        ValueError: there are several weights, and x has a different number of channels.
    """
    weight = operand(weight, x.device)
    if weight.size != 1 and (weight.ndim != 1 or x.ndim < 2 or x.shape[1] != weight.size):
        raise ValueError(f"prelu: weight has shape {weight.shape}; expected one, or one for each channel of {x.shape}")
    weight = weight.reshape(-1, *[1] * (x.ndim - 2)) if weight.size != 1 else weight.reshape(())
    return x * where(x > 0, 1, weight)


@op(
    promotion="float",
    x=lambda g, x, min_val, max_val, F: F.where(F.logical_or(x <= min_val, x >= max_val), 0, g),
    one_pass=True,
    method=True,
)
def hardtanh(xp: Any, x: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """x limited to [min_val, max_val]. The derivative at the bounds and outside is 0; at NaN it is 1."""
    return xp.clip(x, min_val, max_val)


@composite
def relu6(x: Tensor) -> Tensor:
    """x limited to [0, 6]. The derivative at 0 and at 6 is 0."""
    return hardtanh(x, 0, 6)


@composite
@one_pass
def hardsigmoid(x: Tensor) -> Tensor:
    """(x + 3) / 6 limited to [0, 1]. The derivative at ±3 is 0."""
    return hardtanh(x + 3, 0, 6) / 6


def _softsign_rule(g: Any, x: Any, F: Any) -> Any:
    length = F.abs(x) + 1
    return g / length / length


@op(promotion="float", x=_softsign_rule, one_pass=True, method=True)
def softsign(xp: Any, x: Array) -> Array:
    """x / (1 + |x|)."""
    finite = xp.clip(x, *limits(x.dtype))
    return finite / (xp.abs(finite) + 1)


@composite
def glu(x: Tensor, dim: int = -1) -> Tensor:
    """a·σ(b) of the two halves a and b of x along `dim` (Dauphin et al. 2017).

    Raises:
        IndexError: `dim` is out of range.
        ValueError: the length along `dim` is odd or 0.
    """
    length = x.shape[dim_of("glu", dim, x.shape)]
    if length % 2 or not length:
        raise ValueError(f"glu: dim {dim} of shape {x.shape} has no two halves; expected an even length")
    a, b = x.split(length // 2, dim)
    return _gated(a, b)


@one_pass
def _gated(x: Tensor, gate: Tensor) -> Tensor:
    return x * sigmoid(gate)


def _until(x: Tensor, far: float, curve: Callable[[Tensor], Tensor]) -> Tensor:
    """A curve that equals 0 below -far and x above far, at ±inf too, where its formula returns NaN."""
    return where(x > far, x, curve(clamp(x, -far, far)))


@composite
@one_pass
def silu(x: Tensor) -> Tensor:
    """x·σ(x), also known as swish."""
    return _until(x, 1000.0, lambda x: x * sigmoid(x))


@composite
@one_pass
def mish(x: Tensor) -> Tensor:
    """x·tanh(log(1 + eˣ)) (Misra 2019)."""
    return _until(x, 1000.0, lambda x: x * tanh(log1pexp(x)))


@composite
@one_pass
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x·Φ(x) with Φ the normal distribution function (Hendrycks & Gimpel 2016); "tanh" approximates it.

    Raises:
        ValueError: `approximate` is neither "none" nor "tanh".
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is {approximate!r}; expected 'none' or 'tanh'")

    def curve(x: Tensor) -> Tensor:
        if approximate == "tanh":
            return x * 0.5 * (tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)) + 1)
        return x * 0.5 * (erf(x * math.sqrt(0.5)) + 1)

    return _until(x, 10.0, curve)
