"""Sums of floats: one rule for every sum over an array, on every device.

float16 is summed in float32 and rounded once, at the end. Long sums are computed in blocks, along any dimension and in
any memory layout, so that the rounding error grows like the logarithm of the number of terms. A plain running sum of
10⁷ float32 numbers has three correct digits, and one of float16 ones stops at 2048.
"""

import math
from typing import Any

import numpy as np

from .base import Array
from .dtypes import is_float, summed_dtype, widened_dtype

__all__ = [
    "BLOCK",
    "SHORT",
    "average",
    "inverse_deviations",
    "running",
    "scales_and_variances",
    "total",
    "total_to",
    "total_of_products",
]

SHORT = 256
"""Sums of at most this many terms are not split: the error is small, and one call is fastest."""

BLOCK = 64
"""The number of terms in a block of a longer sum."""

_MANY = 4096  # elements; below, a call of `np.einsum` takes longer than it saves
_WIDE_ROW = 1024  # elements; from this length of rows on, a block consists of adjacent rows in memory


def total(
    xp: Any, x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, dtype: Any = None
) -> Array:
    """`xp.sum` by this module's rule.

    Args:
        axis: non-negative dimensions; None for all.
        dtype: the dtype of the result, by default that of x. Integers and bool are summed in 64 bits by default.
    """
    given = x.dtype
    if not is_float(given):
        return xp.sum(x, axis=axis, keepdims=keepdims, dtype=dtype or summed_dtype(given))
    wide = widened_dtype(given)
    if x.size > SHORT:
        axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        if xp is np and _in_short_rows(x, axes):
            return _total_of_rows(np.einsum("...i->...", x), axes, keepdims, dtype or given)
        if _terms(x, axes) > SHORT and not (xp is np and _added_in_pairs(x, axes)):
            x = _shortened(xp, x, axes, wide)
    if xp is np:  # what np.sum calls in the end
        out: Array = np.add.reduce(x, axis, wide, None, keepdims)  # type: ignore[call-overload]
    else:
        out = xp.sum(x, axis=axis, keepdims=keepdims, dtype=wide)
    asked = dtype or given
    return out if asked == wide else out.astype(asked)


