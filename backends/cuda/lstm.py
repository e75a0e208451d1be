"""The plain LSTM in CUDA: one launch for the whole sequence, if there is a plan for the sizes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..base import Array
from ..dtypes import is_bool
from ..emit.program import BATCH, Program, Value
from ..emit.schedule import Backward, Forward
from ..sums import total
from . import persistent
from .generated import CudaSequence
from .launching import Kernel, LaunchedKernels
from .persistent import Plan

__all__ = ["PersistentLSTM", "is_plain_lstm"]

_INSTRUCTIONS = 13  # of a step
_OF_LENGTHS = 3


class _Saved(NamedTuple):
    """What the kernels save: the states (T + 1, B, H), and the gates (T, B, 4H) after their activation functions."""

    hs: Array
    cs: Array
    gates: Array


class PersistentLSTM(CudaSequence):
    """The functions of a plain LSTM. For sizes without a plan they are generated, as those of other steps."""

    def __init__(self, forward: Forward, backward: Backward | None) -> None:
        super().__init__(forward, backward)
        self._with_lengths = len(forward.program.inputs) > 1

    @property
    def sources(self) -> dict[str, str]:
        note = "// If the units of the batch fit on the device, persistent_lstm.cu computes all steps in one launch.\n"
        return {**super().sources, "CUDA": note + self.kernels}

    def forward(
        self, backend: LaunchedKernels, operands: Sequence[Array], reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], Any]:
        plan = _plan(backend, operands)
        if plan is None:
            return super().forward(backend, operands, reverse, saving)
        x, *_, h, c, weight_ih, weight_hh, bias = operands
        T, (B, H) = len(x), h.shape
        gates = backend.matmul(x, weight_ih.T)  # W·x, in whose place the gates are computed
        first, last = (T, 0) if reverse else (0, T)
        hs, cs = backend.empty((T + 1, B, H), h.dtype), backend.empty((T + 1 if saving else 2, B, H), h.dtype)
        hs[first], cs[first % len(cs)] = h, c
        out = backend.empty((T, B, H), h.dtype) if self._with_lengths else hs[:T] if reverse else hs[1:]
        arrays = (gates, *backend.contiguous(weight_hh, bias), hs, cs, len(cs), out, self._ends(backend, operands))
        kernel = _kernel(backend, "persistent_lstm_forward", plan, h.dtype)
        sizes = (T, B, plan.rows, plan.staged, int(reverse))
        kernel(plan.blocks, persistent.THREADS, (*arrays, _counters(backend, plan), *sizes), plan.forward_bytes)
        states = hs[last].copy(), cs[last % len(cs)].copy()
        return (out, *states), _Saved(hs, cs, gates) if saving else None

    def backward(
        self,
        backend: LaunchedKernels,
        cotangents: Sequence[Array],
        operands: Sequence[Array],
        saved: Any,
        reverse: bool,
        needs: Sequence[bool],
    ) -> Sequence[Array | None]:
        plan = _plan(backend, operands) if isinstance(saved, _Saved) else None
        if plan is None:
            return super().backward(backend, cotangents, operands, saved, reverse, needs)
        x, *_, weight_ih, weight_hh, _ = operands
        hs, cs, gates = saved
        T, B, N = gates.shape
        g_out, weight_hh = backend.contiguous(cotangents[0], weight_hh)
        g_h, g_c, g_net = cotangents[1].copy(), cotangents[2].copy(), backend.empty(gates.shape, gates.dtype)
        arrays = (gates, weight_hh, cs, g_out, g_h, g_c, g_net, self._ends(backend, operands))
        kernel = _kernel(backend, "persistent_lstm_backward", plan, gates.dtype)
        sizes = (T, B, plan.rows, int(reverse))
        kernel(plan.blocks, persistent.THREADS, (*arrays, _counters(backend, plan), *sizes), plan.backward_bytes)
        of_net, before = g_net.reshape(T * B, N), hs[1:] if reverse else hs[:T]
        return [
            backend.matmul(g_net, weight_ih) if needs[0] else None,
            *([None] if self._with_lengths else []),
            g_h,
            g_c,
            backend.matmul(of_net.T, x.reshape(T * B, x.shape[2])) if needs[-3] else None,
            backend.matmul(of_net.T, before.reshape(T * B, N // 4)) if needs[-2] else None,
            total(backend.xp, of_net, 0) if needs[-1] else None,
        ]

    def _ends(self, backend: LaunchedKernels, operands: Sequence[Array]) -> Array | None:
        """The lengths of the sequences, on the device; None if all have T steps."""
        if not self._with_lengths:
            return None
        going = operands[1]  # (T, B, 1)
        return total(backend.xp, going, 0, dtype=np.int64).reshape(going.shape[1])


def is_plain_lstm(program: Program) -> bool:
    """Whether a step is that of an LSTM without options, with or without lengths."""
    inputs, states, captured = program.inputs, program.states, program.captured
    with_lengths, dtype = len(inputs) == 2, states[0].dtype
    number = _INSTRUCTIONS + (_OF_LENGTHS if with_lengths else 0)
    if len(program.instructions) != number or (len(inputs), len(states), len(captured)) != (1 + with_lengths, 2, 3):
        return False
    if with_lengths and not (is_bool(inputs[1].dtype) and inputs[1].shape == (BATCH, 1)):
        return False
    if any(each.detached for each in program.instructions):
        return False
    I, H = inputs[0].row_size, states[0].row_size
    shapes = ((BATCH, I), (BATCH, H), (BATCH, H), (4 * H, I), (4 * H, H), (4 * H,))
    operands = (inputs[0], *states, *captured)
    if any(each.shape != shape or each.dtype != dtype for each, shape in zip(operands, shapes, strict=True)):
        return False
    names = dict(zip((*inputs, *states, *captured), ("x", *["going"] * with_lengths, "h", "c", "W", "U", "b")))
    return tuple(_written(value, names) for value in program.outputs) == _equations(H, with_lengths)


def _equations(H: int, with_lengths: bool) -> tuple[str, ...]:
    """An LSTM's output and states after a step, as `_written` writes them."""
    net = "add(linear(x, W, b), linear(h, U, None))"
    i, f, g, o = (f"split({net}, [{H}, {H}, {H}, {H}], 1)[{k}]" for k in range(4))
    c = f"add(mul(sigmoid({f}), c), mul(sigmoid({i}), tanh({g})))"
    h = f"mul(sigmoid({o}), tanh({c}))"
    if not with_lengths:
        return h, h, c
    return f"where(going, {h}, 0.0)", f"where(going, {h}, h)", f"where(going, {c}, c)"


def _written(value: Value, names: dict[Value, str]) -> str:
    """A value as one expression. It is short, as the program is."""
    if value in names:
        return names[value]
    instruction = value.instruction
    if instruction is None:
        return repr(value.constant)
    arguments = (
        _written(argument, names) if isinstance(argument, Value) else repr(argument)
        for argument in instruction.arguments
    )
    written = f"{instruction.op.name}({', '.join(arguments)})"
    several = len(instruction.results) > 1
    return f"{written}[{instruction.results.index(value)}]" if several else written


def _plan(backend: LaunchedKernels, operands: Sequence[Array]) -> Plan | None:
    """A plan to compute these operands in one launch, if that is possible and faster."""
    B, H = operands[-4].shape
    return persistent.plan(H, B, operands[-4].dtype, backend.multiprocessors, backend.shared_bytes)


def _kernel(backend: LaunchedKernels, name: str, plan: Plan, dtype: Any) -> Kernel:
    return backend.kernel("persistent_lstm", name, dtype, cooperative=True, **plan.constants)


def _counters(backend: LaunchedKernels, plan: Plan) -> Array:
    """The counters with which the blocks of each group wait for each other."""
    return backend.xp.zeros(plan.groups * persistent.COUNTER_STEP, np.uint32)
