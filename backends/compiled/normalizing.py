"""Normalization of rows, in C (`runtime/normalizing.c`); the functions of `backends/training.py`."""

import ctypes
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .. import memory
from ..base import HostArray
from ..sums import total
from .c_runtime import address, kernel_library, source, threads_for

__all__ = ["layer_norm_backward", "layer_norm_forward"]

_ARGUMENTS = struct.Struct("5nd10P")  # of `Norm` in `normalizing.c`: n is an integer, d a double, P an address
_OPERATIONS = 10  # that an element takes, about
_PARTS = 16  # of the rows, if there are enough: threads share them, and each has its own gradients of the weights
_ROWS = 32  # of a group in a part, at most: so few that the rounding error of their sum is small


@cache
def _kernels(dtype: np.dtype[Any]) -> ctypes.CDLL:
    library = kernel_library("normalizing", source("normalizing.c"), dtype)
    for function in (library.norm_forward, library.norm_backward):
        function.argtypes, function.restype = [ctypes.c_ssize_t, ctypes.c_char_p], None
    return library


def _run(function: Any, x: HostArray, affine: HostArray | None, rows_a_part: int, eps: float, *arrays: Any) -> None:
    """Calls a function with its arrays. The shape of `affine`, (G, K) or (C,), is that of weight and bias."""
    rows, columns = x.shape
    groups, channels = (1, columns) if affine is None or affine.ndim == 1 else affine.shape
    addresses = [0 if array is None else address(array) for array in arrays]
    packed = _ARGUMENTS.pack(rows, columns, groups, channels, rows_a_part, eps, *addresses)
    function(threads_for(_OPERATIONS * x.size), packed)


def _given(arrays: Sequence[HostArray | None], dtype: Any) -> list[Any]:
    return [None if array is None else np.require(array, dtype, ["C", "A"]) for array in arrays]


def layer_norm_forward(arrays: Sequence[HostArray | None], eps: float) -> tuple[HostArray, tuple[HostArray, HostArray]]:
    dtype = arrays[0].dtype  # type: ignore[union-attr]
    x, weight, bias = _given(arrays, dtype)
    out, (means, scales) = memory.empty(x.shape, dtype), np.empty((2, len(x)), dtype)
    like = bias if weight is None else weight
    _run(_kernels(dtype).norm_forward, x, like, 1, eps, x, weight, bias, means, scales, out, None, None, None, None)
    return out, (means, scales)


def layer_norm_backward(
    arrays: Sequence[HostArray | None], needs_grad: Sequence[bool]
) -> tuple[HostArray | None, HostArray | None, HostArray | None]:
    dtype = arrays[0].dtype  # type: ignore[union-attr]
    g, x, weight, means, scales = _given(arrays, dtype)
    shape = x.shape[1:] if weight is None else weight.shape
    groups = shape[0] if len(shape) == 2 else 1
    rows = groups * max(1, min(len(x) // groups // _PARTS, _ROWS))
    g_x = memory.empty(x.shape, dtype) if needs_grad[0] else None
    parts = [memory.empty((-(-len(x) // rows), *shape), dtype) if needed else None for needed in needs_grad[1:]]
    _run(
        _kernels(dtype).norm_backward, x, weight, rows, 0.0,
        x, weight, None, means, scales, None, g, g_x, *parts,
    )  # fmt: skip
    of_weight, of_bias = (None if part is None else total(np, part, 0) for part in parts)
    return g_x, of_weight, of_bias
