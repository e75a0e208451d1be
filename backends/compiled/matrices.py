"""Products of matrices, in C (`runtime/matrices.c`)."""

import ctypes
import math
import struct
from functools import cache
from typing import Any

import numpy as np

from .. import memory
from ..base import HostArray
from .c_runtime import LINE, address, kernel_library, line_in, panels_bytes, source, threads_for

__all__ = ["matmul", "matmul_stack"]

_OPERANDS = "4P5n2i"  # of `matrices.c`: P is an address, n and i are integers
_PAIR, _STACK = struct.Struct(_OPERANDS), struct.Struct(f"{_OPERANDS}4P3n")


@cache
def _kernels(dtype: np.dtype[Any]) -> ctypes.CDLL:
    library = kernel_library("matrices", source("matrices.c"), dtype)
    for function in (library.matmul, library.matmul_stack):
        function.argtypes, function.restype = [ctypes.c_ssize_t, ctypes.c_char_p], None
    return library


def _rows(matrix: HostArray) -> tuple[HostArray, int, bool]:
    """The matrix or its transpose, so that the elements of a row are adjacent; the stride of rows; whether transposed.

    The matrix is copied if neither has such rows. The same is done with all matrices of a stack.
    """
    size = matrix.itemsize
    if matrix.flags.aligned:
        for transposed in (False, True):
            rows = matrix.swapaxes(-1, -2) if transposed else matrix
            stride, step = rows.strides[-2:]
            if (step == size or rows.shape[-1] == 1) and stride % size == 0:
                return rows, stride // size, transposed
    return np.array(matrix, order="C"), matrix.shape[-1], False


def matmul(x: HostArray, y: HostArray) -> HostArray:
    """The product of non-empty matrices (M, K) and (K, N) of one dtype."""
    kernels = _kernels(x.dtype)
    (M, K), N = x.shape, y.shape[1]
    x, x_row, x_transposed = _rows(x)
    y, y_row, y_transposed = _rows(y)
    out = memory.empty((M, N), x.dtype)
    panels = memory.empty((panels_bytes(K, N, x.dtype) + LINE,), np.uint8)
    addresses = map(address, (out, x, y))
    packed = _PAIR.pack(*addresses, line_in(panels), M, K, N, x_row, y_row, x_transposed, y_transposed)
    kernels.matmul(threads_for(2.0 * M * K * N), packed)
    return out


def matmul_stack(x: HostArray, y: HostArray) -> HostArray:
    """The products of non-empty matrices (..., M, K) and (..., K, N) of one dtype, whose other lengths are the same."""
    kernels, stack = _kernels(x.dtype), x.shape[:-2]
    (M, K), N, number = x.shape[-2:], y.shape[-1], math.prod(stack)
    x, x_row, x_transposed = _rows(x)
    y, y_row, y_transposed = _rows(y)
    out = memory.empty((*stack, M, N), x.dtype)
    threads = threads_for(2.0 * number * M * K * N)
    size = -(-panels_bytes(K, N, x.dtype) // LINE) * LINE
    panels = memory.empty((size * threads + LINE,), np.uint8)
    addresses = [_addresses(each, stack) for each in (x, y)]
    packed = _STACK.pack(
        0, 0, 0, 0, M, K, N, x_row, y_row, x_transposed, y_transposed,
        address(out), *map(address, addresses), line_in(panels), size // x.itemsize, number, 0,
    )  # fmt: skip
    kernels.matmul_stack(threads, packed)
    return out


def _addresses(matrices: HostArray, stack: tuple[int, ...]) -> HostArray:
    """The addresses of the matrices of a stack."""
    found = np.array(address(matrices) if matrices.flags.c_contiguous else matrices.ctypes.data)
    for length, stride in zip(stack, matrices.strides):
        found = found[..., None] + np.arange(length) * stride
    return np.ascontiguousarray(found)
