"""How many threads compute on the CPU: those of the matrix library below NumPy, or our own of the compiled kernels."""

import ctypes
import os
import threading
from contextlib import AbstractContextManager, nullcontext
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
    if ONE_BLAS_THREAD.usual is not None:
        return ONE_BLAS_THREAD.usual
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
    ONE_BLAS_THREAD.set_usual(number)


class _OneBlasThread:
    """Within it, OpenBLAS computes with one thread. Several threads may be within it at once.

    After a product OpenBLAS's other threads wait for the next by spinning, for a hundredth of a second and more, and
    threads of our own would have to share the cores with them. So the library's own products are computed within it
    where those have computed. The user's products are not.

    Attributes:
        usual: how many threads OpenBLAS has outside, while someone is within it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self.usual: int | None = None

    def set_usual(self, number: int) -> None:
        """Sets how many threads OpenBLAS uses outside of this."""
        with self._lock:
            if self._within:
                self.usual = number
            else:
                _set_blas_threads(number)

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self.usual = number_of_blas_threads()
                _set_blas_threads(1)
            self._within += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                usual, self.usual = self.usual, None
                _set_blas_threads(usual or 1)

    def after_fork(self) -> None:
        """A forked process has none of the threads that were within it."""
        self._lock = threading.Lock()
        if self._within:
            self._within, usual, self.usual = 0, self.usual, None
            _set_blas_threads(usual or 1)


ONE_BLAS_THREAD = _OneBlasThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ONE_BLAS_THREAD.after_fork)
_ANY_NUMBER = nullcontext()


def own_threads_compute(own: bool) -> None:
    """Says that threads of our own compute from now on; or that NumPy's calls do, in which OpenBLAS may use its own."""
    global _own
    _own = own


def own_threads() -> bool:
    """Whether threads of our own computed last."""
    return _own


def for_products() -> AbstractContextManager[None]:
    """Within it, NumPy computes products for the library that OpenBLAS may share among threads."""
    return ONE_BLAS_THREAD if _own else _ANY_NUMBER


def number_of_blas_threads() -> int:
    """How many threads OpenBLAS uses now; 1 where it cannot be asked."""
    function = _openblas("get_num_threads")
    return 1 if function is None else int(function())


def _set_blas_threads(number: int) -> None:
    function = _openblas("set_num_threads")
    if function is not None:
        function(ctypes.c_int(number))


def set_by_environment() -> bool:
    """Whether the environment says how many threads there are to be."""
    return any(os.environ.get(name) for name in VARIABLES)


_chosen: int | None = None
_own = False


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
