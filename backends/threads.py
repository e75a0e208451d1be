"""How many threads compute on the CPU: those of the matrix library below NumPy, or our own of the compiled kernels."""

import ctypes
import os
from functools import cache
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


def blas_kernels() -> str:
    """The kind of processor whose kernels OpenBLAS chose, or "unknown"."""
    function = _openblas("get_corename")
    if function is None:
        return "unknown"
    function.restype = ctypes.c_char_p
    return str(function().decode())


def number_of_threads() -> int:
    """How many threads compute: at first those that OpenBLAS uses; where it cannot be asked, one for each core."""
    if _chosen is not None:
        return _chosen
    function = _openblas("get_num_threads")
    return number_of_cores() if function is None else int(function())


def number_of_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_number_of_threads(number: int) -> None:
    """Sets how many threads compute, OpenBLAS's among them.

    Raises:
        ValueError: the number is below 1.
    """
    global _chosen
    if number < 1:
        raise ValueError(f"set_num_threads: expected at least 1 thread, got {number}")
    _chosen = number
    _set_blas_threads(number)


def keep_blas_to_one_thread() -> None:
    """Lets OpenBLAS use one thread from now on: for kernels with threads of our own.

    After a product OpenBLAS's other threads wait for the next by spinning, for a hundredth of a second and more, and
    ours would have to share the cores with them.
    """
    global _chosen
    if not _blas_kept_to_one:
        _chosen = number_of_threads()
        _set_blas_threads(1)


def give_blas_its_threads() -> None:
    """Takes the above back: for kernels that consist of NumPy's calls."""
    if _blas_kept_to_one:
        _set_blas_threads(number_of_threads())


def _set_blas_threads(number: int) -> None:
    global _blas_kept_to_one
    _blas_kept_to_one = number == 1
    function = _openblas("set_num_threads")
    if function is not None:
        function(ctypes.c_int(number))


def set_by_environment() -> bool:
    """Whether the environment says how many threads there are to be."""
    return any(os.environ.get(name) for name in VARIABLES)


_chosen: int | None = None
_blas_kept_to_one = False


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
