"""A step over a sequence in C: the functions of `emit/c_forward.py`, built and called."""

import ctypes
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from .. import memory
from ..base import Array, HostArray
from ..emit.arrays import values_code
from ..emit.c_backward import backward_c
from ..emit.c_forward import forward_c
from ..emit.c_kernels import CannotEmitError
from ..emit.c_writer import CFunction, Contraction, Room
from ..emit.program import Value, needed
from ..emit.schedule import Backward, Forward
from ..emit.sequence import ArraySequence, emitted, steps_at_once
from ..emit.steps import Kept, StepOfArrays, Steps, batch_dependent
from ..threads import numpy_computes
from . import enabled
from .c_runtime import kernel_library
from .calls import CCall, CStep, array_type, contiguous, in_one_block
from .errors import BuildError

__all__ = ["CSequence"]


_REUSED = 1024 * 1024
"""The bytes of memory up to which a thread keeps a call for sequences of the same sizes: to make it takes 20 µs."""


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

    def stepper(self, backend: Any, captured: Sequence[Array]) -> StepOfArrays:
        built = self._in_c if enabled(self._dtype) else None
        return super().stepper(backend, captured) if built is None else built.stepper(backend, captured)


class _Built:
    """The functions in C of a step, and what they are given."""

    def __init__(self, forward: Forward, backward: Backward | None, dtype: Any) -> None:
        self._program, self._dtype = forward.program, dtype
        self._kept = forward.kept
        self._varies = any(batch_dependent(forward.once))
        self._forward = forward_c(forward)
        self._bytes_forward = _chunk_bytes(self._forward)
        self._fixed_forward = _fixed(self._forward, forward)
        self._values_forward = self._values(forward.once, self._fixed_forward)
        self._inputs_forward = [value for value in self._program.inputs if value in self._forward.arrays]
        self._panel_bytes = sum(each.value.row_bytes for each in self._forward.panels if each.value is not None)
        of_steps = (*self._program.states, *self._program.states, *self._kept, self._program.output)
        self._row_bytes = self._bytes_forward + sum(value.row_bytes for value in of_steps)
        self._calls = Kept(self._sequence_call)
        source = self._forward.source
        if backward is not None:
            self._backward = backward_c(backward, forward)
            self._bytes_backward = _chunk_bytes(self._backward)
            self._fixed_backward = _fixed(self._backward, forward)
            self._values_backward = self._values(backward.once, self._fixed_backward)
            self._sums = [key for key in self._backward.arrays if isinstance(key, Contraction)]
            self._totals = [
                (k, g)
                for k, (operand, g) in enumerate(zip(self._program.operands, backward.derivative.gradients))
                if operand in self._program.captured and g is not None
            ]
            self._of_steps = [key[1] for key in self._backward.arrays if isinstance(key, tuple) and key[0] == "total"]
            keys = set(self._backward.arrays)
            self._saved = [("states", state) for state in self._program.states]
            self._saved += [("kept", value) for value in self._kept]
            self._carried = [(k, each) for k, each in enumerate(self._program.states) if ("even", each) in keys]
            self._g_inputs = [(k, each) for k, each in enumerate(self._program.inputs) if ("g", each) in keys]
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
        T, B = operands[0].shape[:2]
        given, captured = self._given(operands)
        arrays = [given[value] for value in self._inputs_forward]
        arrays += map(contiguous, self._values_forward(backend, captured, B))
        reused = not saving and self._panel_bytes + T * B * self._row_bytes <= _REUSED
        call = self._calls.of(T, B, reverse) if reused else self._sequence_call(T, B, reverse, saving)
        return call(arrays, [given[state] for state in self._program.states], reused)

    def _sequence_call(self, T: int, B: int, reverse: bool, saving: bool = False) -> "_SequenceCall":
        """A call for T steps of B rows, with the memory in which it computes."""
        program, arrays = self._program, dict[Any, HostArray]()
        at_once, all_states = steps_at_once(T, B, self._bytes_forward), []
        for state in program.states:
            states = memory.empty((T + 1, B, *state.lengths), state.dtype)
            before, after = (states[1:], states[:-1]) if reverse else (states[:-1], states[1:])
            arrays["before", state], arrays["after", state] = before, after
            all_states.append(states)
        kept = [((T if saving else at_once, B, *value.lengths), value.dtype) for value in self._kept]
        arrays |= zip((("kept", value) for value in self._kept), in_one_block(kept))
        if "out" in self._forward.arrays:
            arrays["out"] = memory.empty((T, B, *program.output.lengths), program.output.dtype)
        flags = _flags(reverse, saving, False)
        first, last = (T, 0) if reverse else (0, T)
        return _SequenceCall(
            CCall(self._library.forward, self._forward, arrays, (T, B, at_once), flags, self._dtype),
            [self._forward.arrays.index(value) for value in (*self._inputs_forward, *self._fixed_forward)],
            [states[first] for states in all_states],
            [states[last] for states in all_states],
            arrays.get("out", arrays["after", program.states[0]]),
            (*all_states, *(arrays["kept", value] for value in self._kept)) if saving else None,
        )

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
        program, (T, B) = self._program, operands[0].shape[:2]
        given, captured = self._given(operands)
        arrays: dict[Any, HostArray] = {value: given[value] for value in program.inputs}
        arrays |= zip(self._fixed_backward, map(contiguous, self._values_backward(backend, captured, B)))
        arrays |= zip(self._saved, saved)
        arrays["g_out"] = contiguous(cotangents[0])
        for k, state in self._carried:
            arrays["even", state] = np.array(cotangents[1 + k], order="C")
            arrays["odd", state] = np.empty_like(arrays["even", state])
        for _, value in self._g_inputs:
            arrays["g", value] = memory.empty((T, B, *value.lengths), value.dtype)
        for total in self._sums:
            arrays[total] = np.empty(total.shape, self._dtype)
        for g in self._of_steps:
            arrays["total", g] = np.zeros((B, *g.lengths), g.dtype)
        number = len(program.inputs)
        flags = [*needs[:number], any(needs[number + len(program.states) :])]
        at_once = steps_at_once(T, B, self._bytes_backward)
        more = (*_flags(reverse), array_type(ctypes.c_int, len(flags))(*map(int, flags)))
        CCall(self._library.backward, self._backward, arrays, (T, B, at_once), more, self._dtype).run()
        last = "odd" if T % 2 else "even"
        gradients: list[HostArray | None] = [None] * len(program.operands)
        for k, value in self._g_inputs:
            if needs[k]:
                gradients[k] = arrays["g", value]
        for k, state in self._carried:
            gradients[number + k] = arrays[last, state]
        if flags[-1]:
            totals = [*(arrays[total] for total in self._sums), *(arrays["total", g] for g in self._of_steps)]
            found = self._finish(backend, [*captured, *totals], B)
            for (k, _), gradient in zip(self._totals, found, strict=True):
                gradients[k] = gradient
        return gradients

    def _given(self, operands: Sequence[HostArray]) -> tuple[dict[Value, HostArray], list[HostArray]]:
        """The operands as contiguous arrays, and those of the captured values."""
        given = {value: contiguous(array) for value, array in zip(self._program.operands, operands)}
        return given, [given[value] for value in self._program.captured]

    def stepper(self, backend: Any, captured: Sequence[HostArray]) -> StepOfArrays:
        """See `ArraySequence.stepper`."""
        own = [contiguous(array) for array in captured]
        if self._varies:
            return Steps(lambda B: self._step(*self._prepared(backend, own, B), B))
        prepared = self._prepared(backend, own, 1)
        return Steps(lambda B: self._step(*prepared, B))

    def _prepared(self, backend: Any, captured: Sequence[HostArray], B: int) -> tuple[dict[Any, HostArray], HostArray]:
        """The arrays and panels that are the same at all steps of batches of B rows."""
        fixed = dict(zip(self._fixed_forward, map(contiguous, self._values_forward(backend, captured, B))))
        call = self._call_for_step(fixed, (0, B, 1), packed=False)
        call.run()  # no step: it packs
        return {key: fixed[key] for key in self._forward.arrays[: self._forward.lasting] if key in fixed}, call.panels

    def _step(self, fixed: dict[Any, HostArray], panels: HostArray, B: int) -> StepOfArrays:
        """A step of B rows, with buffers of its own."""
        program = self._program
        before, after = ([(when, state) for state in program.states] for when in ("before", "after"))
        kept = [("kept", value) for value in self._kept]
        values = (*program.inputs, *program.states, *program.states, *self._kept)
        own = {
            key: np.empty((B, *value.lengths), value.dtype)
            for key, value in zip((*program.inputs, *before, *after, *kept), values, strict=True)
        }
        call = self._call_for_step({**fixed, **own}, (1, B, 1), packed=True, panels=panels)
        return CStep(call, [own[key] for key in (*program.inputs, *before)], [own[key] for key in after])

    def _call_for_step(
        self,
        arrays: dict[Any, HostArray],
        sizes: tuple[int, int, int],
        packed: bool,
        panels: HostArray | None = None,
    ) -> CCall:
        function, unused = self._forward, np.empty(1, self._dtype)
        arrays = {**dict.fromkeys(function.arrays, unused), **arrays}
        return CCall(self._library.forward, function, arrays, sizes, _flags(False, False, packed), self._dtype, panels)


