"""The compiled GRU, as `lstm.py` has the LSTM.

Arrays are those of `backends/recurrent.py`, with the three gates r, z, n as a dimension: (T, B, 3, H).
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
    gates: Any,
    qs: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias: Any,
    bias_hn: Any,
    lengths: Any,
    reverse: int,
    at_once: int,
) -> None:
    """Rows `first` to before `last` of the states hs, the gates and q = U_n·h + b_hn; the weights are panels of W^T.

    The inputs' products are taken for so many steps `at_once`. If gates has no room for all steps, it has for these.
    """
    T, B, H = x.shape[0], hs.shape[1], hs.shape[2]
    nets = gates.reshape(gates.shape[0], B, 3 * H)
    edge, net = empty_edge(x), np.empty((1, last - first, 3 * H), x.dtype)
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
            product(
                net[0:1, 0 : last - first], hs[before : before + 1, first:last],
                weight_hh[0 : weight_hh.shape[0], 0 : weight_hh.shape[1]], edge, False,
            )  # fmt: skip
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


@jit
def backward_rows(
    first: int,
    last: int,
    begin: int,
    end: int,
    g_out: Any,
    g_h: Any,
    x: Any,
    hs: Any,
    gates: Any,
    qs: Any,
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

    In g_net the gates' order is n, r, z, q: the first three belong to W·x, the last three to U·h, as do the rows of the
    weights, which are panels of W and U. g_h (1, B, H) is that of the states after these steps, and becomes that of the
    states before. Without room for all steps, g_x is left out. The inputs x and h of each step go into panels.
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
        product(
            g_h[0:1, first:last], nets[s : s + 1, first:last, H:],
            weight_hh[0 : weight_hh.shape[0], 0 : weight_hh.shape[1]], edge, True,
        )  # fmt: skip
    if g_x.shape[0]:
        product(
            sheets(g_x, begin, end, first, last), sheets(nets, 0, end - begin, first, last)[0:, 0:, : 3 * H],
            weight_ih[0 : weight_ih.shape[0], 0 : weight_ih.shape[1]], edge, False,
        )  # fmt: skip
