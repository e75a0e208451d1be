"""Large arrays in memory that is used again: new memory costs a page fault every 4 KB, more than filling it does."""

import math
import mmap
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

_waiting: deque[mmap.mmap] = deque(maxlen=_KEPT)
_lock = Lock()


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
    weakref.finalize(lent, _waiting.append, block).atexit = False
    return lent.view(np.ndarray)


def _block(size: int) -> mmap.mmap:
    """The smallest block waiting that the size fits into without much waste, or a new one."""
    with _lock:
        fitting = [k for k, block in enumerate(_waiting) if size <= len(block) <= 2 * size]
        if not fitting:
            block = mmap.mmap(-1, size)
            if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
                block.madvise(mmap.MADV_HUGEPAGE)
            return block
        best = min(fitting, key=lambda k: len(_waiting[k]))
        block = _waiting[best]
        del _waiting[best]
        return block