class _SequenceCall:
    """A call for the steps of a sequence, with the memory in which it computes.

    Args:
        call: the call.
        places: those of the inputs, and of what is the same at all steps, among its arrays.
        first, last: of each state, the rows before the first step and after the last.
        out: the outputs of all steps.
        saved: what is saved for `backward`.
    """

    def __init__(
        self,
        call: CCall,
        places: Sequence[int],
        first: Sequence[HostArray],
        last: Sequence[HostArray],
        out: HostArray,
        saved: tuple[HostArray, ...] | None,
    ) -> None:
        self._call, self._places = call, places
        self._first, self._last, self._out, self._saved = first, last, out, saved

    def __call__(
        self, given: Sequence[HostArray], states: Sequence[HostArray], reused: bool
    ) -> tuple[tuple[HostArray, ...], Any]:
        """What `ArraySequence.forward` returns.

        Args:
            given: the inputs, and what is the same at all steps.
            states: those before the first step.
            reused: whether the call is used again, so that the outputs must be copied.
        """
        self._call.give(self._places, given)
        for own, state in zip(self._first, states):
            own[...] = state
        self._call.run()
        out = self._out.copy() if reused else self._out
        return (out, *[last.copy() for last in self._last]), self._saved


def _fixed(function: CFunction, forward: Forward) -> list[Value]:
    """The values that a function is given that do not differ from step to step."""
    return [key for key in function.arrays if isinstance(key, Value) and key not in forward.program.inputs]


def _chunk_bytes(function: CFunction) -> int:
    """The bytes of a row of the arrays that a function works in for several steps at once."""
    return sum(key.value.row_bytes for key in function.arrays if isinstance(key, Room) and key.rows == "chunk")


def _flags(*flags: bool) -> list[ctypes.c_int]:
    return [ctypes.c_int(flag) for flag in flags]
