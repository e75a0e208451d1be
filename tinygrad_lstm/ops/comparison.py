"""Elementwise comparisons and logic. They return bool and have no derivative.

Ops of two inputs broadcast as NumPy does, and raise ValueError if the shapes do not broadcast.
"""

from typing import Any

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import FLOAT64, is_float

from .._tensor import Tensor, operand
from .define import composite, op
from .elementwise import abs, where

__all__ = [
    "allclose",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "eq",
    "equal",
    "ge",
    "gt",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "ne",
]


@op(promotion="common", method=True)
def eq(xp: Any, x: Array, y: Array) -> Array:
    """x == y.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.equal(x, y)


@op(promotion="common", method=True)
def ne(xp: Any, x: Array, y: Array) -> Array:
    """x != y.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.not_equal(x, y)


@op(promotion="common", method=True)
def lt(xp: Any, x: Array, y: Array) -> Array:
    """x < y.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.less(x, y)


@op(promotion="common", method=True)
def le(xp: Any, x: Array, y: Array) -> Array:
    """x <= y.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.less_equal(x, y)


@op(promotion="common", method=True)
def gt(xp: Any, x: Array, y: Array) -> Array:
    """x > y.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.greater(x, y)


@op(promotion="common", method=True)
def ge(xp: Any, x: Array, y: Array) -> Array:
    """x >= y.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.greater_equal(x, y)


@op(method=True)
def logical_and(xp: Any, x: Array, y: Array) -> Array:
    """Whether both are non-zero.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.logical_and(x, y)


@op(method=True)
def logical_or(xp: Any, x: Array, y: Array) -> Array:
    """Whether either is non-zero.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.logical_or(x, y)


@op(method=True)
def logical_xor(xp: Any, x: Array, y: Array) -> Array:
    """Whether exactly one is non-zero.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return xp.logical_xor(x, y)


@op(method=True)
def logical_not(xp: Any, x: Array) -> Array:
    """Whether x is zero."""
    return xp.logical_not(x)


@op(method=True)
def isnan(xp: Any, x: Array) -> Array:
    """Whether x is not a number."""
    return xp.isnan(x)


@op(method=True)
def isfinite(xp: Any, x: Array) -> Array:
    """Whether x is neither infinite nor NaN."""
    return xp.isfinite(x)


@op(method=True)
def isinf(xp: Any, x: Array) -> Array:
    """Whether x is infinite."""
    return xp.isinf(x)


@composite
def isclose(x: Tensor, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether |x - other| <= atol + rtol·|other|, or both are equal, as infinities may be.

    Args:
        x: a tensor.
        other: a tensor, which broadcasts with x, or a number.
        rtol: the tolerance relative to `other`.
        atol: the absolute tolerance.
        equal_nan: whether NaN is close to NaN.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    close = eq(x, other)
    dtype = x.dtype if is_float(x.dtype) else FLOAT64
    y = Tensor(other, dtype, x.device) if isinstance(other, int | float) else operand(other, x.device)
    if equal_nan:
        close = logical_or(close, logical_and(isnan(x), isnan(y)))
    finite = logical_and(isfinite(x), isfinite(y))
    x, y = (where(finite, each, 0) for each in (x, y))
    x, y = (each if is_float(each.dtype) else each.astype(FLOAT64) for each in (x, y))
    return logical_or(close, logical_and(finite, abs(x - y) <= abs(y) * rtol + atol))


@composite
def allclose(x: Tensor, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close, as `isclose` says. It is a Python bool, which is read from the device.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return bool(isclose(x, other, rtol, atol, equal_nan).all())


@composite
def equal(x: Tensor, other: Any) -> bool:
    """Whether shapes and elements are equal, as a Python bool, which is read from the device. NaN equals nothing."""
    other = operand(other, x.device)
    return x.shape == other.shape and bool(eq(x, other).all())


# -- bits --------------------------------------------------------------------------------------------------------------


def _of_bits(*arrays: Any) -> Any:
    """The arrays, if they are bool or integers."""
    for array in arrays:
        if isinstance(array, float) or (hasattr(array, "dtype") and is_float(array.dtype)):
            raise TypeError(
                "expected bool tensors or integers, got floats; compare first, as in (x != 0), or use tg.logical_and, "
                "logical_or, logical_xor, logical_not"
            )
    return arrays


@op(promotion="common", method=True)
def bitwise_and(xp: Any, x: Array, y: Array) -> Array:
    """x & y, bit by bit for integers; of bool, whether both are true.

    Raises:
        TypeError: x or y is of floats.
        ValueError: the shapes do not broadcast.
    """
    return xp.bitwise_and(*_of_bits(x, y))


@op(promotion="common", method=True)
def bitwise_or(xp: Any, x: Array, y: Array) -> Array:
    """x | y, bit by bit for integers; of bool, whether either is true.

    Raises:
        TypeError: x or y is of floats.
        ValueError: the shapes do not broadcast.
    """
    return xp.bitwise_or(*_of_bits(x, y))


@op(promotion="common", method=True)
def bitwise_xor(xp: Any, x: Array, y: Array) -> Array:
    """x ^ y, bit by bit for integers; of bool, whether exactly one is true.

    Raises:
        TypeError: x or y is of floats.
        ValueError: the shapes do not broadcast.
    """
    return xp.bitwise_xor(*_of_bits(x, y))


@op(method=True)
def bitwise_not(xp: Any, x: Array) -> Array:
    """~x: every bit of an integer changed, which is -x - 1 if it has a sign; of bool, whether x is false.

    Raises:
        TypeError: x is of floats.
    """
    return xp.bitwise_not(*_of_bits(x))
