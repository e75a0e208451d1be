"""Recurrent networks over whole sequences, forward and backward, in terms of an array module alone.

What runs on every device, and what the kernels for one in particular must equal. A step costs few calls and no
temporaries: each result goes into an array that was there before.

Throughout: T steps, batch B, input size I, hidden size H. `operands` are the inputs of the network in the order of its
docstring; `lengths` says, on the host, how many steps each sequence has, or None for T each; with `reverse` time runs
from the end. A forward function gives its outputs, and what its backward function wants to be given as `saved`: the
states hs (T + 1, B, H), each before and after its step, and the gates. A backward function takes the gradients `g` of
the outputs, and gives those of the operands, or None where `wanted` says that nobody asks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .base import Array, HostArray

__all__ = ["RecurrentKernels", "first_and_last", "going", "states", "visible"]

Lengths = HostArray | None
Gradients = list[Array | None]


def steps(T: int, reverse: bool) -> Sequence[int]:
    """The steps in the order of computation."""
    return range(T - 1, -1, -1) if reverse else range(T)


def states(hs: Array, reverse: bool, after: bool) -> Array:
    """The states (T, B, H) before or after each step, of the states (T + 1, B, H)."""
    first = int(reverse != after)
    return hs[first : first + len(hs) - 1]


def first_and_last(T: int, reverse: bool) -> tuple[int, int]:
    """Where the states (T + 1, B, H) have those before the first step computed, and those after the last."""
    return (T, 0) if reverse else (0, T)


def going(lengths: HostArray, T: int) -> HostArray:
    """Whether each sequence is still going at each step, (T, B, 1)."""
    return np.arange(T)[:, None, None] < lengths[None, :, None]


def visible(xp: Any, hs: Array, going: Array | None, reverse: bool) -> Array:
    """The outputs: the states after each step, zero where a sequence is not going."""
    out = states(hs, reverse, after=True)
    return out if going is None else xp.where(going, out, xp.zeros((), hs.dtype))


class RecurrentKernels:
    """The recurrent part of a backend: what `Backend` says of it."""

    xp: Any

    def from_host(self, array: HostArray) -> Array:
        raise NotImplementedError

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array with arbitrary contents."""
        return self.xp.empty(shape, dtype)

    # -- what the three kinds share ------------------------------------------------------------------------------------

    def _states(self, T: int, initial: Array, reverse: bool, kept: int | None = None) -> Array:
        """Room for the states (T + 1, B, H), or `kept` of them in turn, with the initial ones in place."""
        hs = self.empty((kept or T + 1, *initial.shape), initial.dtype)
        hs[first_and_last(T, reverse)[0] % len(hs)] = initial
        return hs

    def _going(self, lengths: Lengths, T: int) -> Array | None:
        """Whether each sequence is still going at each step, (T, B, 1); None if all are."""
        return None if lengths is None else self.from_host(going(lengths, T))

    def _inputs_product(self, x: Array, weight: Array, bias: Array) -> Array:
        """One product for the inputs of all steps: W·x + b (T, B, rows of W)."""
        net = self.empty((*x.shape[:2], len(weight)), x.dtype)
        self.xp.matmul(
            x.reshape(x.shape[0] * x.shape[1], x.shape[2]),
            weight.T,
            out=net.reshape(x.shape[0] * x.shape[1], len(weight)),
        )
        net += bias
        return net

    def _gradient_of_inputs(self, g_net: Array, x: Array, weight: Array, wanted: bool) -> Array | None:
        """The gradient of x (T, B, I), of W·x for all steps (T·B, rows of W)."""
        return self.xp.matmul(g_net, weight).reshape(x.shape) if wanted else None

    # -- LSTM ----------------------------------------------------------------------------------------------------------

    def lstm_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        xp = self.xp
        x, h, c, weight_ih, weight_hh, bias = operands
        T, (B, H) = len(x), h.shape
        # σ(v) = (1 + tanh(v / 2)) / 2: with the rows of i, f and o halved, one tanh serves all four gates.
        half = xp.full(4 * H, 0.5, x.dtype)
        half[2 * H : 3 * H] = 1
        rest = 1 - half
        gates = self._inputs_product(x, weight_ih * half[:, None], bias * half)
        weight = (weight_hh * half[:, None]).T
        going = self._going(lengths, T)
        hs = self._states(T, h, reverse)
        cs = self._states(T, c, reverse, kept=None if saving else 2)
        net, part = self.empty((B, 4 * H), x.dtype), self.empty((B, H), x.dtype)
        for t in steps(T, reverse):
            before, after = t + reverse, t + 1 - reverse
            h, c, new_h, new_c = hs[before], cs[before % len(cs)], hs[after], cs[after % len(cs)]
            gate = gates[t]
            gate += xp.matmul(h, weight, out=net)
            xp.tanh(gate, out=gate)
            gate *= half
            gate += rest
            i, f, g, o = gate[:, :H], gate[:, H : 2 * H], gate[:, 2 * H : 3 * H], gate[:, 3 * H :]
            xp.multiply(f, c, out=new_c)
            new_c += xp.multiply(i, g, out=part)
            xp.multiply(o, xp.tanh(new_c, out=part), out=new_h)
            if going is not None:
                new_h[...] = xp.where(going[t], new_h, h)
                new_c[...] = xp.where(going[t], new_c, c)
        _, last = first_and_last(T, reverse)
        outputs = (visible(xp, hs, going, reverse), hs[last].copy(), cs[last % len(cs)].copy())
        return outputs, (hs, cs, gates) if saving else None

    def lstm_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Sequence[Array],
        lengths: Lengths,
        reverse: bool,
        wanted: Sequence[bool],
    ) -> Gradients:
        xp = self.xp
        x, _, _, weight_ih, weight_hh, _ = operands
        hs, cs, gates = saved
        g_out, g_h, g_c = g[0], g[1].copy(), g[2].copy()
        T, B, H = g_out.shape
        going = self._going(lengths, T)

        # What does not depend on the step after is computed for all steps at once: the factors by which ∂L/∂h and
        # ∂L/∂c become the gates' gradients, in the very place of these.
        i, f, g_, o = (gates[:, :, k * H : (k + 1) * H] for k in range(4))
        g_net = self.empty((T, B, 4 * H), x.dtype)
        for_i, for_f, for_g, for_o = (g_net[:, :, k * H : (k + 1) * H] for k in range(4))
        tanh_c = xp.tanh(states(cs, reverse, after=True))
        part = self.empty((T, B, H), x.dtype)

        def slope(gate: Array, factor: Array, out: Array) -> None:
            """out = factor · gate · (1 - gate)"""
            xp.multiply(gate, gate, out=part)
            xp.subtract(gate, part, out=part)
            xp.multiply(part, factor, out=out)

        slope(i, g_, for_i)
        slope(f, states(cs, reverse, after=False), for_f)
        slope(o, tanh_c, for_o)
        xp.multiply(g_, g_, out=part)
        part *= i
        xp.subtract(i, part, out=for_g)
        xp.multiply(tanh_c, tanh_c, out=part)
        part *= o
        to_c = xp.subtract(o, part, out=part)  # ∂h/∂c
        if going is not None:
            g_net *= going
            to_c *= going
            g_out = xp.where(going, g_out, xp.zeros((), g_out.dtype))
            f = xp.where(going, f, xp.ones((), f.dtype))

        carried = self.empty((B, H), x.dtype)
        for t in steps(T, not reverse):
            g_h += g_out[t]
            g_c += xp.multiply(g_h, to_c[t], out=carried)
            net = g_net[t].reshape(B, 4, H)
            net[:, :3] *= g_c[:, None]
            net[:, 3] *= g_h
            g_c *= f[t]
            xp.matmul(g_net[t], weight_hh, out=carried)
            if going is not None:
                carried += xp.where(going[t], xp.zeros((), g_h.dtype), g_h)
            g_h, carried = carried, g_h
        flat = g_net.reshape(T * B, 4 * H)
        return [
            self._gradient_of_inputs(flat, x, weight_ih, wanted[0]),
            g_h,
            g_c,
            flat.T @ x.reshape(T * B, x.shape[2]),
            flat.T @ states(hs, reverse, after=False).reshape(T * B, H),
            flat.sum(0),
        ]

    # -- GRU -----------------------------------------------------------------------------------------------------------

    def gru_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        xp = self.xp
        x, h, weight_ih, weight_hh, bias, bias_hn = operands
        T, (B, H) = len(x), h.shape
        half = xp.full(3 * H, 0.5, x.dtype)  # as for the LSTM
        half[2 * H :] = 1
        gates = self._inputs_product(x, weight_ih * half[:, None], bias * half)
        weight = (weight_hh * half[:, None]).T
        going = self._going(lengths, T)
        hs = self._states(T, h, reverse)
        qs = self.empty((T if saving else 1, B, H), x.dtype)  # U_n·h + b_hn
        net, part = self.empty((B, 3 * H), x.dtype), self.empty((B, H), x.dtype)
        for t in steps(T, reverse):
            h, new_h, gate, q = hs[t + reverse], hs[t + 1 - reverse], gates[t], qs[t % len(qs)]
            xp.matmul(h, weight, out=net)
            xp.add(net[:, 2 * H :], bias_hn, out=q)
            rz, r, z, n = gate[:, : 2 * H], gate[:, :H], gate[:, H : 2 * H], gate[:, 2 * H :]
            rz += net[:, : 2 * H]
            xp.tanh(rz, out=rz)
            rz *= 0.5
            rz += 0.5
            n += xp.multiply(r, q, out=part)
            xp.tanh(n, out=n)
            xp.subtract(h, n, out=part)
            part *= z
            xp.add(n, part, out=new_h)
            if going is not None:
                new_h[...] = xp.where(going[t], new_h, h)
        last = hs[first_and_last(T, reverse)[1]].copy()
        return (visible(xp, hs, going, reverse), last), (hs, gates, qs) if saving else None

    def gru_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Sequence[Array],
        lengths: Lengths,
        reverse: bool,
        wanted: Sequence[bool],
    ) -> Gradients:
        xp = self.xp
        x, _, weight_ih, weight_hh, _, _ = operands
        hs, gates, qs = saved
        g_out, g_h = g[0], g[1].copy()
        T, B, H = g_out.shape
        going = self._going(lengths, T)
        r, z, n = (gates[:, :, k * H : (k + 1) * H] for k in range(3))

        # The factors by which ∂L/∂h becomes the gates' gradients. In the order n, r, z, q the first three belong to
        # W·x, the last three to U·h.
        g_net = self.empty((T, B, 4 * H), x.dtype)
        for_n, for_r, for_z, for_q = (g_net[:, :, k * H : (k + 1) * H] for k in range(4))
        part = self.empty((T, B, H), x.dtype)
        xp.multiply(n, n, out=part)
        xp.subtract(1, part, out=part)
        xp.subtract(1, z, out=for_n)
        for_n *= part  # (1 - z)·(1 - n²)
        xp.multiply(for_n, r, out=for_q)
        xp.subtract(1, r, out=part)
        part *= qs
        xp.multiply(for_q, part, out=for_r)
        xp.subtract(states(hs, reverse, after=False), n, out=for_z)
        xp.subtract(1, z, out=part)
        part *= z
        for_z *= part
        if going is not None:
            g_net *= going
            g_out = xp.where(going, g_out, xp.zeros((), g_out.dtype))
            z = xp.where(going, z, xp.ones((), z.dtype))

        carried = self.empty((B, H), x.dtype)
        for t in steps(T, not reverse):
            g_h += g_out[t]
            net = g_net[t].reshape(B, 4, H)
            net *= g_h[:, None]
            xp.matmul(g_net[t, :, H:], weight_hh, out=carried)
            g_h *= z[t]
            g_h += carried
        flat = g_net.reshape(T * B, 4 * H)
        of_x, of_h = flat[:, : 3 * H], flat[:, H:]
        return [
            self._gradient_of_inputs(of_x, x, xp.roll(weight_ih, H, axis=0), wanted[0]),
            g_h,
            xp.roll(of_x.T @ x.reshape(T * B, x.shape[2]), -H, axis=0),
            of_h.T @ states(hs, reverse, after=False).reshape(T * B, H),
            xp.roll(of_x.sum(0), -H),
            of_h[:, 2 * H :].sum(0),
        ]

    # -- RNN -----------------------------------------------------------------------------------------------------------

    def rnn_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        xp = self.xp
        x, h, weight_ih, weight_hh, bias = operands
        T = len(x)
        net = self._inputs_product(x, weight_ih, bias)
        going = self._going(lengths, T)
        hs = self._states(T, h, reverse)
        for t in steps(T, reverse):
            h, new_h = hs[t + reverse], hs[t + 1 - reverse]
            xp.matmul(h, weight_hh.T, out=new_h)
            new_h += net[t]
            xp.tanh(new_h, out=new_h)
            if going is not None:
                new_h[...] = xp.where(going[t], new_h, h)
        last = hs[first_and_last(T, reverse)[1]].copy()
        return (visible(xp, hs, going, reverse), last), (hs,) if saving else None

    def rnn_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Sequence[Array],
        lengths: Lengths,
        reverse: bool,
        wanted: Sequence[bool],
    ) -> Gradients:
        xp = self.xp
        x, _, weight_ih, weight_hh, _ = operands
        (hs,) = saved
        g_out, g_h = g[0], g[1].copy()
        T, B, H = g_out.shape
        going = self._going(lengths, T)
        after = states(hs, reverse, after=True)
        g_net = self.empty((T, B, H), x.dtype)
        xp.multiply(after, after, out=g_net)
        xp.subtract(1, g_net, out=g_net)
        if going is not None:
            g_net *= going
            g_out = xp.where(going, g_out, xp.zeros((), g_out.dtype))
        carried = self.empty((B, H), x.dtype)
        for t in steps(T, not reverse):
            g_h += g_out[t]
            net = g_net[t]
            net *= g_h
            xp.matmul(net, weight_hh, out=carried)
            if going is not None:
                carried += xp.where(going[t], xp.zeros((), g_h.dtype), g_h)
            g_h, carried = carried, g_h
        flat = g_net.reshape(T * B, H)
        return [
            self._gradient_of_inputs(flat, x, weight_ih, wanted[0]),
            g_h,
            flat.T @ x.reshape(T * B, x.shape[2]),
            flat.T @ states(hs, reverse, after=False).reshape(T * B, H),
            flat.sum(0),
        ]
