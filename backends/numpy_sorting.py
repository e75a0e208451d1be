"""Sorting with NumPy, which sorts 64-bit integers with vectors, but moves elements one by one in a stable `argsort`."""

import numpy as np

from .base import Array, HostArray
from .dtypes import FLOAT16, FLOAT32, is_integer

__all__ = ["sorting_order"]

_MANY = 4096  # elements from which more calls of NumPy are worth their cost


def sorting_order(x: HostArray, axis: int, descending: bool, first: int | None) -> Array:
    """See `Backend`. A key and its index are sorted as one integer; NotImplemented if x has no keys of 32 bits."""
    keys = _keys(np.moveaxis(x, axis, -1)) if x.size >= _MANY else None
    if keys is None:
        return NotImplemented
    pairs = (~keys if descending else keys).astype(np.uint64)
    pairs <<= 32
    pairs |= np.arange(pairs.shape[-1], dtype=np.uint64)
    if first is not None and first < pairs.shape[-1]:
        pairs = np.partition(pairs, first, axis=-1)[..., :first]
    pairs.sort(axis=-1)
    return np.moveaxis((pairs & 0xFFFFFFFF).view(np.int64), -1, axis)


def _keys(x: HostArray) -> HostArray | None:
    """Integers of 32 bits in the order of x's elements, contiguous; None if its dtype has too many numbers."""
    if x.dtype == FLOAT16 or x.dtype == FLOAT32:
        bits = np.ascontiguousarray(x + np.float32(0)).view(np.int32)  # -0 becomes 0
        bits ^= (bits >> 31) & 0x7FFFFFFF  # the order of the bits of negative numbers is reversed
        keys = bits.view(np.uint32)
        keys -= np.uint32(0x807FFFFF)  # of -inf
        return np.minimum(keys, np.uint32(0xFF000002), out=keys)  # all NaNs are equal, and follow inf
    if is_integer(x.dtype) and x.min() >= -(2**31) and x.max() < 2**31:
        return np.ascontiguousarray(x, np.int32).view(np.uint32) + np.uint32(2**31)
    return None
