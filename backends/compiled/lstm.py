"""The compiled LSTM. A thread computes its rows of the batch for all steps, and does not wait for other threads.

Arrays are those of `backends/recurrent/`, with the four gates of i, f, g, o as a dimension: (T, B, 4, H).
"""

from typing import Any

import numpy as np

from .atomics import outlined
from .functions import sigmoid, tanh
from .jit import jit
from .product import add_blocks, empty_edge, pack, pack_row, pack_transposed, product, sheets
from .team import share
from .weights import weight_gradients

__all__ = ["backward", "forward", "step"]


@jit
def _forward_rows(
    first: int,
    last: int,
    ih_panels: Any,
    hh_panels: Any,
    bias: Any,
    x: Any,
    hs: Any,
    cs: Any,
    gates: Any,
    lengths: Any,
    reverse: int,
    at_once: int,
) -> None:
    """The rows [first, last) of the states hs and cs and of the gates, given the states before the first step.

    The weights are panels of W^T. The inputs' products are computed for `at_once` steps at a time. `gates` has room for
    all steps, or for this number.
    """
    T, B, H = x.shape[0], hs.shape[1], hs.shape[2]
    nets = gates.reshape(gates.shape[0], B, 4 * H)
    edge, bias_g, bias_o = empty_edge(x), bias[2 * H : 3 * H], bias[3 * H :]
    for done in range(0, T, at_once):
        steps = min(at_once, T - done)
        begin = T - done - steps if reverse else done
        place = begin if gates.shape[0] == T else 0
        inputs = sheets(x, begin, begin + steps, first, last)
        product(sheets(nets, place, place + steps, first, last), inputs, ih_panels, edge, False)
        for step in range(steps):
            t = begin + steps - 1 - step if reverse else begin + step
            s = t - begin + place
            before, after = t + reverse, t + 1 - reverse
            c_before, c_after = before % cs.shape[0], after % cs.shape[0]
            product(nets[s : s + 1, first:last], hs[before : before + 1, first:last], hh_panels, edge, True)
            for b in range(first, last):
                if t >= lengths[b]:  # a sequence that has ended, or in reverse not begun, keeps its states
                    for j in range(H):
                        hs[after, b, j] = hs[before, b, j]
                    for j in range(H):
                        cs[c_after, b, j] = cs[c_before, b, j]
                    continue
                i_and_f = nets[s, b, : 2 * H]
                for j in range(2 * H):
                    i_and_f[j] = sigmoid(i_and_f[j] + bias[j])
                for j in range(H):
                    gates[s, b, 2, j] = tanh(gates[s, b, 2, j] + bias_g[j])
                for j in range(H):
                    gates[s, b, 3, j] = sigmoid(gates[s, b, 3, j] + bias_o[j])
                for j in range(H):
                    i, f, g = gates[s, b, 0, j], gates[s, b, 1, j], gates[s, b, 2, j]
                    cs[c_after, b, j] = f * cs[c_before, b, j] + i * g
                for j in range(H):
                    hs[after, b, j] = gates[s, b, 3, j] * tanh(cs[c_after, b, j])


_forward_part = outlined(_forward_rows)


@jit
def forward(
    members: Any, B: int, weight_ih: Any, weight_hh: Any, ih_panels: Any, hh_panels: Any, *operands: Any
) -> None:
    """`_forward_rows` for all rows of the batch. The panels are buffers."""
    pack_transposed(members, weight_ih, ih_panels)
    pack_transposed(members, weight_hh, hh_panels)
    share(members, B, _forward_part((ih_panels, hh_panels, *operands)))


