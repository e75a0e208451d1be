"""Recurrent networks over whole sequences, forward and backward, in terms of an array module alone.

What runs on every device, and what the kernels for one in particular must equal. A step costs few calls and no
temporaries: each result goes into an array that was there before.

Throughout: T steps, batch B, input size I, hidden size H. `operands` are the inputs of the network in the order of its
docstring; `lengths` says, on the host, how many steps each sequence has, or None for T each; with `reverse` time runs
from the end. A forward function gives its outputs, and what its backward function wants to be given as `saved`: the
states hs (T + 1, B, H), each before and after its step, and the gates. A backward function takes the gradients `g` of
the outputs, and gives those of the operands, or None where `wanted` says that nobody asks. A stepper prepares the
weights once, for inference: it gives a function that from an input (B, I) and states (B, H) writes the next states.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .base import Array, HostArray

__all__ = ["RecurrentKernels", "chunks", "first_and_last", "going", "room_for_states", "states", "where_going"]

_CACHED_BYTES = 512 * 1024

Lengths = HostArray | None
Gradients = list[Array | None]
Step = Callable[[Array, Sequence[Array], Sequence[Array]], None]


def steps(T: int, reverse: bool) -> Sequence[int]:
    """The steps in the order of computation."""
    return range(T - 1, -1, -1) if reverse else range(T)


def chunks(T: int, at_once: int, reverse: bool) -> Iterator[slice]:
    """The steps, so many at once, in the order of computation."""
    for done in range(0, T, at_once):
        end = min(done + at_once, T)
        yield slice(T - end, T - done) if reverse else slice(done, end)


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


def where_going(xp: Any, array: Array, going: Array | None) -> Array:
    """The array (T, B, H), zero where a sequence is not going."""
    return array if going is None else xp.where(going, array, xp.zeros((), array.dtype))


def room_for_states(
    empty: Callable[[tuple[int, ...], Any], Array], T: int, initial: Array, reverse: bool, kept: int | None = None
) -> Array:
    """Room for the states (T + 1, B, H), or `kept` of them in turn, with the initial ones in place."""
    hs = empty((kept or T + 1, *initial.shape), initial.dtype)
    hs[first_and_last(T, reverse)[0] % len(hs)] = initial
    return hs


class RecurrentKernels:
    """The recurrent part of a backend: what `Backend` says of it."""

    xp: Any

    def from_host(self, array: HostArray) -> Array:
        raise NotImplementedError

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array with arbitrary contents."""
        return self.xp.empty(shape, dtype)

    # -- what the three kinds share ------------------------------------------------------------------------------------

    def _going(self, lengths: Lengths, T: int) -> Array | None:
        """Whether each sequence is still going at each step, (T, B, 1); None if all are."""
        return None if lengths is None else self.from_host(going(lengths, T))

    def _halves(self, gates: int, H: int, dtype: Any) -> Array:
        """By what the rows of so many gates' weights are multiplied: ½, but 1 for the third gate's, the candidate's.

        σ(v) = (1 + tanh(v / 2)) / 2: with the rows of the other gates halved, tanh alone is left to be computed.
        """
        half = self.xp.full(gates * H, 0.5, dtype)
        half[2 * H : 3 * H] = 1
        return half

    def _steps_at_once(self, T: int, B: int, H: int, dtype: Any) -> int:
        """For how many steps the arrays of a backward computation stay in a cache together."""
        return max(1, min(T, _CACHED_BYTES // max(12 * B * H * int(dtype.itemsize), 1)))

    def _slope(self, gate: Array, factor: Array, out: Array) -> None:
        """out = gate · (1 - gate) · factor, the derivative of σ being σ·(1 - σ)."""
        self.xp.subtract(1, gate, out=out)
        out *= gate
        out *= factor

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
        half = self._halves(4, H, x.dtype)
        rest = 1 - half
        gates = self._inputs_product(x, weight_ih * half[:, None], bias * half)
        weight = (weight_hh * half[:, None]).T
        going = self._going(lengths, T)
        hs = room_for_states(self.empty, T, h, reverse)
        cs = room_for_states(self.empty, T, c, reverse, kept=None if saving else 2)
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
        out = where_going(xp, states(hs, reverse, after=True), going)
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
        xp = self.xp
        x, _, _, weight_ih, weight_hh, _ = operands
        hs, cs, gates = saved
        g_out, g_h, g_c = g[0], g[1].copy(), g[2].copy()
        T, B, H = g_out.shape
        going = self._going(lengths, T)
        g_out = where_going(xp, g_out, going)
        g_net = self.empty((T, B, 4 * H), x.dtype)
        at_once = self._steps_at_once(T, B, H, x.dtype)
        tanh_c, part = self.empty((at_once, B, H), x.dtype), self.empty((at_once, B, H), x.dtype)
        carried = self.empty((B, H), x.dtype)
        c_before, c_after = states(cs, reverse, after=False), states(cs, reverse, after=True)
        for now in chunks(T, at_once, not reverse):
            # What does not depend on the step after is computed for several steps at once: the factors by which ∂L/∂h
            # and ∂L/∂c become the gates' gradients, in the very place of these.
            gate, net = gates[now], g_net[now]
            i, f, candidate, o = (gate[:, :, k * H : (k + 1) * H] for k in range(4))
            for_i, for_f, for_g, for_o = (net[:, :, k * H : (k + 1) * H] for k in range(4))
            tanhs, to_c = tanh_c[: len(gate)], part[: len(gate)]
            xp.tanh(c_after[now], out=tanhs)
            self._slope(i, candidate, for_i)
            self._slope(f, c_before[now], for_f)
            self._slope(o, tanhs, for_o)
            xp.multiply(candidate, candidate, out=for_g)
            for_g *= i
            xp.subtract(i, for_g, out=for_g)
            xp.multiply(tanhs, tanhs, out=to_c)
            to_c *= o
            xp.subtract(o, to_c, out=to_c)  # ∂h/∂c
            if going is not None:
                net *= going[now]
                to_c *= going[now]
                f = xp.where(going[now], f, xp.ones((), f.dtype))
            for s in steps(len(gate), not reverse):
                t = now.start + s
                g_h += g_out[t]
                g_c += xp.multiply(g_h, to_c[s], out=carried)
                by_gate = net[s].reshape(B, 4, H)
                by_gate[:, :3] *= g_c[:, None]
                by_gate[:, 3] *= g_h
                g_c *= f[s]
                xp.matmul(net[s], weight_hh, out=carried)
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

    def lstm_stepper(self, weights: Sequence[Array]) -> Step:
        xp = self.xp
        weight_ih, weight_hh, bias = weights
        I, H, dtype = weight_ih.shape[1], weight_hh.shape[1], bias.dtype
        half = self._halves(4, H, dtype)
        rest = 1 - half
        weight = xp.ascontiguousarray((xp.concatenate([weight_ih, weight_hh], axis=1) * half[:, None]).T)
        bias = bias * half
        xh, net, part = (self.empty((0, n), dtype) for n in (I + H, 4 * H, H))

        def step(x: Array, states: Sequence[Array], out: Sequence[Array]) -> None:
            nonlocal xh, net, part
            (h, c), (new_h, new_c) = states, out
            if len(x) != len(net):
                xh, net, part = (self.empty((len(x), n), dtype) for n in (I + H, 4 * H, H))
            xh[:, :I], xh[:, I:] = x, h
            xp.matmul(xh, weight, out=net)
            xp.add(net, bias, out=net)
            xp.tanh(net, out=net)
            xp.multiply(net, half, out=net)
            xp.add(net, rest, out=net)
            xp.multiply(net[:, H : 2 * H], c, out=new_c)
            xp.multiply(net[:, :H], net[:, 2 * H : 3 * H], out=part)
            xp.add(new_c, part, out=new_c)
            xp.tanh(new_c, out=part)
            xp.multiply(net[:, 3 * H :], part, out=new_h)

        return step

    # -- GRU -----------------------------------------------------------------------------------------------------------

    def gru_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        xp = self.xp
        x, h, weight_ih, weight_hh, bias, bias_hn = operands
        T, (B, H) = len(x), h.shape
        half = self._halves(3, H, x.dtype)
        gates = self._inputs_product(x, weight_ih * half[:, None], bias * half)
        weight = (weight_hh * half[:, None]).T
        going = self._going(lengths, T)
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
        return (where_going(xp, states(hs, reverse, after=True), going), last), (hs, gates, qs) if saving else None

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
        g_out = where_going(xp, g_out, going)
        g_net = self.empty((T, B, 4 * H), x.dtype)
        at_once = self._steps_at_once(T, B, H, x.dtype)
        part, carried = self.empty((at_once, B, H), x.dtype), self.empty((B, H), x.dtype)
        before = states(hs, reverse, after=False)
        for now in chunks(T, at_once, not reverse):
            # As for the LSTM. In the order n, r, z, q the first three belong to W·x, the last three to U·h.
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
            if going is not None:
                net *= going[now]
                z = xp.where(going[now], z, xp.ones((), z.dtype))
            for s in steps(len(gate), not reverse):
                g_h += g_out[now.start + s]
                by_gate = net[s].reshape(B, 4, H)
                by_gate *= g_h[:, None]
                xp.matmul(net[s, :, H:], weight_hh, out=carried)
                g_h *= z[s]
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

    def gru_stepper(self, weights: Sequence[Array]) -> Step:
        xp = self.xp
        weight_ih, weight_hh, bias, bias_hn = weights
        H, dtype = weight_hh.shape[1], bias.dtype
        of_x, of_h = xp.ascontiguousarray(weight_ih.T), xp.ascontiguousarray(weight_hh.T)
        net, net_h = self.empty((0, 3 * H), dtype), self.empty((0, 3 * H), dtype)

        def step(x: Array, states: Sequence[Array], out: Sequence[Array]) -> None:
            nonlocal net, net_h
            (h,), (new_h,) = states, out
            if len(x) != len(net):
                net, net_h = self.empty((len(x), 3 * H), dtype), self.empty((len(x), 3 * H), dtype)
            rz, r, z, n = net[:, : 2 * H], net[:, :H], net[:, H : 2 * H], net[:, 2 * H :]
            q = net_h[:, 2 * H :]
            xp.matmul(x, of_x, out=net)
            xp.add(net, bias, out=net)
            xp.matmul(h, of_h, out=net_h)
            xp.add(q, bias_hn, out=q)
            xp.add(rz, net_h[:, : 2 * H], out=rz)
            xp.multiply(rz, 0.5, out=rz)
            xp.tanh(rz, out=rz)
            xp.multiply(rz, 0.5, out=rz)
            xp.add(rz, 0.5, out=rz)
            xp.multiply(r, q, out=q)
            xp.add(n, q, out=n)
            xp.tanh(n, out=n)
            xp.subtract(h, n, out=q)
            xp.multiply(q, z, out=q)
            xp.add(n, q, out=new_h)

        return step

    # -- RNN -----------------------------------------------------------------------------------------------------------

    def rnn_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        xp = self.xp
        x, h, weight_ih, weight_hh, bias = operands
        T = len(x)
        net = self._inputs_product(x, weight_ih, bias)
        going = self._going(lengths, T)
        hs = room_for_states(self.empty, T, h, reverse)
        for t in steps(T, reverse):
            h, new_h = hs[t + reverse], hs[t + 1 - reverse]
            xp.matmul(h, weight_hh.T, out=new_h)
            new_h += net[t]
            xp.tanh(new_h, out=new_h)
            if going is not None:
                new_h[...] = xp.where(going[t], new_h, h)
        last = hs[first_and_last(T, reverse)[1]].copy()
        return (where_going(xp, states(hs, reverse, after=True), going), last), (hs,) if saving else None

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
        g_out = where_going(xp, g_out, going)
        after = states(hs, reverse, after=True)
        g_net = self.empty((T, B, H), x.dtype)
        xp.multiply(after, after, out=g_net)
        xp.subtract(1, g_net, out=g_net)
        if going is not None:
            g_net *= going
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

    def rnn_stepper(self, weights: Sequence[Array]) -> Step:
        xp = self.xp
        weight_ih, weight_hh, bias = weights
        I, H = weight_ih.shape[1], weight_hh.shape[1]
        weight = xp.ascontiguousarray(xp.concatenate([weight_ih, weight_hh], axis=1).T)
        xh = self.empty((0, I + H), bias.dtype)

        def step(x: Array, states: Sequence[Array], out: Sequence[Array]) -> None:
            nonlocal xh
            (h,), (new_h,) = states, out
            if len(x) != len(xh):
                xh = self.empty((len(x), I + H), bias.dtype)
            xh[:, :I], xh[:, I:] = x, h
            xp.matmul(xh, weight, out=new_h)
            xp.add(new_h, bias, out=new_h)
            xp.tanh(new_h, out=new_h)

        return step
