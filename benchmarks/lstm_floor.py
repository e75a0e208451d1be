"""The floor under all sides of `lstm.py`: the matrix products that its tasks cannot do without.

Through NumPy, into arrays made before, and nothing else. There are no results to compare.
"""

from __future__ import annotations

import numpy as np
from harness import Case
from lstm_data import Arrays, Sizes


def products_forward(sizes: Sizes) -> Case:
    T, B, I, H = sizes
    arrays = Arrays(sizes)
    x, hs = arrays.x.reshape(T * B, I), arrays.g_out  # any states will do
    # For a small product OpenBLAS takes up to twice as long if it has to transpose the weights each time.
    weight_ih, weight_hh = arrays.weight_ih.T, np.ascontiguousarray(arrays.weight_hh.T)
    net_x, net_h = np.empty((T * B, 4 * H), np.float32), np.empty((B, 4 * H), np.float32)

    def call() -> None:
        np.matmul(x, weight_ih, out=net_x)
        for h in hs:
            np.matmul(h, weight_hh, out=net_h)

    return Case(call)


def products_backward(sizes: Sizes) -> Case:
    T, B, I, H = sizes
    arrays = Arrays(sizes)
    forward = products_forward(sizes).call
    x, hs = arrays.x.reshape(T * B, I), arrays.g_out.reshape(T * B, H)
    g_nets = np.random.default_rng(2).standard_normal((T, B, 4 * H), np.float32)
    g_net = g_nets.reshape(T * B, 4 * H)
    g_h, g_x = np.empty((B, H), np.float32), np.empty_like(x)
    g_weight_ih, g_weight_hh = np.empty_like(arrays.weight_ih), np.empty_like(arrays.weight_hh)

    def call() -> None:
        forward()
        for g in g_nets[::-1]:
            np.matmul(g, arrays.weight_hh, out=g_h)
        np.matmul(g_net, arrays.weight_ih, out=g_x)
        np.matmul(g_net.T, x, out=g_weight_ih)
        np.matmul(g_net.T, hs, out=g_weight_hh)

    return Case(call)
