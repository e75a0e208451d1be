"""Calls of generated functions in C, and the memory that they are given."""

import ctypes
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from .. import memory
from ..base import HostArray
from ..emit.c_writer import CFunction, Panels, Room
from ..emit.program import Value
from .c_runtime import LINE, OPERATIONS_A_THREAD, address, line_in, panels_bytes, threads_for

__all__ = ["CCall", "CStep", "array_type", "contiguous", "in_one_block"]

_OPERATIONS = 20  # that an elementary function takes, about


class CCall:
    """A call of a generated function, for T steps of B rows, `at_once` steps at a time.

    Args:
        entry: the function.
        function: what it is given.
        arrays: its arrays by key, except those that it works in, and those that `give` gives it.
        sizes: T, B and `at_once`.
        more: the arguments after these.
        panels: the memory of its panels; by default it is made.

    Attributes:
        panels: the memory of the panels.
    """

    def __init__(
        self,
        entry: Any,
        function: CFunction,
        arrays: dict[Any, HostArray],
        sizes: tuple[int, int, int],
        more: Sequence[Any],
        dtype: Any,
        panels: HostArray | None = None,
    ) -> None:
        layout = _layout(function, *sizes[1:], dtype)
        room = memory.empty((layout.room_bytes,), np.uint8)
        self.panels = memory.empty((layout.panel_bytes,), np.uint8) if panels is None else panels
        self._arrays = arrays, room  # they are kept as long as their addresses
        begin, first_panel = line_in(room), line_in(self.panels)
        used = [
            (address(arrays[key]) if key in arrays else None) if place is None else begin + place
            for key, place in zip(function.arrays, layout.rooms, strict=True)
        ]
        self._addresses = array_type(ctypes.c_void_p, len(used))(*used)
        places = array_type(ctypes.c_void_p, len(layout.panels) or 1)(*[first_panel + place for place in layout.panels])
        self._entry, self._arguments = entry, (*map(ctypes.c_ssize_t, sizes), *more, self._addresses, places)
        self._operations = layout.operations

    def give(self, places: Sequence[int], arrays: Sequence[HostArray]) -> None:
        """Gives the function arrays, which must live until it has run, in these places among its arrays."""
        for place, array in zip(places, arrays, strict=True):
            self._addresses[place] = address(array)

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


@cache
def array_type(element: Any, length: int) -> Any:
    """The ctypes type of an array. It is kept, as ctypes makes it anew once it is unused, in some 10 µs."""
    return element * length


def contiguous(array: HostArray) -> HostArray:
    """The array, or a copy that C can read and write."""
    return array if array.flags.carray else np.require(array, requirements=["C", "A", "W"])


class _Layout(NamedTuple):
    """The memory that a function works in.

    Attributes:
        rooms: for each array that it is given, where it begins in a block; None of those that are given by the caller.
        panels: where its panels begin in a second block.
        room_bytes, panel_bytes: the sizes of the blocks, in which the first array begins at a line of the cache.
        operations: the number of floating-point operations of `at_once` steps, about.
    """

    rooms: list[int | None]
    panels: list[int]
    room_bytes: int
    panel_bytes: int
    operations: float


@lru_cache(maxsize=256)
def _layout(function: CFunction, B: int, at_once: int, dtype: Any) -> _Layout:
    rooms = [key for key in function.arrays if isinstance(key, Room)]
    rows = [at_once * B if room.rows == "chunk" else B for room in rooms]
    begins = _begins([n * room.value.row_bytes for n, room in zip(rows, rooms)])
    at = dict(zip(rooms, begins))
    panels = _begins([_panel_bytes(each, at_once * B, dtype) for each in function.panels])
    weights = sum(each.value.row_size for each in function.panels if each.value is not None)
    elements = sum(key.row_size for key in function.arrays if isinstance(key, Value))
    return _Layout(
        [at.get(key) for key in function.arrays],
        panels[:-1],
        begins[-1] + LINE,
        panels[-1] + LINE,
        (2.0 * weights + _OPERATIONS * elements) * at_once * B,
    )


def _panel_bytes(panels: Panels, rows: int, dtype: Any) -> int:
    if panels.value is None:
        return panels_bytes(rows, panels.columns, dtype)
    first, second = panels.value.lengths
    return panels_bytes(*((second, first) if panels.transposed else (first, second)), dtype)


def _begins(sizes: Iterable[int]) -> list[int]:
    """Where arrays of these sizes, in bytes, begin in a block, each at a line of the cache; and the end."""
    return [0, *itertools.accumulate(-(-size // LINE) * LINE for size in sizes)]


def in_one_block(shapes: Sequence[tuple[tuple[int, ...], Any]]) -> list[HostArray]:
    """Arrays of these shapes and dtypes that begin at cache lines of one block, as getting a block takes time."""
    begins = _begins([math.prod(shape) * dtype.itemsize for shape, dtype in shapes])
    block = memory.empty((begins[-1] + LINE,), np.uint8)
    first = line_in(block) - address(block)
    return [
        np.ndarray(shape, dtype, block, first + begin) for (shape, dtype), begin in zip(shapes, begins, strict=False)
    ]
