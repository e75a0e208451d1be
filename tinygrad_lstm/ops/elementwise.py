"""Arithmetic and elementary functions: each output element depends on the same element of the (broadcast) inputs.

Ops of one input keep its shape. Ops of several inputs broadcast as NumPy does, and raise ValueError if the shapes do
not broadcast.

At ±inf, values and derivatives are the limits, if they exist. NaN returns NaN. `maximum`, `minimum` and `relu`
pass the gradient to an input that is NaN.

The derivatives of `sqrt`, `log`, `div` and `pow` at 0 may be infinite or undefined. See `where` for how to avoid them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import (
    DType,
    checked_dtype,
    float_dtype,
    is_float,
    limits,
)

from .._tensor import Tensor
from .define import composite, op
from .operation import Op

__all__ = [
    "abs",
    "add",
    "astype",
    "clone",
    "erf",
    "exp",
    "expm1",
    "lerp",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "maximum",
    "minimum",
    "mul",
    "nan_to_num",
    "neg",
    "pow",
    "reciprocal",
    "rsqrt",
    "sign",
    "sqrt",
    "square",
    "sub",
    "tanh",
    "where",
]

# -- one input, any dtype ----------------------------------------------------------------------------------------------


@op(x=lambda g, F: F.neg(g), method=True)
def neg(xp: Any, x: Array) -> Array:
    """-x.

    Raises:
        TypeError: x is bool.
    """
    return xp.negative(x)


@op(x=lambda g, x, F: g * F.sign(x), method=True)
def abs(xp: Any, x: Array) -> Array:
    """|x|. The derivative at 0 is 0."""
    return xp.abs(x)


@op(x=lambda g, F: F.zeros_like(g), method=True)
def sign(xp: Any, x: Array) -> Array:
    """-1, 0 or 1 if x is negative, zero or positive. The derivative is 0.

    Raises:
        TypeError: x is bool.
    """
    return xp.sign(x)


@op(x=lambda g, x, F: g * (2 * x), method=True)
def square(xp: Any, x: Array) -> Array:
    """x²."""
    return xp.square(x)


@op(x=lambda g, x, F: F.where(F.isfinite(x), g, 0), name="nan_to_num")
def nan_to_num_op(xp: Any, x: Array, nan: float, posinf: float, neginf: float) -> Array:
    return xp.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


@composite
def nan_to_num(x: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """x with NaN, inf and -inf replaced by numbers. The derivative there is 0.

    None means the largest finite number of the dtype, and the lowest. Integers are unchanged.
    """
    low, high = limits(x.dtype)
    return nan_to_num_op(x, nan, high if posinf is None else posinf, low if neginf is None else neginf)


@op(x=lambda g, F: F.zeros_like(g))
def zeros_like(xp: Any, x: Array) -> Array:
    """Zeros of x's shape and dtype."""
    return xp.zeros_like(x)


@op()
def ones_like(xp: Any, x: Array) -> Array:
    """Ones of x's shape and dtype."""
    return xp.ones_like(x)


@op(x=lambda g: g, method=True)
def clone(xp: Any, x: Array) -> Array:
    """A copy of x, through which gradients flow."""
    return x.copy()


@op(x=lambda g, original, F: F.astype_op(g, original, g.dtype), name="astype")
def astype_op(xp: Any, x: Array, dtype: DType, original: DType) -> Array:
    """x in a different dtype; `original` is its own."""
    return x.astype(dtype)


@composite
def astype(x: Tensor, dtype: DType) -> Tensor:
    """x in a different dtype; the gradient has x's dtype. Integers and bool have no gradient.

    Raises:
        TypeError: the dtype is not supported.
    """
    dtype = checked_dtype(dtype)
    if dtype == x.dtype:
        return x
    return astype_op(x if is_float(dtype) else x.detach(), dtype, x.dtype)


def in_dtype(call: Callable[..., Tensor], dtype: DType, x: Any, *settings: Any) -> Tensor:
    """An op with torch's `dtype=`, which casts x first; the result of integers has this dtype, too.

    Raises:
        TypeError: the op computes floats, and `dtype` is not a float.
    """
    op: Op = call.op  # type: ignore[attr-defined]
    if op.promotion == "float":
        float_dtype(op.name, dtype)
    return astype(call(astype(x, dtype), *settings), dtype)


