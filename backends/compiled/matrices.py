"""Products of two matrices, in C (`runtime/matrices.c`)."""

import ctypes
from functools import cache
from typing import Any

import numpy as np

from .. import memory
from ..base import HostArray
from .c_runtime import empty_panels, kernel_library, source, threads_for

__all__ = ["matmul"]


@cache
def _kernels(dtype: np.dtype[Any]) -> ctypes.CDLL:
    library = kernel_library("matrices", source("matrices.c"), dtype)
    size, pointer, flag = ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_int
    factors = (pointer, size, flag, pointer, size, flag)
    library.matmul.argtypes, library.matmul.restype = [size, pointer, *factors, pointer, size, size, size], None
    return library


def _rows(matrix: HostArray) -> tuple[HostArray, int, bool]:
    """The matrix, the stride of its rows in elements, and whether these are its columns.

    The elements of a row are adjacent. The matrix is copied if it has neither such rows nor such columns.
    """
    size = matrix.itemsize
    if matrix.flags.aligned:
        for transposed in (False, True):
            rows = matrix.T if transposed else matrix
            stride, step = rows.strides
            if (step == size or rows.shape[1] == 1) and stride % size == 0:
                return matrix, stride // size, transposed
    return np.array(matrix, order="C"), matrix.shape[1], False


def matmul(x: HostArray, y: HostArray) -> HostArray:
    """The product of non-empty matrices (M, K) and (K, N) of one dtype."""
    kernels = _kernels(x.dtype)
    (M, K), N = x.shape, y.shape[1]
    x, x_row, x_transposed = _rows(x)
    y, y_row, y_transposed = _rows(y)
    out = memory.empty((M, N), x.dtype)
    panels = empty_panels(K, N, x.dtype)
    kernels.matmul(
        threads_for(2.0 * M * K * N), out.ctypes.data, x.ctypes.data, x_row, x_transposed,
        y.ctypes.data, y_row, y_transposed, panels.ctypes.data, M, K, N,
    )  # fmt: skip
    return out
