"""Rounding and division.

Ops of one input keep its shape. Ops of two inputs broadcast as NumPy does, and raise ValueError if the shapes do not
broadcast. NaN returns NaN.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_bool, is_float, limits, widened_dtype

from .._tensor import Tensor
from ..arguments import integer
from .define import op

__all__ = ["ceil", "div", "floor", "floor_divide", "remainder", "round", "trunc"]


@op(x=lambda g, F: F.zeros_like(g), method=True)
def floor(xp: Any, x: Array) -> Array:
    """The largest integer not above x, in x's dtype. The derivative is 0."""
    return xp.floor(x) if is_float(x.dtype) else x.copy()  # NumPy 2.0 returns floats


@op(x=lambda g, F: F.zeros_like(g), method=True)
def ceil(xp: Any, x: Array) -> Array:
    """The smallest integer not below x, in x's dtype. The derivative is 0."""
    return xp.ceil(x) if is_float(x.dtype) else x.copy()


@op(x=lambda g, F: F.zeros_like(g), method=True)
def trunc(xp: Any, x: Array) -> Array:
    """x without its fraction, rounded towards 0, in x's dtype. The derivative is 0."""
    return xp.trunc(x) if is_float(x.dtype) else x.copy()


@op(x=lambda g, F: F.zeros_like(g), method=True)
def round(backend: Any, x: Array, decimals: int = 0) -> Array:
    """Rounds x to `decimals` decimals, halves to even. The derivative is 0.

    Negative decimals round to tens, hundreds and so on: `tg.round(1234, -2)` is 1200.

    Raises:
        OverflowError: an integer dtype cannot hold the result, such as 255 rounded to 260 in uint8.
        TypeError: `decimals` is not an integer.
    """
    xp, decimals = backend.xp, integer("round", "decimals", decimals)
    if not is_float(x.dtype):
        return x.copy() if decimals >= 0 else _to_multiple(backend, x, 10**-decimals)
    if not decimals:
        return xp.round(x)
    wide = x.astype(widened_dtype(x.dtype), copy=False)
    with np.errstate(all="ignore"):
        rounded = xp.round(wide, decimals)
        # If 10^|decimals| or its product with x overflows, x has no digits that far right of the point and stays;
        # for negative decimals it is less than half of that power and becomes 0.
        failed = ~xp.isfinite(rounded) if decimals > 0 else xp.isnan(rounded)
        instead = wide if decimals > 0 else xp.where(xp.isinf(wide), wide, wide * 0)
        return xp.where(failed, instead, rounded).astype(x.dtype, copy=False)


def _to_multiple(backend: Any, x: Array, unit: int) -> Array:
    """Rounds integers to the nearest multiple of an even unit, halves to the even multiple."""
    xp, half = backend.xp, unit // 2
    lowest, highest = limits(x.dtype)
    if half > highest:
        return xp.zeros_like(x)
    if unit > highest:
        multiple = xp.zeros_like(x)
        overflows = (x > half) | (x < -half) if lowest else x > half
    else:
        rest = xp.fmod(x, unit)  # has x's sign
        multiple = x - rest
        distance = xp.abs(rest)
        further = (distance > half) | ((distance == half) & (multiple // unit % 2 == 1))
        overflows = further & ((multiple > highest - unit) | (multiple < lowest + unit if lowest else False))
        multiple = multiple + xp.sign(x) * xp.where(further & ~overflows, unit, 0).astype(x.dtype)
    over = backend.to_host(overflows)
    if over.any():
        raise OverflowError(
            f"{backend.to_host(x)[over][0]} to a multiple of {unit} is out of bounds for {x.dtype}; widen it first"
        )
    return multiple


@op(promotion="common", broadcasts=True, x=lambda g, F: F.zeros_like(g), y=lambda g, F: F.zeros_like(g), method=True)
def floor_divide(backend: Any, x: Array, y: Array) -> Array:
    """x / y rounded down: `x // y`. The derivatives are 0.

    Floats divided by 0 are infinite or NaN; integers divided by 0 are 0, with NumPy's warning on the CPU.

    Raises:
        TypeError: both are bool.
        ValueError: the shapes do not broadcast.
    """
    _check_not_bool(x, y)
    return backend.functions.floor_divide(x, y)


@op(promotion="common", broadcasts=True, x=lambda g, F: F.zeros_like(g), y=lambda g, F: F.zeros_like(g))
def trunc_divide(backend: Any, x: Array, y: Array) -> Array:
    """x / y rounded towards 0. It has the errors of `floor_divide`."""
    _check_not_bool(x, y)
    xp, floor_divide = backend.xp, backend.functions.floor_divide
    if is_float((x if hasattr(x, "dtype") else y).dtype):
        return xp.trunc(xp.true_divide(x, y))
    down = floor_divide(x, y)
    return down + ((backend.functions.remainder(x, y) != 0) & ((x < 0) != (y < 0)))


def _rounded(call: Callable[..., Tensor], rounding_mode: str, x: Any, y: Any) -> Tensor:
    """The quotient with torch's `rounding_mode=`."""
    if rounding_mode not in ("trunc", "floor"):
        raise ValueError(f"div: rounding_mode is {rounding_mode!r}; expected None, 'trunc' or 'floor'")
    return floor_divide(x, y) if rounding_mode == "floor" else trunc_divide(x, y)


@op(
    promotion="float",
    broadcasts=True,
    x=lambda g, y: g / y,
    y=lambda g, y, out, F: F.neg(g * out / y),
    method=True,
    also={"rounding_mode": _rounded},
)
def div(xp: Any, x: Array, y: Array) -> Array:
    """x / y, which is a float for integers too.

    With `rounding_mode="floor"` it is x // y; with "trunc" it is rounded towards 0. Both keep integers, and their
    derivatives are 0.

    Raises:
        ValueError: the shapes do not broadcast, or `rounding_mode` is unknown.
    """
    return xp.true_divide(x, y)


@op(
    promotion="common",
    broadcasts=True,
    x=lambda g: g,
    y=lambda g, x, y, F: F.neg(g * F.floor_divide(x, y)),
    method=True,
)
def remainder(backend: Any, x: Array, y: Array) -> Array:
    """x - y·floor(x / y): `x % y`. It has the sign of y.

    The remainder of floats divided by 0 is NaN; that of integers is 0, with NumPy's warning on the CPU.

    Raises:
        TypeError: both are bool.
        ValueError: the shapes do not broadcast.
    """
    _check_not_bool(x, y)
    return backend.functions.remainder(x, y)


def _check_not_bool(*arrays: Any) -> None:
    if all(isinstance(array, bool) or (hasattr(array, "dtype") and is_bool(array.dtype)) for array in arrays):
        raise TypeError("bool tensors cannot be divided with a remainder; cast one with .astype first")
