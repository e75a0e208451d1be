"""Recurrent networks over whole sequences in CUDA: of each step the matrix product, and one kernel for all the rest.

As `backends.recurrent`, which says what the functions take and give.
"""

from collections.abc import Sequence

from ..base import Array
from ..recurrent import RecurrentKernels
from ..recurrent.sequence import Gradients, Lengths, first_and_last, room_for_states, states, steps
from .launching import THREADS, LaunchedKernels, blocks

__all__ = ["CudaRecurrentKernels"]


class CudaRecurrentKernels(LaunchedKernels, RecurrentKernels):
    """The recurrent part of a CUDA device."""

    # -- LSTM ----------------------------------------------------------------------------------------------------------

    def lstm_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        x, h, c, weight_ih, weight_hh, bias = operands
        T, (B, H) = len(x), h.shape
        gates = self._of_all_inputs(x, weight_ih)
        hs = room_for_states(self.empty, T, h, reverse)
        cs = room_for_states(self.empty, T, c, reverse, kept=None if saving else 2)
        ends, out = self._ends_and_outputs(lengths, hs, reverse)
        (bias,) = self._contiguous(bias)
        width = self._width(H, gates, hs, cs, bias, out)
        step = self.kernel("lstm", "lstm_forward_step", x.dtype, width)
        multiply = self.gemm_at(hs, weight_hh.T, gates, accumulate=True)
        for t in steps(T, reverse):
            before, after = t + reverse, t + 1 - reverse
            multiply(before, t)
            step(blocks(B * H, width), THREADS, (gates, bias, hs, cs, len(cs), out, ends, t, before, after, B, H))
        _, last = first_and_last(T, reverse)
        return (out, hs[last].copy(), cs[last % len(cs)].copy()), (hs, cs, gates) if saving else None

    def lstm_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Sequence[Array],
        lengths: Lengths,
        reverse: bool,
        wanted: Sequence[bool],
    ) -> Gradients:
        x, _, _, weight_ih, weight_hh, _ = operands
        hs, cs, gates = saved
        g_h, g_c = g[1].copy(), g[2].copy()
        (g_out,) = self._contiguous(g[0])
        T, B, H = g_out.shape
        ends, g_net = self._ends(lengths), self.empty((T, B, 4 * H), x.dtype)
        width = self._width(H, gates, cs, g_out, g_h, g_c, g_net)
        step = self.kernel("lstm", "lstm_backward_step", x.dtype, width)
        multiply = self.gemm_at(g_net, weight_hh, g_h[None], accumulate=ends is not None)
        for t in steps(T, not reverse):
            before, after = t + reverse, t + 1 - reverse
            step(blocks(B * H, width), THREADS, (gates, cs, g_out, g_h, g_c, g_net, ends, t, before, after, B, H))
            multiply(t, 0)
        g_x, *of_weights = self._gradients_of_net(g_net, x, hs, weight_ih, reverse, wanted)
        return [g_x, g_h, g_c, *of_weights]

    # -- GRU -----------------------------------------------------------------------------------------------------------

    def gru_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        x, h, weight_ih, weight_hh, bias, bias_hn = operands
        T, (B, H) = len(x), h.shape
        gates, net = self._of_all_inputs(x, weight_ih), self.empty((1, B, 3 * H), x.dtype)
        hs = room_for_states(self.empty, T, h, reverse)
        qs = self.empty((T if saving else 1, B, H), x.dtype)
        ends, out = self._ends_and_outputs(lengths, hs, reverse)
        bias, bias_hn = self._contiguous(bias, bias_hn)
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
        wanted: Sequence[bool],
    ) -> Gradients:
        x, _, weight_ih, weight_hh, _, _ = operands
        hs, gates, qs = saved
        g_h = g[1].copy()
        (g_out,) = self._contiguous(g[0])
        T, B, H = g_out.shape
        ends, g_net = self._ends(lengths), self.empty((T, B, 4 * H), x.dtype)
        width = self._width(H, gates, qs, hs, g_out, g_h, g_net)
        step = self.kernel("gru", "gru_backward_step", x.dtype, width)
        multiply = self.gemm_at(g_net[:, :, H:], weight_hh, g_h[None], accumulate=True)
        for t in steps(T, not reverse):
            step(blocks(B * H, width), THREADS, (gates, qs, hs, g_out, g_h, g_net, ends, t, t + reverse, B, H))
            multiply(t, 0)
        g_x, *of_weights = self._gradients_of_parts(g_net, x, hs, weight_ih, reverse, wanted)
        return [g_x, g_h, *of_weights]

    # -- simple recurrent network --------------------------------------------------------------------------------------

    def rnn_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        x, h, weight_ih, weight_hh, bias = operands
        T, (B, H) = len(x), h.shape
        net = self._of_all_inputs(x, weight_ih)
        hs = room_for_states(self.empty, T, h, reverse)
        ends, out = self._ends_and_outputs(lengths, hs, reverse)
        (bias,) = self._contiguous(bias)
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
        wanted: Sequence[bool],
    ) -> Gradients:
        x, _, weight_ih, weight_hh, _ = operands
        (hs,) = saved
        g_h = g[1].copy()
        (g_out,) = self._contiguous(g[0])
        T, B, H = g_out.shape
        ends, g_net = self._ends(lengths), self.empty((T, B, H), x.dtype)
        width = self._width(H, hs, g_out, g_h, g_net)
        step = self.kernel("rnn", "rnn_backward_step", x.dtype, width)
        multiply = self.gemm_at(g_net, weight_hh, g_h[None], accumulate=ends is not None)
        for t in steps(T, not reverse):
            step(blocks(B * H, width), THREADS, (hs, g_out, g_h, g_net, ends, t, t + 1 - reverse, B, H))
            multiply(t, 0)
        g_x, *of_weights = self._gradients_of_net(g_net, x, hs, weight_ih, reverse, wanted)
        return [g_x, g_h, *of_weights]

    # -- what they share -----------------------------------------------------------------------------------------------

    def _of_all_inputs(self, x: Array, weight_ih: Array) -> Array:
        """W·x of all steps, (T, B, rows of W)."""
        T, B, I = x.shape
        return self.gemm(x.reshape(T * B, I), weight_ih.T).reshape(T, B, len(weight_ih))

    def _ends(self, lengths: Lengths) -> Array | None:
        """The lengths of the sequences, on the device."""
        return None if lengths is None else self.from_host(lengths.astype("int64", copy=False))

    def _ends_and_outputs(self, lengths: Lengths, hs: Array, reverse: bool) -> tuple[Array | None, Array]:
        """The lengths; and where the outputs (T, B, H) will be, if all sequences are whole in the states themselves."""
        shown = states(hs, reverse, after=True)
        return self._ends(lengths), shown if lengths is None else self.empty(shown.shape, hs.dtype)
