"""The matrix library below NumPy: which one it is, and how many threads it uses."""

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["library", "set_threads", "threads", "threads_from_environment"]

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Environment variables by which a user says how many threads there are to be."""


def library() -> str:
    """The name and version of the BLAS that NumPy was built with."""
    config: Any = np.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


def threads() -> int | None:
    """The number of threads that OpenBLAS uses; None where NumPy does not bring it along, and it cannot be asked."""
    function = _function("get_num_threads")
    return None if function is None else int(function())


def set_threads(number: int) -> bool:
    """Sets the number of threads that OpenBLAS uses, and gives back whether that was possible."""
    function = _function("set_num_threads")
    if function is not None:
        function(ctypes.c_int(number))
    return function is not None


def threads_from_environment() -> bool:
    """Whether the environment says how many threads there are to be."""
    return any(os.environ.get(name) for name in VARIABLES)


@cache
def _function(name: str) -> Any:
    """OpenBLAS's function of that name, in the library in NumPy's wheel, whose build decides on prefix and suffix."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in folder.glob("*openblas*"):
            loaded = ctypes.CDLL(str(path))
            for symbol in (f"{prefix}openblas_{name}{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")):
                if hasattr(loaded, symbol):
                    return getattr(loaded, symbol)
    return None
