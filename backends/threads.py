"""The number of threads on the CPU: those of NumPy's BLAS, and our own threads of the compiled kernels."""

import ctypes
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Environment variables that set the number of threads."""


def blas_library() -> str:
    """The name and version of the BLAS that NumPy was built with; "none" if there is none."""
    config: Any = np.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas.get('version', '')}".strip() if blas.get("found") else "none"


def blas_kernels() -> str:
    """The processor type whose kernels OpenBLAS uses, or "unknown"."""
    function = _openblas("get_corename")
    if function is None:
        return "unknown"
    function.restype = ctypes.c_char_p
    return str(function().decode())


def number_of_threads() -> int:
    """The number of threads that compute: initially OpenBLAS's number; without OpenBLAS, one per core."""
    if _chosen is not None:
        return _chosen
    if ONE_BLAS_THREAD.usual is not None:
        return ONE_BLAS_THREAD.usual
    function = _openblas("get_num_threads")
    return number_of_cores() if function is None else int(function())


def number_of_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_number_of_threads(number: int) -> None:
    """Sets the number of threads that compute, also for OpenBLAS.

    Raises:
        ValueError: the number is below 1.
    """
    global _chosen
    if number < 1:
        raise ValueError(f"set_num_threads: expected at least 1 thread, got {number}")
    _chosen = number
    ONE_BLAS_THREAD.set_usual(number)


_BLAS_SPINS = 0.03  # seconds, after a product


class _OneBlasThread:
    """A context in which OpenBLAS computes with one thread. Several threads may be in it at once.

    After a product, OpenBLAS's threads spin for 10 ms or more, waiting for the next one, on the cores that our own
    threads need. So after our threads have computed, the library's NumPy products use this context. Products in user
    code do not.

    Attributes:
        usual: OpenBLAS's number of threads outside, while a thread is in the context.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self.usual: int | None = None

    def set_usual(self, number: int) -> None:
        """Sets OpenBLAS's number of threads outside of the context."""
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
        """A forked process has none of the threads that were in the context."""
        self._lock = threading.Lock()
        if self._within:
            self._within, usual, self.usual = 0, self.usual, None
            _set_blas_threads(usual or 1)


ONE_BLAS_THREAD = _OneBlasThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ONE_BLAS_THREAD.after_fork)
_ANY_NUMBER = nullcontext()


def own_threads_compute(own: bool) -> None:
    """Notes whether our own threads compute from now on, or NumPy's calls, in which OpenBLAS may use its threads."""
    global _own, _blas_computed
    _own = own
    if not own:
        _blas_computed = time.monotonic()


@contextmanager
def numpy_computes() -> Iterator[None]:
    """In this context NumPy's calls compute, in which OpenBLAS may use its threads."""
    own_threads_compute(False)
    yield
    own_threads_compute(False)  # until now


def own_threads() -> bool:
    """Whether our own threads computed last."""
    return _own


def blas_threads_spin() -> bool:
    """Whether OpenBLAS's threads may still wait for the next product, on the cores that our own threads need."""
    return not _own and time.monotonic() - _blas_computed < _BLAS_SPINS


def for_products() -> AbstractContextManager[None]:
    """A context for the library's NumPy products that OpenBLAS may share among threads."""
    return ONE_BLAS_THREAD if _own else _ANY_NUMBER


def number_of_blas_threads() -> int:
    """OpenBLAS's current number of threads; 1 without OpenBLAS."""
    function = _openblas("get_num_threads")
    return 1 if function is None else int(function())


def _set_blas_threads(number: int) -> None:
    function = _openblas("set_num_threads")
    if function is not None:
        function(ctypes.c_int(number))


def set_by_environment() -> bool:
    """Whether an environment variable sets the number of threads."""
    return any(os.environ.get(name) for name in VARIABLES)


_chosen: int | None = None
_own = False
_blas_computed = -math.inf


@cache
def _openblas(name: str) -> Any:
    """OpenBLAS's function of this name, in NumPy's wheel. Its prefix and suffix depend on the build."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in folder.glob("*openblas*"):
            loaded = ctypes.CDLL(str(path))
            for symbol in (f"{prefix}openblas_{name}{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")):
                if hasattr(loaded, symbol):
                    return getattr(loaded, symbol)
    return None
