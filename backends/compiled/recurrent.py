"""Recurrent layers by compiled kernels: memory, packed weights, and the parts in which threads share the work.

Functions are those of `backends/recurrent.py`, with the same operands, outputs and saved arrays. What a thread computes
does not depend on how many there are: results are the same to the bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import memory
from ..base import HostArray
from ..recurrent import Gradients, Lengths, Step, chunks, first_and_last, going, room_for_states, states, where_going
from ..threads import in_parts, keep_blas_to_one_thread, number_of_threads
from . import gru, lstm, rnn
from .product import pack, pack_transposed, panels_shape
from .weights import weight_rows

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

_WORTH_A_THREAD = 3e7  # floating-point operations: a tenth of a millisecond or so
_WORTH_PACKING_IN_PARTS = 200_000  # elements
_AT_ONCE_BYTES = 512 * 1024  # of gates, whose inputs' products are taken before the steps: they stay in the cache
_BACKWARD_ROWS, _BACKWARD_BYTES = 512, 8 * 1024 * 1024  # of gates' gradients, that are turned into weights' at once


def _parts(operations: float) -> int:
    """How many threads share so much work; the BLAS's do not get in their way."""
    parts = max(1, min(number_of_threads(), int(operations / _WORTH_A_THREAD)))
    if parts > 1:
        keep_blas_to_one_thread()
    return parts


def _packed(weight: HostArray) -> HostArray:
    """The panels of a weight."""
    panels = _empty_panels(weight.shape[0], weight.shape[1], weight.dtype)
    in_parts(len(weight), _packing_parts(weight), pack, weight, panels)
    return panels


def _packed_transpose(weight: HostArray) -> HostArray:
    """The panels of a weight's transpose."""
    panels = _empty_panels(weight.shape[1], weight.shape[0], weight.dtype)
    in_parts(len(panels), _packing_parts(weight), pack_transposed, weight, panels)
    return panels


def _packing_parts(weight: HostArray) -> int:
    return number_of_threads() if weight.size > _WORTH_PACKING_IN_PARTS else 1


def _empty_panels(rows: int, columns: int, dtype: Any) -> HostArray:
    return memory.empty(panels_shape(rows, columns, dtype.itemsize), dtype)


def _states(T: int, initial: HostArray, reverse: bool, kept: int | None = None) -> HostArray:
    hs = memory.empty((kept or T + 1, *initial.shape), initial.dtype)
    hs[first_and_last(T, reverse)[0] % len(hs)] = initial
    return hs