# -- one input, to float -----------------------------------------------------------------------------------------------


@op(promotion="float", x=lambda g, out: g * out, method=True)
def exp(xp: Any, x: Array) -> Array:
    """eˣ."""
    return xp.exp(x)


@op(promotion="float", x=lambda g, out: g * (out + 1), method=True)
def expm1(xp: Any, x: Array) -> Array:
    """eˣ - 1, accurate near 0."""
    return xp.expm1(x)


@op(promotion="float", x=lambda g, x: g / x, method=True)
def log(xp: Any, x: Array) -> Array:
    """The natural logarithm."""
    return xp.log(x)


@op(promotion="float", x=lambda g, x: g / (x + 1), method=True)
def log1p(xp: Any, x: Array) -> Array:
    """The natural logarithm of 1 + x, accurate near 0."""
    return xp.log1p(x)


@op(promotion="float", x=lambda g, x: g * (1 / math.log(2)) / x, method=True)
def log2(xp: Any, x: Array) -> Array:
    """The logarithm to base 2."""
    return xp.log2(x)


@op(promotion="float", x=lambda g, x: g * (1 / math.log(10)) / x, method=True)
def log10(xp: Any, x: Array) -> Array:
    """The logarithm to base 10."""
    return xp.log10(x)


@op(promotion="float", x=lambda g, out: g / (out * 2), method=True)
def sqrt(xp: Any, x: Array) -> Array:
    """The square root."""
    return xp.sqrt(x)


@op(promotion="float", x=lambda g, x, out: g * (-0.5) * out / x, method=True)
def rsqrt(xp: Any, x: Array) -> Array:
    """1 / √x."""
    return xp.reciprocal(xp.sqrt(x))


@op(promotion="float", x=lambda g, out, F: F.neg(g * out * out), method=True)
def reciprocal(xp: Any, x: Array) -> Array:
    """1 / x."""
    return xp.reciprocal(x)


@op(promotion="float", x=lambda g, out: g * (1 - out * out), method=True)
def tanh(xp: Any, x: Array) -> Array:
    """The hyperbolic tangent."""
    return xp.tanh(x)


def _erf_rule(g: Any, x: Any, F: Any) -> Any:
    near = F.clamp_op(x, -30, 30)  # e^-900 is 0 in every dtype, and no square overflows
    return g * (F.exp(F.neg(near * near)) * (2 / math.sqrt(math.pi)))


@op(promotion="float", x=_erf_rule, one_pass=True, method=True)
def erf(backend: Any, x: Array) -> Array:
    """The error function."""
    return backend.erf(x)


# -- two inputs --------------------------------------------------------------------------------------------------------


@op(promotion="common", broadcasts=True, x=lambda g: g, y=lambda g: g, method=True)
def add(xp: Any, x: Array, y: Array) -> Array:
    """x + y.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.add(x, y)


@op(promotion="common", broadcasts=True, x=lambda g: g, y=lambda g, F: F.neg(g), method=True)
def sub(xp: Any, x: Array, y: Array) -> Array:
    """x - y.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.subtract(x, y)


@op(promotion="common", broadcasts=True, x=lambda g, y: g * y, y=lambda g, x: g * x, method=True)
def mul(xp: Any, x: Array, y: Array) -> Array:
    """x · y.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.multiply(x, y)


def _pow_in_base(g: Any, x: Any, y: Any, F: Any) -> Any:
    if isinstance(y, int | float):
        return g * (F.pow(x, y - 1) * y) if y != 0 else F.zeros_like(g)
    # x⁰ is 1 everywhere, so its derivative is 0. The derivative of 0 to an infinite power is 0 too.
    power = F.pow(F.where(F.eq(y, 0), 1, x), y - 1)
    constant = F.logical_and(F.eq(power, 0), F.logical_not(F.isfinite(y)))
    return g * (power * F.where(constant, 0, y))


def _pow_in_exponent(g: Any, x: Any, y: Any, out: Any, F: Any) -> Any:
    if isinstance(x, int | float):
        if 0 < x < math.inf:
            return g * (out * math.log(x))
        x = F.ones_like(out) * x
    # If the power is 0 it stays 0, and 0⁰ counts as constant. 0 to a negative power is infinite and decreases.
    constant = F.logical_or(F.eq(out, 0), F.logical_and(F.eq(x, 0), F.eq(y, 0)))
    return g * (out * F.log(F.where(constant, 1, x)))


@op(promotion="common", broadcasts=True, x=_pow_in_base, y=_pow_in_exponent, method=True)
def pow(xp: Any, x: Array, y: Array) -> Array:
    """x to the power y. At x = 0 the derivative in y is 0 if y >= 0, else -inf.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.power(x, y)