@jit
def _backward_rows(
    first: int,
    last: int,
    begin: int,
    end: int,
    reverse: int,
    ih_panels: Any,
    hh_panels: Any,
    g_net: Any,
    x_panels: Any,
    h_panels: Any,
    g_out: Any,
    g_h: Any,
    g_c: Any,
    x: Any,
    hs: Any,
    cs: Any,
    gates: Any,
    lengths: Any,
    g_x: Any,
) -> None:
    """The steps [begin, end) and rows [first, last) of the gradients g_net (steps, B, 4, H) and g_x.

    g_h and g_c (1, B, H) are the gradients of the states after these steps, and become those of the states before. The
    weights are panels of W. If g_x or the panels of the inputs x and h of each step are empty, they are skipped.
    """
    B, H = hs.shape[1], hs.shape[2]
    nets = g_net.reshape(g_net.shape[0], B, 4 * H)
    edge = empty_edge(x)
    d_h, d_c = np.empty(H, x.dtype), np.empty(H, x.dtype)
    for step in range(end - begin):
        t = begin + step if reverse else end - 1 - step
        s = t - begin
        before, after = t + reverse, t + 1 - reverse
        for b in range(first, last):
            if h_panels.shape[1]:
                pack_row(x[t, b], x_panels, s * B + b)
                pack_row(hs[before, b], h_panels, s * B + b)
            if t >= lengths[b]:
                net = nets[s, b]
                for j in range(4 * H):
                    net[j] = 0
                continue
            for j in range(H):
                d_h[j] = g_out[t, b, j] + g_h[0, b, j]
            for j in range(H):
                g_h[0, b, j] = 0
            for j in range(H):
                o, tanh_c = gates[t, b, 3, j], tanh(cs[after, b, j])
                d_c[j] = g_c[0, b, j] + d_h[j] * (o - o * (tanh_c * tanh_c))
                g_net[s, b, 3, j] = d_h[j] * tanh_c * (o - o * o)
            for j in range(H):
                i, g = gates[t, b, 0, j], gates[t, b, 2, j]
                g_net[s, b, 0, j] = d_c[j] * g * (i - i * i)
                g_net[s, b, 2, j] = d_c[j] * (i - i * (g * g))
            for j in range(H):
                f = gates[t, b, 1, j]
                g_net[s, b, 1, j] = d_c[j] * cs[before, b, j] * (f - f * f)
                g_c[0, b, j] = d_c[j] * f
        product(g_h[0:1, first:last], nets[s : s + 1, first:last], hh_panels, edge, True)
    if g_x.shape[0]:
        product(sheets(g_x, begin, end, first, last), sheets(nets, 0, end - begin, first, last), ih_panels, edge, False)


_backward_part = outlined(_backward_rows)


@jit
def backward(
    members: Any,
    reverse: int,
    weight_ih: Any,
    weight_hh: Any,
    ih_panels: Any,
    hh_panels: Any,
    g_net: Any,
    x_panels: Any,
    h_panels: Any,
    g_ih: Any,
    g_hh: Any,
    g_bias: Any,
    g_out: Any,
    *operands: Any,
) -> None:
    """`_backward_rows` for all rows and steps, and the gradients of the weights and the bias.

    Panels are buffers for the number of steps of g_net. After these steps the weights' gradients are computed from the
    gates', unless they are empty.
    """
    pack(members, weight_ih, ih_panels)
    pack(members, weight_hh, hh_panels)
    T, B, H = g_out.shape
    steps = len(g_net)
    nets = g_net.reshape(steps * B, 4 * H)
    for done in range(0, T, steps):
        number = min(steps, T - done)
        begin = done if reverse else T - done - number
        steps_and_room = (begin, begin + number, reverse, ih_panels, hh_panels, g_net, x_panels, h_panels)
        share(members, B, _backward_part((*steps_and_room, g_out, *operands)))
        if len(g_bias):
            net = nets[: number * B]
            weight_gradients(members, len(g_bias), net, 0, x_panels, h_panels, g_ih, g_hh, g_bias, done > 0)


@jit
def _step_blocks(
    first: int,
    last: int,
    x: Any,
    h: Any,
    c: Any,
    new_h: Any,
    new_c: Any,
    net: Any,
    ih_panels: Any,
    hh_panels: Any,
    bias: Any,
) -> None:
    """One step: the blocks [first, last) of the states new_h and new_c.

    The weights are panels by blocks of units, like the bias; net (B, blocks, gates, width) is a buffer.
    """
    B, H = h.shape
    width = net.shape[3]
    add_blocks(first, last, x, ih_panels, net, False)
    add_blocks(first, last, h, hh_panels, net, True)
    for b in range(B):
        for block in range(first, last):
            gate, add, start, end = net[b, block], bias[block], block * width, min(block * width + width, H)
            for j in range(width):
                gate[0, j] = sigmoid(gate[0, j] + add[0, j])
            for j in range(width):
                gate[1, j] = sigmoid(gate[1, j] + add[1, j])
            for j in range(width):
                gate[2, j] = tanh(gate[2, j] + add[2, j])
            for j in range(width):
                gate[3, j] = sigmoid(gate[3, j] + add[3, j])
            c_row, new_c_row, new_h_row = c[b, start:end], new_c[b, start:end], new_h[b, start:end]
            for j in range(end - start):
                new_c_row[j] = gate[1, j] * c_row[j] + gate[0, j] * gate[2, j]
            for j in range(end - start):
                new_h_row[j] = gate[3, j] * tanh(new_c_row[j])


_step_part = outlined(_step_blocks)


@jit
def step(members: Any, blocks: int, *operands: Any) -> None:
    """`_step_blocks` for all blocks of units."""
    share(members, blocks, _step_part(operands))