@dataclass(frozen=True)
class _Layer:
    """The sizes of a layer, `net` numbers a row and step before its gates; and how many threads share the work."""

    T: int
    B: int
    I: int
    H: int
    net: int
    dtype: np.dtype[Any]
    reverse: bool
    lengths: HostArray
    parts: int

    @property
    def steps_forward(self) -> int:
        """How many steps' inputs are multiplied at once."""
        row_bytes = -(-self.B // self.parts) * self.net * self.dtype.itemsize
        return max(4, _AT_ONCE_BYTES // max(row_bytes, 1))

    @property
    def steps_backward(self) -> int:
        """After how many steps their gates' gradients are turned into the weights'."""
        rows = max(self.B, 1)
        fitting = _BACKWARD_BYTES // (rows * self.net * self.dtype.itemsize)
        return max(1, _BACKWARD_ROWS // rows, min(-(-self.T // 2), fitting))

    def empty(self, *shape: int) -> HostArray:
        """An array with arbitrary contents."""
        return memory.empty(shape, self.dtype)

    def states(self, initial: HostArray, kept: int | None = None) -> HostArray:
        """Room for the states, as `room_for_states` makes it."""
        hs: HostArray = room_for_states(memory.empty, self.T, initial, self.reverse, kept)
        return hs

    def last(self, hs: HostArray) -> HostArray:
        """A copy of the states after the last step."""
        last: HostArray = hs[first_and_last(self.T, self.reverse)[1] % len(hs)].copy()
        return last

    def outputs(self, hs: HostArray, lengths: Lengths) -> HostArray:
        """The states after each step, zero where a sequence is not going."""
        after = states(hs, self.reverse, after=True)
        out: HostArray = where_going(np, after, None if lengths is None else going(lengths, self.T))
        return out


def _layer(x: HostArray, h: HostArray, net: int, lengths: Lengths, reverse: bool) -> _Layer:
    T, B, I = x.shape
    H = h.shape[1]
    all_lengths = np.full(B, T, np.int64) if lengths is None else lengths
    return _Layer(T, B, I, H, net, x.dtype, reverse, all_lengths, _parts(2.0 * T * B * net * (I + H)))


def _contiguous(arrays: Sequence[HostArray]) -> list[HostArray]:
    return [np.ascontiguousarray(array) for array in arrays]


@dataclass(frozen=True)
class _Target:
    """Gradients to be made of the columns of the gates' gradients from `column` on; empty arrays are left out."""

    column: int
    g_ih: HostArray
    g_hh: HostArray
    g_bias: HostArray


def _backward(
    layer: _Layer,
    gates: int,
    kernel: Callable[..., None],
    arguments: Sequence[Any],
    g_x: HostArray,
    targets: list[_Target],
) -> None:
    """Runs a kernel over the steps, the last computed first.

    After each so many steps the gradients of the gates (steps, B, gates, H) are turned into those of the weights.
    """
    at_once = min(layer.steps_backward, layer.T)
    g_net = layer.empty(at_once, layer.B, gates, layer.H)
    flat = g_net.reshape(at_once * layer.B, gates * layer.H)
    for k, now in enumerate(chunks(layer.T, at_once, not layer.reverse)):
        rows = (now.stop - now.start) * layer.B
        x_panels = _empty_panels(rows, layer.I, layer.dtype)
        h_panels = _empty_panels(rows, layer.H, layer.dtype)
        in_parts(layer.B, layer.parts, kernel, now.start, now.stop, *arguments, g_net, g_x, x_panels, h_panels)
        for target in targets:
            in_parts(
                len(target.g_bias), layer.parts, weight_rows, flat, rows, target.column,
                x_panels if target.g_ih.size else x_panels[:0], h_panels if target.g_hh.size else h_panels[:0],
                target.g_ih, target.g_hh, target.g_bias, k > 0,
            )  # fmt: skip


def _stepper(
    weights: Sequence[HostArray], count: int, kernel: Callable[..., None], buffers: Sequence[tuple[int, ...]]
) -> Step:
    """A step by a kernel for sequences, given how many states there are, and the sizes of what else it writes."""
    weight_ih, weight_hh, *biases = (np.ascontiguousarray(weight) for weight in weights)
    H, dtype = weight_hh.shape[1], weight_ih.dtype
    packed = _packed_transpose(weight_ih), _packed_transpose(weight_hh), *biases
    scratch: list[HostArray] = []
    lengths = np.empty(0, np.int64)

    def step(x: HostArray, before: Sequence[HostArray], after: Sequence[HostArray]) -> None:
        nonlocal scratch, lengths
        B = len(x)
        if len(lengths) != B or not scratch:
            scratch = [np.empty((2, B, H), dtype) for _ in range(count)]
            scratch += [np.empty((1, B, *sizes), dtype) for sizes in buffers]
            lengths = np.ones(B, np.int64)
        for hs, h in zip(scratch, before):
            hs[0] = h
        kernel(0, B, x[None], *scratch, *packed, lengths, 0, 1)
        for hs, h in zip(scratch, after):
            h[...] = hs[1]

    return step


# -- LSTM --------------------------------------------------------------------------------------------------------------


def lstm_forward(operands: Sequence[HostArray], lengths: Lengths, reverse: bool, saving: bool) -> Any:
    x, h, c, weight_ih, weight_hh, bias = _contiguous(operands)
    layer = _layer(x, h, len(bias), lengths, reverse)
    hs, cs = layer.states(h), layer.states(c, None if saving else 2)
    at_once = layer.steps_forward
    gates = layer.empty(layer.T if saving else min(at_once, layer.T), layer.B, 4, layer.H)
    in_parts(
        layer.B, layer.parts, lstm.forward_rows, x, hs, cs, gates,
        _packed_transpose(weight_ih), _packed_transpose(weight_hh), bias,
        layer.lengths, int(reverse), at_once,
    )  # fmt: skip
    return (layer.outputs(hs, lengths), layer.last(hs), layer.last(cs)), (hs, cs, gates) if saving else None


def lstm_backward(
    g: Sequence[HostArray],
    operands: Sequence[HostArray],
    saved: Sequence[HostArray],
    lengths: Lengths,
    reverse: bool,
    wanted: Sequence[bool],
) -> Gradients:
    x, h, _, weight_ih, weight_hh, bias = _contiguous(operands)
    hs, cs, gates = saved
    layer = _layer(x, h, len(bias), lengths, reverse)
    g_h, g_c = g[1][None].copy(), g[2][None].copy()
    g_x = layer.empty(layer.T if wanted[0] else 0, layer.B, layer.I)
    g_ih, g_hh = layer.empty(*weight_ih.shape), layer.empty(*weight_hh.shape)
    g_bias = np.empty_like(bias)
    _backward(
        layer, 4, lstm.backward_rows,
        [np.ascontiguousarray(g[0]), g_h, g_c, x, hs, cs, gates, _packed(weight_ih), _packed(weight_hh),
         layer.lengths, int(reverse)],
        g_x, [_Target(0, g_ih, g_hh, g_bias)] if any(wanted[3:]) else [],
    )  # fmt: skip
    return [g_x if wanted[0] else None, g_h[0], g_c[0], g_ih, g_hh, g_bias]


def lstm_stepper(weights: Sequence[HostArray]) -> Step:
    return _stepper(weights, 2, lstm.forward_rows, [(4, weights[1].shape[1])])


# -- GRU ---------------------------------------------------------------------------------------------------------------


def gru_forward(operands: Sequence[HostArray], lengths: Lengths, reverse: bool, saving: bool) -> Any:
    x, h, weight_ih, weight_hh, bias, bias_hn = _contiguous(operands)
    layer = _layer(x, h, len(bias), lengths, reverse)
    hs = layer.states(h)
    at_once = layer.steps_forward
    gates = layer.empty(layer.T if saving else min(at_once, layer.T), layer.B, 3, layer.H)
    qs = layer.empty(len(gates), layer.B, layer.H)
    in_parts(
        layer.B, layer.parts, gru.forward_rows, x, hs, gates, qs,
        _packed_transpose(weight_ih), _packed_transpose(weight_hh), bias,
        bias_hn, layer.lengths, int(reverse), at_once,
    )  # fmt: skip
    return (layer.outputs(hs, lengths), layer.last(hs)), (hs, gates, qs) if saving else None


def gru_backward(
    g: Sequence[HostArray],
    operands: Sequence[HostArray],
    saved: Sequence[HostArray],
    lengths: Lengths,
    reverse: bool,
    wanted: Sequence[bool],
) -> Gradients:
    x, h, weight_ih, weight_hh, bias, _ = _contiguous(operands)
    hs, gates, qs = saved
    layer = _layer(x, h, len(bias), lengths, reverse)
    H = layer.H
    g_h = g[1][None].copy()
    g_x = layer.empty(layer.T if wanted[0] else 0, layer.B, layer.I)
    g_ih, g_hh = layer.empty(*weight_ih.shape), layer.empty(*weight_hh.shape)
    g_bias, g_bias_h = np.empty_like(bias), np.empty_like(bias)
    # The gates' gradients lie in the order n, r, z, q: the first three are those of W·x, the last three of U·h.
    targets = [_Target(0, g_ih, g_hh[:, :0], g_bias), _Target(H, g_ih[:, :0], g_hh, g_bias_h)]
    _backward(
        layer, 4, gru.backward_rows,
        [np.ascontiguousarray(g[0]), g_h, x, hs, gates, qs, _packed(np.roll(weight_ih, H, axis=0)), _packed(weight_hh),
         layer.lengths, int(reverse)],
        g_x, targets if any(wanted[2:]) else [],
    )  # fmt: skip
    g_ih, g_bias = np.roll(g_ih, -H, axis=0), np.roll(g_bias, -H)
    return [g_x if wanted[0] else None, g_h[0], g_ih, g_hh, g_bias, g_bias_h[2 * H :]]


def gru_stepper(weights: Sequence[HostArray]) -> Step:
    H = weights[1].shape[1]
    return _stepper(weights, 1, gru.forward_rows, [(3, H), (H,)])


# -- RNN ---------------------------------------------------------------------------------------------------------------


def rnn_forward(operands: Sequence[HostArray], lengths: Lengths, reverse: bool, saving: bool) -> Any:
    x, h, weight_ih, weight_hh, bias = _contiguous(operands)
    layer = _layer(x, h, len(bias), lengths, reverse)
    hs = layer.states(h)
    at_once = layer.steps_forward
    nets = layer.empty(min(at_once, layer.T), layer.B, layer.H)
    in_parts(
        layer.B, layer.parts, rnn.forward_rows, x, hs, nets,
        _packed_transpose(weight_ih), _packed_transpose(weight_hh), bias,
        layer.lengths, int(reverse), at_once,
    )  # fmt: skip
    return (layer.outputs(hs, lengths), layer.last(hs)), (hs,) if saving else None


def rnn_backward(
    g: Sequence[HostArray],
    operands: Sequence[HostArray],
    saved: Sequence[HostArray],
    lengths: Lengths,
    reverse: bool,
    wanted: Sequence[bool],
) -> Gradients:
    x, h, weight_ih, weight_hh, bias = _contiguous(operands)
    (hs,) = saved
    layer = _layer(x, h, len(bias), lengths, reverse)
    g_h = g[1][None].copy()
    g_x = layer.empty(layer.T if wanted[0] else 0, layer.B, layer.I)
    g_ih, g_hh = layer.empty(*weight_ih.shape), layer.empty(*weight_hh.shape)
    g_bias = np.empty_like(bias)
    _backward(
        layer, 1, rnn.backward_rows,
        [np.ascontiguousarray(g[0]), g_h, x, hs, _packed(weight_ih), _packed(weight_hh), layer.lengths, int(reverse)],
        g_x, [_Target(0, g_ih, g_hh, g_bias)] if any(wanted[2:]) else [],
    )  # fmt: skip
    return [g_x if wanted[0] else None, g_h[0], g_ih, g_hh, g_bias]


def rnn_stepper(weights: Sequence[HostArray]) -> Step:
    return _stepper(weights, 1, rnn.forward_rows, [(weights[1].shape[1],)])
