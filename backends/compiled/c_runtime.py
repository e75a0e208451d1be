"""The libraries in C that all kernels share: the product of matrices, one library a dtype, and the team of threads."""

import ctypes
from functools import cache
from typing import Any

from ..dtypes import FLOAT32, FLOAT64
from ..threads import number_of_threads, own_threads_compute
from .building import RUNTIME, library

__all__ = ["ALIGNMENT", "kernel_library", "source", "threads_for"]

ALIGNMENT = 64
"""Bytes, for panels: their vectors are in one cache line each."""

_REAL = {FLOAT32: "float", FLOAT64: "double"}
_OPERATIONS_A_THREAD = 2e6  # that justify one more thread: about 20 µs

# In the order of the fields of `Runtime` in runtime.h.
_PRODUCT = ("panels_size", "pack", "pack_transposed", "product", "product_transposed")


def kernel_library(name: str, source: str, dtype: Any) -> ctypes.CDLL:
    """The library that a C source with `#include "runtime.h"` defines, ready to be called; REAL is the dtype.

    Raises:
        BuildError: it cannot be built.
    """
    loaded = _of_dtype(name, source, dtype)
    pointers = (ctypes.c_void_p * (1 + len(_PRODUCT)))(*_addresses(dtype))
    loaded.set_runtime(pointers)
    return loaded


def threads_for(operations: float) -> int:
    """The number of threads to use for this number of floating-point operations; notes that our own threads compute."""
    threads = min(1 + int(operations / _OPERATIONS_A_THREAD), number_of_threads())
    if threads > 1:
        own_threads_compute(True)
    return threads


@cache
def _addresses(dtype: Any) -> tuple[int | None, ...]:
    """The addresses of the runtime's functions."""
    team = library("team", source("team.c"))
    products = _of_dtype("product", source("product.c"), dtype)
    functions = [team.share, *(getattr(products, name) for name in _PRODUCT)]
    return tuple(ctypes.cast(function, ctypes.c_void_p).value for function in functions)


def _of_dtype(name: str, source: str, dtype: Any) -> ctypes.CDLL:
    return library(f"{name}_{dtype}", f"#define REAL {_REAL[dtype]}\n{source}")


def source(name: str) -> str:
    """A file of `runtime/`."""
    return (RUNTIME / name).read_text(encoding="utf-8")
