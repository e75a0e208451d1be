"""The compiled tanh RNN, like the LSTM in `lstm.py`."""

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
    ih_panels: Any,
    hh_panels: Any,
    bias: Any,
    x: Any,
    hs: Any,
    nets: Any,
    lengths: Any,
    reverse: int,
    at_once: int,
) -> None:
    """The rows [first, last) of the states hs, given those before the first step. The weights are panels of W^T.

    The inputs' products are computed for `at_once` steps at a time, in nets.
    """
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
    lengths: Any,
    g_x: Any,
) -> None:
    """The steps [begin, end) and rows [first, last) of the gradients g_net (steps, B, 1, H) and g_x.

    g_h (1, B, H) is the gradient of the states after these steps, and becomes that of the states before. The weights
    are panels of W. If g_x or the panels of the inputs x and h of each step are empty, they are skipped.
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
            if h_panels.shape[1]:
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
    nets = g_net.reshape(steps * B, H)
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
    new_h: Any,
    net: Any,
    ih_panels: Any,
    hh_panels: Any,
    bias: Any,
) -> None:
    """One step: the blocks [first, last) of the state new_h.

    The weights are panels by blocks of units, like the bias; net (B, blocks, gates, width) is a buffer.
    """
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
def step(members: Any, blocks: int, *operands: Any) -> None:
    """`_step_blocks` for all blocks of units."""
    share(members, blocks, _step_part(operands))
