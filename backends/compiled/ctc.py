"""The loss of connectionist temporal classification, in C (`runtime/ctc.c`); the functions of `backends/ctc.py`."""

import ctypes
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .. import memory
from ..base import HostArray
from .c_runtime import address, kernel_library, source, threads_for

__all__ = ["ctc_backward", "ctc_forward"]

_ARGUMENTS = struct.Struct("6n9P")  # of `CTC` in `ctc.c`: n is an integer, P an address
_OPERATIONS = 100  # that a state takes at a time step, about


@cache
def _kernels(dtype: np.dtype[Any]) -> ctypes.CDLL:
    library = kernel_library("ctc", source("ctc.c"), dtype)
    for function in (library.ctc_forward, library.ctc_backward):
        function.argtypes, function.restype = [ctypes.c_ssize_t, ctypes.c_char_p], None
    return library


def ctc_forward(arrays: Sequence[HostArray], blank: int) -> tuple[HostArray, HostArray]:
    log_probs, labels, *_ = arrays
    (T, N, _), L = log_probs.shape, labels.shape[1]
    losses, alphas = np.empty(N, log_probs.dtype), memory.empty((N, T, _padded(L) + 2), log_probs.dtype)
    _run(_kernels(log_probs.dtype).ctc_forward, arrays, blank, losses, alphas)
    return losses, alphas


def ctc_backward(arrays: Sequence[HostArray], blank: int) -> HostArray:
    log_probs, labels, lengths, ends, g, losses, alphas = arrays
    g_log_probs = memory.empty(log_probs.shape, log_probs.dtype)
    g = np.require(g, log_probs.dtype, ["C", "A"])
    inputs = log_probs, labels, lengths, ends
    _run(_kernels(log_probs.dtype).ctc_backward, inputs, blank, losses, alphas, g, g_log_probs)
    return g_log_probs


def _padded(states: int) -> int:
    """The number of states that are computed: a multiple of 16."""
    return -(-states // 16) * 16


def _run(function: Any, inputs: Sequence[HostArray], blank: int, *arrays: HostArray) -> None:
    """Calls a function with its arguments in a struct, which has places for more arrays."""
    log_probs, *integers = inputs
    log_probs = np.require(log_probs, log_probs.dtype, ["C", "A"])
    integers = [np.require(array, np.int64, ["C", "A"]) for array in integers]
    (T, N, C), L = log_probs.shape, integers[0].shape[1]
    losses, alphas, *gradients = arrays
    room = np.empty((N, 4, _padded(L) + 2), log_probs.dtype)
    addresses = [address(array) for array in (log_probs, *integers, losses, alphas, room, *gradients)]
    packed = _ARGUMENTS.pack(T, N, C, L, _padded(L), blank, *addresses, *(9 - len(addresses)) * (0,))
    function(threads_for(_OPERATIONS * T * N * L), packed)
