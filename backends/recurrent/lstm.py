"""The LSTM, written with an array module."""

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

__all__ = ["LSTMKernels"]


class LSTMKernels(SequenceKernels):
    """A layer of an LSTM."""

    def lstm_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        xp = self.xp
        x, h, c, weight_ih, weight_hh, bias = operands
        T, (B, H) = len(x), h.shape
        gates = self._inputs_product(x, self._halved(weight_ih, 4), self._halved(bias, 4))
        weight = xp.ascontiguousarray(self._halved(weight_hh, 4).T)  # otherwise each step's product would transpose it
        active = self._active(lengths, T)
        hs = room_for_states(self.empty, T, h, reverse)
        cs = room_for_states(self.empty, T, c, reverse, kept=None if saving else 2)
        net, part = self.empty((B, 4 * H), x.dtype), self.empty((B, H), x.dtype)
        for t in steps(T, reverse):
            before, after = t + reverse, t + 1 - reverse
            h, c, new_h, new_c = hs[before], cs[before % len(cs)], hs[after], cs[after % len(cs)]
            gate = gates[t]
            gate += xp.matmul(h, weight, out=net)
            xp.tanh(gate, out=gate)
            self._sigmoids(gate[:, : 2 * H])
            self._sigmoids(gate[:, 3 * H :])
            i, f, g, o = gate[:, :H], gate[:, H : 2 * H], gate[:, 2 * H : 3 * H], gate[:, 3 * H :]
            xp.multiply(f, c, out=new_c)
            new_c += xp.multiply(i, g, out=part)
            xp.multiply(o, xp.tanh(new_c, out=part), out=new_h)
            if active is not None:
                new_h[...] = xp.where(active[t], new_h, h)
                new_c[...] = xp.where(active[t], new_c, c)
        _, last = first_and_last(T, reverse)
        out = where_active(xp, states(hs, reverse, after=True), active)
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
        xp = self.xp
        x, _, _, weight_ih, weight_hh, _ = operands
        hs, cs, gates = saved
        g_out, g_h, g_c = g[0], g[1].copy(), g[2].copy()
        T, B, H = g_out.shape
        active = self._active(lengths, T)
        g_out = where_active(xp, g_out, active)
        g_net = self.empty((T, B, 4 * H), x.dtype)
        at_once = self._steps_at_once(T, B, H, x.dtype)
        tanh_c, part = self.empty((at_once, B, H), x.dtype), self.empty((at_once, B, H), x.dtype)
        carried = self.empty((B, H), x.dtype)
        c_before, c_after = states(cs, reverse, after=False), states(cs, reverse, after=True)
        for now in chunks(T, at_once, not reverse):
            # The factors from ∂L/∂h and ∂L/∂c to the gates' gradients do not depend on the next step. They are computed
            # for several steps at once, in the array of these gradients.
            gate, net = gates[now], g_net[now]
            i, f, candidate, o = (gate[:, :, k * H : (k + 1) * H] for k in range(4))
            for_i, for_f, for_g, for_o = (net[:, :, k * H : (k + 1) * H] for k in range(4))
            tanhs, to_c = tanh_c[: len(gate)], part[: len(gate)]
            xp.tanh(c_after[now], out=tanhs)
            xp.subtract(1, gate, out=net)
            net *= gate  # σ' = σ·(1 - σ); and, for the candidate, tanh' = 1 - tanh²:
            xp.multiply(candidate, candidate, out=for_g)
            xp.subtract(1, for_g, out=for_g)
            for_i *= candidate
            for_f *= c_before[now]
            for_g *= i
            for_o *= tanhs
            xp.multiply(tanhs, tanhs, out=to_c)
            to_c *= o
            xp.subtract(o, to_c, out=to_c)  # ∂h/∂c
            if active is not None:
                net[...] = where_active(xp, net, active[now])  # what was saved of inactive steps may be NaN
                to_c[...] = where_active(xp, to_c, active[now])
                f = xp.where(active[now], f, xp.ones((), f.dtype))
            for s in steps(len(gate), not reverse):
                t = now.start + s
                g_h += g_out[t]
                g_c += xp.multiply(g_h, to_c[s], out=carried)
                by_gate = net[s].reshape(B, 4, H)
                by_gate[:, :3] *= g_c[:, None]
                by_gate[:, 3] *= g_h
                g_c *= f[s]
                xp.matmul(net[s], weight_hh, out=carried)
                if active is not None:
                    carried += xp.where(active[t], xp.zeros((), g_h.dtype), g_h)
                g_h, carried = carried, g_h
        g_x, *of_weights = self._gradients_of_net(g_net, x, hs, weight_ih, reverse, needs_grad)
        return [g_x, g_h, g_c, *of_weights]

    def lstm_stepper(self, weights: Sequence[Array]) -> Step:
        xp = self.xp
        weight_ih, weight_hh, bias = weights
        I, H, dtype = weight_ih.shape[1], weight_hh.shape[1], bias.dtype
        weight = xp.ascontiguousarray(self._halved(xp.concatenate([weight_ih, weight_hh], axis=1), 4).T)
        bias = self._halved(bias, 4)
        room = StepRoom(lambda B: [self.empty((B, n), dtype) for n in (I + H, 4 * H, H)])

        def step(x: Array, states: Sequence[Array], out: Sequence[Array]) -> None:
            (h, c), (new_h, new_c) = states, out
            xh, net, part = room(len(x))
            xh[:, :I], xh[:, I:] = x, h
            xp.matmul(xh, weight, out=net)
            xp.add(net, bias, out=net)
            xp.tanh(net, out=net)
            self._sigmoids(net[:, : 2 * H])
            self._sigmoids(net[:, 3 * H :])
            xp.multiply(net[:, H : 2 * H], c, out=new_c)
            xp.multiply(net[:, :H], net[:, 2 * H : 3 * H], out=part)
            xp.add(new_c, part, out=new_c)
            xp.tanh(new_c, out=part)
            xp.multiply(net[:, 3 * H :], part, out=new_h)

        return step
