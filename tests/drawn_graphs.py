"""Graphs to draw: programs with loops, and their drawings read back."""

from collections.abc import Sequence
from typing import Any

from dot_reader import Drawing, read

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import graph
from tinygrad_lstm.models import GRUCell, LSTMCell, RNNCell


def drawn(tensor: tg.Tensor, *args: Any, **kwargs: Any) -> Drawing:
    return read(graph(tensor, *args, **kwargs).dot)


def unrolled(cell: Any, xs: Sequence[tg.Tensor] | tg.Tensor, state: Any = None) -> list[tg.Tensor]:
    """The hidden states of a cell, step by step."""
    hs = []
    for x in xs:
        state = cell(x, state)
        hs.append(state[0] if isinstance(state, tuple) else state)
    return hs


def inputs(T: int, size: int = 3, requires_grad: bool = False) -> list[tg.Tensor]:
    return [tg.ones(2, size, requires_grad=requires_grad) for _ in range(T)]


def by_step(T: int = 12) -> tg.Tensor:
    """A loss at each step, added up on the way."""
    cell, head, state, total = LSTMCell(3, 5), tg.nn.Linear(5, 2), None, tg.tensor(0.0)
    for x in inputs(T):
        state = cell(x, state)
        total = total + tg.cross_entropy(head(state[0]), tg.tensor([0, 1]))
    return total / T


def layer_by_layer(T: int = 12) -> tg.Tensor:
    hs = unrolled(LSTMCell(5, 5), inputs(T, 5))
    return tg.stack(unrolled(LSTMCell(5, 5), unrolled(GRUCell(5, 5), hs[::-1])))


def with_attention(T: int = 12) -> tg.Tensor:
    read = tg.stack(unrolled(LSTMCell(3, 5), inputs(T)))
    cell, state, context = LSTMCell(5, 5), None, tg.zeros(2, 5)
    for _ in range(T):
        state = cell(context, state)
        shares = tg.softmax((read * state[0]).sum(-1), 0)
        context = (read * shares.unsqueeze(-1)).sum(0)
    return context


def in_blocks(T: int = 12) -> tg.Tensor:
    """Loops within a loop."""
    cell, between = RNNCell(3, 5), tg.nn.Linear(5, 5)
    h: Any = tg.ones(2, 5, requires_grad=True)
    for _ in range(T):
        h = between(unrolled(cell, inputs(5), h)[-1])
    return h  # type: ignore[no-any-return]
