"""Cells whose units do not see each other's states: the recurrence is elementwise."""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.nn import Parameter

from ..cells import RNNGates, Shapes, check_finite
from .cell import AtlasCell

__all__ = ["IndRNNCell", "MinGRUCell", "MinLSTMCell", "SRUCell"]


class IndRNNCell(AtlasCell):
    """The independently recurrent network (Li et al. 2018).

        h' = relu(W·x + u ⊙ h + b)                  hidden state

    Li, Li, Cook, Zhu and Gao, "Independently recurrent neural network (IndRNN): building a longer and deeper RNN", CVPR
    2018.

    Parameters: weight_ih (H, I), the W; weight_hh (H,), the u; bias (H,), the b.
    """

    GATES, ROWS = RNNGates, "h"
    weight_hh: Parameter

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        return {**super().parameter_shapes(I, H), "weight_hh": (H,)}

    def step(self, x: Tensor, h: Tensor) -> RNNGates:
        (net,) = self.input_nets(x)
        return RNNGates(ops.relu(net + self.weight_hh * h))


SRUGates = namedtuple("SRUGates", "g f r c h")


class SRUCell(AtlasCell):
    """The simple recurrent unit (Lei et al. 2018).

        g  = W_g·x                                  candidate
        f  = σ(W_f·x + v_f ⊙ c + b_f)               forget gate
        r  = σ(W_r·x + v_r ⊙ c + b_r)               reset gate
        c' = f ⊙ c + (1 - f) ⊙ g                    cell state
        h' = r ⊙ c' + (1 - r) ⊙ s                   hidden state

    s is α·x if I = H; otherwise it is W_s·x. No equation depends on the h before.

    Lei, Zhang, Wang, Dai and Artzi, "Simple recurrent units for highly parallelizable recurrence", EMNLP 2018.

    Args:
        alpha: α, by which x keeps its variance from layer to layer: √(1 + 2·exp(b_r)) for the initial b_r of 0.

    Parameters, rows in the order g, f, r, s:
        weight_ih (4H, I), the W, or (3H, I) if I = H; peephole (2H,), the v of f, r; bias (2H,), of f, r.
    """

    STATES, GATES = ("h", "c"), SRUGates
    peephole: Parameter

    def __init__(self, input_size: int, hidden_size: int, *, alpha: float = math.sqrt(3)) -> None:
        check_finite(self, alpha=alpha)
        self.alpha = alpha
        super().__init__(input_size, hidden_size)

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        return {"weight_ih": (3 * H if I == H else 4 * H, I), "peephole": (2 * H,), "bias": (2 * H,)}

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> SRUGates:
        H = self.hidden_size
        W = self.adapted("weight_ih")
        g, x_f, x_r, *projected = ops.chunk(ops.linear(x, W), W.shape[0] // H, dim=-1)
        (v_f, v_r), (b_f, b_r) = ops.chunk(self.peephole, 2), ops.chunk(self.bias, 2)
        f = ops.sigmoid(x_f + v_f * c + b_f)
        r = ops.sigmoid(x_r + v_r * c + b_r)
        c = f * c + (1 - f) * g
        (s,) = projected or [self.alpha * x]
        return SRUGates(g, f, r, c, r * c + (1 - r) * s)


MinGRUGates = namedtuple("MinGRUGates", "z n h")


class MinGRUCell(AtlasCell):
    """A GRU whose gate and candidate depend only on the input (Feng et al. 2024).

        z  = σ(W_z·x + b_z)                         update gate
        n  = W_n·x + b_n                            candidate
        h' = (1 - z) ⊙ h + z ⊙ n                    hidden state

    Feng, Tung, Ahmed, Bengio and Hajimirsadegh, "Were RNNs all we needed?", arXiv:2410.01201, 2024.

    Parameters, rows in the order z, n:
        weight_ih (2H, I), the W; bias (2H,).
    """

    GATES, ROWS = MinGRUGates, "zn"

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        return {"weight_ih": (2 * H, I), "bias": (2 * H,)}

    def step(self, x: Tensor, h: Tensor) -> MinGRUGates:
        net_z, n = self.input_nets(x)
        z = ops.sigmoid(net_z)
        return MinGRUGates(z, n, (1 - z) * h + z * n)


MinLSTMGates = namedtuple("MinLSTMGates", "i f g h")


class MinLSTMCell(AtlasCell):
    """An LSTM whose gates and candidate depend only on the input, and whose gates add up to 1 (Feng et al. 2024).

        i  = σ(W_i·x + b_i)                         input gate
        f  = σ(W_f·x + b_f)                         forget gate
        g  = W_g·x + b_g                            candidate
        h' = (f ⊙ h + i ⊙ g) / (f + i)              hidden state

    Feng, Tung, Ahmed, Bengio and Hajimirsadegh, "Were RNNs all we needed?", arXiv:2410.01201, 2024.

    Parameters, rows in the order i, f, g:
        weight_ih (3H, I), the W; bias (3H,).
    """

    GATES, ROWS = MinLSTMGates, "ifg"

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        return {"weight_ih": (3 * H, I), "bias": (3 * H,)}

    def step(self, x: Tensor, h: Tensor) -> MinLSTMGates:
        net_i, net_f, g = self.input_nets(x)
        i = ops.sigmoid(net_i)
        f = ops.sigmoid(net_f)
        return MinLSTMGates(i, f, g, (f * h + i * g) / (f + i))
