"""Gated recurrent units, and simpler cells of their kind."""

from __future__ import annotations

from collections import namedtuple

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.kinds import KINDS

from ..cells import GRUGates
from ..variants import GRUResetBefore
from .cell import AtlasCell

__all__ = ["GRUResetBeforeCell", "LiGRUCell", "MGUCell", "UGRNNCell"]


class GRUResetBeforeCell(AtlasCell):
    """A gated recurrent unit with the reset gate before the product with U_n (Cho et al. 2014).

        r  = σ(W_r·x + U_r·h + b_r)                 reset gate
        z  = σ(W_z·x + U_z·h + b_z)                 update gate
        n  = tanh(W_n·x + U_n·(r ⊙ h) + b_n)        candidate
        h' = (1 - z) ⊙ n + z ⊙ h                    hidden state

    Cho, van Merriënboer, Gulcehre, Bahdanau, Bougares, Schwenk and Bengio, "Learning phrase representations using RNN
    encoder-decoder for statistical machine translation", EMNLP 2014.

    Parameters, rows in the order r, z, n:
        weight_ih (3H, I), the W; weight_hh (3H, H), the U; bias (3H,).
    """

    GATES, ROWS = GRUGates, KINDS["GRU"].letters

    def step(self, x: Tensor, h: Tensor) -> GRUGates:
        variant = GRUResetBefore(self.layer_parameters())
        return variant.step(variant.inputs(x), h)


MGUGates = namedtuple("MGUGates", "f n h")


class MGUCell(AtlasCell):
    """The minimal gated unit: a GRU with one gate (Zhou et al. 2016).

        f  = σ(W_f·x + U_f·h + b_f)                 forget gate
        n  = tanh(W_n·x + U_n·(f ⊙ h) + b_n)        candidate
        h' = (1 - f) ⊙ h + f ⊙ n                    hidden state

    Zhou, Wu, Zhang and Zhou, "Minimal gated unit for recurrent neural networks", International Journal of Automation
    and Computing 13(3), 2016.

    Parameters, rows in the order f, n:
        weight_ih (2H, I), the W; weight_hh (2H, H), the U; bias (2H,).
    """

    GATES, ROWS = MGUGates, "fn"

    def step(self, x: Tensor, h: Tensor) -> MGUGates:
        x_f, x_n = self.input_nets(x)
        U_f, U_n = ops.chunk(self.adapted("weight_hh"), 2)
        f = ops.sigmoid(x_f + ops.linear(h, U_f))
        n = ops.tanh(x_n + ops.linear(f * h, U_n))
        return MGUGates(f, n, (1 - f) * h + f * n)


LiGRUGates = namedtuple("LiGRUGates", "z n h")


class LiGRUCell(AtlasCell):
    """The light gated recurrent unit: a GRU without a reset gate, and with relu (Ravanelli et al. 2018).

        z  = σ(W_z·x + U_z·h + b_z)                 update gate
        n  = relu(W_n·x + U_n·h + b_n)              candidate
        h' = z ⊙ h + (1 - z) ⊙ n                    hidden state

    The paper normalizes W·x over the batch. This cell does not: it has biases instead.

    Ravanelli, Brakel, Omologo and Bengio, "Light gated recurrent units for speech recognition", IEEE Transactions on
    Emerging Topics in Computational Intelligence 2(2), 2018.

    Parameters, rows in the order z, n:
        weight_ih (2H, I), the W; weight_hh (2H, H), the U; bias (2H,).
    """

    GATES, ROWS = LiGRUGates, "zn"

    def step(self, x: Tensor, h: Tensor) -> LiGRUGates:
        net_z, net_n = self.nets(x, h)
        z = ops.sigmoid(net_z)
        n = ops.relu(net_n)
        return LiGRUGates(z, n, z * h + (1 - z) * n)


UGRNNGates = namedtuple("UGRNNGates", "c g h")


class UGRNNCell(AtlasCell):
    """The update gate RNN: a simple recurrent network with one gate (Collins et al. 2017).

        c  = tanh(W_c·x + U_c·h + b_c)              candidate
        g  = σ(W_g·x + U_g·h + b_g)                 update gate
        h' = g ⊙ h + (1 - g) ⊙ c                    hidden state

    Collins, Sohl-Dickstein and Sussillo, "Capacity and trainability in recurrent neural networks", ICLR 2017.

    Parameters, rows in the order c, g:
        weight_ih (2H, I), the W; weight_hh (2H, H), the U; bias (2H,).
    """

    GATES, ROWS, KEEPS = UGRNNGates, "cg", "g"

    def step(self, x: Tensor, h: Tensor) -> UGRNNGates:
        net_c, net_g = self.nets(x, h)
        c = ops.tanh(net_c)
        g = ops.sigmoid(net_g)
        return UGRNNGates(c, g, g * h + (1 - g) * c)
