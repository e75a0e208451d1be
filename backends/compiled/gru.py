"""The compiled GRU, like the LSTM in `lstm.py`.

Arrays are those of `backends/recurrent/`, with the three gates r, z, n as a dimension: (T, B, 3, H).
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
    bias_hn: Any,
    x: Any,
    hs: Any,
    gates: Any,
    qs: Any,
    lengths: Any,
    reverse: int,
    at_once: int,
) -> None:
    """The rows [first, last) of the states hs, the gates, and q = U_n·h + b_hn, given hs before the first step.

    The weights are panels of W^T. The inputs' products are computed for `at_once` steps at a time. `gates` has room for
    all steps, or for this number.
    """
    T, B, H = x.shape[0], hs.shape[1], hs.shape[2]
    nets = gates.reshape(gates.shape[0], B, 3 * H)
    edge, net = empty_edge(x), np.empty((1, last - first, 3 * H), x.dtype)
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
            product(net, hs[before : before + 1, first:last], hh_panels, edge, False)
            for b in range(first, last):
                if t >= lengths[b]:  # a sequence that has ended, or in reverse not begun, keeps its state
                    for j in range(H):
                        hs[after, b, j] = hs[before, b, j]
                    continue
                gate, net_h = nets[s, b], net[0, b - first]
                for j in range(2 * H):
                    gate[j] = sigmoid(gate[j] + net_h[j] + bias[j])  # r and z
                n_h, n_bias = net_h[2 * H :], bias[2 * H :]
                for j in range(H):
                    qs[s, b, j] = n_h[j] + bias_hn[j]
                for j in range(H):
                    gates[s, b, 2, j] = tanh(gates[s, b, 2, j] + n_bias[j] + gates[s, b, 0, j] * qs[s, b, j])
                for j in range(H):
                    n = gates[s, b, 2, j]
                    hs[after, b, j] = n + gates[s, b, 1, j] * (hs[before, b, j] - n)


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
    x: Any,
    hs: Any,
    gates: Any,
    qs: Any,
    lengths: Any,
    g_x: Any,
) -> None:
    """The steps [begin, end) and rows [first, last) of the gradients g_net (steps, B, 4, H) and g_x.

    In g_net the gates' order is n, r, z, q: the first three belong to W·x, the last three to U·h. The weights are
    panels of W and U with rows in this order. g_h (1, B, H) is the gradient of the states after these steps, and
    becomes that of the states before. Empty g_x, or panels of the inputs x and h of each step, are skipped.
    """
    B, H = hs.shape[1], hs.shape[2]
    nets = g_net.reshape(g_net.shape[0], B, 4 * H)
    edge = empty_edge(x)
    d_h, d_n, one = np.empty(H, x.dtype), np.empty(H, x.dtype), x.dtype.type(1)
    for step in range(end - begin):
        t = begin + step if reverse else end - 1 - step
        s = t - begin
        before = t + reverse
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
                z, n = gates[t, b, 1, j], gates[t, b, 2, j]
                g_net[s, b, 2, j] = d_h[j] * (hs[before, b, j] - n) * (z - z * z)
                g_h[0, b, j] = d_h[j] * z
                d_n[j] = (d_h[j] - d_h[j] * z) * (one - n * n)
            for j in range(H):
                r = gates[t, b, 0, j]
                g_net[s, b, 0, j] = d_n[j]
                g_net[s, b, 1, j] = d_n[j] * qs[t, b, j] * (r - r * r)
                g_net[s, b, 3, j] = d_n[j] * r
        product(g_h[0:1, first:last], nets[s : s + 1, first:last, H:], hh_panels, edge, True)
    if g_x.shape[0]:
        of_x = sheets(nets, 0, end - begin, first, last)[:, :, : 3 * H]
        product(sheets(g_x, begin, end, first, last), of_x, ih_panels, edge, False)


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
    g_bias_h: Any,
    g_out: Any,
    *operands: Any,
) -> None:
    """`_backward_rows` for all rows and steps, and the gradients of the weights and biases.

    The rows for x are in the order n, r, z; those for h are in the order r, z, q. Panels are buffers for the number of
    steps of g_net. After these steps the weights' gradients are computed from the gates', unless they are empty.
    """
    pack(members, weight_ih, ih_panels)
    pack(members, weight_hh, hh_panels)
    T, B, H = g_out.shape
    steps, nothing = len(g_net), g_ih[:, :0].copy()
    nets = g_net.reshape(steps * B, 4 * H)
    for done in range(0, T, steps):
        number = min(steps, T - done)
        begin = done if reverse else T - done - number
        steps_and_room = (begin, begin + number, reverse, ih_panels, hh_panels, g_net, x_panels, h_panels)
        share(members, B, _backward_part((*steps_and_room, g_out, *operands)))
        if len(g_bias):
            net = nets[: number * B]
            weight_gradients(members, len(g_bias), net, 0, x_panels, h_panels[:0], g_ih, nothing, g_bias, done > 0)
            weight_gradients(members, len(g_bias), net, H, x_panels[:0], h_panels, nothing, g_hh, g_bias_h, done > 0)


@jit
def _step_blocks(
    first: int,
    last: int,
    x: Any,
    h: Any,
    new_h: Any,
    net: Any,
    net_h: Any,
    ih_panels: Any,
    hh_panels: Any,
    bias: Any,
    bias_hn: Any,
) -> None:
    """One step: the blocks [first, last) of the state new_h.

    The weights are panels by blocks of units, like the bias; net (B, blocks, gates, width) is a buffer.
    """
    B, H = h.shape
    width = net.shape[3]
    add_blocks(first, last, x, ih_panels, net, False)
    add_blocks(first, last, h, hh_panels, net_h, False)
    for b in range(B):
        for block in range(first, last):
            gate, gate_h, add = net[b, block], net_h[b, block], bias[block]
            start, end = block * width, min(block * width + width, H)
            h_row, new_h_row, add_q = h[b, start:end], new_h[b, start:end], bias_hn[start:end]
            for j in range(width):
                gate[0, j] = sigmoid(gate[0, j] + gate_h[0, j] + add[0, j])
            for j in range(width):
                gate[1, j] = sigmoid(gate[1, j] + gate_h[1, j] + add[1, j])
            for j in range(end - start):
                gate[2, j] = tanh(gate[2, j] + add[2, j] + gate[0, j] * (gate_h[2, j] + add_q[j]))
            for j in range(end - start):
                new_h_row[j] = gate[2, j] + gate[1, j] * (h_row[j] - gate[2, j])


_step_part = outlined(_step_blocks)


@jit
def step(members: Any, blocks: int, *operands: Any) -> None:
    """`_step_blocks` for all blocks of units."""
    share(members, blocks, _step_part(operands))
