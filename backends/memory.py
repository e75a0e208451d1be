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
_KEPT, _KEPT_BYTES = 16, 512 * 1024 * 1024  # what waits for its next use; past that, the longest unused goes back


class _Loan(weakref.ref["_Lent"]):
    """A block that an array uses, until the array is gone."""

    __slots__ = ("block",)
    block: mmap.mmap


# No Python code runs when an array goes: an interrupt that came meanwhile would be raised in it, and be lost there.
_ended: deque[_Loan] = deque()
_loans: dict[int, _Loan] = {}  # by their id; so that they are there to be told of the end
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
    loan = _Loan(lent, _ended.append)
    loan.block = block
    _loans[id(loan)] = loan
    return lent.view(np.ndarray)


def _take_in() -> None:
    """Lets the blocks of ended loans wait, and the longest unused go; the lock is held."""
    while _ended:
        _waiting.append(_loans.pop(id(_ended.popleft())).block)
    kept = sum(map(len, _waiting))
    while len(_waiting) > _KEPT or kept > _KEPT_BYTES:
        kept -= len(_waiting.pop(0))


def _block(size: int) -> mmap.mmap:
    """The smallest block waiting that the size fits into without much waste, or a new one."""
    # Never wait: the lock may be held further down on this very stack, if this is some array's finalizer.
    if _lock.acquire(blocking=False):
        try:
            _take_in()
            fitting = [k for k, block in enumerate(_waiting) if size <= len(block) <= 2 * size]
            if fitting:
                return _waiting.pop(min(fitting, key=lambda k: len(_waiting[k])))
        finally:
            _lock.release()
    # Private: a forked process must not write into its parent's arrays.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    block = mmap.mmap(-1, size, **private)
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block
