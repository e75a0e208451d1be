"""What a training step spends time in beside its networks, in CUDA. As `backends.training`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base import Array, HostArray
from ..scatter import write_last
from ..training import TrainingKernels, threshold
from .launching import THREADS, LaunchedKernels, blocks

__all__ = ["CudaTrainingKernels"]

_WARP = 32
_LONG_ROW = 1024  # from which on a row is a block's, not a warp's
_PIECE = 4096  # elements of a parameter that a block changes
_ROW_THREADS = 256  # that add up what is for one row, or for some columns of it
_ROOM = 2 * 8 * 8  # bytes of shared memory for two numbers of each warp of such a block
_COLUMN_THREADS = 8  # that share the rows of a column
_PARTS = 64  # of the rows whose sums are added up by themselves, at most


class CudaTrainingKernels(LaunchedKernels, TrainingKernels):
    """The training part of a CUDA device."""

    # -- cross entropy -------------------------------------------------------------------------------------------------

    def cross_entropy_forward(self, arrays: Sequence[Array], ignore_index: int) -> tuple[Array, tuple[Array, Array]]:
        logits, ids = self._contiguous(*arrays)
        N, C = logits.shape
        losses, largest, sums = (self.empty((N,), _wide(logits.dtype)) for _ in range(3))
        kernel = self.kernel("cross_entropy", "cross_entropy_forward", logits.dtype)
        kernel(*_rows(N, C), (logits, ids, losses, largest, sums, ignore_index, N, C), _ROOM)
        return losses, (largest, sums)

    def cross_entropy_backward(self, arrays: Sequence[Array], ignore_index: int) -> Array:
        logits, ids, g, largest, sums = self._contiguous(*arrays)
        N, C = logits.shape
        g_logits = self.empty((N, C), logits.dtype)
        width = self._width(C, logits, g_logits)
        kernel = self.kernel("cross_entropy", "cross_entropy_backward", logits.dtype, width)
        kernel(blocks(N * C, width), THREADS, (logits, ids, g, largest, sums, g_logits, ignore_index, N, C))
        return g_logits

    # -- layer normalization -------------------------------------------------------------------------------------------

    def layer_norm_forward(self, arrays: Sequence[Array | None], eps: float) -> tuple[Array, tuple[Array, Array]]:
        x, weight, bias = self._contiguous_if_given(*arrays)
        N, C = x.shape
        out, means, scales = self.empty((N, C), x.dtype), *(self.empty((N,), _wide(x.dtype)) for _ in range(2))
        kernel = self.kernel("layer_norm", "layer_norm_forward", x.dtype)
        kernel(*_rows(N, C), (x, weight, bias, out, means, scales, float(eps), N, C), _ROOM)
        return out, (means, scales)

    def layer_norm_backward(
        self, arrays: Sequence[Array | None], wanted: Sequence[bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        g, x, weight, means, scales = self._contiguous_if_given(*arrays)
        N, C = x.shape
        g_x = of_weight = of_bias = None
        if wanted[0]:
            g_x = self.empty((N, C), x.dtype)
            kernel = self.kernel("layer_norm", "layer_norm_backward", x.dtype)
            kernel(*_rows(N, C), (g, x, weight, means, scales, g_x, N, C), _ROOM)
        if wanted[1] or wanted[2]:
            parts = max(1, min(_PARTS, N // _PARTS))
            sums = [self.empty((parts, C), means.dtype) for _ in range(2)]
            room = 2 * _WARP * _COLUMN_THREADS * means.dtype.itemsize
            kernel = self.kernel("layer_norm", "layer_norm_backward_weights", x.dtype)
            kernel((-(-C // _WARP), parts), (_WARP, _COLUMN_THREADS), (g, x, means, scales, *sums, N, C), room)
            of_weight, of_bias = (self.xp.sum(part, axis=0).astype(x.dtype, copy=False) for part in sums)
        return g_x, of_weight, of_bias

    def _contiguous_if_given(self, *arrays: Array | None) -> list[Any]:
        return [None if array is None else self.xp.ascontiguousarray(array) for array in arrays]

    # -- dropout -------------------------------------------------------------------------------------------------------

    def dropout(self, x: Array, p: float, key: int) -> Array:
        (x,) = self._contiguous(x)
        out = self.empty(x.shape, x.dtype)
        width = self._width(8, x, out)
        kernel = self.kernel("dropout", "dropout", x.dtype, width)
        kernel(blocks(x.size, 8), THREADS, (x, out, 1 / (1 - p), threshold(p), key, x.size))
        return out

    # -- places named several times ------------------------------------------------------------------------------------

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        xp = self.xp
        if target.dtype.kind != "f":
            xp.add.at(target, index, values)  # sums of integers have no order
            return
        whole_rows = getattr(index, "dtype", np.dtype(bool)).kind in "iu"
        rows, columns = (len(target), math.prod(target.shape[1:])) if whole_rows else (target.size, 1)
        if whole_rows:
            places = index.astype(np.int64, copy=False) % max(rows, 1)
            shape = (*index.shape, *target.shape[1:])
        else:
            places = xp.arange(rows).reshape(target.shape)[index]
            shape = places.shape
        if not math.prod(shape):
            return
        (added,) = self._contiguous(xp.broadcast_to(values.astype(target.dtype, copy=False), shape))
        (summed,) = self._contiguous(target)
        order = xp.argsort(places.reshape(-1), kind="stable")
        ranked = places.reshape(-1)[order]
        number = len(order)
        by_row = rows <= number
        across = min(_WARP, 1 << (columns - 1).bit_length())
        kernel = self.kernel("scatter", "add_rows", target.dtype)
        kernel(
            (rows if by_row else number, -(-columns // across)),
            (across, _ROW_THREADS // across),
            (summed, ranked, order, added, int(by_row), number, columns),
            _ROW_THREADS * _wide(target.dtype).itemsize,
        )
        if summed is not target:
            target[...] = summed

    def write(self, target: Array, index: Any, values: Array) -> None:
        write_last(self.xp, target, index, values)

    # -- optimizers ----------------------------------------------------------------------------------------------------

    def adam_update(self, parameters: Sequence[Sequence[Array]], *settings: float) -> None:
        self._update("adam_update", parameters, (int(len(parameters[0]) > 4),), settings)

    def sgd_update(
        self,
        parameters: Sequence[Sequence[Array]],
        decay: float,
        momentum: float,
        share: float,
        rate: float,
        nesterov: bool,
    ) -> None:
        flags = (int(len(parameters[0]) > 2), int(nesterov))
        self._update("sgd_update", parameters, flags, (decay, momentum, share, rate))

    def _update(
        self, name: str, parameters: Sequence[Sequence[Array]], flags: tuple[int, ...], settings: tuple[float, ...]
    ) -> None:
        """One launch for all of them; those that are not contiguous are changed as copies."""
        changed = [(array, *self._contiguous(array)) for p, _, *state in parameters for array in (p, *state)]
        ready = iter(contiguous for _, contiguous in changed)
        rows = []
        for p, g, *state in parameters:
            first = next(ready)
            (g,) = self._contiguous(g.astype(p.dtype, copy=False))
            rows.append([first, g, *(next(ready) for _ in state)])
        dtype = rows[0][0].dtype
        pieces = np.concatenate([self._pieces(arrays) for arrays in rows])
        if len(pieces):
            width = self._width(_PIECE, *(array for arrays in rows for array in arrays))
            kernel = self.kernel("optimizers", name, dtype, width)
            kernel(len(pieces), 2 * THREADS, (self.from_host(pieces), *flags, *map(float, settings)))
        for array, contiguous in changed:
            if contiguous is not array:
                array[...] = contiguous

    def _pieces(self, arrays: Sequence[Array]) -> HostArray:
        """For each piece of a parameter: how many elements it has, and the addresses where they begin."""
        size = int(arrays[0].size)
        begins = np.arange(0, size, _PIECE, dtype=np.int64)
        addresses = np.array([self.address(array) for array in arrays], np.int64)
        lengths = np.minimum(size - begins, _PIECE)
        return np.concatenate([lengths[:, None], addresses + begins[:, None] * arrays[0].dtype.itemsize], axis=1)


def _wide(dtype: Any) -> np.dtype[Any]:
    """What kernels compute in."""
    return np.result_type(dtype, np.float32)


def _rows(rows: int, columns: int) -> tuple[int, tuple[int, int]]:
    """Blocks, and threads of a block, for a kernel of which a row of threads has a row of an array."""
    return (rows, (256, 1)) if columns >= _LONG_ROW else (-(-rows // 4), (_WARP, 4))
