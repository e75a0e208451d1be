"""Orders of elements along a dimension, and indices in them, on every device. NaN is larger than all numbers."""

import math
from typing import Any

import numpy as np

from .base import Array, Backend
from .dtypes import INT64, is_float
from .sums import running, total

__all__ = ["along", "median_index", "places_in_rows", "places_in_sequence", "put", "taken"]

_MANY = 4096  # elements that NumPy searches faster one after the other, in the cache's order


def along(xp: Any, index: Array, shape: tuple[int, ...], axis: int) -> Array:
    """The places in a flattened array of this shape that have indices along a non-negative axis.

    `index` has the shape of the array, except along the axis.
    """
    offsets: Any = 0
    for d, length in enumerate(shape):
        if d != axis and length > 1:
            steps = xp.arange(length) * math.prod(shape[d + 1 :])
            offsets = offsets + steps.reshape((-1, *(1,) * (len(shape) - d - 1)))
    step = math.prod(shape[axis + 1 :])
    return (index if step == 1 else index * step) + offsets


def taken(xp: Any, x: Array, index: Array, axis: int) -> Array:
    """The elements of x at indices along a non-negative axis."""
    return x.reshape(-1)[along(xp, index, x.shape, axis)]


def put(xp: Any, values: Array, index: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Zeros of this shape, with the values at indices along a non-negative axis; none occurs twice."""
    out = xp.zeros(math.prod(shape), values.dtype)
    out[along(xp, index, shape, axis)] = values
    return out.reshape(shape)


def median_index(backend: Backend, x: Array, axis: int, skip_nan: bool) -> Array:
    """The index of the lower median along an axis, which is kept; of the first NaN, unless NaNs are skipped."""
    xp, length = backend.xp, x.shape[axis]
    order = backend.sorting_order(x, axis, False)
    if not is_float(x.dtype):
        return order[(*(slice(None),) * axis, slice((length - 1) // 2, (length + 1) // 2))]
    nans = total(xp, xp.isnan(x), (axis,), True)
    middle = xp.maximum(length - nans - 1, 0) // 2
    return taken(xp, order, middle if skip_nan else xp.where(nans > 0, length - nans, middle), axis)


def places_in_sequence(backend: Backend, sequence: Array, values: Array, right: bool) -> Array:
    """Where values of any shape belong in a sorted 1-D array: before equal elements, or after them if `right`."""
    xp: Any = backend.xp
    side: Any = "right" if right else "left"
    if xp is not np or values.size < _MANY:
        return backend.as_array(xp.searchsorted(sequence, values, side=side)).astype(INT64, copy=False)
    flat = values.reshape(-1)
    order = np.argsort(flat)
    found = np.empty(flat.shape, INT64)
    found[order] = np.searchsorted(sequence, flat[order], side=side)
    return found.reshape(values.shape)


def places_in_rows(backend: Backend, rows: Array, values: Array, right: bool) -> Array:
    """Where values belong in sorted rows of one dtype with them: before equal elements, or after them if `right`.

    Both are sorted together. The place of a value is the number of elements of its row before it.
    """
    xp, axis = backend.xp, len(rows.shape) - 1
    joined = xp.concatenate([rows, values] if right else [values, rows], axis=axis)
    order, first = backend.sorting_order(joined, axis, False), (rows if right else values).shape[axis]
    counts = running(xp, order < first if right else order >= first, axis)
    placed = put(xp, counts, order, joined.shape, axis)
    return placed[..., first:] if right else placed[..., :first]
