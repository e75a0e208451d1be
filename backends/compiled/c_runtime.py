"""The libraries in C that all kernels share: the product of matrices, one library a dtype, and the team of threads."""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from ..dtypes import FLOAT32, FLOAT64
from ..threads import blas_threads_spin, number_of_threads, own_threads_compute
from .building import RUNTIME, Source, libraries, library
from .errors import BuildError

__all__ = [
    "OPERATIONS_A_THREAD",
    "address",
    "line_in",
    "panels_bytes",
    "kernel_library",
    "source",
    "threads_for",
]

OPERATIONS_A_THREAD = 2e6
"""The number of operations that justify one more thread: about 20 µs."""

LINE = 64
"""The bytes of a line of the cache. Panels begin at one, so that each of their vectors is in one line."""

_REAL = {FLOAT32: "float", FLOAT64: "double"}
_memory_of = (ctypes.c_char * 0).from_buffer
_LONG = 1e9  # operations: milliseconds, for which it does not matter that OpenBLAS's threads spin at their beginning

# In the order of the fields of `Runtime` in runtime.h.
_PRODUCT = ("panels_size", "pack", "pack_transposed", "product", "product_transposed")


def kernel_library(name: str, source: str, dtype: Any) -> ctypes.CDLL:
    """The library that a C source with `#include "runtime.h"` defines, ready to be called; REAL is the dtype.

    Raises:
        BuildError: it cannot be built.
    """
    *_, loaded = libraries(_team(), _product(dtype), _of_dtype(name, source, dtype))
    functions = *_shares(), *_products(dtype)
    loaded.set_runtime((ctypes.c_void_p * len(functions))(*functions))
    return loaded


def threads_for(operations: float, beside_blas: bool = False) -> int:
    """The number of threads to use for this number of floating-point operations; notes that our own threads compute.

    Args:
        beside_blas: whether not to note it, so that OpenBLAS may go on to use its threads.
    """
    threads = min(1 + int(operations / OPERATIONS_A_THREAD), number_of_threads())
    if operations < _LONG and blas_threads_spin():
        return 1
    if threads > 1 and not beside_blas:
        own_threads_compute(True)
    return threads


def address(array: Any) -> int:
    """The address of a contiguous array's memory, in a tenth of the time of `array.ctypes.data`."""
    try:
        return ctypes.addressof(_memory_of(array))
    except TypeError:  # it is read-only
        return int(array.ctypes.data)


def line_in(block: Any) -> int:
    """The address of the first line of the cache that begins in a block."""
    at = address(block)
    return at + -at % LINE


def panels_bytes(K: int, N: int, dtype: Any) -> int:
    """The bytes of the panels of a matrix (K, N), which begin at a line of the cache.

    Raises:
        BuildError: the product cannot be built.
    """
    return _panels_size(dtype)(K, N) * int(dtype.itemsize)


@cache
def _panels_size(dtype: Any) -> Callable[[int, int], int]:
    return ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_ssize_t, ctypes.c_ssize_t)(_products(dtype)[0])


@cache
def _shares() -> tuple[int, ...]:
    """The addresses of `share` and `share_briefly`; see runtime.h.

    Raises:
        BuildError: they cannot be built.
    """
    return _addresses(library(*_team()), ("share", "share_briefly"))


@cache
def _products(dtype: Any) -> tuple[int, ...]:
    return _addresses(library(*_product(dtype)), _PRODUCT)


def _addresses(loaded: ctypes.CDLL, names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value or 0 for name in names)


@cache
def _team() -> Source:
    return Source("team", source("team.c"))


@cache
def _product(dtype: Any) -> Source:
    # Its loops are unrolled by hand: -O3 makes them no faster, and takes a quarter longer.
    return _of_dtype("product", source("product.c"), dtype, "-O2")


def _of_dtype(name: str, source: str, dtype: Any, *options: str) -> Source:
    return Source(f"{name}_{dtype}", f"#define REAL {_REAL[dtype]}\n{source}", options)


def source(name: str) -> str:
    """A file of `runtime/`.

    Raises:
        BuildError: it was not installed.
    """
    try:
        return (RUNTIME / name).read_text(encoding="utf-8")
    except OSError as error:
        raise BuildError(f"a source of the kernels cannot be read: {error}") from error
