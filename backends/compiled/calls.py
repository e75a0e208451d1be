"""Calls of generated functions in C, and the memory that they are given."""

import ctypes
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import memory
from ..base import HostArray
from ..emit.c_writer import CFunction, Panels, Room
from ..emit.program import Value
from .c_runtime import OPERATIONS_A_THREAD, address, empty_panels, threads_for

__all__ = ["CCall", "CStep", "contiguous", "in_one_block"]

_LINE = 64  # bytes of a line of the cache
_OPERATIONS = 20  # that an elementary function takes, about


class CCall:
    """A call of a generated function, for T steps of B rows, `at_once` steps at a time.

    Args:
        entry: the function.
        function: what it is given.
        arrays: its arrays by key. Those that it works in are made.
        sizes: T, B and `at_once`.
        more: the arguments after these.
        panels: its panels; by default they are made.

    Attributes:
        panels: the panels.
    """

    def __init__(
        self,
        entry: Any,
        function: CFunction,
        arrays: dict[Any, HostArray],
        sizes: tuple[int, int, int],
        more: Sequence[Any],
        dtype: Any,
        panels: Sequence[HostArray] | None = None,
    ) -> None:
        _, B, at_once = sizes
        rooms = [key for key in function.arrays if isinstance(key, Room)]
        rows = [at_once * B if key.rows == "chunk" else B for key in rooms]
        made = in_one_block([((n, *key.value.lengths), key.value.dtype) for n, key in zip(rows, rooms)])
        self._arrays = {**arrays, **dict(zip(rooms, made))}
        self.panels = [_panels(each, at_once * B, dtype) for each in function.panels] if panels is None else panels
        used = [address(self._arrays[key]) for key in function.arrays]
        addresses = (ctypes.c_void_p * len(used))(*used)
        places = (ctypes.c_void_p * max(len(self.panels), 1))(*map(address, self.panels))
        self._entry, self._arguments = entry, (*map(ctypes.c_ssize_t, sizes), *more, addresses, places)
        weights = sum(each.value.row_size for each in function.panels if each.value is not None)
        elements = sum(key.row_size for key in arrays if isinstance(key, Value))
        self._operations = (2.0 * weights + _OPERATIONS * elements) * at_once * B

    def run(self) -> None:
        """Calls the function."""
        self._entry(ctypes.c_ssize_t(threads_for(self._operations)), *self._arguments)

    def prepared(self) -> Callable[[], object]:
        """The same function, in fewer microseconds if one thread is always enough."""
        if self._operations < OPERATIONS_A_THREAD:
            return partial(self._entry, ctypes.c_ssize_t(1), *self._arguments)
        return self.run


class CStep:
    """A single step by a call whose memory is kept: `step(inputs, states, out)`.

    Arrays are copied, which takes less time than to ask NumPy for their addresses.

    Args:
        call: the call.
        given: the arrays that it is given for the inputs and the states before.
        after: those of the states after.
    """

    def __init__(self, call: CCall, given: Sequence[HostArray], after: Sequence[HostArray]) -> None:
        self._call, self._given, self._after = call, given, after
        self._run = call.prepared()

    def __call__(self, inputs: Sequence[HostArray], states: Sequence[HostArray], out: Sequence[HostArray]) -> None:
        """Writes the states after the step into `out`."""
        for own, array in zip(self._given, (*inputs, *states)):
            own[...] = array
        self._run()
        for own, array in zip(self._after, out):
            array[...] = own


def contiguous(array: HostArray) -> HostArray:
    """The array, or a copy that C can read and write."""
    return array if array.flags.carray else np.require(array, requirements=["C", "A", "W"])


def _panels(panels: Panels, rows: int, dtype: Any) -> HostArray:
    if panels.value is None:
        return empty_panels(rows, panels.columns, dtype)
    first, second = panels.value.lengths
    return empty_panels(*((second, first) if panels.transposed else (first, second)), dtype)


def in_one_block(shapes: Sequence[tuple[tuple[int, ...], Any]]) -> list[HostArray]:
    """Arrays of these shapes and dtypes that begin at cache lines of one block, as getting a block takes time."""
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in shapes]
    begins = [0, *itertools.accumulate(-(-size // _LINE) * _LINE for size in sizes)]
    block = memory.empty((begins[-1] + _LINE,), np.uint8)
    first = -address(block) % _LINE
    return [
        np.ndarray(shape, dtype, block, first + begin) for (shape, dtype), begin in zip(shapes, begins, strict=False)
    ]
