"""Activation functions. They are elementwise and keep the shape.

At ±inf, values and derivatives are the limits, if they exist. NaN returns NaN. `tanh` is in `elementwise.py`.
"""

import math
from collections.abc import Callable
from typing import Any

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import DEFAULT_FLOAT, FLOAT16
from tinygrad_lstm.backends.unflagged import without_overflow_warning

from .._tensor import Tensor
from .define import composite, op
from .elementwise import clamp, erf, expm1, tanh, where

__all__ = [
    "elu",
    "gelu",
    "leaky_relu",
    "logsigmoid",
    "relu",
    "sigmoid",
    "silu",
    "softplus",
]


@op(promotion="float", x=lambda g, out: g * (out * (1 - out)), method=True)
def sigmoid(xp: Any, x: Array) -> Array:
    """The logistic function σ(x) = 1 / (1 + e⁻ˣ), accurate in both tails down to the smallest normal number."""
    # If e⁻ˣ overflows, σ(x) is below the smallest normal number, so 0 is right. In float16 it would overflow too soon.
    wide = x.astype(DEFAULT_FLOAT) if x.dtype == FLOAT16 else x
    e = without_overflow_warning(xp, xp.exp, xp.negative(wide))
    e += 1
    return xp.reciprocal(e).astype(x.dtype, copy=False)


@op(promotion="float", x=lambda g, x, F: g * F.sigmoid(x))
def log1pexp(xp: Any, x: Array) -> Array:
    """log(1 + eˣ), without overflow."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


@composite
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta·x)) / beta, or x if beta·x is above `threshold`."""
    far = 2 * max(threshold, 1000.0) / (math.fabs(beta) or 1.0)  # nothing changes beyond it, and no product overflows
    scaled = x if beta == 1 else clamp(x, -far, far) * beta
    return where(scaled > threshold, x, log1pexp(scaled) / beta)


@composite
def logsigmoid(x: Tensor) -> Tensor:
    """log σ(x), without overflow."""
    return -log1pexp(-x)


@op(x=lambda g, x, F: F.where(x <= 0, 0, g), method=True)
def relu(xp: Any, x: Array) -> Array:
    """max(x, 0). The derivative at 0 is 0; NaN stays NaN, with the derivative 1."""
    return xp.maximum(x, 0)


@composite
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x if x > 0, else negative_slope·x. The derivative at 0 is the slope."""
    if not negative_slope:
        return where(x <= 0, 0.0, x)  # 0·x is NaN at -inf
    return where(x > 0, x, x * negative_slope)


@composite
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x if x > 0, else alpha·(eˣ - 1) (Clevert et al. 2016). The derivative at 0 is alpha."""
    return where(x > 0, x, expm1(clamp(x, max=0)) * alpha)


def _until(x: Tensor, far: float, curve: Callable[[Tensor], Tensor]) -> Tensor:
    """A curve that equals 0 below -far and x above far, at ±inf too, where its formula returns NaN."""
    return where(x > far, x, curve(clamp(x, -far, far)))


@composite
def silu(x: Tensor) -> Tensor:
    """x·σ(x), also known as swish."""
    return _until(x, 1000.0, lambda x: x * sigmoid(x))


@composite
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
