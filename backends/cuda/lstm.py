"""The LSTM in CUDA.

There are two ways: one launch for the whole sequence, if there is a plan for the sizes; or for each step the matrix
product, and one kernel for everything else.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..base import Array
from ..recurrent.sequence import Gradients, Lengths, first_and_last, room_for_states, steps
from . import persistent
from .launching import THREADS, Kernel, blocks
from .persistent import Plan
from .sequence import CudaSequenceKernels

__all__ = ["CudaLSTMKernels"]


class _Forward(NamedTuple):
    """The arrays of a forward pass.

    `gates` (T, B, 4H) contains W·x. The arrays of states and outputs are buffers. `ends` has the lengths of the
    sequences, or is None.
    """

    gates: Array
    weight_hh: Array
    bias: Array
    hs: Array
    cs: Array
    out: Array
    ends: Array | None
    reverse: bool


class _Backward(NamedTuple):
    """The arrays of a backward pass.

    They are the saved arrays; the gradients of the outputs; those of the states, which it changes; and `g_net`, a
    buffer for the gradients of the gates before activation.
    """

    gates: Array
    weight_hh: Array
    cs: Array
    g_out: Array
    g_h: Array
    g_c: Array
    g_net: Array
    ends: Array | None
    reverse: bool


class CudaLSTMKernels(CudaSequenceKernels):
    """A layer of an LSTM."""

    def lstm_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        x, h, c, weight_ih, weight_hh, bias = operands
        T = len(x)
        gates = self._of_all_inputs(x, weight_ih)
        hs = room_for_states(self.empty, T, h, reverse)
        cs = room_for_states(self.empty, T, c, reverse, kept=None if saving else 2)
        ends, out = self._ends_and_outputs(lengths, hs, reverse)
        weight_hh, bias = self.contiguous(weight_hh, bias)
        layer = _Forward(gates, weight_hh, bias, hs, cs, out, ends, reverse)
        plan = self._plan(gates)
        if plan is None:
            self._forward_by_steps(layer)
        else:
            self._forward_at_once(layer, plan)
        _, last = first_and_last(T, reverse)
        return (out, hs[last].copy(), cs[last % len(cs)].copy()), (hs, cs, gates) if saving else None

    def lstm_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Sequence[Array],
        lengths: Lengths,
        reverse: bool,
        needs_grad: Sequence[bool],
    ) -> Gradients:
        x, _, _, weight_ih, weight_hh, _ = operands
        hs, cs, gates = saved
        g_out, weight_hh = self.contiguous(g[0], weight_hh)
        g_h, g_c, g_net = g[1].copy(), g[2].copy(), self.empty(gates.shape, gates.dtype)
        layer = _Backward(gates, weight_hh, cs, g_out, g_h, g_c, g_net, self._ends(lengths), reverse)
        plan = self._plan(gates)
        if plan is None:
            self._backward_by_steps(layer)
        else:
            self._backward_at_once(layer, plan)
        g_x, *of_weights = self._gradients_of_net(g_net, x, hs, weight_ih, reverse, needs_grad)
        return [g_x, g_h, g_c, *of_weights]

    # -- by steps ------------------------------------------------------------------------------------------------------

    def _forward_by_steps(self, layer: _Forward) -> None:
        gates, weight_hh, bias, hs, cs, out, ends, reverse = layer
        T, B, H = out.shape
        width = self._width(H, gates, hs, cs, bias, out)
        step = self.kernel("lstm", "lstm_forward_step", gates.dtype, width)
        multiply = self.gemm_at(hs, weight_hh.T, gates, accumulate=True)
        for t in steps(T, reverse):
            before, after = t + reverse, t + 1 - reverse
            multiply(before, t)
            step(blocks(B * H, width), THREADS, (gates, bias, hs, cs, len(cs), out, ends, t, before, after, B, H))

    def _backward_by_steps(self, layer: _Backward) -> None:
        gates, weight_hh, cs, g_out, g_h, g_c, g_net, ends, reverse = layer
        T, B, H = g_out.shape
        width = self._width(H, gates, cs, g_out, g_h, g_c, g_net)
        step = self.kernel("lstm", "lstm_backward_step", gates.dtype, width)
        multiply = self.gemm_at(g_net, weight_hh, g_h[None], accumulate=ends is not None)
        for t in steps(T, not reverse):
            before, after = t + reverse, t + 1 - reverse
            step(blocks(B * H, width), THREADS, (gates, cs, g_out, g_h, g_c, g_net, ends, t, before, after, B, H))
            multiply(t, 0)

    # -- at once -------------------------------------------------------------------------------------------------------

    def _plan(self, gates: Array) -> Plan | None:
        """A plan to compute these gates (T, B, 4H) in one launch, if that is possible and faster."""
        _, B, gates_of_all = gates.shape
        return persistent.plan(gates_of_all // 4, B, gates.dtype, self.multiprocessors, self.shared_bytes)

    def _forward_at_once(self, layer: _Forward, plan: Plan) -> None:
        gates, weight_hh, bias, hs, cs, out, ends, reverse = layer
        T, B, _ = out.shape
        arrays = (gates, weight_hh, bias, hs, cs, len(cs), out, ends, self._counters(plan))
        sizes = (T, B, plan.rows, plan.staged, int(reverse))
        kernel = self._persistent_kernel("persistent_lstm_forward", plan, gates)
        kernel(plan.blocks, persistent.THREADS, (*arrays, *sizes), plan.forward_bytes)

    def _backward_at_once(self, layer: _Backward, plan: Plan) -> None:
        gates, weight_hh, cs, g_out, g_h, g_c, g_net, ends, reverse = layer
        T, B, _ = g_out.shape
        arrays = (gates, weight_hh, cs, g_out, g_h, g_c, g_net, ends, self._counters(plan))
        kernel = self._persistent_kernel("persistent_lstm_backward", plan, gates)
        kernel(plan.blocks, persistent.THREADS, (*arrays, T, B, plan.rows, int(reverse)), plan.backward_bytes)

    def _persistent_kernel(self, name: str, plan: Plan, gates: Array) -> Kernel:
        return self.kernel("persistent_lstm", name, gates.dtype, cooperative=True, **plan.constants)

    def _counters(self, plan: Plan) -> Array:
        """The counters with which the blocks of each group wait for each other."""
        return self.xp.zeros(plan.groups * persistent.COUNTER_STEP, np.uint32)
