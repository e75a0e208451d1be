"""Large arrays in memory that is used again: new memory costs a page fault every 4 KB, more than filling it does."""

import math
import mmap
import os
import weakref
from collections import deque
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["empty"]

_SMALL = 64 * 1024  # bytes; less than that malloc itself hands out again
_HUGE = 4 * 1024 * 1024  # bytes; from here on the system is asked for pages of 2 MB, of which a processor finds more
_KEPT = 16  # blocks that wait for their next use; of more, the longest unused goes back to the system

_returned: deque[mmap.mmap] = deque()  # of arrays that went, whenever that was: nobody iterates over it
_waiting: list[mmap.mmap] = []  # for the next use, the longest unused first
_lock = Lock()  # for _waiting


def _after_fork() -> None:
    """Another thread may have held the lock when the process was forked."""
    global _lock
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Lent(np.ndarray[Any, Any]):
    """A block in use. All views of it hold on to this array; with the last of them it goes, and the block waits again.

    A class of its own: for plain arrays NumPy would let views hold on to what is below.
    """


def empty(shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """An array with arbitrary contents, as `numpy.empty` gives."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < _SMALL:
        return np.empty(shape, dtype)
    block = _block(size)
    lent = _Lent(shape, dtype, buffer=block)
    weakref.finalize(lent, _give_back, block).atexit = False
    return lent.view(np.ndarray)


def _give_back(block: mmap.mmap) -> None:
    """Runs whenever an array goes, even in the midst of the functions below: so it never waits for the lock."""
    _returned.append(block)
    if _lock.acquire(blocking=False):
        try:
            _take_in()
        finally:
            _lock.release()


def _take_in() -> None:
    """Lets what was returned wait, and the longest unused go; the lock is held."""
    while _returned:
        _waiting.append(_returned.popleft())
    del _waiting[:-_KEPT]


def _block(size: int) -> mmap.mmap:
    """The smallest block waiting that the size fits into without much waste, or a new one."""
    with _lock:
        _take_in()
        fitting = [k for k, block in enumerate(_waiting) if size <= len(block) <= 2 * size]
        if fitting:
            return _waiting.pop(min(fitting, key=lambda k: len(_waiting[k])))
    # Private: a forked process must not write into its parent's arrays.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    block = mmap.mmap(-1, size, **private)
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block