def in_dtype_of(g: Any, *values: Any, F: Any) -> list[Any]:
    """The values, numbers as arrays of g's dtype: a function of numbers only would be computed in float64."""
    return [F.ones_like(g) * value if isinstance(value, int | float) else value for value in values]


def _share_of_sum(g: Any, x: Any, y: Any, F: Any) -> Any:
    """g · eˣ / (eˣ + eʸ); half of g for equal infinities."""
    x, y = in_dtype_of(g, x, y, F=F)
    equal = F.eq(x, y)  # inf - inf is NaN
    half = F.where(equal, 0, x) * 0.5 - F.where(equal, 0, y) * 0.5  # x - y would overflow
    return g * F.sigmoid(F.clamp_op(half, -1000, 1000) * 2)


@op(
    promotion="float",
    broadcasts=True,
    x=lambda g, x, y, F: _share_of_sum(g, x, y, F),
    y=lambda g, x, y, F: _share_of_sum(g, y, x, F),
    one_pass=True,
    method=True,
)
def logaddexp(backend: Any, x: Array, y: Array) -> Array:
    """log(eˣ + eʸ), without overflow.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of the difference of the largest numbers, and of NaN
        return backend.functions.logaddexp(x, y)


def _winner(g: Any, loses: Any, ties: Any, F: Any) -> Any:
    """The gradient of one of two inputs: 0 if it loses, half of g in a tie, else g (also if one of them is NaN)."""
    return F.where(loses, 0, F.where(ties, g * 0.5, g))


@op(
    promotion="common",
    broadcasts=True,
    x=lambda g, x, y, F: _winner(g, F.lt(x, y), F.eq(x, y), F),
    y=lambda g, x, y, F: _winner(g, F.lt(y, x), F.eq(x, y), F),
    method=True,
)
def maximum(xp: Any, x: Array, y: Array) -> Array:
    """The larger of x and y. If they are equal, each gets half the gradient.

    If either is NaN, the result is NaN and both get the gradient.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.maximum(x, y)


@op(
    promotion="common",
    broadcasts=True,
    x=lambda g, x, y, F: _winner(g, F.gt(x, y), F.eq(x, y), F),
    y=lambda g, x, y, F: _winner(g, F.gt(y, x), F.eq(x, y), F),
    method=True,
)
def minimum(xp: Any, x: Array, y: Array) -> Array:
    """The smaller of x and y. If they are equal, each gets half the gradient.

    If either is NaN, the result is NaN and both get the gradient.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.minimum(x, y)


@op(
    promotion="common",
    broadcasts=True,
    x=lambda g, condition, F: F.where(condition, g, 0),
    y=lambda g, condition, F: F.where(condition, 0, g),
)
def where(backend: Any, condition: Array, x: Array, y: Array) -> Array:
    """x if the condition is true, else y.

    Both branches are computed. The gradient of the branch that is not chosen is 0, but 0 times an infinite derivative
    is NaN. Replace the inputs first, so that this branch has a finite derivative.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor([0.0, 4.0], requires_grad=True)
    >>> safe = tg.where(x > 0, x, 1.0)  # not tg.where(x > 0, x.sqrt(), x), whose gradient at 0 is 0 · inf
    >>> tg.where(x > 0, safe.sqrt(), x).sum().backward()
    >>> x.grad
    tensor([1.  , 0.25])

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return backend.functions.where(condition, x, y)


def _chosen(x: Tensor, condition: Any, other: Any) -> Tensor:
    """x if the condition is true, else `other`: the method `x.where(condition, other)`."""
    return where(condition, x, other)


setattr(Tensor, "where", _chosen)  # noqa: B010


@composite
def lerp(x: Tensor, end: Any, weight: Any) -> Tensor:
    """x + weight·(end - x).

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return x + mul(sub(end, x), weight)
