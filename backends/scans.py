"""Scans: what is computed along a dimension from all elements up to each place."""

from collections.abc import Callable, Sequence

import numpy as np

from .base import Array
from .dtypes import FLOAT64, INT64, is_float, summed_dtype, widened_dtype
from .kernels import ArrayKernels
from .sums import running

__all__ = ["ScanKernels", "scanned"]


def scanned(combine: Callable[[Array, Array], Array], x: Array, axis: int) -> Array:
    """At each place along a non-negative axis, all elements up to it, combined by an associative function.

    It makes 2·log₂ n calls of the function, for 2·n elements: those of pairs are combined first. Only NumPy's ufuncs
    go from one element to the next by themselves.
    """
    if isinstance(combine, np.ufunc):
        return combine.accumulate(x, axis=axis)
    out, length = x.copy(), x.shape[axis]
    if length > 1:
        pairs = scanned(combine, combine(x[_at(axis, 0, length - 1, 2)], x[_at(axis, 1, None, 2)]), axis)
        out[_at(axis, 1, None, 2)] = pairs
        out[_at(axis, 2, None, 2)] = combine(pairs[_at(axis, 0, (length - 1) // 2)], x[_at(axis, 2, None, 2)])
    return out


class ScanKernels(ArrayKernels):
    """The scans of a backend; see `Backend`."""

    def running_sum(self, arrays: Sequence[Array], axis: int, reverse: bool) -> Array:
        xp, (x,) = self.xp, arrays
        return xp.flip(running(xp, xp.flip(x, axis), axis), axis) if reverse else running(xp, x, axis)

    def running_product(self, arrays: Sequence[Array], axis: int, before: bool) -> Array:
        xp, (x,) = self.xp, arrays
        if before:
            x = xp.concatenate([xp.ones_like(x[_at(axis, 1)]), x[_at(axis, -1)]], axis=axis)
        if not is_float(x.dtype):
            return xp.cumprod(x, axis=axis, dtype=summed_dtype(x.dtype))
        return xp.cumprod(x, axis=axis, dtype=FLOAT64).astype(x.dtype, copy=False)

    def linear_recurrence(self, arrays: Sequence[Array], axis: int, reverse: bool) -> Array:
        xp, dtype = self.xp, arrays[1].dtype
        factors, terms = (array.astype(widened_dtype(dtype), copy=False) for array in arrays)
        if not reverse:
            return _recurrence(factors, terms, axis).astype(dtype, copy=False)
        factors, terms = xp.flip(xp.roll(factors, -1, axis), axis), xp.flip(terms, axis)
        return xp.flip(_recurrence(factors, terms, axis), axis).astype(dtype, copy=False)

    def running_extreme(self, arrays: Sequence[Array], axis: int, smallest: bool) -> Array:
        xp, (x,) = self.xp, arrays
        extremes = scanned(xp.minimum if smallest else xp.maximum, x, axis)
        places = xp.arange(x.shape[axis]).reshape((-1, *(1,) * (len(x.shape) - axis - 1)))
        found = xp.where((x == extremes) | (x != x), places, 0)
        return scanned(xp.maximum, found, axis).astype(INT64, copy=False)


def _recurrence(factors: Array, terms: Array, axis: int) -> Array:
    out, length = terms.copy(), terms.shape[axis]
    if length > 1:
        # Two steps at once: the products of their factors, and what both add.
        firsts, seconds = _at(axis, 0, length - 1, 2), _at(axis, 1, None, 2)
        steps = factors[seconds] * factors[firsts], factors[seconds] * terms[firsts] + terms[seconds]
        pairs = _recurrence(*steps, axis)
        out[seconds] = pairs
        out[_at(axis, 2, None, 2)] += factors[_at(axis, 2, None, 2)] * pairs[_at(axis, 0, (length - 1) // 2)]
    return out


def _at(axis: int, *part: int | None) -> tuple[slice, ...]:
    """The index of a slice of one dimension."""
    return (*(slice(None),) * axis, slice(*part))
