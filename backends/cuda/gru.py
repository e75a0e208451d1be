"""The GRU in CUDA: each step is the matrix product, and one kernel for everything else."""

from collections.abc import Sequence

from ..base import Array
from ..recurrent.sequence import Gradients, Lengths, first_and_last, room_for_states, steps
from .launching import THREADS, blocks
from .sequence import CudaSequenceKernels

__all__ = ["CudaGRUKernels"]


class CudaGRUKernels(CudaSequenceKernels):
    """A layer of a GRU."""

    def gru_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        x, h, weight_ih, weight_hh, bias, bias_hn = operands
        T, (B, H) = len(x), h.shape
        gates, net = self._of_all_inputs(x, weight_ih), self.empty((1, B, 3 * H), x.dtype)
        hs = room_for_states(self.empty, T, h, reverse)
        qs = self.empty((T if saving else 1, B, H), x.dtype)
        ends, out = self._ends_and_outputs(lengths, hs, reverse)
        bias, bias_hn = self.contiguous(bias, bias_hn)
        width = self._width(H, gates, net, hs, qs, bias, bias_hn, out)
        step = self.kernel("gru", "gru_forward_step", x.dtype, width)
        multiply = self.gemm_at(hs, weight_hh.T, net, accumulate=False)
        for t in steps(T, reverse):
            before, after = t + reverse, t + 1 - reverse
            multiply(before, 0)
            step(
                blocks(B * H, width),
                THREADS,
                (gates, net, bias, bias_hn, hs, qs, len(qs), out, ends, t, before, after, B, H),
            )
        return (out, hs[first_and_last(T, reverse)[1]].copy()), (hs, gates, qs) if saving else None

    def gru_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Sequence[Array],
        lengths: Lengths,
        reverse: bool,
        needs_grad: Sequence[bool],
    ) -> Gradients:
        x, _, weight_ih, weight_hh, _, _ = operands
        hs, gates, qs = saved
        g_h = g[1].copy()
        (g_out,) = self.contiguous(g[0])
        T, B, H = g_out.shape
        ends, g_net = self._ends(lengths), self.empty((T, B, 4 * H), x.dtype)
        width = self._width(H, gates, qs, hs, g_out, g_h, g_net)
        step = self.kernel("gru", "gru_backward_step", x.dtype, width)
        multiply = self.gemm_at(g_net[:, :, H:], weight_hh, g_h[None], accumulate=True)
        for t in steps(T, not reverse):
            step(blocks(B * H, width), THREADS, (gates, qs, hs, g_out, g_h, g_net, ends, t, t + reverse, B, H))
            multiply(t, 0)
        g_x, *of_weights = self._gradients_of_parts(g_net, x, hs, weight_ih, reverse, needs_grad)
        return [g_x, g_h, *of_weights]
