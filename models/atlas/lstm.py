"""Long short-term memories, and cells with their gates."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.arguments import integer
from tinygrad_lstm.kinds import KINDS

from ..cells import LSTMGates, Shapes, check_finite, check_sizes, lstm_step
from ..variants import LSTMVariant
from .cell import AtlasCell

__all__ = [
    "CIFGLSTMCell",
    "JANETCell",
    "LSTM1997Cell",
    "LayerNormLSTMCell",
    "LayerNormStateLSTMCell",
    "PeepholeLSTMCell",
    "ProjectionLSTMCell",
    "ZoneoutLSTMCell",
]


class _LSTM(AtlasCell):
    """A cell with the states and gates of an LSTM."""

    GATES: ClassVar[Any] = LSTMGates
    STATES, ROWS, KEEPS = KINDS["LSTM"].state_names, KINDS["LSTM"].letters, "f"


LSTM1997Gates = namedtuple("LSTM1997Gates", "i g o c h")


class LSTM1997Cell(_LSTM):
    """The first long short-term memory, which has no forget gate (Hochreiter & Schmidhuber 1997).

        i  = σ(W_i·x + U_i·h + b_i)                 input gate
        g  = tanh(W_g·x + U_g·h + b_g)              candidate
        o  = σ(W_o·x + U_o·h + b_o)                 output gate
        c' = c + i ⊙ g                              cell state
        h' = o ⊙ tanh(c')                           hidden state

    The paper has 2 tanh(net / 2) for the candidate and tanh(c' / 2) for the hidden state, and it truncates gradients.
    Each cell has its own gates, and the gates do not feed back.

    Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997.

    Parameters, rows in the order i, g, o:
        weight_ih (3H, I), the W; weight_hh (3H, H), the U; bias (3H,).
    """

    GATES, ROWS, KEEPS = LSTM1997Gates, "igo", ""

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> LSTM1997Gates:
        net_i, net_g, net_o = self.nets(x, h)
        i = ops.sigmoid(net_i)
        g = ops.tanh(net_g)
        o = ops.sigmoid(net_o)
        c = c + i * g
        return LSTM1997Gates(i, g, o, c, o * ops.tanh(c))


class CIFGLSTMCell(_LSTM):
    """An LSTM with coupled input and forget gates (Greff et al. 2017).

        i  = σ(W_i·x + U_i·h + b_i)                 input gate
        f  = 1 - i                                  forget gate
        g  = tanh(W_g·x + U_g·h + b_g)              candidate
        o  = σ(W_o·x + U_o·h + b_o)                 output gate
        c' = f ⊙ c + i ⊙ g                          cell state
        h' = o ⊙ tanh(c')                           hidden state

    The paper's cell also has peepholes.

    Greff, Srivastava, Koutník, Steunebrink and Schmidhuber, "LSTM: a search space odyssey", IEEE Transactions on Neural
    Networks and Learning Systems 28(10), 2017.

    Parameters, rows in the order i, g, o:
        weight_ih (3H, I), the W; weight_hh (3H, H), the U; bias (3H,).
    """

    ROWS, KEEPS = "igo", ""

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> LSTMGates:
        net_i, net_g, net_o = self.nets(x, h)
        i = ops.sigmoid(net_i)
        f = 1 - i
        g = ops.tanh(net_g)
        o = ops.sigmoid(net_o)
        c = f * c + i * g
        return LSTMGates(i, f, g, o, c, o * ops.tanh(c))


class _LSTMWithOptions(_LSTM):
    """A cell of an `LSTM` with options. `LSTMVariant` computes its equations, and combines options."""

    LAYER_OPTIONS: ClassVar[Mapping[str, Any]]

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        kind, (P,) = KINDS["LSTM"], cls.state_shapes_of(H, **options)["h"]
        return {weight.name: kind.shape(weight, I, H, P) for weight in kind.weights_with(cls.LAYER_OPTIONS)}

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> LSTMGates:
        variant = LSTMVariant(self.layer_parameters(), self.LAYER_OPTIONS.get("layer_norm"))
        return variant.step(variant.inputs(x), h, c)


class PeepholeLSTMCell(_LSTMWithOptions):
    """An LSTM whose gates depend on the cell state too (Gers et al. 2002).

        i  = σ(W_i·x + U_i·h + p_i ⊙ c + b_i)       input gate
        f  = σ(W_f·x + U_f·h + p_f ⊙ c + b_f)       forget gate
        g  = tanh(W_g·x + U_g·h + b_g)              candidate
        c' = f ⊙ c + i ⊙ g                          cell state
        o  = σ(W_o·x + U_o·h + p_o ⊙ c' + b_o)      output gate
        h' = o ⊙ tanh(c')                           hidden state

    Gers, Schraudolph and Schmidhuber, "Learning precise timing with LSTM recurrent networks", JMLR 3, 2002. Peepholes
    are from Gers and Schmidhuber, "Recurrent nets that time and count", IJCNN 2000.

    Parameters, rows in the order i, f, g, o:
        weight_ih (4H, I), the W; weight_hh (4H, H), the U; bias (4H,); peephole (3H,), the p of i, f, o.
    """

    LAYER_OPTIONS = MappingProxyType({"peephole": True})


class ProjectionLSTMCell(_LSTMWithOptions):
    """An LSTM whose hidden state is a projection to P numbers (Sak et al. 2014).

        i  = σ(W_i·x + U_i·h + b_i)                 input gate
        f  = σ(W_f·x + U_f·h + b_f)                 forget gate
        g  = tanh(W_g·x + U_g·h + b_g)              candidate
        o  = σ(W_o·x + U_o·h + b_o)                 output gate
        c' = f ⊙ c + i ⊙ g                          cell state (H)
        h' = W_hr·(o ⊙ tanh(c'))                    hidden state (P)

    The paper's cell also has peepholes.

    Sak, Senior and Beaufays, "Long short-term memory recurrent neural network architectures for large scale acoustic
    modeling", Interspeech 2014.

    Args:
        proj_size: P, from 1 to H; by default H // 2.

    Parameters, rows in the order i, f, g, o:
        weight_ih (4H, I), the W; weight_hh (4H, P), the U; bias (4H,); weight_hr (P, H).
    """

    LAYER_OPTIONS = MappingProxyType({"proj_size": True})

    def __init__(self, input_size: int, hidden_size: int, *, proj_size: int | None = None) -> None:
        check_sizes(self, input_size, hidden_size)
        (P,) = self.state_shapes_of(hidden_size)["h"]
        if proj_size is not None:
            P = integer("ProjectionLSTMCell", "proj_size", proj_size)
        if not 1 <= P <= hidden_size:
            raise ValueError(f"ProjectionLSTMCell: expected a proj_size from 1 to {hidden_size}, which is H, got {P}")
        self.proj_size = P
        super().__init__(input_size, hidden_size)

    @classmethod
    def state_shapes_of(cls, H: int, *, proj_size: int | None = None, **options: Any) -> Shapes:
        return {**super().state_shapes_of(H), "h": (proj_size or max(H // 2, 1),)}


class LayerNormLSTMCell(_LSTMWithOptions):
    """An LSTM with layer normalization (Ba et al. 2016).

        net = LN(W·x) ⊙ norm_ih + LN(U·h) ⊙ norm_hh + b             of i, f, g, o
        i  = σ(net_i)                                               input gate
        f  = σ(net_f)                                               forget gate
        g  = tanh(net_g)                                            candidate
        o  = σ(net_o)                                               output gate
        c' = f ⊙ c + i ⊙ g                                          cell state
        h' = o ⊙ tanh(LN(c') ⊙ norm_c + bias_c)                     hidden state

    LN subtracts the mean of a vector and divides by √(variance + 10⁻⁵): of all 4H numbers of W·x, of U·h, and of c'.

    Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450, 2016.

    Parameters, rows in the order i, f, g, o:
        weight_ih (4H, I), the W; weight_hh (4H, H), the U; bias (4H,), the b; norm_ih (4H,); norm_hh (4H,);
        norm_c (H,); bias_c (H,).
    """

    LAYER_OPTIONS = MappingProxyType({"layer_norm": "output"})


class LayerNormStateLSTMCell(_LSTMWithOptions):
    """An LSTM with layer normalization, also of the cell state that it carries (after Ba et al. 2016).

        net = LN(W·x) ⊙ norm_ih + LN(U·h) ⊙ norm_hh + b             of i, f, g, o
        i  = σ(net_i)                                               input gate
        f  = σ(net_f)                                               forget gate
        g  = tanh(net_g)                                            candidate
        o  = σ(net_o)                                               output gate
        c' = LN(f ⊙ c + i ⊙ g) ⊙ norm_c + bias_c                    cell state
        h' = o ⊙ tanh(c')                                           hidden state

    LN is that of `LayerNormLSTMCell`. TensorFlow's LayerNormBasicLSTMCell normalizes the cell state in this way too.

    Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450, 2016, in which the cell state is not normalized.

    Parameters, rows in the order i, f, g, o:
        weight_ih (4H, I), the W; weight_hh (4H, H), the U; bias (4H,), the b; norm_ih (4H,); norm_hh (4H,);
        norm_c (H,); bias_c (H,).
    """

    LAYER_OPTIONS = MappingProxyType({"layer_norm": "cell"})


class ZoneoutLSTMCell(_LSTM):
    """An LSTM whose units keep their old values at random (Krueger et al. 2017).

        i  = σ(W_i·x + U_i·h + b_i)                 input gate
        f  = σ(W_f·x + U_f·h + b_f)                 forget gate
        g  = tanh(W_g·x + U_g·h + b_g)              candidate
        o  = σ(W_o·x + U_o·h + b_o)                 output gate
        ĉ  = f ⊙ c + i ⊙ g                          cell state without zoneout
        c' = d_c ⊙ c + (1 - d_c) ⊙ ĉ                cell state
        h' = d_h ⊙ h + (1 - d_h) ⊙ o ⊙ tanh(ĉ)      hidden state

    In training, each element of d_c and d_h is drawn at each step: 1 with probability zoneout_c or zoneout_h, else 0.
    In evaluation it is this probability.

    Krueger, Maharaj, Kramár, Pezeshki, Ballas, Ke, Goyal, Bengio, Courville and Pal, "Zoneout: regularizing RNNs by
    randomly preserving hidden activations", ICLR 2017.

    Args:
        zoneout_c: the probability that a unit of the cell state keeps its old value.
        zoneout_h: that of the hidden state.

    Parameters, rows in the order i, f, g, o:
        weight_ih (4H, I), the W; weight_hh (4H, H), the U; bias (4H,).
    """

    def __init__(self, input_size: int, hidden_size: int, *, zoneout_c: float = 0.5, zoneout_h: float = 0.05) -> None:
        for name, p in (("zoneout_c", zoneout_c), ("zoneout_h", zoneout_h)):
            if not 0 <= p <= 1:
                raise ValueError(f"ZoneoutLSTMCell: expected {name} to be a probability from 0 to 1, got {p}")
        self.zoneout_c = zoneout_c
        self.zoneout_h = zoneout_h
        super().__init__(input_size, hidden_size)

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> LSTMGates:
        net = ops.linear(x, self.adapted("weight_ih"), self.bias) + ops.linear(h, self.adapted("weight_hh"))
        new = lstm_step(net, c)
        return new._replace(c=self._zoneout(c, new.c, self.zoneout_c), h=self._zoneout(h, new.h, self.zoneout_h))

    def _zoneout(self, old: Tensor, new: Tensor, p: float) -> Tensor:
        """d ⊙ old + (1 - d) ⊙ new. What dropout keeps of the difference, it divides by 1 - p."""
        return old + (1 - p) * ops.dropout(new - old, p, self.training)


JANETGates = namedtuple("JANETGates", "f g h")


class JANETCell(AtlasCell):
    """Just another network: an LSTM with only a forget gate (van der Westhuizen & Lasenby 2018).

        s  = W_f·x + U_f·h + b_f
        f  = σ(s)                                   forget gate
        g  = tanh(W_g·x + U_g·h + b_g)              candidate
        h' = f ⊙ h + (1 - σ(s - β)) ⊙ g             hidden state

    h is both the cell state and the hidden state of an LSTM.

    van der Westhuizen and Lasenby, "The unreasonable effectiveness of the forget gate", arXiv:1804.04849, 2018.

    Args:
        beta: β; the larger it is, the more of the candidate is added.

    Parameters, rows in the order f, g:
        weight_ih (2H, I), the W; weight_hh (2H, H), the U; bias (2H,).
    """

    GATES, ROWS, KEEPS = JANETGates, "fg", "f"

    def __init__(self, input_size: int, hidden_size: int, *, beta: float = 1.0) -> None:
        check_finite(self, beta=beta)
        self.beta = beta
        super().__init__(input_size, hidden_size)

    def step(self, x: Tensor, h: Tensor) -> JANETGates:
        net_f, net_g = self.nets(x, h)
        f = ops.sigmoid(net_f)
        g = ops.tanh(net_g)
        return JANETGates(f, g, f * h + (1 - ops.sigmoid(net_f - self.beta)) * g)
