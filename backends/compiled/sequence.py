"""A step over a sequence in C: the functions of `emit/c_source.py`, built and called."""

import ctypes
import itertools
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from .. import memory
from ..base import Array, HostArray
from ..emit.arrays import values_code
from ..emit.c_backward import backward_c
from ..emit.c_kernels import CannotEmitError
from ..emit.c_source import forward_c
from ..emit.c_writer import CFunction, Contraction, Panels, Room
from ..emit.program import Value, needed
from ..emit.schedule import Backward, Forward
from ..emit.sequence import ArraySequence, emitted, steps_at_once
from ..threads import numpy_computes
from . import enabled
from .building import BuildError
from .c_runtime import address, empty_panels, kernel_library, threads_for

__all__ = ["CSequence"]

_LINE = 64  # bytes of a line of the cache
_OPERATIONS = 20  # that an elementary function takes, about


class CSequence(ArraySequence):
    """The functions of a step in C, where it can be built for the step; otherwise with NumPy."""

    def __init__(self, forward: Forward, backward: Backward | None) -> None:
        super().__init__(forward, backward)
        self._dtype = forward.program.states[0].dtype
        self._reason: str | None = None

    @cached_property
    def _in_c(self) -> "_Built | None":
        """The functions in C; None if there is no C code for the step, or it cannot be built."""
        try:
            return _Built(*self._schedules, self._dtype)
        except (BuildError, CannotEmitError) as error:
            self._reason = str(error)
            return None

    @property
    def why_not_c(self) -> str | None:
        """Why C is not used, in one line; None if it is used."""
        if not enabled(self._dtype):
            return f"compiled kernels are disabled, or do not take {self._dtype}"
        return self._reason if self._in_c is None else None

    @property
    def sources(self) -> dict[str, str]:
        found = super().sources
        if self.why_not_c is not None:
            return {**found, "C": f"not used: {self.why_not_c}"}
        assert self._in_c is not None
        return {"C": self._in_c.source, **found}

    def _built_for(self, operands: Sequence[Array]) -> "_Built | None":
        """The functions in C, if they are used for these operands: they take no empty batch."""
        return self._in_c if enabled(self._dtype) and operands[0].shape[1] else None

    def forward(
        self, backend: Any, operands: Sequence[Array], reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], Any]:
        built = self._built_for(operands)
        if built is not None:
            return built.forward(backend, operands, reverse, saving)
        with numpy_computes():
            return super().forward(backend, operands, reverse, saving)

    def backward(
        self,
        backend: Any,
        cotangents: Sequence[Array],
        operands: Sequence[Array],
        saved: Any,
        reverse: bool,
        needs: Sequence[bool],
    ) -> Sequence[Array | None]:
        built = self._built_for(operands)
        if built is not None:
            return built.backward(backend, cotangents, operands, saved, reverse, needs)
        with numpy_computes():
            return super().backward(backend, cotangents, operands, saved, reverse, needs)


