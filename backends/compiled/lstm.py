"""The compiled LSTM: a thread takes its rows of the batch through all steps."""

from typing import Any

import numpy as np

from .functions import sigmoid, tanh
from .jit import jit
from .product import empty_edge, pack_row, product
from .tile import TILE_ROWS

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
    chunk: int,
) -> None:
    """The rows from `first` to before `last` of hs, cs and gates; weights are the panels of W^T."""
    T, H = x.shape[0], hs.shape[2]
    edge, net = empty_edge(x), np.empty((1, last - first, 4 * H), x.dtype)
    for done in range(0, T, chunk):
        steps = min(chunk, T - done)
        begin = T - done - steps if reverse else done
        base = begin if gates.shape[0] < T else 0  # without a place for each step, gates has one for each of a chunk
        product(
            gates[begin - base : begin - base + steps, first:last],
            x[begin : begin + steps, first:last],
            weight_ih[0 : weight_ih.shape[0], 0 : weight_ih.shape[1]],
            edge,
            False,
        )
        for step in range(steps):
            t = begin + steps - 1 - step if reverse else begin + step
            before, after = t + reverse, t + 1 - reverse
            product(
                net[0:1, 0 : last - first],
                hs[before : before + 1, first:last],
                weight_hh[0 : weight_hh.shape[0], 0 : weight_hh.shape[1]],
                edge,
                False,
            )
            for b in range(first, last):
                h, c = hs[after, b], cs[after % cs.shape[0], b]
                h_before, c_before = hs[before, b], cs[before % cs.shape[0], b]
                if t < lengths[b]:
                    gate, net_h = gates[t - base, b], net[0, b - first]
                    for j in range(4 * H):
                        gate[j] += net_h[j] + bias[j]
                    i, f, g, o = gate[:H], gate[H : 2 * H], gate[2 * H : 3 * H], gate[3 * H :]
                    for j in range(2 * H):
                        gate[j] = sigmoid(gate[j])  # i and f
                    for j in range(H):
                        g[j] = tanh(g[j])
                    for j in range(H):
                        o[j] = sigmoid(o[j])
                    for j in range(H):
                        c[j] = f[j] * c_before[j] + i[j] * g[j]
                    for j in range(H):
                        h[j] = o[j] * tanh(c[j])
                else:
                    for j in range(H):
                        h[j] = h_before[j]
                    for j in range(H):
                        c[j] = c_before[j]


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
    T, B, H = x.shape[0], x.shape[1], hs.shape[2]
    sheets = g_net.reshape(g_net.shape[0], B, 4 * H)
    edge = empty_edge(x)
    g_h_sheet = g_h.reshape(1, B, H)
    dh, dc = np.empty(H, x.dtype), np.empty(H, x.dtype)
    for step in range(end - begin):
        t = begin + step if reverse else end - 1 - step
        before, after = t + reverse, t + 1 - reverse
        for b in range(first, last):
            row = (t - begin) * B + b
            pack_row(x[t, b], x_panels, row)
            pack_row(hs[before, b], h_panels, row)
            s = t - begin
            if t < lengths[b]:
                for j in range(H):
                    dh[j] = g_out[t, b, j] + g_h[b, j]
                for j in range(H):
                    g_h[b, j] = 0
                for j in range(H):
                    o = gates[t, b, 3, j]
                    th = tanh(cs[after, b, j])
                    dc[j] = g_c[b, j] + dh[j] * (o - o * (th * th))
                    g_net[s, b, 3, j] = dh[j] * th * (o - o * o)
                for j in range(H):
                    i, g = gates[t, b, 0, j], gates[t, b, 2, j]
                    g_net[s, b, 0, j] = dc[j] * g * (i - i * i)
                    g_net[s, b, 2, j] = dc[j] * (i - i * (g * g))
                for j in range(H):
                    f = gates[t, b, 1, j]
                    g_net[s, b, 1, j] = dc[j] * cs[before, b, j] * (f - f * f)
                    g_c[b, j] = dc[j] * f
            else:
                for k in range(4):
                    for j in range(H):
                        g_net[s, b, k, j] = 0
        product(
            g_h_sheet[0:1, first:last],
            sheets[t - begin : t - begin + 1, first:last],
            weight_hh[0 : weight_hh.shape[0], 0 : weight_hh.shape[1]],
            edge,
            True,
        )
    if g_x.shape[0]:
        product(
            g_x[begin:end, first:last],
            sheets[0 : end - begin, first:last],
            weight_ih[0 : weight_ih.shape[0], 0 : weight_ih.shape[1]],
            edge,
            False,
        )


@jit
def pack_tiles(g_net, begin, end, row, number, height, tiles):
    for k in range(begin, end):
        for tile in range(number):
            part = g_net[k, row + tile * height : row + (tile + 1) * height]
            into = tiles[tile, k - begin]
            if height == TILE_ROWS:
                for q in range(TILE_ROWS):
                    into[q] = part[q]
            else:
                for q in range(height):
                    into[q] = part[q]


@jit
def weight_rows(
    first: int,
    last: int,
    g_net: Any,
    K: int,
    x_panels: Any,
    h_panels: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias: Any,
    accumulate: bool,
) -> None:
    """Adds to rows of the weights and the bias."""
    edge = empty_edge(g_net)
    at_once, deep = 8, 512
    tiles = np.empty((at_once, deep, TILE_ROWS), g_net.dtype)
    if not accumulate:
        bias[first:last] = 0
    part = bias[first:last]
    for k in range(0, K - K % 8, 8):
        r0, r1, r2, r3 = (
            g_net[k, first:last],
            g_net[k + 1, first:last],
            g_net[k + 2, first:last],
            g_net[k + 3, first:last],
        )
        r4, r5, r6, r7 = (
            g_net[k + 4, first:last],
            g_net[k + 5, first:last],
            g_net[k + 6, first:last],
            g_net[k + 7, first:last],
        )
        for j in range(last - first):
            part[j] += ((r0[j] + r1[j]) + (r2[j] + r3[j])) + ((r4[j] + r5[j]) + (r6[j] + r7[j]))
    for k in range(K - K % 8, K):
        r0 = g_net[k, first:last]
        for j in range(last - first):
            part[j] += r0[j]
    for begin in range(0, K, deep):
        end = min(K, begin + deep)
        adding = accumulate or begin > 0
        row = first
        while row < last:
            height = TILE_ROWS if last - row >= TILE_ROWS else last - row
            number = min(at_once, (last - row) // height)
            pack_tiles(g_net, begin, end, row, number, height, tiles)
            rows = number * height
            a = tiles[0:number, 0 : end - begin].transpose(0, 2, 1)[0:number, 0:height]
            product(
                weight_ih[row : row + rows].reshape(number, height, weight_ih.shape[1])[0:number, 0:height],
                a,
                x_panels[0 : x_panels.shape[0], begin:end],
                edge,
                adding,
            )
            product(
                weight_hh[row : row + rows].reshape(number, height, weight_hh.shape[1])[0:number, 0:height],
                a,
                h_panels[0 : h_panels.shape[0], begin:end],
                edge,
                adding,
            )
            row += rows
