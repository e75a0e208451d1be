"""Elementwise comparisons and logic. They return bool and have no derivative.

Ops of two inputs broadcast as NumPy does, and raise ValueError if the shapes do not broadcast.
"""

from typing import Any

from tinygrad_lstm.backends.base import Array

from .define import op

__all__ = [
    "eq",
    "ge",
    "gt",
    "isfinite",
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
