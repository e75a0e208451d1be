"""Scans: what an associative function makes of all elements up to each place, in a few calls for whole arrays."""

from collections.abc import Callable
from typing import Any

from .base import Array
from .dtypes import widened_dtype

__all__ = ["linear_recurrence", "scanned"]


def scanned(xp: Any, combine: Callable[[Array, Array], Array], x: Array, axis: int) -> Array:
    """At each place along a non-negative axis, all elements up to it, combined by an associative function.

    It makes 2·log₂ n calls of the function, for 2·n elements: those of pairs are combined first.
    """
    out, length = x.copy(), x.shape[axis]
    if length > 1:
        pairs = scanned(xp, combine, combine(_piece(x, axis, 0, length - 1, 2), _piece(x, axis, 1, None, 2)), axis)
        out[_at(axis, 1, None, 2)] = pairs
        out[_at(axis, 2, None, 2)] = combine(_piece(pairs, axis, 0, (length - 1) // 2), _piece(x, axis, 2, None, 2))
    return out


def linear_recurrence(xp: Any, factors: Array, terms: Array, axis: int, reverse: bool) -> Array:
    """y[k] = terms[k] + factors[k] · y[k - 1]; reversed, y[k] = terms[k] + factors[k + 1] · y[k + 1]."""
    dtype = terms.dtype
    factors, terms = factors.astype(widened_dtype(dtype), copy=False), terms.astype(widened_dtype(dtype), copy=False)
    if not reverse:
        return _recurrence(xp, factors, terms, axis).astype(dtype, copy=False)
    factors, terms = xp.flip(xp.roll(factors, -1, axis), axis), xp.flip(terms, axis)
    return xp.flip(_recurrence(xp, factors, terms, axis), axis).astype(dtype, copy=False)


def _recurrence(xp: Any, factors: Array, terms: Array, axis: int) -> Array:
    out, length = terms.copy(), terms.shape[axis]
    if length > 1:
        # Of two steps at once: the products of their factors, and what they add.
        factor, term = _piece(factors, axis, 1, None, 2), _piece(terms, axis, 0, length - 1, 2)
        pairs = _recurrence(
            xp, factor * _piece(factors, axis, 0, length - 1, 2), factor * term + _piece(terms, axis, 1, None, 2), axis
        )
        out[_at(axis, 1, None, 2)] = pairs
        out[_at(axis, 2, None, 2)] += _piece(factors, axis, 2, None, 2) * _piece(pairs, axis, 0, (length - 1) // 2)
    return out


def _piece(x: Array, axis: int, *part: int | None) -> Array:
    return x[_at(axis, *part)]


def _at(axis: int, *part: int | None) -> tuple[slice, ...]:
    """The index of a slice of one dimension."""
    return (*(slice(None),) * axis, slice(*part))
