"""The CPU backend, with NumPy."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import compiled, memory, numpy_functions, numpy_sorting
from .base import Array, Backend, HostArray
from .dtypes import FLOAT16, FLOAT32, is_float, is_integer, widened_dtype
from .products import matmul
from .scatter import blocks_of_values, have_few_values
from .sums import SHORT, total
from .threads import for_products, numpy_computes, own_threads
from .training import TrainingKernels

if TYPE_CHECKING:
    from .emit.program import Derivative, Program
    from .emit.schedule import Backward, Forward
    from .emit.sequence import ArraySequence

_ERF_CELLS = 256  # per unit: the next term of the series below is under 1e-17
_ERF_END = 6  # from here on, erf rounds to 1

_WORTH_SHARING = 2**21  # multiplications of a matrix product: about 20 µs
_MANY = 2**15  # elements from which a kernel in C is worth being built
_PIECE = 2**16  # elements of a sum of squares
_TINY = 1e-25  # a sum of squares for which squares that vanish in float32 are negligible
_ALL = slice(None)
_WIDE = 32  # NumPy computes products whose second factor is narrower, in either dimension


@functools.cache
def _erf_table() -> tuple[HostArray, HostArray]:
    """erf and its derivative at the points k / _ERF_CELLS."""
    points = [k / _ERF_CELLS for k in range(_ERF_END * _ERF_CELLS + 1)]
    slopes = [2 / math.sqrt(math.pi) * math.exp(-a * a) for a in points]
    return np.array([math.erf(a) for a in points]), np.array(slopes)


def _erf(x: HostArray) -> HostArray:
    """The error function in float64, to the last bit: a Taylor series about the nearest point of the table."""
    values, slopes = _erf_table()
    z = np.abs(x, dtype=np.float64)
    cell = np.rint(np.fmin(z, _ERF_END) * _ERF_CELLS).astype(np.intp)  # fmin: a NaN needs a cell too
    a = cell / _ERF_CELLS
    d = np.minimum(z, _ERF_END) - a
    # The n-th derivative of e^(-a²) is (-1)ⁿ·Hₙ(a) times itself, with Hₙ the Hermite polynomials.
    b = a * a
    fourth = a * (3 - 2 * b) / 6 + d * ((b * (4 * b - 12) + 3) / 30)
    series = d * (1 + d * (-a + d * ((2 * b - 1) / 3 + d * fourth)))
    result: HostArray = np.copysign(values[cell] + slopes[cell] * series, x)
    return result


def _row_numbers(index: HostArray, length: int) -> HostArray:
    """The row numbers of an index into `length` rows, flattened and non-negative."""
    rows = index.reshape(-1).astype(np.int64, copy=False)  # a narrow dtype may be too small for `length`
    lowest, highest = rows.min(), rows.max()
    if lowest < -length or highest >= length:
        wrong = lowest if lowest < -length else highest
        raise IndexError(f"scatter_add: index {wrong} is out of range for dim 0 of length {length}")
    return np.where(rows < 0, rows + length, rows) if lowest < 0 else rows


def _dim_indexed(index: Any) -> int | None:
    """The dimension whose slices are selected by an index of `:` for the dimensions before it; None for others."""
    *before, last = index if isinstance(index, tuple) and index else (None,)
    alone = isinstance(last, np.ndarray) and is_integer(last.dtype)
    return len(before) if alone and all([part.__class__ is slice and part == _ALL for part in before]) else None


def _spread(values: HostArray, shape: tuple[int, ...]) -> HostArray:
    """The values broadcast to a shape, as NumPy does when it writes them: leading lengths of 1 may be too many."""
    if values.shape == shape:
        return values
    return np.broadcast_to(values.reshape(values.shape[max(values.ndim - len(shape), 0) :]), shape)


def _few_each(rows: HostArray, length: int) -> bool:
    """Whether each of the rows, which are below `length`, occurs at most SHORT times."""
    if len(rows) >= _MANY and length <= 8 * len(rows):
        few: Any = _fast_few_each(FLOAT32, rows, length, SHORT)
        if few is not NotImplemented:
            return bool(few)
    return have_few_values(rows, length)


def _add_rows(target: HostArray, rows: HostArray, values: HostArray) -> None:
    """`target[rows] += values` with duplicates, by sorting: many times faster than `np.add.at` on whole rows."""
    order = np.argsort(rows, kind="stable")
    rows, values = rows[order], values[order]
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1], [True])))
    begin, end = starts[:-1], starts[1:]
    once = end - begin == 1
    target[rows[begin[once]]] += values[begin[once]]
    for first, last in zip(begin[~once].tolist(), end[~once].tolist()):
        target[rows[first]] += total(np, values[first:last], 0, dtype=target.dtype)


def _sum_of_squares(x: HostArray) -> float:
    """Σ x² by dot products of pieces, which are more exact than a single dot product."""
    x = x.astype(widened_dtype(x.dtype), copy=False)
    pieces = [x[begin : begin + _PIECE] for begin in range(0, x.size, _PIECE)]
    with np.errstate(over="ignore"), for_products():
        found = sum((float(np.dot(piece, piece)) for piece in pieces), 0.0)
    if x.dtype == FLOAT32 and not _TINY < found < math.inf:  # squares overflowed or vanished
        wide = (piece.astype(np.float64) for piece in pieces)
        found = sum((float(np.dot(piece, piece)) for piece in wide), 0.0)
    return found


def _shared_by_blas(x: HostArray, y: HostArray) -> bool:
    """Whether OpenBLAS may share a product among threads. The sizes are from its sources."""
    rows, depth = x.shape[-2:] if x.ndim > 1 else (1, len(x))
    columns = y.shape[-1] if y.ndim > 1 else 1
    return int(rows * depth * columns) >= (9_216 if rows == 1 or columns == 1 else 2**18)


def _compiled_or_plain(name: str, module: str = "training") -> Callable[..., Any]:
    """A method of `TrainingKernels`, replaced by the function in C of this name if that serves the first array."""
    plain: Callable[..., Any] = getattr(TrainingKernels, name)
    fast = compiled.Kernel(name, module)

    @functools.wraps(plain)
    def kernel(self: "NumpyBackend", arrays: Sequence[Array], *rest: Any) -> Any:
        result = fast(arrays[0].dtype, arrays, *rest)
        if result is not NotImplemented:
            return result
        with numpy_computes():
            return plain(self, arrays, *rest)

    return kernel


def _compiled_pass(program: "Program", derivative: "Derivative | None") -> Any:
    from .compiled.one_pass import compiled_pass

    return compiled_pass(program, derivative)


_fast_softmax = compiled.Kernel("softmax", "training")
_fast_add_rows = compiled.Kernel("add_rows", "training")
_fast_few_each = compiled.Kernel("few_each", "training")
_large_product = compiled.Kernel("matmul", "matrices")
_stacked_products = compiled.Kernel("matmul_stack", "matrices")


class NumpyBackend(TrainingKernels):
    """Arrays in the host's memory."""

    xp = np
    functions = numpy_functions
    array_type = np.ndarray
    current = None

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

    cross_entropy_forward = _compiled_or_plain("cross_entropy_forward")
    cross_entropy_backward = _compiled_or_plain("cross_entropy_backward")
    ctc_forward = _compiled_or_plain("ctc_forward", "ctc")
    ctc_backward = _compiled_or_plain("ctc_backward", "ctc")
    layer_norm_forward = _compiled_or_plain("layer_norm_forward", "normalizing")
    layer_norm_backward = _compiled_or_plain("layer_norm_backward", "normalizing")
    running_sum = _compiled_or_plain("running_sum", "scans")
    running_product = _compiled_or_plain("running_product", "scans")
    linear_recurrence = _compiled_or_plain("linear_recurrence", "scans")
    running_extreme = _compiled_or_plain("running_extreme", "scans")
    adam_update_one = _compiled_or_plain("adam_update_one")
    sgd_update_one = _compiled_or_plain("sgd_update_one")

    def softmax(self, x: Array, dims: tuple[int, ...], logarithm: bool = False) -> Array:
        if x.size >= _MANY and dims == (x.ndim - 1,):
            result: Any = _fast_softmax(x.dtype, x, logarithm)
            if result is not NotImplemented:
                return result
        return super().softmax(x, dims, logarithm)

    def sum_of_squares(self, arrays: Sequence[Array]) -> Array:
        return np.array(sum((_sum_of_squares(array.reshape(-1)) for array in arrays), 0.0))

    def sorting_order(self, x: Array, axis: int, descending: bool, first: int | None = None) -> Array:
        order = numpy_sorting.sorting_order(x, axis, descending, first)
        return super().sorting_order(x, axis, descending, first) if order is NotImplemented else order

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        if target.dtype == FLOAT16:
            wide = target.astype(FLOAT32)
            self.scatter_add(wide, index, values)
            target[...] = wide
        elif isinstance(index, np.ndarray) and is_integer(index.dtype) and index.size and values.size:
            rows = _row_numbers(index, len(target))
            values = _spread(values, (*index.shape, *target.shape[1:])).reshape(index.size, *target.shape[1:])
            values = values.astype(target.dtype, copy=False) if is_float(target.dtype) else values
            if target.ndim == 1 and target.dtype == FLOAT32:
                if not _few_each(rows, len(target)):
                    # It adds in float64. An intp may have 32 bits.
                    target += np.bincount(rows.astype(np.intp, copy=False), values, len(target))
                    return
            elif is_float(target.dtype):
                while not _few_each(rows, len(target)):
                    blocks = blocks_of_values(rows)
                    sums = np.zeros((len(blocks.rows), *target.shape[1:]), target.dtype)
                    self._add_to_rows(sums, blocks.of_values, values)
                    rows, values = blocks.rows, sums
            self._add_to_rows(target, rows, values)
        elif (dim := _dim_indexed(index)) is not None and values.size:
            shape = (*target.shape[:dim], *index[dim].shape, *target.shape[dim + 1 :])
            dims = range(dim, dim + index[dim].ndim)
            values = np.moveaxis(_spread(values, shape), dims, range(index[dim].ndim))
            self.scatter_add(np.moveaxis(target, dim, 0), index[dim], values)
        elif is_float(target.dtype) and values.size > SHORT:
            # Each element is treated as a row.
            places = np.arange(target.size).reshape(target.shape)[index]
            if _few_each(places.reshape(-1), target.size):
                np.add.at(target, index, values)
                return
            flat = target.reshape(-1)
            self.scatter_add(flat, places, np.broadcast_to(values, places.shape))
            if not np.shares_memory(flat, target):
                target[...] = flat.reshape(target.shape)
        else:
            np.add.at(target, index, values)

    def _add_to_rows(self, target: Array, rows: Array, values: Array) -> None:
        """`target[rows] += values`, adding each row's values in their order."""
        if target.ndim == 1:
            np.add.at(target, rows, values)
            return
        fits = values.dtype == target.dtype and target.flags.c_contiguous
        if not fits or _fast_add_rows(target.dtype, target, rows, values) is NotImplemented:
            _add_rows(target, rows, values)

    def write(self, target: Array, index: Any, values: Array) -> None:
        target[index] = values

    def erf(self, x: Array) -> Array:
        return np.asarray(_erf(x), x.dtype)

    def matmul(self, x: Array, y: Array) -> Array:
        if x.dtype == y.dtype == FLOAT16:  # NumPy's float16 product is slow, and a plain running sum in float32
            return self.matmul(x.astype(FLOAT32), y.astype(FLOAT32)).astype(FLOAT16)
        # Our own threads compute large products, as OpenBLAS's would compete with the compiled layers' threads. This
        # depends only on the sizes, so results do not depend on the number of threads.
        large = x.ndim == y.ndim >= 2 and x.size * y.shape[-1] >= _WORTH_SHARING and x.shape[-1] == y.shape[-2]
        if large and min(y.shape[-2:]) >= _WIDE and x.dtype == y.dtype:
            result: Any = NotImplemented
            if x.ndim == 2:
                result = _large_product(x.dtype, x, y)
            elif x.shape[:-2] == y.shape[:-2] and x.shape[-2] >= _WIDE:
                result = _stacked_products(x.dtype, x, y)
            if result is not NotImplemented:
                return result
        if own_threads() and _shared_by_blas(x, y):
            with for_products():
                return matmul(x, y)
        return matmul(x, y)

    def one_pass(self, dtype: Any) -> Callable[..., Any] | None:
        return _compiled_pass if compiled.enabled(dtype) else None

    def sequence(self, forward: "Forward", backward: "Backward | None") -> "ArraySequence":
        from .compiled.sequence import CSequence

        return CSequence(forward, backward)

    def synchronize(self) -> None:
        """Does nothing: NumPy's calls return when they are done."""
