"""The compiled LSTM. A thread takes its rows of the batch through all steps, and needs to wait for no other.

Arrays are those of `backends/recurrent.py`, with the four gates of i, f, g, o as a dimension: (T, B, 4, H).
"""

from typing import Any

import numpy as np

from .functions import sigmoid, tanh
from .jit import jit
from .product import empty_edge, pack_row, product, sheets

__all__ = ["backward_rows", "forward_rows"]


@jit
def forward_rows(
    first: int,
    last: int,
    x: Any,
    hs: Any,
    cs: Any,
    gates: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias: Any,
    lengths: Any,
    reverse: int,
    at_once: int,
) -> None:
    """Rows `first` to before `last` of the states hs and cs and of the gates; the weights are panels of W^T.

    The inputs' products are taken for so many steps `at_once`. If gates has no room for all steps, it has for these.
    """
    T, B, H = x.shape[0], hs.shape[1], hs.shape[2]
    nets = gates.reshape(gates.shape[0], B, 4 * H)
    edge, net = empty_edge(x), np.empty((1, last - first, 4 * H), x.dtype)
    for done in range(0, T, at_once):
        steps = min(at_once, T - done)
        begin = T - done - steps if reverse else done
        place = begin if gates.shape[0] == T else 0
        product(
            sheets(nets, place, place + steps, first, last), sheets(x, begin, begin + steps, first, last),
            weight_ih[0 : weight_ih.shape[0], 0 : weight_ih.shape[1]], edge, False,
        )  # fmt: skip
        for step in range(steps):
            t = begin + steps - 1 - step if reverse else begin + step
            s = t - begin + place
            before, after = t + reverse, t + 1 - reverse
            c_before, c_after = before % cs.shape[0], after % cs.shape[0]
            product(
                net[0:1, 0 : last - first], hs[before : before + 1, first:last],
                weight_hh[0 : weight_hh.shape[0], 0 : weight_hh.shape[1]], edge, False,
            )  # fmt: skip
            for b in range(first, last):
                if t >= lengths[b]:  # a sequence that has ended, or in reverse not begun, keeps its states
                    for j in range(H):
                        hs[after, b, j] = hs[before, b, j]
                    for j in range(H):
                        cs[c_after, b, j] = cs[c_before, b, j]
                    continue
                gate, net_h = nets[s, b], net[0, b - first]
                for j in range(4 * H):
                    gate[j] += net_h[j] + bias[j]
                for j in range(2 * H):
                    gate[j] = sigmoid(gate[j])  # i and f
                for j in range(H):
                    gates[s, b, 2, j] = tanh(gates[s, b, 2, j])
                for j in range(H):
                    gates[s, b, 3, j] = sigmoid(gates[s, b, 3, j])
                for j in range(H):
                    i, f, g = gates[s, b, 0, j], gates[s, b, 1, j], gates[s, b, 2, j]
                    cs[c_after, b, j] = f * cs[c_before, b, j] + i * g
                for j in range(H):
                    hs[after, b, j] = gates[s, b, 3, j] * tanh(cs[c_after, b, j])


@jit
def backward_rows(
    first: int,
    last: int,
    begin: int,
    end: int,
    g_out: Any,
    g_h: Any,
    g_c: Any,
    x: Any,
    hs: Any,
    cs: Any,
    gates: Any,
    weight_ih: Any,
    weight_hh: Any,
    lengths: Any,
    reverse: int,
    g_net: Any,
    g_x: Any,
    x_panels: Any,
    h_panels: Any,
) -> None:
    """Steps `begin` to before `end`, rows `first` to before `last`, of the gradients g_net (steps, B, 4, H) and g_x.

    g_h and g_c (1, B, H) are those of the states after these steps, and become those of the states before. The weights
    are panels of W; without room for all steps, g_x is left out. The inputs x and h of each step go into panels.
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
        product(
            g_h[0:1, first:last], nets[s : s + 1, first:last],
            weight_hh[0 : weight_hh.shape[0], 0 : weight_hh.shape[1]], edge, True,
        )  # fmt: skip
    if g_x.shape[0]:
        product(
            sheets(g_x, begin, end, first, last), sheets(nets, 0, end - begin, first, last),
            weight_ih[0 : weight_ih.shape[0], 0 : weight_ih.shape[1]], edge, False,
        )  # fmt: skip
