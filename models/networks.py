"""LSTM, GRU and RNN: layers over whole sequences, in one direction or both, with PyTorch's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.arguments import integer
from tinygrad_lstm.kinds import KINDS

from .activations import ACTIVATIONS, Activation, functions_of, is_activation
from .base import Network
from .cells import FORGET_BIAS, check_finite, gru_layer_step, init_forget_bias, lstm_layer_step, rnn_layer_step
from .layout import Flags, Lengths
from .variants import (
    GRUResetBefore,
    LSTMNorm,
    LSTMVariant,
    Plain,
    Variant,
)

__all__ = ["GRU", "LSTM", "NETWORKS", "RNN", "Nonlinearity"]

Nonlinearity = Literal["tanh", "relu"]


class LSTM(Network):
    """Layers of `LSTMCell`s over a batch of sequences.

    Args:
        input_size: I, the length of an input.
        hidden_size: H, the length of the states.
        num_layers: L. Each layer takes the outputs of the layer below.
        batch_first: inputs and outputs are (B, T, ...) instead of (T, B, ...).
        dropout: the probability of dropout, in training, between layers.
        bidirectional: every layer also runs from the end to the start; both outputs are concatenated (D = 2).
        bias: whether there are biases: the parameters whose names begin with `bias`.
        forget_bias: the initial bias of the forget gates; see `LSTMCell`.

    Options (see `variants.LSTMVariant` for the equations):
        proj_size: the size of the outputs and of h, which are then a projection of o ⊙ tanh(c); 0 for none.
        peephole: the gates depend on the cell state too.
        layer_norm: normalizes the gates' two products, and the cell state: "cell" carries it normalized to the next
            step, "output" normalizes it only for the output, as in the paper.
        activations: the functions of the gates i, f and o; of the candidate g; and of the cell state, in h = o ⊙
            tanh(c): names such as "sigmoid", "tanh", "relu", "hard_sigmoid", "softsign", "softplus" and "identity", or
            tuples of a name and its numbers, such as ("hard_sigmoid", 0.2, 0.5); see `activations.ACTIVATIONS`.

    Parameters of layer k, with `_reverse` appended for the backward direction, rows in gate order i, f, g, o; P is H,
    or proj_size:
        weight_ih_l{k} (4H, I or D·P); weight_hh_l{k} (4H, P); bias_l{k} (4H,);
        weight_hr_l{k} (P, H), with proj_size; peephole_l{k} (3H,), with peephole, of i, f, o; with layer_norm
        norm_ih_l{k} (4H,), norm_hh_l{k} (4H,), norm_c_l{k} (H,), bias_c_l{k} (H,).

    Raises:
        ValueError: a size or an option is invalid, or `forget_bias` is not finite.

    >>> import tinygrad_lstm as tg
    >>> lstm = LSTM(3, 5, num_layers=2, bidirectional=True)
    >>> out, (h, c) = lstm(tg.ones(7, 2, 3), lengths=[7, 4])
    >>> out.shape, h.shape, c.shape
    ((7, 2, 10), (4, 2, 5), (4, 2, 5))
    >>> out, (h, c) = LSTM(3, 5, proj_size=2, peephole=True)(tg.ones(7, 2, 3))
    >>> out.shape, h.shape, c.shape
    ((7, 2, 2), (1, 2, 2), (1, 2, 5))
    """

    KIND, STATES = "LSTM", KINDS["LSTM"].state_names

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        proj_size: int = 0,
        peephole: bool = False,
        layer_norm: LSTMNorm | None = None,
        activations: Sequence[Activation] = ("sigmoid", "tanh", "tanh"),
        bias: bool = True,
        forget_bias: float = FORGET_BIAS,
    ) -> None:
        if integer("LSTM", "proj_size", proj_size) and not 0 < proj_size < hidden_size:
            raise ValueError(f"LSTM: expected a proj_size from 0 to {hidden_size - 1}, below H, got {proj_size}")
        _check_option(self, "peephole", peephole, (False, True))
        _check_option(self, "layer_norm", layer_norm, (None, *get_args(LSTMNorm)))
        self.proj_size = proj_size
        self.peephole = peephole
        self.layer_norm = layer_norm
        self.activations = _checked_activations(self, activations)
        check_finite(self, forget_bias=forget_bias)
        self._forget_bias = forget_bias
        super().__init__(input_size, hidden_size, num_layers, batch_first, dropout, bidirectional, bias)

    @property
    def state_sizes(self) -> dict[str, int]:
        return {"h": self.proj_size or self.hidden_size, "c": self.hidden_size}

    def _init_parameters(self) -> None:
        super()._init_parameters()
        for name, parameter in self.named_parameters():
            if name.startswith("bias_l"):
                init_forget_bias(parameter, self.hidden_size, self._forget_bias)

    def _variant(self, parameters: Mapping[str, Tensor]) -> Variant:
        if self.options.keys() <= {"activations"}:
            return Plain(parameters, lstm_layer_step, functions_of(self.activations))
        return LSTMVariant(parameters, self.layer_norm, functions_of(self.activations))

    def forward(
        self,
        x: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
        lengths: Lengths | None = None,
        resets: Flags | None = None,
        mask: Flags | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """All hidden states of the last layer, and the final states of all layers.

        Args:
            x: inputs (T, B, I), or (T, I) of one sequence, without the batch dimension, which then no argument or
                result has.
            state: initial states, h (L·D, B, P) and c (L·D, B, H); zeros by default.
            lengths: the number of steps of each of the B sequences, in any order; by default T. Outputs past a length
                are zero, and the final states are those after each sequence's last step.
            resets: (T, B) bool. Where it is true, a new sequence begins at this step, in both directions: the states
                before the step are zeros.
            mask: (T, B) bool. Where it is false, the sequence skips this step: its states and outputs are those of the
                step before, in each direction.

        Returns:
            out (T, B, D·P), and (h, c) with the shapes of `state`.

        Raises:
            ValueError: a shape or a length is invalid.
        """
        out, (h, c) = self._run(x, state, lengths, resets, mask)
        return out, (h, c)


class GRU(Network):
    """Layers of `GRUCell`s over a batch of sequences; arguments as for `LSTM`.

    Options:
        reset_after: whether the reset gate comes after the product with U_n, as in PyTorch and by default in Keras; if
            not, it comes before, as by default in ONNX (`variants.GRUResetBefore`).
        activations: the functions of the gates r and z, and of the candidate n; names as for `LSTM`.

    Parameters of layer k, with `_reverse` appended for the backward direction, rows in gate order r, z, n:
        weight_ih_l{k} (3H, I or D·H); weight_hh_l{k} (3H, H); bias_l{k} (3H,); bias_hn_l{k} (H,), with reset_after.
    """

    KIND, STATES = "GRU", KINDS["GRU"].state_names

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        activations: Sequence[Activation] = ("sigmoid", "tanh"),
        bias: bool = True,
    ) -> None:
        _check_option(self, "reset_after", reset_after, (True, False))
        self.reset_after = reset_after
        self.activations = _checked_activations(self, activations)
        super().__init__(input_size, hidden_size, num_layers, batch_first, dropout, bidirectional, bias)

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
        lengths: Lengths | None = None,
        resets: Flags | None = None,
        mask: Flags | None = None,
    ) -> tuple[Tensor, Tensor]:
        """All hidden states of the last layer (T, B, D·H), and final states of all (L·D, B, H); see `LSTM.forward`."""
        out, (h,) = self._run(x, state, lengths, resets, mask)
        return out, h

    def _variant(self, parameters: Mapping[str, Tensor]) -> Variant:
        if self.reset_after:
            return Plain(parameters, gru_layer_step, functions_of(self.activations))
        return GRUResetBefore(parameters, functions_of(self.activations))


class RNN(Network):
    """Layers of `RNNCell`s over a batch of sequences; arguments as for `LSTM`.

    Options:
        nonlinearity: "tanh" or "relu".
        activations: the same as one name in a tuple, of more functions; names as for `LSTM`.

    Parameters of layer k, with `_reverse` appended for the backward direction:
        weight_ih_l{k} (H, I or D·H); weight_hh_l{k} (H, H); bias_l{k} (H,).
    """

    KIND, STATES = "RNN", KINDS["RNN"].state_names

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        nonlinearity: Nonlinearity = "tanh",
        activations: Sequence[Activation] | None = None,
        bias: bool = True,
    ) -> None:
        _check_option(self, "nonlinearity", nonlinearity, get_args(Nonlinearity))
        (function,) = _checked_activations(self, (nonlinearity,) if activations is None else activations)
        if nonlinearity not in ("tanh", function):
            raise ValueError(f"RNN: expected one function, got nonlinearity={nonlinearity!r} and {activations=}")
        self.nonlinearity = function
        super().__init__(input_size, hidden_size, num_layers, batch_first, dropout, bidirectional, bias)

    @property
    def activations(self) -> tuple[Activation, ...]:
        """The name of the nonlinearity, in a tuple."""
        return (self.nonlinearity,)

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
        lengths: Lengths | None = None,
        resets: Flags | None = None,
        mask: Flags | None = None,
    ) -> tuple[Tensor, Tensor]:
        """All hidden states of the last layer (T, B, D·H), and final states of all (L·D, B, H); see `LSTM.forward`."""
        out, (h,) = self._run(x, state, lengths, resets, mask)
        return out, h

    def _variant(self, parameters: Mapping[str, Tensor]) -> Variant:
        return Plain(parameters, rnn_layer_step, functions_of(self.activations))


NETWORKS: dict[str, Any] = {cls.KIND: cls for cls in (LSTM, GRU, RNN)}
"""The classes by the names of their kinds."""


def _check_option(network: Network, name: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise ValueError(
            f"{type(network).__name__}: expected {name} to be {' or '.join(map(repr, known))}, got {value!r}"
        )


def _checked_activations(network: Network, names: Sequence[Activation]) -> tuple[Activation, ...]:
    """The names of a layer's activation functions.

    Raises:
        ValueError: there are too few or too many, or one is unknown.
    """
    number = len(KINDS[network.KIND].onnx_activations)
    if isinstance(names, str) or len(names) != number or not all(map(is_activation, names)):
        raise ValueError(
            f"{network.KIND}: expected activations, {number} of {', '.join(ACTIVATIONS)} in a tuple, got {names!r}"
        )
    return tuple(names)
