"""The CPU, through NumPy."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import compiled, memory
from .base import Array, Backend, HostArray
from .recurrent import RecurrentKernels

_ERF_CELLS = 256  # in a unit: fine enough for the series below, whose next term is under 1e-17
_ERF_END = 6  # from here on, erf rounds to 1


@functools.cache
def _erf_table() -> tuple[HostArray, HostArray]:
    """erf and its derivative at the points k / _ERF_CELLS."""
    points = [k / _ERF_CELLS for k in range(_ERF_END * _ERF_CELLS + 1)]
    slopes = [2 / math.sqrt(math.pi) * math.exp(-a * a) for a in points]
    return np.array([math.erf(a) for a in points]), np.array(slopes)


def _erf(x: HostArray) -> HostArray:
    """The error function in float64, to its rounding: Taylor's series about the nearest point of the table."""
    values, slopes = _erf_table()
    z = np.abs(x, dtype=np.float64)
    cell = np.rint(np.fmin(z, _ERF_END) * _ERF_CELLS).astype(np.intp)  # fmin: a NaN has a cell too
    a = cell / _ERF_CELLS
    d = np.minimum(z, _ERF_END) - a
    # The n-th derivative of e^(-a²) is (-1)ⁿ·Hₙ(a) times itself, with Hₙ the Hermite polynomials.
    b = a * a
    fourth = a * (3 - 2 * b) / 6 + d * ((b * (4 * b - 12) + 3) / 30)
    series = d * (1 + d * (-a + d * ((2 * b - 1) / 3 + d * fourth)))
    result: HostArray = np.copysign(values[cell] + slopes[cell] * series, x)
    return result


def _add_rows(target: HostArray, rows: HostArray, values: HostArray) -> None:
    """`target[rows] += values` with duplicates, by sorting: many times faster than `np.add.at` on whole rows."""
    rows = rows.astype(np.intp, copy=False)  # a narrow dtype may not hold their number
    rows = np.where(rows < 0, rows + len(target), rows)  # one number for each row
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
    target[rows[starts]] += np.add.reduceat(values[order], starts, axis=0)


def _compiled_or_plain(name: str) -> Callable[..., Any]:
    """A recurrent kernel: compiled, where that serves the dtype of the first of its arrays."""
    plain: Callable[..., Any] = getattr(RecurrentKernels, name)

    @functools.wraps(plain)
    def kernel(self: "NumpyBackend", arrays: Sequence[Array], *rest: Any) -> Any:
        if not compiled.serves(arrays[0].dtype):
            return plain(self, arrays, *rest)
        from .compiled import recurrent

        return getattr(recurrent, name)(arrays, *rest)

    return kernel


class NumpyBackend(RecurrentKernels):
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

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return memory.empty(shape, dtype)

    lstm_forward, lstm_backward = _compiled_or_plain("lstm_forward"), _compiled_or_plain("lstm_backward")
    gru_forward, gru_backward = _compiled_or_plain("gru_forward"), _compiled_or_plain("gru_backward")
    rnn_forward, rnn_backward = _compiled_or_plain("rnn_forward"), _compiled_or_plain("rnn_backward")
    lstm_stepper, gru_stepper = _compiled_or_plain("lstm_stepper"), _compiled_or_plain("gru_stepper")
    rnn_stepper = _compiled_or_plain("rnn_stepper")

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        if isinstance(index, np.ndarray) and index.dtype.kind in "iu" and index.size and values.size:
            _add_rows(target, index.reshape(-1), values.reshape(index.size, *target.shape[1:]))
        else:
            np.add.at(target, index, values)

    def write(self, target: Array, index: Any, values: Array) -> None:
        target[index] = values

    def erf(self, x: Array) -> Array:
        return np.asarray(_erf(x), x.dtype)

    def synchronize(self) -> None:
        """NumPy returns when it is done."""