class _Built:
    """The functions in C of a step, and what they are given."""

    def __init__(self, forward: Forward, backward: Backward | None, dtype: Any) -> None:
        self._program, self._dtype = forward.program, dtype
        self._kept = forward.kept
        self._forward = forward_c(forward)
        self._fixed_forward = _fixed(self._forward, forward)
        self._values_forward = self._values(forward.once, self._fixed_forward)
        source = self._forward.source
        if backward is not None:
            self._backward = backward_c(backward, forward)
            self._fixed_backward = _fixed(self._backward, forward)
            self._values_backward = self._values(backward.once, self._fixed_backward)
            self._sums = [key for key in self._backward.arrays if isinstance(key, Contraction)]
            self._totals = [
                (k, g)
                for k, (operand, g) in enumerate(zip(self._program.operands, backward.derivative.gradients))
                if operand in self._program.captured and g is not None
            ]
            self._of_steps = [key[1] for key in self._backward.arrays if isinstance(key, tuple) and key[0] == "total"]
            given = [*self._program.captured, *(total.value for total in self._sums), *self._of_steps]
            follow = needed([*backward.once, *backward.sums], [g for _, g in self._totals], given)
            self._finish = emitted("sums", *values_code(given, follow, [g for _, g in self._totals]))
            source += f"\n{self._backward.source}"
        self.source = f'#include "sequence.h"\n\n{source}'
        self._library = kernel_library("sequence", self.source, dtype)

    def _values(self, once: Sequence[Any], wanted: Sequence[Value]) -> Callable[..., Any]:
        return emitted("values", *values_code(self._program.captured, once, wanted))

    def forward(
        self, backend: Any, operands: Sequence[HostArray], reverse: bool, saving: bool
    ) -> tuple[tuple[HostArray, ...], Any]:
        """See `ArraySequence.forward`."""
        program = self._program
        T, B = operands[0].shape[:2]
        given = {value: _contiguous(array) for value, array in zip(program.operands, operands)}
        captured = [given[value] for value in program.captured]
        arrays: dict[Any, HostArray] = {value: given[value] for value in program.inputs}
        arrays |= zip(self._fixed_forward, map(_contiguous, self._values_forward(backend, captured, B)))
        at_once = self._at_once(self._forward, T, B)
        for state in program.states:
            states = memory.empty((T + 1, B, *state.lengths), state.dtype)
            states[T if reverse else 0] = given[state]
            arrays["states", state] = states
        kept = [((T if saving else at_once, B, *value.lengths), value.dtype) for value in self._kept]
        arrays |= zip((("kept", value) for value in self._kept), _in_one_block(kept))
        if "out" in self._forward.arrays:
            arrays["out"] = memory.empty((T, B, *program.output.lengths), program.output.dtype)
        self._call(self._library.forward, self._forward, arrays, T, B, at_once, (int(reverse), int(saving)))
        all_states = [arrays["states", state] for state in program.states]
        out = arrays.get("out", all_states[0][:T] if reverse else all_states[0][1:])
        outputs = (out, *(states[0 if reverse else T].copy() for states in all_states))
        return outputs, (*all_states, *(arrays["kept", value] for value in self._kept)) if saving else None

    def backward(
        self,
        backend: Any,
        cotangents: Sequence[HostArray],
        operands: Sequence[HostArray],
        saved: Sequence[HostArray],
        reverse: bool,
        needs: Sequence[bool],
    ) -> Sequence[HostArray | None]:
        """See `ArraySequence.backward`."""
        program, keys = self._program, self._backward.arrays
        T, B = operands[0].shape[:2]
        given = {value: _contiguous(array) for value, array in zip(program.operands, operands)}
        captured = [given[value] for value in program.captured]
        arrays: dict[Any, HostArray] = {value: given[value] for value in program.inputs}
        arrays |= zip(self._fixed_backward, map(_contiguous, self._values_backward(backend, captured, B)))
        names = [("states", state) for state in program.states] + [("kept", value) for value in self._kept]
        arrays |= zip(names, saved)
        arrays["g_out"] = _contiguous(cotangents[0])
        carried = [state for state in program.states if ("even", state) in keys]
        for state in carried:
            arrays["even", state] = np.array(cotangents[1 + program.states.index(state)], order="C")
            arrays["odd", state] = np.empty_like(arrays["even", state])
        for value in program.inputs:
            if ("g", value) in keys:
                arrays["g", value] = memory.empty((T, B, *value.lengths), value.dtype)
        for total in self._sums:
            arrays[total] = np.empty(total.shape, self._dtype)
        for g in self._of_steps:
            arrays["total", g] = np.zeros((B, *g.lengths), g.dtype)
        number = len(program.inputs)
        flags = [*needs[:number], any(needs[number + len(program.states) :])]
        at_once = self._at_once(self._backward, T, B)
        needed_flags = (ctypes.c_int * len(flags))(*map(int, flags))
        self._call(self._library.backward, self._backward, arrays, T, B, at_once, (int(reverse), needed_flags))
        last = "odd" if T % 2 else "even"
        gradients: list[HostArray | None] = [None] * len(program.operands)
        for k, value in enumerate(program.operands):
            if ("g", value) in arrays and needs[k]:
                gradients[k] = arrays["g", value]
            elif value in carried:
                gradients[k] = arrays[last, value]
        if flags[-1]:
            totals = [*(arrays[total] for total in self._sums), *(arrays["total", g] for g in self._of_steps)]
            found = self._finish(backend, [*captured, *totals], B)
            for (k, _), gradient in zip(self._totals, found, strict=True):
                gradients[k] = gradient
        return gradients

    def _at_once(self, function: CFunction, T: int, B: int) -> int:
        rooms = [key.value for key in function.arrays if isinstance(key, Room) and key.rows == "chunk"]
        return steps_at_once(T, B, sum(value.row_bytes for value in rooms))

    def _call(
        self, entry: Any, function: CFunction, arrays: dict[Any, HostArray], T: int, B: int, at_once: int, more: Any
    ) -> None:
        """Calls a function in C."""
        rows = at_once * B
        rooms = [key for key in function.arrays if isinstance(key, Room)]
        shapes = [((rows if key.rows == "chunk" else B, *key.value.lengths), key.value.dtype) for key in rooms]
        arrays |= zip(rooms, _in_one_block(shapes))
        panels = [_panels(each, rows, self._dtype) for each in function.panels]
        addresses = (ctypes.c_void_p * len(function.arrays))(*(address(arrays[key]) for key in function.arrays))
        places = (ctypes.c_void_p * max(len(panels), 1))(*(address(each) for each in panels))
        weights = sum(each.value.row_size for each in function.panels if each.value is not None)
        elements = sum(key.row_size for key in arrays if isinstance(key, Value))
        threads = threads_for((2.0 * weights + _OPERATIONS * elements) * at_once * B)
        first, second = more
        entry(
            ctypes.c_ssize_t(threads), ctypes.c_ssize_t(T), ctypes.c_ssize_t(B), ctypes.c_ssize_t(at_once),
            ctypes.c_int(first), second if not isinstance(second, int) else ctypes.c_int(second), addresses, places,
        )  # fmt: skip


def _fixed(function: CFunction, forward: Forward) -> list[Value]:
    """The values that a function is given that do not differ from step to step."""
    return [key for key in function.arrays if isinstance(key, Value) and key not in forward.program.inputs]


def _panels(panels: Panels, rows: int, dtype: Any) -> HostArray:
    if panels.value is None:
        return empty_panels(rows, panels.columns, dtype)
    first, second = panels.value.lengths
    return empty_panels(*((second, first) if panels.transposed else (first, second)), dtype)


def _in_one_block(shapes: Sequence[tuple[tuple[int, ...], Any]]) -> list[HostArray]:
    """Arrays of these shapes and dtypes that begin at cache lines of one block, as getting a block takes time."""
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in shapes]
    begins = [0, *itertools.accumulate(-(-size // _LINE) * _LINE for size in sizes)]
    block = memory.empty((begins[-1] + _LINE,), np.uint8)
    first = -address(block) % _LINE
    return [
        np.ndarray(shape, dtype, block, first + begin) for (shape, dtype), begin in zip(shapes, begins, strict=False)
    ]


def _contiguous(array: HostArray) -> HostArray:
    return array if array.flags.carray else np.require(array, requirements=["C", "A", "W"])
