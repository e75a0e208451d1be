"""Cross entropy, layer normalization, dropout, scatter and optimizers in CUDA; see `backends.training`."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base import Array
from ..dtypes import is_float, is_integer, widened_dtype
from ..sums import total
from ..training import TrainingKernels, threshold
from .launching import THREADS, LaunchedKernels, blocks

__all__ = ["CudaTrainingKernels"]

_WARP = 32
_LONG_ROW = 1024  # the length of rows from which on a block computes a row, not a warp
_PIECE = 4096  # elements of an array for each block
_MANY = 8  # values for a row, on average; from this on several threads share them
_MOST_BLOCKS = 65535  # in any dimension except the first
_MANY_THREADS = 256  # in a block that sums a row, or processes a piece of an array
_ROOM = 2 * 8 * (_MANY_THREADS // _WARP)  # bytes of shared memory for two numbers of each warp of such a block
_COLUMN_THREADS = 8  # that share the rows of a column
_MOST_TABLES = 16  # of pieces that are cached
_PARTS = 64  # of the rows, at most, each with its own sum


class CudaTrainingKernels(LaunchedKernels, TrainingKernels):
    """The training part of a CUDA device."""

    # -- cross entropy -------------------------------------------------------------------------------------------------

    def cross_entropy_forward(self, arrays: Sequence[Array], ignore_index: int) -> tuple[Array, tuple[Array, Array]]:
        logits, ids = self.contiguous(*arrays)
        N, C = logits.shape
        losses, largest, sums = (self.empty((N,), widened_dtype(logits.dtype)) for _ in range(3))
        kernel = self.kernel("cross_entropy", "cross_entropy_forward", logits.dtype)
        kernel(*_rows(N, C), (logits, ids, losses, largest, sums, ignore_index, N, C), _ROOM)
        return losses, (largest, sums)

    def cross_entropy_backward(self, arrays: Sequence[Array], ignore_index: int) -> Array:
        logits, ids, g, largest, sums = self.contiguous(*arrays)
        N, C = logits.shape
        g_logits = self.empty((N, C), logits.dtype)
        width = self._width(C, logits, g_logits)
        kernel = self.kernel("cross_entropy", "cross_entropy_backward", logits.dtype, width)
        kernel(blocks(N * C, width), THREADS, (logits, ids, g, largest, sums, g_logits, ignore_index, N, C))
        return g_logits

    # -- connectionist temporal classification -------------------------------------------------------------------------

    def ctc_forward(self, arrays: Sequence[Array], blank: int) -> tuple[Array, Array]:
        log_probs, labels, lengths, ends = self.contiguous(*arrays)
        (T, N, C), L, wide = log_probs.shape, labels.shape[1], widened_dtype(log_probs.dtype)
        losses, alphas = self.empty((N,), wide), self.empty((N, T, L), wide)
        kernel = self.kernel("ctc", "ctc_forward", log_probs.dtype)
        kernel(N, _threads(L), (log_probs, labels, lengths, ends, losses, alphas, blank, T, N, C, L))
        return losses, alphas

    def ctc_backward(self, arrays: Sequence[Array], blank: int) -> Array:
        log_probs, labels, lengths, ends, g, losses, alphas = self.contiguous(*arrays)
        (T, N, C), L = log_probs.shape, labels.shape[1]
        room, later = self.empty((N, 4, L), alphas.dtype), self.empty((N, L), labels.dtype)
        g_log_probs = self.empty((T, N, C), log_probs.dtype)
        kernel = self.kernel("ctc", "ctc_backward", log_probs.dtype)
        inputs = log_probs, labels, lengths, ends, g, losses, alphas
        kernel(N, _threads(L), (*inputs, room, later, g_log_probs, blank, T, N, C, L))
        return g_log_probs

    # -- layer normalization -------------------------------------------------------------------------------------------

    def layer_norm_forward(self, arrays: Sequence[Array | None], eps: float) -> tuple[Array, tuple[Array, Array]]:
        x, weight, bias = self.contiguous(*arrays)
        if any([each is not None and each.ndim == 2 for each in (weight, bias)]):
            return super().layer_norm_forward((x, weight, bias), eps)
        N, C = x.shape
        out, means, scales = self.empty((N, C), x.dtype), *(self.empty((N,), widened_dtype(x.dtype)) for _ in range(2))
        kernel = self.kernel("layer_norm", "layer_norm_forward", x.dtype)
        kernel(*_rows(N, C), (x, weight, bias, out, means, scales, float(eps), N, C), _ROOM)
        return out, (means, scales)

    def layer_norm_backward(
        self, arrays: Sequence[Array | None], needs_grad: Sequence[bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        g, x, weight, means, scales = self.contiguous(*arrays)
        if weight is not None and weight.ndim == 2:
            return super().layer_norm_backward((g, x, weight, means, scales), needs_grad)
        N, C = x.shape
        g_x = of_weight = of_bias = None
        if needs_grad[0]:
            g_x = self.empty((N, C), x.dtype)
            kernel = self.kernel("layer_norm", "layer_norm_backward", x.dtype)
            kernel(*_rows(N, C), (g, x, weight, means, scales, g_x, N, C), _ROOM)
        if needs_grad[1] or needs_grad[2]:
            parts = max(1, min(_PARTS, N // _PARTS))
            sums = [self.empty((parts, C), means.dtype) for _ in range(2)]
            room = 2 * _WARP * _COLUMN_THREADS * means.dtype.itemsize
            kernel = self.kernel("layer_norm", "layer_norm_backward_weights", x.dtype)
            kernel((-(-C // _WARP), parts), (_WARP, _COLUMN_THREADS), (g, x, means, scales, *sums, N, C), room)
            of_weight, of_bias = (total(self.xp, part, 0, dtype=x.dtype) for part in sums)
        return g_x, of_weight, of_bias

    # -- dropout -------------------------------------------------------------------------------------------------------

    def dropout(self, x: Array, p: float, key: int) -> Array:
        (x,) = self.contiguous(x)
        out = self.empty(x.shape, x.dtype)
        width = self._width(8, x, out)
        kernel = self.kernel("dropout", "dropout", x.dtype, width)
        kernel(blocks(x.size, 8), THREADS, (x, out, 1 / (1 - p), threshold(p), key, x.size))
        return out

    # -- indices with duplicates ---------------------------------------------------------------------------------------

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        xp = self.xp
        if not is_float(target.dtype):  # the order does not matter, and CuPy adds few dtypes of integers
            wide = target.astype(np.uint64)
            xp.add.at(wide, index, values.astype(np.uint64))
            target[...] = wide.astype(target.dtype)
            return
        whole_rows = hasattr(index, "dtype") and is_integer(index.dtype)
        rows, columns = (len(target), math.prod(target.shape[1:])) if whole_rows else (target.size, 1)
        if whole_rows:
            places = index.astype(np.int64, copy=False) % max(rows, 1)
            shape = (*index.shape, *target.shape[1:])
        else:
            places = xp.arange(rows).reshape(target.shape)[index]
            shape = places.shape
        if not math.prod(shape):
            return
        (added,) = self.contiguous(xp.broadcast_to(values.astype(target.dtype, copy=False), shape))
        (summed,) = self.contiguous(target)
        order = xp.argsort(places.reshape(-1), kind="stable")
        ranked = places.reshape(-1)[order]
        number = len(order)
        by_row = rows * _MANY <= number
        across = min(_WARP if by_row else _MANY_THREADS, 1 << (columns - 1).bit_length())
        kernel = self.kernel("scatter", "add_rows", target.dtype)
        kernel(
            (rows if by_row else number, min(-(-columns // across), _MOST_BLOCKS)),
            (across, _MANY_THREADS // across),
            (summed, ranked, order, added, int(by_row), number, columns),
            _MANY_THREADS * widened_dtype(target.dtype).itemsize,
        )
        if summed is not target:
            target[...] = summed

    # -- many arrays at once -------------------------------------------------------------------------------------------

    def sum_of_squares(self, arrays: Sequence[Array]) -> Array:
        ready = [self.contiguous(array) for array in arrays]  # alive as long as their addresses are used
        pieces, width = self._pieces(ready)
        sums = self.empty((len(pieces),), np.float64)
        if len(pieces):
            kernel = self.kernel("many", "sum_of_squares", arrays[0].dtype, width)
            kernel(len(pieces), _MANY_THREADS, (pieces, sums), _ROOM)
        return total(self.xp, sums)

    def scale(self, arrays: Sequence[Array], factor: Array) -> None:
        self._change("scale", [(array,) for array in arrays], (factor,))

    def adam_update(self, parameters: Sequence[Sequence[Array]], *settings: float) -> None:
        self._change("adam_update", parameters, (int(len(parameters[0]) > 4), *settings))

    def sgd_update(self, parameters: Sequence[Sequence[Array]], *settings: Any) -> None:
        *numbers, nesterov = settings
        self._change("sgd_update", parameters, (int(len(parameters[0]) > 2), int(nesterov), *numbers))

    def _change(self, name: str, groups: Sequence[Sequence[Array]], settings: tuple[Any, ...]) -> None:
        """One launch for all groups of arrays of one dtype. Non-contiguous arrays are copied and written back."""
        groups = [list(group) for group in groups]
        dtype = groups[0][0].dtype
        ready = [self.contiguous(*(array.astype(dtype, copy=False) for array in group)) for group in groups]
        pieces, width = self._pieces(ready)
        if len(pieces):
            kernel = self.kernel("many", name, dtype, width)
            kernel(len(pieces), _MANY_THREADS, (pieces, *settings))
        for group, copies in zip(groups, ready, strict=True):
            del group[1:2], copies[1:2]  # the gradient, which is unchanged
            for array, copy in zip(group, copies, strict=True):
                if copy is not array:
                    array[...] = copy

    def _pieces(self, groups: Sequence[Sequence[Array]]) -> tuple[Array, int]:
        """For each piece of a group of arrays, the number of elements and the addresses of its beginnings; and the
        number of elements that can be loaded at once.

        They are cached, as they are mostly the same at each step.
        """
        itemsize = int(groups[0][0].dtype.itemsize)
        places = [(int(arrays[0].size), *map(self.address, arrays)) for arrays in groups]
        key = (self.queue(), itemsize, *places)
        found = self._known_pieces.get(key)
        if found is None:
            if len(self._known_pieces) >= _MOST_TABLES:
                self._known_pieces.clear()
            rows = []
            for size, *addresses in places:
                begins = np.arange(0, size, _PIECE, dtype=np.int64)
                lengths = np.minimum(size - begins, _PIECE)
                rows.append(np.stack([lengths, *(address + begins * itemsize for address in addresses)], axis=1))
            width = self._width(_PIECE, *(array for arrays in groups for array in arrays))
            found = self._known_pieces[key] = self.from_host(np.concatenate(rows)), width
        return found

    @functools.cached_property
    def _known_pieces(self) -> dict[tuple[Any, ...], tuple[Array, int]]:
        return {}


def _threads(states: int) -> int:
    """The number of threads that share the states of a time step."""
    return min(-(-states // _WARP) * _WARP, _MANY_THREADS)


def _rows(rows: int, columns: int) -> tuple[int, tuple[int, int]]:
    """The blocks, and the threads of a block, for a kernel in which a row of threads computes a row of an array."""
    return (rows, (_MANY_THREADS, 1)) if columns >= _LONG_ROW else (-(-rows // 4), (_WARP, 4))
