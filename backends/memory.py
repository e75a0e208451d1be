"""A pool of memory for large arrays: new memory costs a page fault every 4 KB, which takes longer than filling it."""

import math
import mmap
import weakref
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["empty", "give_back"]

_SMALL = 64 * 1024  # bytes; malloc itself reuses smaller blocks
_HUGE = 4 * 1024 * 1024  # bytes; from here on the system is asked for pages of 2 MB, which need fewer TLB entries
_KEPT, _KEPT_BYTES = 32, 512 * 1024 * 1024  # of unused blocks; beyond this, the least recently used are freed


class _Loan(weakref.ref["_Lent"]):
    """A block that is in use by an array, until the array is deleted."""

    __slots__ = ("block",)
    block: mmap.mmap


# A thread, a finalizer that creates arrays, or an interrupt may run in between at any time. The last two could find a
# lock held forever, so there is none: each step below is atomic in Python.
_ended: deque[_Loan] = deque()  # appended by C code: in Python code, an interrupt would be lost
_loans: dict[int, _Loan] = {}  # by id; keeps the weak references alive, so that their callbacks run
_waiting: list[mmap.mmap] = []  # unused blocks, the least recently used first


class _Lent(np.ndarray[Any, Any]):
    """A block in use. All views refer to this array; when the last one is deleted, the block returns to the pool.

    It is a subclass because views of plain arrays would refer to the buffer instead.
    """


def empty(shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """An array with arbitrary contents, like `numpy.empty`."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if _ended:
        _take_in()
    if size < _SMALL:
        return np.empty(shape, dtype)
    block = _block(size)
    lent = _Lent(shape, dtype, buffer=block)
    loan = _Loan(lent, _ended.append)
    loan.block = block
    _loans[id(loan)] = loan
    return lent.view(np.ndarray)


def give_back() -> None:
    """Returns the unused blocks to the system."""
    _take_in()
    _waiting.clear()


def _take_in() -> None:
    """Collects the blocks of deleted arrays, and frees the least recently used ones beyond the limits."""
    with suppress(IndexError):  # a different thread may have been faster
        while _ended:
            loan = _ended.popleft()
            _loans.pop(id(loan), None)
            if hasattr(loan, "block"):  # otherwise the array was deleted while it was created
                _waiting.append(loan.block)
        while len(_waiting) > _KEPT or sum(map(len, _waiting)) > _KEPT_BYTES:
            _waiting.pop(0)


def _block(size: int) -> mmap.mmap:
    """The smallest unused block of at least this size and at most twice the size, or a new one."""
    for block in sorted((block for block in _waiting.copy() if size <= len(block) <= 2 * size), key=len):
        with suppress(ValueError):  # a different thread may have been faster
            _waiting.remove(block)
            return block
    # Private: a forked process must not write into its parent's arrays.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        block = mmap.mmap(-1, size, **private)
    except OSError as error:
        raise MemoryError(f"there is no memory for an array of {size} bytes: {error}") from error
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # some systems do not support it
            block.madvise(mmap.MADV_HUGEPAGE)
    return block
