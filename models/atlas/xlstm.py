"""The two cells of the extended LSTM (Beck et al. 2024), with exponential input gates."""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.arguments import integer
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.nn import init

from ..cells import FORGET_BIAS, Shapes, check_sizes
from .cell import AtlasCell

__all__ = ["MLSTMCell", "SLSTMCell"]


class _CellWithHeads(AtlasCell):
    """A cell whose units are divided among heads."""

    def __init__(self, input_size: int, hidden_size: int, *, num_heads: int = 1) -> None:
        check_sizes(self, input_size, hidden_size)
        name = type(self).__name__
        if integer(name, "num_heads", num_heads) < 1 or hidden_size % num_heads:
            raise ValueError(f"{name}: expected num_heads to divide the hidden size {hidden_size}, got {num_heads}")
        self.num_heads = num_heads
        super().__init__(input_size, hidden_size)


def scaled_gates(net_i: Tensor, net_f: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gates i and f of states that are divided by exp(m), and the next m, of which one of them is 1."""
    log_f = ops.logsigmoid(net_f) + m
    m = ops.maximum(log_f, net_i)
    return ops.exp(net_i - m), ops.exp(log_f - m), m


SLSTMGates = namedtuple("SLSTMGates", "i f g o m n c h")


class SLSTMCell(_CellWithHeads):
    """The sLSTM: an LSTM with an exponential input gate and a normalizer (Beck et al. 2024).

        m' = max(log σ(net_f) + m, net_i)           stabilizer, on which h' does not depend
        i  = exp(net_i - m')                        input gate
        f  = exp(log σ(net_f) + m - m')             forget gate
        g  = tanh(net_g)                            candidate
        o  = σ(net_o)                               output gate
        c' = f ⊙ c + i ⊙ g                          cell state
        n' = f ⊙ n + i                              normalizer
        h' = o ⊙ c' / n'                            hidden state

    Each net_a is W_a·x + U_a·h + b_a. With several heads, U_a is block-diagonal: a head depends only on its own units.

    Beck, Pöppel, Spanring, Auer, Prudnikova, Kopp, Klambauer, Brandstetter and Hochreiter, "xLSTM: extended long
    short-term memory", NeurIPS 2024.

    Args:
        num_heads: the number of heads, which divides H. D is H / num_heads.

    Parameters, rows in the order i, f, g, o:
        weight_ih (4H, I), the W; weight_hh (4H, D), the blocks of U, one below the other; bias (4H,).
    """

    STATES, GATES, ROWS, KEEPS = ("h", "c", "n", "m"), SLSTMGates, KINDS["LSTM"].letters, "f"

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        return {**super().parameter_shapes(I, H), "weight_hh": (4 * H, H // options.get("num_heads", 1))}

    def step(self, x: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor) -> SLSTMGates:
        net_i, net_f, net_g, net_o = (
            x_a + h_a for x_a, h_a in zip(self.input_nets(x), ops.chunk(self._recurrent(h), 4, dim=-1))
        )
        i, f, m = scaled_gates(net_i, net_f, m)
        g = ops.tanh(net_g)
        o = ops.sigmoid(net_o)
        c = f * c + i * g
        n = f * n + i
        return SLSTMGates(i, f, g, o, m, n, c, o * (c / n))

    def _recurrent(self, h: Tensor) -> Tensor:
        """U·h of the four gates, (B, 4H)."""
        U, N, D = self.adapted("weight_hh"), self.num_heads, self.hidden_size // self.num_heads
        if N == 1:
            return ops.linear(h, U)
        each = ops.einsum("bnd,aned->bane", h.reshape(h.shape[0], N, D), U.reshape(4, N, D, D))
        return each.reshape(h.shape[0], 4 * N * D)


MLSTMGates = namedtuple("MLSTMGates", "q k v i f o m n C h")


class MLSTMCell(_CellWithHeads):
    """The mLSTM: an LSTM with a matrix as its cell state, in which keys find values (Beck et al. 2024).

        q  = W_q·x + b_q                            query
        k  = (W_k·x + b_k) / √D                     key
        v  = W_v·x + b_v                            value
        m' = max(log σ(net_f) + m, net_i)           stabilizer, on which h' does not depend
        i  = exp(net_i - m')                        input gate, a number
        f  = exp(log σ(net_f) + m - m')             forget gate, a number
        o  = σ(W_o·x + b_o)                         output gate
        C' = f C + i v·kᵀ                           cell state, a matrix (D, D)
        n' = f n + i k                              normalizer
        h' = o ⊙ (C'·q) / max(|n'·q|, exp(-m'))     hidden state

    Each net_a is W_a·x + b_a. Each head has its own D of the H rows of q, k, v and o, and its own i and f. Nothing but
    the state depends on earlier inputs.

    Beck, Pöppel, Spanring, Auer, Prudnikova, Kopp, Klambauer, Brandstetter and Hochreiter, "xLSTM: extended long
    short-term memory", NeurIPS 2024.

    Args:
        num_heads: N, the number of heads, which divides H. D is H / N.

    Parameters, rows in the order q, k, v, o (H each), i, f (N each):
        weight_ih (4H + 2N, I), the W; bias (4H + 2N,).
    """

    STATES, GATES, ROWS = ("h", "C", "n", "m"), MLSTMGates, "qkvoif"

    def __init__(self, input_size: int, hidden_size: int, *, num_heads: int = 1) -> None:
        super().__init__(input_size, hidden_size, num_heads=num_heads)
        init.constant_(self.bias.detach()[-num_heads:], FORGET_BIAS)

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        rows = 4 * H + 2 * options.get("num_heads", 1)
        return {"weight_ih": (rows, I), "bias": (rows,)}

    @classmethod
    def state_shapes_of(cls, H: int, *, num_heads: int = 1, **options: Any) -> Shapes:
        N, D = num_heads, H // num_heads
        return {"h": (N * D,), "C": (N, D, D), "n": (N, D), "m": (N,)}

    def layer_sizes(self) -> list[tuple[int, dict[str, int]]]:
        ((I, sizes),) = super().layer_sizes()
        return [(I, sizes | dict.fromkeys("if", self.num_heads))]

    def step(self, x: Tensor, h: Tensor, C: Tensor, n: Tensor, m: Tensor) -> MLSTMGates:
        B, H, N = x.shape[0], self.hidden_size, self.num_heads
        D = H // N
        net = ops.linear(x, self.adapted("weight_ih"), self.bias)
        q, k, v, net_o, net_i, net_f = ops.split(net, [H, H, H, H, N, N], dim=-1)
        k = k / math.sqrt(D)
        o = ops.sigmoid(net_o)
        i, f, m = scaled_gates(net_i, net_f, m)

        q_h, k_h, v_h = (each.reshape(B, N, D) for each in (q, k, v))
        i_h, f_h = i.unsqueeze(-1), f.unsqueeze(-1)  # (B, N, 1)
        C = f_h.unsqueeze(-1) * C + (i_h * v_h).unsqueeze(-1) * k_h.unsqueeze(-2)  # (B, N, D, D)
        n = f_h * n + i_h * k_h  # (B, N, D)
        found = ops.matmul(C, q_h.unsqueeze(-1)).squeeze(-1)
        size = ops.maximum(ops.abs((n * q_h).sum(-1)), ops.exp(-m)).unsqueeze(-1)
        h = o * (found / size).reshape(B, H)
        return MLSTMGates(q, k, v, i, f, o, m, n, C, h)
