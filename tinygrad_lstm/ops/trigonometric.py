"""Trigonometric and hyperbolic functions, and their inverses. They are elementwise, and angles are in radians.

At ±inf, values and derivatives are the limits, if they exist. NaN returns NaN. `tanh` is in `elementwise.py`.
"""

from typing import Any

from tinygrad_lstm.backends.base import Array

from .define import op
from .elementwise import in_dtype_of

__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cos",
    "cosh",
    "hypot",
    "sin",
    "sinh",
    "tan",
]


@op(promotion="float", x=lambda g, x, F: g * F.cos(x), method=True)
def sin(xp: Any, x: Array) -> Array:
    """The sine of x in radians."""
    return xp.sin(x)


@op(promotion="float", x=lambda g, x, F: g * F.neg(F.sin(x)), method=True)
def cos(xp: Any, x: Array) -> Array:
    """The cosine of x in radians."""
    return xp.cos(x)


@op(promotion="float", x=lambda g, out: g * (out * out + 1), method=True)
def tan(xp: Any, x: Array) -> Array:
    """The tangent of x in radians."""
    return xp.tan(x)


@op(promotion="float", x=lambda g, x, F: g / F.sqrt((1 - x) * (x + 1)), method=True)
def asin(xp: Any, x: Array) -> Array:
    """The angle in [-π/2, π/2] whose sine is x. The derivative at ±1 is infinite; outside [-1, 1] all is NaN."""
    return xp.arcsin(x)


@op(promotion="float", x=lambda g, x, F: F.neg(g) / F.sqrt((1 - x) * (x + 1)), method=True)
def acos(xp: Any, x: Array) -> Array:
    """The angle in [0, π] whose cosine is x. The derivative at ±1 is infinite; outside [-1, 1] all is NaN."""
    return xp.arccos(x)


def _atan_rule(g: Any, x: Any, F: Any) -> Any:
    length = F.hypot(x, 1)  # 1 + x² would overflow
    return g / length / length


@op(promotion="float", x=_atan_rule, method=True)
def atan(xp: Any, x: Array) -> Array:
    """The angle in [-π/2, π/2] whose tangent is x."""
    return xp.arctan(x)


def _turned_by(g: Any, other: Any, y: Any, x: Any, F: Any) -> Any:
    """g · other / (x² + y²), without overflow; 0 at the origin and at infinity."""
    other, x, y = in_dtype_of(g, other, x, y, F=F)
    x, y = F.abs(x), F.abs(y)
    longer = F.maximum(x, y)
    apart = F.logical_or(F.eq(longer, 0), F.isinf(longer))
    longer = F.where(apart, 1, longer)
    ratio = F.where(apart, 0, F.minimum(x, y)) / longer
    return F.where(apart, 0, g * (other / longer) / (ratio * ratio + 1) / longer)


@op(
    promotion="float",
    broadcasts=True,
    y=lambda g, y, x, F: _turned_by(g, x, y, x, F),
    x=lambda g, y, x, F: F.neg(_turned_by(g, y, y, x, F)),
    method=True,
)
def atan2(xp: Any, y: Array, x: Array) -> Array:
    """The angle in [-π, π] of the point (x, y), which is given as `atan2(y, x)`. The derivatives at (0, 0) are 0.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.arctan2(y, x)


def _turned(g: Any, x: Any, y: Any, of: Any, F: Any) -> Any:
    """g · y / (x² + y²) · `of`, the direction of x or of y; 0 at the origin."""
    length = F.hypot(x, y)
    return g * F.direction(y, x) * of / F.where(F.eq(length, 0), 1, length)


@op(
    promotion="float",
    broadcasts=True,
    x=lambda g, x, y, F: _turned(g, x, y, F.direction(y, x), F),
    y=lambda g, x, y, out, F: F.neg(_turned(g, x, y, out, F)),
)
def direction(xp: Any, x: Array, y: Array) -> Array:
    """x / √(x² + y²), without overflow; 0 at the origin."""
    return xp.sin(xp.arctan2(x, xp.abs(y)))


@op(
    promotion="float",
    broadcasts=True,
    x=lambda g, x, y, F: g * F.direction(*in_dtype_of(g, x, y, F=F)),
    y=lambda g, x, y, F: g * F.direction(*in_dtype_of(g, y, x, F=F)),
    one_pass=True,
    method=True,
)
def hypot(xp: Any, x: Array, y: Array) -> Array:
    """√(x² + y²), without overflow. The derivatives at (0, 0) are 0.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.hypot(x, y)


@op(promotion="float", x=lambda g, x, F: g * F.cosh(x), method=True)
def sinh(xp: Any, x: Array) -> Array:
    """The hyperbolic sine."""
    return xp.sinh(x)


@op(promotion="float", x=lambda g, x, F: g * F.sinh(x), method=True)
def cosh(xp: Any, x: Array) -> Array:
    """The hyperbolic cosine."""
    return xp.cosh(x)


@op(promotion="float", x=lambda g, x, F: g / F.hypot(x, 1), method=True)
def asinh(xp: Any, x: Array) -> Array:
    """The number whose hyperbolic sine is x."""
    return xp.arcsinh(x)


@op(promotion="float", x=lambda g, x, F: g / (F.sqrt(x - 1) * F.sqrt(x + 1)), method=True)
def acosh(xp: Any, x: Array) -> Array:
    """The number >= 0 whose hyperbolic cosine is x. The derivative at 1 is infinite; below 1 all is NaN."""
    return xp.arccosh(x)


@op(promotion="float", x=lambda g, x: g / ((1 - x) * (x + 1)), method=True)
def atanh(xp: Any, x: Array) -> Array:
    """The number whose hyperbolic tangent is x: infinite at ±1, and NaN outside [-1, 1]."""
    return xp.arctanh(x)
