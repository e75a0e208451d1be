"""Products of two matrices, in C (`runtime/matrices.c`)."""

import ctypes
import struct
from functools import cache
from typing import Any

import numpy as np

from .. import memory
from ..base import HostArray
from .c_runtime import LINE, address, kernel_library, line_in, panels_bytes, source, threads_for

__all__ = ["matmul"]

_OPERANDS = struct.Struct("4P5n2i")  # of `matrices.c`: P is an address, n and i are integers


@cache
def _kernels(dtype: np.dtype[Any]) -> ctypes.CDLL:
    library = kernel_library("matrices", source("matrices.c"), dtype)
    library.matmul.argtypes, library.matmul.restype = [ctypes.c_ssize_t, ctypes.c_char_p], None
    return library


def _rows(matrix: HostArray) -> tuple[HostArray, int, bool]:
    """The matrix or its transpose, so that the elements of a row are adjacent; the stride of rows; whether transposed.

    The matrix is copied if neither has such rows.
    """
    size = matrix.itemsize
    if matrix.flags.aligned:
        for transposed in (False, True):
            rows = matrix.T if transposed else matrix
            stride, step = rows.strides
            if (step == size or rows.shape[1] == 1) and stride % size == 0:
                return rows, stride // size, transposed
    return np.array(matrix, order="C"), matrix.shape[1], False


def matmul(x: HostArray, y: HostArray) -> HostArray:
    """The product of non-empty matrices (M, K) and (K, N) of one dtype."""
    kernels = _kernels(x.dtype)
    (M, K), N = x.shape, y.shape[1]
    x, x_row, x_transposed = _rows(x)
    y, y_row, y_transposed = _rows(y)
    out = memory.empty((M, N), x.dtype)
    panels = memory.empty((panels_bytes(K, N, x.dtype) + LINE,), np.uint8)
    addresses = map(address, (out, x, y))
    packed = _OPERANDS.pack(*addresses, line_in(panels), M, K, N, x_row, y_row, x_transposed, y_transposed)
    kernels.matmul(threads_for(2.0 * M * K * N), packed)
    return out
