"""The compiled tanh RNN, as `lstm.py` has the LSTM."""

from typing import Any

from .atomics import outlined
from .functions import tanh
from .jit import jit
from .product import add_blocks, empty_edge, pack, pack_row, pack_transposed, product, sheets
from .team import share
from .weights import weight_gradients

__all__ = ["backward", "forward", "step"]


@jit
def _forward_rows(
    first: int,
    last: int,
    x: Any,
    hs: Any,
    nets: Any,
    ih_panels: Any,
    hh_panels: Any,
    bias: Any,
    lengths: Any,
    reverse: int,
    at_once: int,
) -> None:
    """Rows `first` to before `last` of what `forward` computes."""
    T, H = x.shape[0], hs.shape[2]
    edge = empty_edge(x)
    for done in range(0, T, at_once):
        steps = min(at_once, T - done)
        begin = T - done - steps if reverse else done
        inputs = sheets(x, begin, begin + steps, first, last)
        product(sheets(nets, 0, steps, first, last), inputs, ih_panels, edge, False)
        for step in range(steps):
            t = begin + steps - 1 - step if reverse else begin + step
            s = t - begin
            before, after = t + reverse, t + 1 - reverse
            product(nets[s : s + 1, first:last], hs[before : before + 1, first:last], hh_panels, edge, True)
            for b in range(first, last):
                if t >= lengths[b]:  # a sequence that has ended, or in reverse not begun, keeps its state
                    for j in range(H):
                        hs[after, b, j] = hs[before, b, j]
                else:
                    for j in range(H):
                        hs[after, b, j] = tanh(nets[s, b, j] + bias[j])


_forward_part = outlined(_forward_rows)


@jit
def forward(
    team: Any,
    x: Any,
    hs: Any,
    nets: Any,
    weight_ih: Any,
    weight_hh: Any,
    ih_panels: Any,
    hh_panels: Any,
    bias: Any,
    lengths: Any,
    reverse: int,
    at_once: int,
) -> None:
    """The states hs, of those before the first step; the panels are room for W^T.

    The inputs' products are taken for so many steps `at_once`, and go into nets.
    """
    pack_transposed(team, weight_ih, ih_panels)
    pack_transposed(team, weight_hh, hh_panels)
    job = _forward_part((x, hs, nets, ih_panels, hh_panels, bias, lengths, reverse, at_once))
    share(team, hs.shape[1], job)


@jit
def _backward_rows(
    first: int,
    last: int,
    begin: int,
    end: int,
    g_out: Any,
    g_h: Any,
    x: Any,
    hs: Any,
    ih_panels: Any,
    hh_panels: Any,
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
        product(g_h[0:1, first:last], nets[s : s + 1, first:last], hh_panels, edge, True)
    if g_x.shape[0]:
        product(sheets(g_x, begin, end, first, last), sheets(nets, 0, end - begin, first, last), ih_panels, edge, False)


_backward_part = outlined(_backward_rows)


@jit
def backward(
    team: Any,
    g_out: Any,
    g_h: Any,
    x: Any,
    hs: Any,
    weight_ih: Any,
    weight_hh: Any,
    ih_panels: Any,
    hh_panels: Any,
    lengths: Any,
    reverse: int,
    g_net: Any,
    x_panels: Any,
    h_panels: Any,
    g_x: Any,
    g_ih: Any,
    g_hh: Any,
    g_bias: Any,
) -> None:
    """As that of the LSTM."""
    pack(team, weight_ih, ih_panels)
    pack(team, weight_hh, hh_panels)
    T, B, H = g_out.shape
    steps = len(g_net)
    nets = g_net.reshape(steps * B, H)
    for done in range(0, T, steps):
        number = min(steps, T - done)
        begin = done if reverse else T - done - number
        job = _backward_part(
            (begin, begin + number, g_out, g_h, x, hs, ih_panels, hh_panels, lengths, reverse,
             g_net, g_x, x_panels, h_panels)
        )  # fmt: skip
        share(team, B, job)
        if len(g_bias):
            weight_gradients(team, nets[: number * B], 0, x_panels, h_panels, g_ih, g_hh, g_bias, done > 0)


@jit
def _step_blocks(
    first: int,
    last: int,
    x: Any,
    h: Any,
    new_h: Any,
    net: Any,
    ih_panels: Any,
    hh_panels: Any,
    bias: Any,
) -> None:
    """Blocks `first` to before `last` of what `step` computes."""
    B, H = h.shape
    width = net.shape[3]
    add_blocks(first, last, x, ih_panels, net, False)
    add_blocks(first, last, h, hh_panels, net, True)
    for b in range(B):
        for block in range(first, last):
            start, end = block * width, min(block * width + width, H)
            row, new_h_row, add = net[b, block, 0], new_h[b, start:end], bias[block, 0]
            for j in range(end - start):
                new_h_row[j] = tanh(row[j] + add[j])


_step_part = outlined(_step_blocks)


@jit
def step(
    team: Any,
    x: Any,
    h: Any,
    new_h: Any,
    net: Any,
    ih_panels: Any,
    hh_panels: Any,
    bias: Any,
) -> None:
    """One step: the state new_h. The weights are panels by blocks of units, as is the bias."""
    share(team, len(bias), _step_part((x, h, new_h, net, ih_panels, hh_panels, bias)))
