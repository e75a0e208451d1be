"""The simple recurrent network in CUDA: each step is the matrix product, and one kernel for everything else."""

from collections.abc import Sequence

from ..base import Array
from ..recurrent.sequence import Gradients, Lengths, first_and_last, room_for_states, steps
from .launching import THREADS, blocks
from .sequence import CudaSequenceKernels

__all__ = ["CudaRNNKernels"]


class CudaRNNKernels(CudaSequenceKernels):
    """A layer of a simple recurrent network."""

    def rnn_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        x, h, weight_ih, weight_hh, bias = operands
        T, (B, H) = len(x), h.shape
        net = self._of_all_inputs(x, weight_ih)
        hs = room_for_states(self.empty, T, h, reverse)
        ends, out = self._ends_and_outputs(lengths, hs, reverse)
        (bias,) = self.contiguous(bias)
        width = self._width(H, net, hs, bias, out)
        step = self.kernel("rnn", "rnn_forward_step", x.dtype, width)
        multiply = self.gemm_at(hs, weight_hh.T, net, accumulate=True)
        for t in steps(T, reverse):
            before, after = t + reverse, t + 1 - reverse
            multiply(before, t)
            step(blocks(B * H, width), THREADS, (net, bias, hs, out, ends, t, before, after, B, H))
        return (out, hs[first_and_last(T, reverse)[1]].copy()), (hs,) if saving else None

    def rnn_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Sequence[Array],
        lengths: Lengths,
        reverse: bool,
        needs_grad: Sequence[bool],
    ) -> Gradients:
        x, _, weight_ih, weight_hh, _ = operands
        (hs,) = saved
        g_h = g[1].copy()
        (g_out,) = self.contiguous(g[0])
        T, B, H = g_out.shape
        ends, g_net = self._ends(lengths), self.empty((T, B, H), x.dtype)
        width = self._width(H, hs, g_out, g_h, g_net)
        step = self.kernel("rnn", "rnn_backward_step", x.dtype, width)
        multiply = self.gemm_at(g_net, weight_hh, g_h[None], accumulate=ends is not None)
        for t in steps(T, not reverse):
            step(blocks(B * H, width), THREADS, (hs, g_out, g_h, g_net, ends, t, t + 1 - reverse, B, H))
            multiply(t, 0)
        g_x, *of_weights = self._gradients_of_net(g_net, x, hs, weight_ih, reverse, needs_grad)
        return [g_x, g_h, *of_weights]
