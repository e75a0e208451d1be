"""Steps and loops of LSTM and GRU that are one op. Their kernels are over [x, h]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinygrad_lstm.kinds import KINDS

from ..... import ops
from ....._tensor import Tensor
from ...rules import Ints
from ..rules import rule

__all__: list[str] = []

_LSTM = KINDS["LSTM"]
_ORDER = _LSTM.order(_LSTM.orders["tensorflow"])


@dataclass(frozen=True)
class _Cell:
    """A step of an LSTM.

    Attributes:
        peepholes: of the input, forget and output gates; None if there are none.
        gates: the order of the gates' columns in the kernel.
    """

    w: Tensor
    b: Tensor
    peepholes: Sequence[Tensor] | None
    forget_bias: float
    cell_clip: float
    gates: str

    def __call__(self, x: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """i, c', f, o, g, tanh(c'), h'."""
        columns = ops.split(ops.cat([x, h], -1) @ self.w + self.b, self.w.shape[1] // 4, -1)
        by_gate = dict(zip(self.gates, columns, strict=True))
        i, f, g, o = (by_gate[gate] for gate in _LSTM.letters)
        f = f + self.forget_bias
        if self.peepholes:
            i, f = i + c * self.peepholes[0], f + c * self.peepholes[1]
        i, f, g = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g)
        c = f * c + i * g
        if self.cell_clip > 0:
            c = ops.clamp(c, -self.cell_clip, self.cell_clip)
        o = ops.sigmoid(o + c * self.peepholes[2] if self.peepholes else o)
        activated = ops.tanh(c)
        return i, c, f, o, g, activated, o * activated

    def over(self, steps: int, x: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """The values of each step; those after the last are zeros."""
        columns: list[tuple[Tensor, ...]] = []
        for x_t in ops.unbind(x, 0)[:steps]:
            columns.append(self(x_t, c, h))
            c, h = columns[-1][1], columns[-1][6]
        missing = [h * 0] * (x.shape[0] - len(columns))
        return tuple(ops.stack([*column, *missing]) for column in zip(*columns, strict=True))


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
    peepholes = (wci, wcf, wco) if use_peephole else None
    return _Cell(w, b, peepholes, forget_bias, cell_clip, _ORDER)(x, cs_prev, h_prev)


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
    peepholes = (wci, wcf, wco) if use_peephole else None
    return _Cell(w, b, peepholes, forget_bias, cell_clip, _ORDER).over(seq_len_max[0], x, cs_prev, h_prev)


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
    peepholes = (wci, wcf, wco) if use_peephole else None
    return _Cell(w, b, peepholes, 0.0, cell_clip, _LSTM.letters).over(seq_len_max[0], x, cs_prev, h_prev)


@rule("GRUBlockCell")
def gru_block_cell(x: Tensor, h_prev: Tensor, w_ru: Tensor, w_c: Tensor, b_ru: Tensor, b_c: Tensor) -> Any:
    r, u = ops.chunk(ops.sigmoid(ops.cat([x, h_prev], -1) @ w_ru + b_ru), 2, -1)
    c = ops.tanh(ops.cat([x, h_prev * r], -1) @ w_c + b_c)
    return r, u, c, u * h_prev + (1 - u) * c
