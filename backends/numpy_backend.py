"""The CPU, through NumPy."""

import math
from typing import Any

import numpy as np

from .base import Array, Backend, HostArray

_erf = np.frompyfunc(math.erf, 1, 1)


def _add_rows(target: HostArray, rows: HostArray, values: HostArray) -> None:
    """`target[rows] += values` with duplicates, by sorting: many times faster than `np.add.at` on whole rows."""
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
    target[rows[starts]] += np.add.reduceat(values[order], starts, axis=0)


class NumpyBackend:
    """Arrays in the host's memory."""

    xp = np
    array_type = np.ndarray

    def owns(self, array: Array) -> bool:
        return isinstance(array, np.ndarray)

    def from_host(self, array: HostArray) -> Array:
        return np.array(array)

    def to_host(self, array: Array) -> HostArray:
        result: HostArray = array
        return result

    def from_device(self, array: Array, source: Backend) -> Array:
        return np.array(source.to_host(array))

    def as_array(self, value: Any) -> Array:
        return np.asarray(value)

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        if isinstance(index, np.ndarray) and index.dtype.kind in "iu" and index.size and values.size:
            _add_rows(target, index.reshape(-1), values.reshape(index.size, *target.shape[1:]))
        else:
            np.add.at(target, index, values)

    def erf(self, x: Array) -> Array:
        return np.asarray(_erf(x)).astype(x.dtype)

    def synchronize(self) -> None:
        """NumPy returns when it is done."""
