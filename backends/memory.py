"""Large arrays in memory that is used again: new memory costs a page fault every 4 KB, more than filling it does."""

import math
import mmap
import weakref
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["empty", "give_back"]

_SMALL = 64 * 1024  # bytes; less than that malloc itself hands out again
_HUGE = 4 * 1024 * 1024  # bytes; from here on the system is asked for pages of 2 MB, of which a processor finds more
_KEPT, _KEPT_BYTES = 16, 512 * 1024 * 1024  # wait for their next use; of more, the longest unused go back


class _Loan(weakref.ref["_Lent"]):
    """A block that an array uses, until the array is gone."""

    __slots__ = ("block",)
    block: mmap.mmap


# Any thread may come in between at any time, and so may a finalizer that makes arrays itself, or an interrupt. Hence no
# lock, which the last two could find held for good: each step below is one that Python does not divide.
_ended: deque[_Loan] = deque()  # put here by no code of Python's, in which an interrupt would be lost
_loans: dict[int, _Loan] = {}  # by their id; so that they are there to be told of the end
_waiting: list[mmap.mmap] = []  # for the next use, the longest unused first


class _Lent(np.ndarray[Any, Any]):
    """A block in use. All views of it hold on to this array; with the last of them it goes, and the block waits again.

    A class of its own: for plain arrays NumPy would let views hold on to what is below.
    """


def empty(shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """An array with arbitrary contents, as `numpy.empty` gives."""
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
    """Gives the blocks that wait for their next use back to the system."""
    _take_in()
    _waiting.clear()


def _take_in() -> None:
    """Lets the blocks of ended loans wait, and the longest unused go back."""
    with suppress(IndexError):  # another thread may have been faster
        while _ended:
            loan = _ended.popleft()
            _loans.pop(id(loan), None)
            if hasattr(loan, "block"):  # else the array went while it was made
                _waiting.append(loan.block)
        while len(_waiting) > _KEPT or sum(map(len, _waiting)) > _KEPT_BYTES:
            _waiting.pop(0)


def _block(size: int) -> mmap.mmap:
    """The smallest block waiting that the size fits into without much waste, or a new one."""
    for block in sorted((block for block in _waiting.copy() if size <= len(block) <= 2 * size), key=len):
        with suppress(ValueError):  # another thread may have been faster
            _waiting.remove(block)
            return block
    # Private: a forked process must not write into its parent's arrays.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        block = mmap.mmap(-1, size, **private)
    except OSError as error:
        raise MemoryError(f"there is no memory for an array of {size} bytes: {error}") from error
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # some systems have none
            block.madvise(mmap.MADV_HUGEPAGE)
    return block
