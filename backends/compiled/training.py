"""Cross entropy, softmax, optimizers, and adding rows, in C (`runtime/training.c`).

The functions of `backends/training.py` have the same arguments and results here. Results are bitwise equal for any
number of threads.
"""

import ctypes
import math
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .. import memory
from ..base import HostArray
from ..dtypes import FLOAT32
from .c_runtime import address, kernel_library, source, threads_for

__all__ = [
    "adam_update_one",
    "add_rows",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "few_each",
    "sgd_update_one",
    "softmax",
]

# The structs of `training.c`: n is an integer, P an address, d a double.
_CROSS_ENTROPY, _SOFTMAX, _ADD_ROWS = struct.Struct("2n2Pq5P"), struct.Struct("3n2P"), struct.Struct("2n3P")
_FEW_EACH = struct.Struct("2n3P")
_ADAM, _SGD = struct.Struct("n5P6d"), struct.Struct("n3P5d")
_OPERATIONS = 64  # that an element takes, about


@cache
def _kernels(dtype: np.dtype[Any]) -> ctypes.CDLL:
    library = kernel_library("training", source("training.c"), dtype)
    for function in (
        library.cross_entropy_forward,
        library.cross_entropy_backward,
        library.softmax,
        library.add_rows,
        library.few_each,
        library.adam_update,
        library.sgd_update,
    ):
        function.argtypes, function.restype = [ctypes.c_ssize_t, ctypes.c_char_p], None
    return library


def _contiguous(array: HostArray, dtype: Any) -> HostArray:
    """The array, copied if it has a different dtype, or is not contiguous or not aligned."""
    return array if array.flags.carray and array.dtype == dtype else np.require(array, dtype, ["C", "A"])


def cross_entropy_forward(
    arrays: Sequence[HostArray], ignore_index: int
) -> tuple[HostArray, tuple[HostArray, HostArray]]:
    logits, ids = arrays
    kernels = _kernels(logits.dtype)
    logits, ids = _contiguous(logits, logits.dtype), _contiguous(ids, np.int64)
    losses, largest, sums = np.empty((3, len(ids)), logits.dtype)
    packed = _CROSS_ENTROPY.pack(
        *logits.shape, address(logits), address(ids), ignore_index,
        address(largest), address(sums), address(losses), 0, 0,
    )  # fmt: skip
    kernels.cross_entropy_forward(threads_for(_OPERATIONS * logits.size), packed)
    return losses, (largest, sums)


def cross_entropy_backward(arrays: Sequence[HostArray], ignore_index: int) -> HostArray:
    logits, ids, *rest = arrays
    kernels = _kernels(logits.dtype)
    logits, ids = _contiguous(logits, logits.dtype), _contiguous(ids, np.int64)
    g, largest, sums = (_contiguous(array, logits.dtype) for array in rest)
    g_logits = memory.empty(logits.shape, logits.dtype)
    packed = _CROSS_ENTROPY.pack(
        *logits.shape, address(logits), address(ids), ignore_index,
        address(largest), address(sums), 0, address(g), address(g_logits),
    )  # fmt: skip
    kernels.cross_entropy_backward(threads_for(_OPERATIONS * logits.size), packed)
    return g_logits


def softmax(x: HostArray, logarithm: bool) -> HostArray:
    """The softmax over the last dimension, or its logarithm."""
    kernels, x = _kernels(x.dtype), _contiguous(x, x.dtype)
    out = memory.empty(x.shape, x.dtype)
    packed = _SOFTMAX.pack(x.size // x.shape[-1], x.shape[-1], logarithm, address(x), address(out))
    kernels.softmax(threads_for(_OPERATIONS * x.size, beside_blas=True), packed)
    return out


def add_rows(target: HostArray, rows: HostArray, values: HostArray) -> None:
    """`target[rows] += values` in place, in the order of `rows`; target is contiguous, and values have its dtype."""
    kernels = _kernels(target.dtype)
    rows, values = _contiguous(rows, np.int64), _contiguous(values, target.dtype)
    columns = math.prod(target.shape[1:])
    packed = _ADD_ROWS.pack(len(rows), columns, address(target), address(rows), address(values))
    kernels.add_rows(threads_for(_OPERATIONS * values.size), packed)


def few_each(rows: HostArray, length: int, most: int) -> bool:
    """Whether each of the rows, which are below `length`, occurs at most `most` times."""
    rows, counts, few = _contiguous(rows, np.int64), np.zeros(length, np.uint16), np.zeros(1, np.int64)
    packed = _FEW_EACH.pack(len(rows), most, address(rows), address(counts), address(few))
    _kernels(FLOAT32).few_each(1, packed)
    return bool(few[0])


def adam_update_one(
    arrays: Sequence[HostArray], shrink: float, decay: float, beta1: float, beta2: float, eps: float, rate: float
) -> None:
    update = _kernels(arrays[0].dtype).adam_update
    _update(update, _ADAM, arrays, 5, shrink, decay, beta1, beta2, eps, rate)


def sgd_update_one(
    arrays: Sequence[HostArray], decay: float, momentum: float, share: float, rate: float, nesterov: bool
) -> None:
    _update(_kernels(arrays[0].dtype).sgd_update, _SGD, arrays, 3, decay, momentum, share, rate, nesterov)


def _update(update: Any, layout: struct.Struct, arrays: Sequence[HostArray], places: int, *settings: float) -> None:
    """Calls an optimizer's function with p, g and the state, in a struct that has places for more arrays."""
    p, g, *state = arrays
    changed, g = [_contiguous(array, p.dtype) for array in (p, *state)], _contiguous(g, p.dtype)
    addresses = [address(changed[0]), address(g), *map(address, changed[1:])]
    packed = layout.pack(p.size, *addresses, *(places - len(addresses)) * (0,), *settings)
    update(threads_for(_OPERATIONS * p.size), packed)
    for array, values in zip((p, *state), changed):
        if array is not values:
            array[...] = values
