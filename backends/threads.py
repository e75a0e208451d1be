"""The threads of the CPU: those of the matrix library below NumPy, and as many of our own for the compiled kernels."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Environment variables by which a user says how many threads there are to be."""


def blas_library() -> str:
    """The name and version of the BLAS that NumPy was built with."""
    config: Any = np.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


def number_of_threads() -> int:
    """How many threads compute: those that OpenBLAS uses; where it cannot be asked, one for each core."""
    if _chosen is not None:
        return _chosen
    function = _openblas("get_num_threads")
    return (os.cpu_count() or 1) if function is None else int(function())


def set_number_of_threads(number: int) -> None:
    """Sets how many threads compute, OpenBLAS's among them.

    Raises:
        ValueError: the number is below 1.
    """
    global _chosen
    if number < 1:
        raise ValueError(f"set_num_threads: expected at least 1 thread, got {number}")
    _chosen = number
    function = _openblas("set_num_threads")
    if function is not None:
        function(ctypes.c_int(number))


def set_by_environment() -> bool:
    """Whether the environment says how many threads there are to be."""
    return any(os.environ.get(name) for name in VARIABLES)


_chosen: int | None = None


@cache
def _openblas(name: str) -> Any:
    """OpenBLAS's function of that name, in the library in NumPy's wheel, whose build decides on prefix and suffix."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in folder.glob("*openblas*"):
            loaded = ctypes.CDLL(str(path))
            for symbol in (f"{prefix}openblas_{name}{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")):
                if hasattr(loaded, symbol):
                    return getattr(loaded, symbol)
    return None


@cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="tinygrad_lstm")


# A forked process has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def in_parts(total: int, parts: int, function: Callable[..., None], *args: Any) -> None:
    """`function(first, last, *args)` for so many nearly equal parts of range(total), each in a thread."""
    parts = min(parts, total)
    if parts == 1:
        function(0, total, *args)
    if parts <= 1:
        return
    ends = [total * k // parts for k in range(parts + 1)]
    others = [_helpers().submit(function, first, last, *args) for first, last in pairwise(ends[1:])]
    try:
        function(0, ends[1], *args)
    finally:
        wait(others)
    for other in others:
        other.result()
