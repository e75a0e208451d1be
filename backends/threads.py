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
    """How many threads compute: at first those that OpenBLAS uses; where it cannot be asked, one for each core."""
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


@cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="tinygrad_lstm")


# A forked process has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)


_core: Callable[[], int] | None = getattr(ctypes.CDLL(None), "sched_getcpu", None) if os.name == "posix" else None


class _Cores:
    """Keeps the threads of a job on cores apart, where the system lets us say so.

    Linux may wake a thread on the very core of the one that woke it, and leave both there for tens of milliseconds
    though another core is idle. And each of ours wakes another: first for the job, then by handing on the interpreter.
    """

    def __init__(self, helpers: int) -> None:
        self._allowed: set[int] = set()
        self._shares: list[list[int]] = []
        if _core is not None and hasattr(os, "sched_setaffinity"):
            own = _core()
            others = sorted(os.sched_getaffinity(0) - {own})
            if len(others) >= helpers:
                self._allowed = {own, *others}
                self._shares = [others[k::helpers] for k in range(helpers)]
                os.sched_setaffinity(0, {own})

    def take(self, helper: int) -> None:
        """Puts this thread, the helper of that number, on its share of the other cores."""
        if self._shares:
            os.sched_setaffinity(0, self._shares[helper])

    def leave(self) -> None:
        """Lets the thread that began the job go where it could before."""
        if self._allowed:
            os.sched_setaffinity(0, self._allowed)


def in_parts(total: int, parts: int, function: Callable[..., None], *args: Any) -> None:
    """`function(first, last, *args)` for so many nearly equal parts of range(total), each in a thread."""
    parts = min(parts, total)
    if parts == 1:
        function(0, total, *args)
    if parts <= 1:
        return
    ends = [total * k // parts for k in range(parts + 1)]
    cores = _Cores(parts - 1)

    def run(helper: int, first: int, last: int) -> None:
        cores.take(helper)
        function(first, last, *args)

    others = [_helpers().submit(run, k, first, last) for k, (first, last) in enumerate(pairwise(ends[1:]))]
    try:
        function(0, ends[1], *args)
    finally:
        cores.leave()
        wait(others)
    for other in others:
        other.result()
