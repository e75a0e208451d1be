"""The compiled tanh RNN, as `lstm.py` has the LSTM."""

from typing import Any

import numpy as np

from .functions import tanh
from .jit import jit
from .product import empty_edge, pack_row, product, sheets

__all__ = ["backward_rows", "forward_rows"]


@jit
def forward_rows(
    first: int,
    last: int,
    x: Any,
    hs: Any,
    nets: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias: Any,
    lengths: Any,
    reverse: int,
    at_once: int,
) -> None:
    """Rows `first` to before `last` of the states hs; the weights are panels of W^T.

    The inputs' products are taken for so many steps `at_once`. They go into nets.
    """
    T, H = x.shape[0], hs.shape[2]
    edge, net = empty_edge(x), np.empty((1, last - first, H), x.dtype)
    for done in range(0, T, at_once):
        steps = min(at_once, T - done)
        begin = T - done - steps if reverse else done
        product(
            sheets(nets, 0, steps, first, last), sheets(x, begin, begin + steps, first, last),
            weight_ih[0 : weight_ih.shape[0], 0 : weight_ih.shape[1]], edge, False,
        )  # fmt: skip
        for step in range(steps):
            t = begin + steps - 1 - step if reverse else begin + step
            s = t - begin
            before, after = t + reverse, t + 1 - reverse
            product(
                net[0:1, 0 : last - first], hs[before : before + 1, first:last],
                weight_hh[0 : weight_hh.shape[0], 0 : weight_hh.shape[1]], edge, False,
            )  # fmt: skip
            for b in range(first, last):
                if t >= lengths[b]:  # a sequence that has ended, or in reverse not begun, keeps its state
                    for j in range(H):
                        hs[after, b, j] = hs[before, b, j]
                else:
                    for j in range(H):
                        hs[after, b, j] = tanh(nets[s, b, j] + net[0, b - first, j] + bias[j])


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
    weight_ih: Any,
    weight_hh: Any,
    lengths: Any,
    reverse: int,
    g_net: Any,
    g_x: Any,
    x_panels: Any,
    h_panels: Any,
) -> None:
    """Steps `begin` to before `end`, rows `first` to before `last`, of the gradients g_net (steps, B, 1, H) and g_x.

    g_h (1, B, H) is that of the states after these steps, and becomes that of the states before. The weights
    are panels of W; without room for all steps, g_x is left out. The inputs x and h of each step go into panels.
    """
    B, H = hs.shape[1], hs.shape[2]
    nets = g_net.reshape(g_net.shape[0], B, H)
    edge = empty_edge(x)
    one = x.dtype.type(1)
    for step in range(end - begin):
        t = begin + step if reverse else end - 1 - step
        s = t - begin
        before, after = t + reverse, t + 1 - reverse
        for b in range(first, last):
            pack_row(x[t, b], x_panels, s * B + b)
            pack_row(hs[before, b], h_panels, s * B + b)
            if t >= lengths[b]:
                for j in range(H):
                    nets[s, b, j] = 0
                continue
            for j in range(H):
                h = hs[after, b, j]
                nets[s, b, j] = (g_out[t, b, j] + g_h[0, b, j]) * (one - h * h)
            for j in range(H):
                g_h[0, b, j] = 0
        product(
            g_h[0:1, first:last], nets[s : s + 1, first:last],
            weight_hh[0 : weight_hh.shape[0], 0 : weight_hh.shape[1]], edge, True,
        )  # fmt: skip
    if g_x.shape[0]:
        product(
            sheets(g_x, begin, end, first, last), sheets(nets, 0, end - begin, first, last),
            weight_ih[0 : weight_ih.shape[0], 0 : weight_ih.shape[1]], edge, False,
        )  # fmt: skip
