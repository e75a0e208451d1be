"""The simple recurrent network, written with an array module."""

from collections.abc import Sequence

from ..base import Array
from .sequence import (
    Gradients,
    Lengths,
    SequenceKernels,
    Step,
    StepRoom,
    first_and_last,
    room_for_states,
    states,
    steps,
    where_active,
)

__all__ = ["RNNKernels"]


class RNNKernels(SequenceKernels):
    """A layer of a simple recurrent network."""

    def rnn_forward(
        self, operands: Sequence[Array], lengths: Lengths, reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
        xp = self.xp
        x, h, weight_ih, weight_hh, bias = operands
        T = len(x)
        net = self._inputs_product(x, weight_ih, bias)
        weight = xp.ascontiguousarray(weight_hh.T)  # otherwise each step's product would transpose it
        active = self._active(lengths, T)
        hs = room_for_states(self.empty, T, h, reverse)
        for t in steps(T, reverse):
            h, new_h = hs[t + reverse], hs[t + 1 - reverse]
            xp.matmul(h, weight, out=new_h)
            new_h += net[t]
            xp.tanh(new_h, out=new_h)
            if active is not None:
                new_h[...] = xp.where(active[t], new_h, h)
        last = hs[first_and_last(T, reverse)[1]].copy()
        return (where_active(xp, states(hs, reverse, after=True), active), last), (hs,) if saving else None

    def rnn_backward(
        self,
        g: Sequence[Array],
        operands: Sequence[Array],
        saved: Sequence[Array],
        lengths: Lengths,
        reverse: bool,
        needs_grad: Sequence[bool],
    ) -> Gradients:
        xp = self.xp
        x, _, weight_ih, weight_hh, _ = operands
        (hs,) = saved
        g_out, g_h = g[0], g[1].copy()
        T, B, H = g_out.shape
        active = self._active(lengths, T)
        g_out = where_active(xp, g_out, active)
        after = states(hs, reverse, after=True)
        g_net = self.empty((T, B, H), x.dtype)
        xp.multiply(after, after, out=g_net)
        xp.subtract(1, g_net, out=g_net)
        if active is not None:
            g_net *= active
        carried = self.empty((B, H), x.dtype)
        for t in steps(T, not reverse):
            g_h += g_out[t]
            net = g_net[t]
            net *= g_h
            xp.matmul(net, weight_hh, out=carried)
            if active is not None:
                carried += xp.where(active[t], xp.zeros((), g_h.dtype), g_h)
            g_h, carried = carried, g_h
        g_x, *of_weights = self._gradients_of_net(g_net, x, hs, weight_ih, reverse, needs_grad)
        return [g_x, g_h, *of_weights]

    def rnn_stepper(self, weights: Sequence[Array]) -> Step:
        xp = self.xp
        weight_ih, weight_hh, bias = weights
        I, H = weight_ih.shape[1], weight_hh.shape[1]
        weight, bias = xp.ascontiguousarray(xp.concatenate([weight_ih, weight_hh], axis=1).T), bias.copy()
        room = StepRoom(lambda B: [self.empty((B, I + H), bias.dtype)])

        def step(x: Array, states: Sequence[Array], out: Sequence[Array]) -> None:
            (h,), (new_h,), (xh,) = states, out, room(len(x))
            xh[:, :I], xh[:, I:] = x, h
            xp.matmul(xh, weight, out=new_h)
            xp.add(new_h, bias, out=new_h)
            xp.tanh(new_h, out=new_h)

        return step