def total_to(xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
    """The sum over the dimensions that broadcasting `shape` to x's shape expanded."""
    extra = len(x.shape) - len(shape)
    stretched = [d for d, length in enumerate(x.shape) if d < extra or (shape[d - extra] == 1 and length != 1)]
    return total(xp, x, tuple(stretched), True).reshape(shape)


def total_of_products(xp: Any, x: Array, y: Array, axis: tuple[int, ...]) -> Array:
    """The sum of x·y, of one shape and dtype, over non-negative dimensions, which are kept."""
    if xp is np and _in_short_rows(x, axis) and _in_short_rows(y, axis):
        return _total_of_rows(np.einsum("...i,...i->...", x, y), axis, True, x.dtype)
    return total(xp, x * y, axis, True)


def average(xp: Any, x: Array, axis: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """The mean of floats over non-negative dimensions, by the same rule."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    return total(xp, x, axes, keepdims) / _terms(x, axes)


def inverse_deviations(xp: Any, centred: Array, axis: int | tuple[int, ...], eps: float) -> Array:
    """1 / √(variance + eps) of floats with mean 0 over the dimensions, which are kept with length 1."""
    return scales_and_variances(xp, centred, axis, eps)[0]


def scales_and_variances(xp: Any, centred: Array, axis: int | tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """`inverse_deviations`, and the variances, which are infinite if squares overflow."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    with np.errstate(over="ignore"):
        variances = total_of_products(xp, centred, centred, axes) / _terms(centred, axes)
    scales = 1 / xp.sqrt(variances + eps)
    if xp is np and scales.all():
        return scales, variances
    # If squares overflow, the numbers are scaled down first. eps is negligible then.
    largest = xp.max(xp.abs(centred), axis=axis, keepdims=True)
    smaller = centred / xp.where(scales == 0, largest, 1)
    with np.errstate(over="ignore", divide="ignore"):
        of_smaller = 1 / xp.sqrt(average(xp, smaller * smaller, axis, True))
    return xp.where(scales == 0, of_smaller / largest, scales), variances


def running(xp: Any, x: Array, axis: int) -> Array:
    """`xp.cumsum`. Errors would accumulate, so floats are summed in float64, and each result is rounded once."""
    if not is_float(x.dtype):
        return xp.cumsum(x, axis=axis, dtype=summed_dtype(x.dtype))
    return xp.cumsum(x, axis=axis, dtype=np.float64).astype(x.dtype, copy=False)


def _in_short_rows(x: Any, axes: tuple[int, ...]) -> bool:
    """Whether many short rows of x are summed, which `np.einsum` does several times as fast as `np.sum`."""
    length, size = x.shape[-1] if x.ndim else 0, x.itemsize
    many = 1 < length <= SHORT and x.size >= _MANY and size >= 4 and x.strides[-1] == size
    return many and x.ndim - 1 in axes


def _total_of_rows(sums: Any, axes: tuple[int, ...], keepdims: bool, dtype: Any) -> Array:
    """The total over `axes`, given the sums over the last dimension, which is one of them."""
    others = tuple(d for d in axes if d != sums.ndim)
    out = total(np, sums, others, keepdims) if others else sums
    return (out[..., None] if keepdims else out).astype(dtype, copy=False)


def _terms(x: Array, axes: tuple[int, ...]) -> int:
    """The number of terms of a sum of x over `axes`."""
    shape = x.shape
    return math.prod([shape[d] for d in axes])


def _added_in_pairs(x: Any, axes: tuple[int, ...]) -> bool:
    """Whether NumPy uses pairwise summation: it does along the innermost dimension in memory."""
    number, ndim = len(axes), x.ndim
    if x.flags.c_contiguous and min(axes, default=0) == ndim - number:
        return True
    if x.flags.f_contiguous and max(axes, default=-1) == number - 1:
        return True
    if number != 1:
        return False
    step = abs(x.strides[axes[0]])
    return all(step <= abs(other) for other, length in zip(x.strides, x.shape, strict=True) if length > 1)


def _shortened(xp: Any, x: Array, axes: tuple[int, ...], wide: np.dtype[Any]) -> Array:
    """Sums of blocks of x, so that at most SHORT terms are left along `axes`, which are kept."""
    while _terms(x, axes) > SHORT:
        longest = max(axes, key=lambda d: x.shape[d])
        x = _sums_of_blocks(xp, x, longest, wide)
    return x


def _sums_of_blocks(xp: Any, x: Array, axis: int, wide: np.dtype[Any]) -> Array:
    """The sums of blocks of x along a dimension, which becomes the dimension of blocks."""
    length = x.shape[axis]
    if length <= SHORT:
        return xp.sum(x, axis=axis, keepdims=True, dtype=wide)
    blocks = length // BLOCK
    before, after = x.shape[:axis], x.shape[axis + 1 :]

    def part(begin: int, end: int) -> Array:
        return x[(*(slice(None),) * axis, slice(begin, end))]

    # A block consists of adjacent terms, or of terms with a distance of `blocks`: then NumPy adds long contiguous
    # stretches of memory, which is many times as fast for short rows.
    side_by_side = x.size // length >= _WIDE_ROW
    split = (blocks, BLOCK) if side_by_side else (BLOCK, blocks)
    whole = part(0, blocks * BLOCK).reshape(*before, *split, *after)  # a view: one dimension becomes two
    sums = xp.sum(whole, axis=axis + 1 if side_by_side else axis, dtype=wide)
    if blocks * BLOCK < length:
        sums[(*(slice(None),) * axis, slice(0, 1))] += xp.sum(
            part(blocks * BLOCK, length), axis=axis, keepdims=True, dtype=wide
        )
    return sums
