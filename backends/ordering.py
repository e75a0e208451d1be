"""Orders of elements along a dimension, and indices in them, on every device. NaN is larger than all numbers."""

from typing import Any

from .base import Array, Backend
from .dtypes import INT64, is_float
from .sums import running, total

__all__ = ["along", "median_index", "places_in_rows", "put", "sorting_order"]


def along(xp: Any, index: Array, axis: int) -> tuple[Array, ...]:
    """The index of the elements at indices along a non-negative axis, as `take_along_axis` takes them."""
    ndim = len(index.shape)
    rest = [xp.arange(n).reshape((-1, *(1,) * (ndim - d - 1))) for d, n in enumerate(index.shape)]
    return (*rest[:axis], index, *rest[axis + 1 :])


def put(xp: Any, values: Array, index: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Zeros of this shape, with the values at indices along a non-negative axis; none occurs twice."""
    out = xp.zeros(shape, values.dtype)
    out[along(xp, index, axis)] = values
    return out


def sorting_order(backend: Backend, x: Array, axis: int, descending: bool = False) -> Array:
    """The indices that sort x along a non-negative axis; equal elements keep their order."""
    xp = backend.xp
    if not descending:
        return xp.argsort(x, axis=axis, kind="stable").astype(INT64, copy=False)
    order = xp.argsort(xp.flip(x, axis), axis=axis, kind="stable")
    return (x.shape[axis] - 1 - xp.flip(order, axis)).astype(INT64, copy=False)


def median_index(backend: Backend, x: Array, axis: int, skip_nan: bool) -> Array:
    """The index of the lower median along an axis, which is kept; of the first NaN, unless NaNs are skipped."""
    xp, length = backend.xp, x.shape[axis]
    order = sorting_order(backend, x, axis)
    if not is_float(x.dtype):
        return order[(*(slice(None),) * axis, slice((length - 1) // 2, (length + 1) // 2))]
    nans = total(xp, xp.isnan(x), (axis,), True)
    middle = xp.maximum(length - nans - 1, 0) // 2
    return order[along(xp, middle if skip_nan else xp.where(nans > 0, length - nans, middle), axis)]


def places_in_rows(backend: Backend, rows: Array, values: Array, right: bool) -> Array:
    """Where values belong in sorted rows of one dtype with them: before equal elements, or after them if `right`.

    Both are sorted together. Before each value are then the elements that it comes after.
    """
    xp, axis = backend.xp, len(rows.shape) - 1
    joined = xp.concatenate([rows, values] if right else [values, rows], axis=axis)
    order, first = sorting_order(backend, joined, axis), (rows if right else values).shape[axis]
    counts = running(xp, order < first if right else order >= first, axis)
    placed = put(xp, counts, order, joined.shape, axis)
    return placed[..., first:] if right else placed[..., :first]
