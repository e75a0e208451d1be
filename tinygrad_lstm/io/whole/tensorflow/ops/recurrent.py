"""Steps and loops of LSTM and GRU that are one op. Their kernels are over [x, h]."""

from collections.abc import Sequence
from typing import Any

from ..... import ops
from ....._tensor import Tensor
from ...onnx.rules import Ints
from ..rules import rule

__all__: list[str] = []


def _lstm_step(
    x: Tensor,
    c: Tensor,
    h: Tensor,
    w: Tensor,
    peepholes: Sequence[Tensor],
    b: Tensor,
    forget_bias: float,
    cell_clip: float,
    use_peephole: bool,
    gates: str,
) -> tuple[Tensor, ...]:
    """i, c', f, o, g, tanh(c'), h'. The columns of the kernel are those of the gates in this order."""
    columns = dict(zip(gates, ops.split(ops.cat([x, h], -1) @ w + b, w.shape[1] // 4, -1), strict=True))
    i, f, g, o = (columns[gate] for gate in "ifgo")
    f = f + forget_bias
    if use_peephole:
        i, f = i + c * peepholes[0], f + c * peepholes[1]
    i, f, g = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g)
    c = f * c + i * g
    if cell_clip > 0:
        c = ops.clamp(c, -cell_clip, cell_clip)
    o = ops.sigmoid(o + c * peepholes[2] if use_peephole else o)
    activated = ops.tanh(c)
    return i, c, f, o, g, activated, o * activated


@rule("LSTMBlockCell")
def lstm_block_cell(
    x: Tensor,
    cs_prev: Tensor,
    h_prev: Tensor,
    w: Tensor,
    wci: Tensor,
    wcf: Tensor,
    wco: Tensor,
    b: Tensor,
    *,
    forget_bias: float = 1.0,
    cell_clip: float = 3.0,
    use_peephole: bool = False,
) -> Any:
    return _lstm_step(x, cs_prev, h_prev, w, (wci, wcf, wco), b, forget_bias, cell_clip, use_peephole, "igfo")


def _lstm_steps(
    steps: int,
    x: Tensor,
    c: Tensor,
    h: Tensor,
    w: Tensor,
    peepholes: Sequence[Tensor],
    b: Tensor,
    forget_bias: float,
    cell_clip: float,
    use_peephole: bool,
    gates: str,
) -> Any:
    """The values of each step; those after the last are zeros."""
    columns: list[tuple[Tensor, ...]] = []
    T = x.shape[0]
    for x_t in ops.unbind(x, 0)[: min(steps, T)]:
        columns.append(_lstm_step(x_t, c, h, w, peepholes, b, forget_bias, cell_clip, use_peephole, gates))
        c, h = columns[-1][1], columns[-1][6]
    missing = [ops.broadcast_to(h * 0, h.shape)] * (T - len(columns))
    return tuple(ops.stack([*column, *missing]) for column in zip(*columns, strict=True))


@rule("BlockLSTM")
def block_lstm(
    seq_len_max: Ints,
    x: Tensor,
    cs_prev: Tensor,
    h_prev: Tensor,
    w: Tensor,
    wci: Tensor,
    wcf: Tensor,
    wco: Tensor,
    b: Tensor,
    *,
    forget_bias: float = 1.0,
    cell_clip: float = 3.0,
    use_peephole: bool = False,
) -> Any:
    peepholes = wci, wcf, wco
    return _lstm_steps(
        seq_len_max[0], x, cs_prev, h_prev, w, peepholes, b, forget_bias, cell_clip, use_peephole, "igfo"
    )


@rule("BlockLSTMV2")
def block_lstm_v2(
    seq_len_max: Ints,
    x: Tensor,
    cs_prev: Tensor,
    h_prev: Tensor,
    w: Tensor,
    wci: Tensor,
    wcf: Tensor,
    wco: Tensor,
    b: Tensor,
    *,
    cell_clip: float = 0.0,
    use_peephole: bool = False,
) -> Any:
    peepholes = wci, wcf, wco
    return _lstm_steps(seq_len_max[0], x, cs_prev, h_prev, w, peepholes, b, 0.0, cell_clip, use_peephole, "ifgo")


@rule("GRUBlockCell")
def gru_block_cell(x: Tensor, h_prev: Tensor, w_ru: Tensor, w_c: Tensor, b_ru: Tensor, b_c: Tensor) -> Any:
    r, u = ops.chunk(ops.sigmoid(ops.cat([x, h_prev], -1) @ w_ru + b_ru), 2, -1)
    c = ops.tanh(ops.cat([x, h_prev * r], -1) @ w_c + b_c)
    return r, u, c, u * h_prev + (1 - u) * c
