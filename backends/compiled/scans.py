"""Scans, in C (`runtime/scans.c`); the functions of `backends/scans.py`."""

import ctypes
import math
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .. import memory
from ..base import HostArray
from .c_runtime import address, kernel_library, source, threads_for

__all__ = ["linear_recurrence", "running_extreme", "running_product", "running_sum"]

_SCAN = struct.Struct("4n3P")  # of `Scan` in `scans.c`: n is an integer, P an address
_MANY = 4096  # elements; below, the functions of the array module are fast enough
_OPERATIONS = 16  # that an element takes, about


@cache
def _kernels(dtype: np.dtype[Any]) -> ctypes.CDLL:
    library = kernel_library("scans", source("scans.c"), dtype)
    for name in __all__:
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_ssize_t, ctypes.c_char_p], None
    return library


def running_sum(arrays: Sequence[HostArray], axis: int, reverse: bool) -> Any:
    return _scanned("running_sum", arrays, axis, reverse, arrays[0].dtype)


def running_product(arrays: Sequence[HostArray], axis: int, before: bool) -> Any:
    return _scanned("running_product", arrays, axis, before, arrays[0].dtype)


def linear_recurrence(arrays: Sequence[HostArray], axis: int, reverse: bool) -> Any:
    return _scanned("linear_recurrence", arrays, axis, reverse, arrays[0].dtype)


def running_extreme(arrays: Sequence[HostArray], axis: int, smallest: bool) -> Any:
    return _scanned("running_extreme", arrays, axis, smallest, np.int64)


def _scanned(name: str, arrays: Sequence[HostArray], axis: int, option: bool, made: Any) -> Any:
    """The scan; NotImplemented if the arrays are small, or are not of one shape and dtype."""
    shape, dtype = arrays[0].shape, arrays[0].dtype
    if arrays[0].size < _MANY or any(array.shape != shape or array.dtype != dtype for array in arrays):
        return NotImplemented
    out = memory.empty(shape, made)
    given = [np.require(array, dtype, ["C", "A"]) for array in arrays]
    addresses = [address(given[0]), address(given[-1]), address(out)]
    lengths = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    getattr(_kernels(dtype), name)(threads_for(_OPERATIONS * out.size), _SCAN.pack(*lengths, option, *addresses))
    return out
