"""The GRU, written with an array module."""

from collections.abc import Sequence

from ..base import Array
from .sequence import (
    Gradients,
    Lengths,
    SequenceKernels,
    Step,
    StepRoom,
    chunks,
    first_and_last,
    room_for_states,
    states,
    steps,
    where_active,
)

__all__ = ["GRUKernels"]


class GRUKernels(SequenceKernels):
    """A layer of a GRU."""

    def gru_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        xp = self.xp
        x, h, weight_ih, weight_hh, bias, bias_hn = operands
        T, (B, H) = len(x), h.shape
        gates = self._inputs_product(x, self._halved(weight_ih, 3), self._halved(bias, 3))
        weight = xp.ascontiguousarray(self._halved(weight_hh, 3).T)  # otherwise each step's product would transpose it
        active = self._active(lengths, T)
        hs = room_for_states(self.empty, T, h, reverse)
        qs = self.empty((T if saving else 1, B, H), x.dtype)  # U_n·h + b_hn
        net, part = self.empty((B, 3 * H), x.dtype), self.empty((B, H), x.dtype)
        for t in steps(T, reverse):
            h, new_h, gate, q = hs[t + reverse], hs[t + 1 - reverse], gates[t], qs[t % len(qs)]
            xp.matmul(h, weight, out=net)
            xp.add(net[:, 2 * H :], bias_hn, out=q)
            rz, r, z, n = gate[:, : 2 * H], gate[:, :H], gate[:, H : 2 * H], gate[:, 2 * H :]
            rz += net[:, : 2 * H]
            xp.tanh(rz, out=rz)
            self._sigmoids(rz)
            n += xp.multiply(r, q, out=part)
            xp.tanh(n, out=n)
            xp.subtract(h, n, out=part)
            part *= z
            xp.add(n, part, out=new_h)
            if active is not None:
                new_h[...] = xp.where(active[t], new_h, h)
        last = hs[first_and_last(T, reverse)[1]].copy()
        return (where_active(xp, states(hs, reverse, after=True), active), last), (hs, gates, qs) if saving else None

    def gru_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Sequence[Array],
        lengths: Lengths,
        reverse: bool,
        needs_grad: Sequence[bool],
    ) -> Gradients:
        xp = self.xp
        x, _, weight_ih, weight_hh, _, _ = operands
        hs, gates, qs = saved
        g_out, g_h = g[0], g[1].copy()
        T, B, H = g_out.shape
        active = self._active(lengths, T)
        g_out = where_active(xp, g_out, active)
        g_net = self.empty((T, B, 4 * H), x.dtype)
        at_once = self._steps_at_once(T, B, H, x.dtype)
        part, carried = self.empty((at_once, B, H), x.dtype), self.empty((B, H), x.dtype)
        before = states(hs, reverse, after=False)
        for now in chunks(T, at_once, not reverse):
            # As in the LSTM.
            gate, net = gates[now], g_net[now]
            r, z, n = (gate[:, :, k * H : (k + 1) * H] for k in range(3))
            for_n, for_r, for_z, for_q = (net[:, :, k * H : (k + 1) * H] for k in range(4))
            square = part[: len(gate)]
            xp.multiply(n, n, out=square)
            xp.subtract(1, square, out=square)
            xp.subtract(1, z, out=for_n)
            for_n *= square  # (1 - z)·(1 - n²)
            xp.multiply(for_n, r, out=for_q)
            self._slope(r, qs[now], for_r)
            for_r *= for_n
            xp.subtract(before[now], n, out=square)
            self._slope(z, square, for_z)
            if active is not None:
                net[...] = where_active(xp, net, active[now])  # what was saved of inactive steps may be NaN
                z = xp.where(active[now], z, xp.ones((), z.dtype))
            for s in steps(len(gate), not reverse):
                g_h += g_out[now.start + s]
                by_gate = net[s].reshape(B, 4, H)
                by_gate *= g_h[:, None]
                xp.matmul(net[s, :, H:], weight_hh, out=carried)
                g_h *= z[s]
                g_h += carried
        g_x, *of_weights = self._gradients_of_parts(g_net, x, hs, weight_ih, reverse, needs_grad)
        return [g_x, g_h, *of_weights]

    def _gradients_of_parts(
        self, g_net: Array, x: Array, hs: Array, weight_ih: Array, reverse: bool, needs_grad: Sequence[bool]
    ) -> Gradients:
        """The gradients of x and the weights, given those of n, r, z, q before activation, for all steps (T, B, 4H).

        The first three parts belong to W·x, the last three to U·h.
        """
        xp, (T, B, _) = self.xp, g_net.shape
        H = hs.shape[2]
        flat = g_net.reshape(T * B, 4 * H)
        of_x, of_h, sums = flat[:, : 3 * H], flat[:, H:], self._gradient_of_bias(flat)
        before = states(hs, reverse, after=False).reshape(T * B, H)
        return [
            self._gradient_of_inputs(of_x, x, xp.roll(weight_ih, H, axis=0), needs_grad[0]),
            xp.roll(self.matmul(of_x.T, x.reshape(T * B, x.shape[2])), -H, axis=0) if needs_grad[2] else None,
            self.matmul(of_h.T, before) if needs_grad[3] else None,
            xp.roll(sums[: 3 * H], -H),  # of both biases together
            sums[3 * H :],
        ]

    def gru_stepper(self, weights: Sequence[Array]) -> Step:
        xp = self.xp
        weight_ih, weight_hh, bias, bias_hn = weights
        H, dtype = weight_hh.shape[1], bias.dtype
        of_x, of_h = (xp.ascontiguousarray(self._halved(weight, 3).T) for weight in (weight_ih, weight_hh))
        bias, bias_hn = self._halved(bias, 3), bias_hn.copy()
        room = StepRoom(lambda B: [self.empty((B, 3 * H), dtype) for _ in range(2)])

        def step(x: Array, states: Sequence[Array], out: Sequence[Array]) -> None:
            (h,), (new_h,) = states, out
            net, net_h = room(len(x))
            rz, r, z, n = net[:, : 2 * H], net[:, :H], net[:, H : 2 * H], net[:, 2 * H :]
            q = net_h[:, 2 * H :]
            xp.matmul(x, of_x, out=net)
            xp.add(net, bias, out=net)
            xp.matmul(h, of_h, out=net_h)
            xp.add(q, bias_hn, out=q)
            xp.add(rz, net_h[:, : 2 * H], out=rz)
            xp.tanh(rz, out=rz)
            self._sigmoids(rz)
            xp.multiply(r, q, out=q)
            xp.add(n, q, out=n)
            xp.tanh(n, out=n)
            xp.subtract(h, n, out=q)
            xp.multiply(q, z, out=q)
            xp.add(n, q, out=new_h)

        return step
