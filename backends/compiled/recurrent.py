"""Recurrent layers with compiled kernels: memory, packed weights, and the parts in which threads share the work.

The functions are those of `backends/recurrent/`, with the same operands, outputs and saved arrays. Results are bitwise
equal for any number of threads.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import memory
from ..base import HostArray
from ..recurrent.sequence import (
    Gradients,
    Lengths,
    Step,
    StepRoom,
    active,
    first_and_last,
    room_for_states,
    states,
    where_active,
)
from ..threads import number_of_threads
from . import gru, lstm, rnn
from .jit import contiguous
from .product import pack_transposed, panels_shape
from .team import team, worthwhile_threads

__all__ = [
    "gru_backward",
    "gru_forward",
    "gru_stepper",
    "lstm_backward",
    "lstm_forward",
    "lstm_stepper",
    "rnn_backward",
    "rnn_forward",
    "rnn_stepper",
]

# A stream's step takes as long as reading its weights: about 10 µs for this number.
_WEIGHTS_A_THREAD = 300_000
_AT_ONCE_BYTES = 128 * 1024  # of gates, for which the inputs' products are computed at once: they stay in the cache
_BACKWARD_ROWS, _BACKWARD_BYTES = 256, 8 * 1024 * 1024  # of gates' gradients, for one product


@dataclass(frozen=True)
class _Layer:
    """The sizes of a layer, with `net` sums per row and step before the activations, and the memory that it needs."""

    T: int
    B: int
    I: int
    H: int
    net: int
    dtype: np.dtype[Any]
    reverse: bool
    lengths: HostArray

    @property
    def threads(self) -> int:
        """The number of threads to use."""
        return worthwhile_threads(2.0 * self.T * self.B * self.net * (self.I + self.H))

    @property
    def steps_forward(self) -> int:
        """The number of steps whose inputs are multiplied at once."""
        row_bytes = -(-self.B // min(self.threads, number_of_threads())) * self.net * self.dtype.itemsize
        return max(1, _AT_ONCE_BYTES // max(row_bytes, 1))

    def team(self) -> AbstractContextManager[Any]:
        """The threads that share the work."""
        return team(self.threads)

    def empty(self, *shape: int) -> HostArray:
        """An array with arbitrary contents."""
        return memory.empty(shape, self.dtype)

    def panels(self, rows: int, columns: int) -> HostArray:
        """A buffer for the panels of a matrix."""
        return self.empty(*panels_shape(rows, columns, self.dtype.itemsize))

    def weight_panels(self, transposed: bool) -> tuple[HostArray, HostArray]:
        """Buffers for the panels of both weights (net, I) and (net, H), or of their transposes."""
        if transposed:
            return self.panels(self.I, self.net), self.panels(self.H, self.net)
        return self.panels(self.net, self.I), self.panels(self.net, self.H)

    def room_backward(self, gates: int, of_weights: bool) -> tuple[HostArray, HostArray, HostArray]:
        """Buffers for the gates' gradients of the steps that are computed at once, and for the panels of x and h.

        The number of steps suits the product that computes the weights' gradients. Without `of_weights`,
        the panels are empty.
        """
        rows = max(self.B, 1)
        in_cache = _BACKWARD_BYTES // (rows * self.net * self.dtype.itemsize)
        steps = min(self.T, max(1, _BACKWARD_ROWS // rows, min(-(-self.T // 2), in_cache)))
        g_net = self.empty(steps, self.B, gates, self.H)
        rows = steps * self.B if of_weights else 0
        return g_net, self.panels(rows, self.I), self.panels(rows, self.H)

    def gradients(self, of_x: bool, of_weights: bool) -> tuple[HostArray, tuple[HostArray, HostArray, HostArray]]:
        """Buffers for the gradients of the inputs, of both weights and of the bias; empty ones if not needed."""
        net = self.net if of_weights else 0
        return (
            self.empty(self.T if of_x else 0, self.B, self.I),
            (self.empty(net, self.I), self.empty(net, self.H), self.empty(net)),
        )

    def states(self, initial: HostArray, kept: int | None = None) -> HostArray:
        """A buffer for the states; see `room_for_states`."""
        hs: HostArray = room_for_states(memory.empty, self.T, initial, self.reverse, kept)
        return hs

    def flat(self, gates: HostArray) -> HostArray:
        """Gates (T, B, gates, H) in the shape in which they are saved: (T, B, gates·H)."""
        return gates.reshape(self.T, self.B, gates.shape[2] * self.H)

    def by_gate(self, gates: HostArray, number: int) -> HostArray:
        """Gates (T, B, gates·H) in the shape of the kernels: (T, B, gates, H)."""
        return gates.reshape(self.T, self.B, number, self.H)

    def last(self, hs: HostArray) -> HostArray:
        """A copy of the states after the last step."""
        last: HostArray = hs[first_and_last(self.T, self.reverse)[1] % len(hs)].copy()
        return last

    def outputs(self, hs: HostArray, lengths: Lengths) -> HostArray:
        """The states after each step, zero where a sequence is not active."""
        after = states(hs, self.reverse, after=True)
        out: HostArray = where_active(np, after, None if lengths is None else active(lengths, self.T))
        return out


def _layer(x: HostArray, h: HostArray, net: int, lengths: Lengths, reverse: bool) -> _Layer:
    T, B, I = x.shape
    H = h.shape[1]
    all_lengths = np.full(B, T, np.int64) if lengths is None else lengths
    return _Layer(T, B, I, H, net, x.dtype, reverse, all_lengths)


# -- LSTM --------------------------------------------------------------------------------------------------------------


def lstm_forward(operands: Sequence[HostArray], lengths: Lengths, reverse: bool, saving: bool) -> Any:
    x, h, c, weight_ih, weight_hh, bias = map(contiguous, operands)
    layer = _layer(x, h, len(bias), lengths, reverse)
    hs, cs = layer.states(h), layer.states(c, None if saving else 2)
    at_once = layer.steps_forward
    gates = layer.empty(layer.T if saving else min(at_once, layer.T), layer.B, 4, layer.H)
    with layer.team() as members:
        lstm.forward(
            members, layer.B, weight_ih, weight_hh, *layer.weight_panels(transposed=True),
            bias, x, hs, cs, gates, layer.lengths, int(reverse), at_once,
        )  # fmt: skip
    saved = (hs, cs, layer.flat(gates)) if saving else None
    return (layer.outputs(hs, lengths), layer.last(hs), layer.last(cs)), saved


def lstm_backward(
    g: Sequence[HostArray],
    operands: Sequence[HostArray],
    saved: Sequence[HostArray],
    lengths: Lengths,
    reverse: bool,
    needs_grad: Sequence[bool],
) -> Gradients:
    x, h, _, weight_ih, weight_hh, bias = map(contiguous, operands)
    hs, cs, gates = saved
    layer = _layer(x, h, len(bias), lengths, reverse)
    g_h, g_c = g[1][None].copy(), g[2][None].copy()
    of_weights = any(needs_grad[3:])
    g_x, (g_ih, g_hh, g_bias) = layer.gradients(needs_grad[0], of_weights)
    with layer.team() as members:
        lstm.backward(
            members, int(reverse), weight_ih, weight_hh, *layer.weight_panels(transposed=False),
            *layer.room_backward(4, of_weights), g_ih, g_hh, g_bias,
            contiguous(g[0]), g_h, g_c, x, hs, cs, layer.by_gate(gates, 4), layer.lengths, g_x,
        )  # fmt: skip
    return [g_x if needs_grad[0] else None, g_h[0], g_c[0], g_ih, g_hh, g_bias]


def lstm_stepper(weights: Sequence[HostArray]) -> Step:
    return _stepper(weights, 4, lstm.step, 1)


# -- GRU ---------------------------------------------------------------------------------------------------------------


def gru_forward(operands: Sequence[HostArray], lengths: Lengths, reverse: bool, saving: bool) -> Any:
    x, h, weight_ih, weight_hh, bias, bias_hn = map(contiguous, operands)
    layer = _layer(x, h, len(bias), lengths, reverse)
    hs = layer.states(h)
    at_once = layer.steps_forward
    gates = layer.empty(layer.T if saving else min(at_once, layer.T), layer.B, 3, layer.H)
    qs = layer.empty(len(gates), layer.B, layer.H)
    with layer.team() as members:
        gru.forward(
            members, layer.B, weight_ih, weight_hh, *layer.weight_panels(transposed=True),
            bias, bias_hn, x, hs, gates, qs, layer.lengths, int(reverse), at_once,
        )  # fmt: skip
    return (layer.outputs(hs, lengths), layer.last(hs)), (hs, layer.flat(gates), qs) if saving else None


def gru_backward(
    g: Sequence[HostArray],
    operands: Sequence[HostArray],
    saved: Sequence[HostArray],
    lengths: Lengths,
    reverse: bool,
    needs_grad: Sequence[bool],
) -> Gradients:
    x, h, weight_ih, weight_hh, bias, _ = map(contiguous, operands)
    hs, gates, qs = saved
    layer = _layer(x, h, len(bias), lengths, reverse)
    H = layer.H
    g_h = g[1][None].copy()
    of_weights = any(needs_grad[2:])
    g_x, (g_ih, g_hh, g_bias) = layer.gradients(needs_grad[0], of_weights)
    g_bias_h = np.empty_like(g_bias)
    with layer.team() as members:
        gru.backward(
            members, int(reverse), np.roll(weight_ih, H, axis=0), weight_hh, *layer.weight_panels(transposed=False),
            *layer.room_backward(4, of_weights), g_ih, g_hh, g_bias, g_bias_h,
            contiguous(g[0]), g_h, x, hs, layer.by_gate(gates, 3), qs, layer.lengths, g_x,
        )  # fmt: skip
    g_ih, g_bias = np.roll(g_ih, -H, axis=0), np.roll(g_bias, -H)
    return [g_x if needs_grad[0] else None, g_h[0], g_ih, g_hh, g_bias, g_bias_h[2 * H :]]


def gru_stepper(weights: Sequence[HostArray]) -> Step:
    return _stepper(weights, 3, gru.step, 2)


# -- RNN ---------------------------------------------------------------------------------------------------------------


def rnn_forward(operands: Sequence[HostArray], lengths: Lengths, reverse: bool, saving: bool) -> Any:
    x, h, weight_ih, weight_hh, bias = map(contiguous, operands)
    layer = _layer(x, h, len(bias), lengths, reverse)
    hs = layer.states(h)
    at_once = layer.steps_forward
    nets = layer.empty(min(at_once, layer.T), layer.B, layer.H)
    with layer.team() as members:
        rnn.forward(
            members, layer.B, weight_ih, weight_hh, *layer.weight_panels(transposed=True),
            bias, x, hs, nets, layer.lengths, int(reverse), at_once,
        )  # fmt: skip
    return (layer.outputs(hs, lengths), layer.last(hs)), (hs,) if saving else None


def rnn_backward(
    g: Sequence[HostArray],
    operands: Sequence[HostArray],
    saved: Sequence[HostArray],
    lengths: Lengths,
    reverse: bool,
    needs_grad: Sequence[bool],
) -> Gradients:
    x, h, weight_ih, weight_hh, bias = map(contiguous, operands)
    (hs,) = saved
    layer = _layer(x, h, len(bias), lengths, reverse)
    g_h = g[1][None].copy()
    of_weights = any(needs_grad[2:])
    g_x, (g_ih, g_hh, g_bias) = layer.gradients(needs_grad[0], of_weights)
    with layer.team() as members:
        rnn.backward(
            members, int(reverse), weight_ih, weight_hh, *layer.weight_panels(transposed=False),
            *layer.room_backward(1, of_weights), g_ih, g_hh, g_bias,
            contiguous(g[0]), g_h, x, hs, layer.lengths, g_x,
        )  # fmt: skip
    return [g_x if needs_grad[0] else None, g_h[0], g_ih, g_hh, g_bias]


def rnn_stepper(weights: Sequence[HostArray]) -> Step:
    return _stepper(weights, 1, rnn.step, 1)


# -- one step at a time ------------------------------------------------------------------------------------------------


def _stepper(weights: Sequence[HostArray], gates: int, kernel: Callable[..., None], nets: int) -> Step:
    """A step with a kernel, given the numbers of gates and of temporary arrays for the values before the activations.

    Units are divided into blocks of the width of a panel. The gates' weights of a block are adjacent. The states of a
    block depend on no other block's new values, so threads can share the blocks.
    """
    weight_ih, weight_hh, bias, *rest = weights
    H, dtype = weight_hh.shape[1], weight_ih.dtype
    blocks, _, width = panels_shape(0, H, dtype.itemsize)

    def by_blocks(rows: HostArray) -> HostArray:
        padded = np.zeros((gates, blocks * width, *rows.shape[1:]), dtype)
        padded[:, :H] = rows.reshape(gates, H, *rows.shape[1:])
        return np.ascontiguousarray(padded.reshape(gates, blocks, width, *rows.shape[1:]).swapaxes(0, 1))

    def packed(weight: HostArray) -> HostArray:
        rows = by_blocks(weight).reshape(blocks * gates * width, weight.shape[1])
        panels = memory.empty(panels_shape(rows.shape[1], len(rows), dtype.itemsize), dtype)
        with team(1) as members:
            pack_transposed(members, rows, panels)
        return panels

    prepared = packed(weight_ih), packed(weight_hh), by_blocks(bias), *(array.copy() for array in rest)
    threads = 1 + (weight_ih.size + weight_hh.size) // _WEIGHTS_A_THREAD
    room = StepRoom(lambda B: [np.empty((B, blocks, gates, width), dtype) for _ in range(nets)])

    def step(x: HostArray, before: Sequence[HostArray], after: Sequence[HostArray]) -> None:
        with team(threads, brief=True) as members:
            kernel(members, blocks, *map(contiguous, (x, *before)), *after, *room(len(x)), *prepared)

    return step
