"""Recurrent networks over whole sequences: layers of cells, in one direction or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..creation import zeros
from ..nn import Module, Parameter
from ..observing import show_layer
from ..ops.recurrent import checked_lengths, going, gru, lstm, rnn
from ..tensor import Tensor, operand
from .cells import (
    GRUGates,
    LSTMGates,
    RNNGates,
    check_sizes,
    gru_step,
    init_recurrent,
    lstm_step,
    open_forget_gate,
    states_of,
)
from .stepping import Stepper

Lengths = Sequence[int] | np.ndarray[Any, Any] | Tensor
States = tuple[Tensor, ...]


class _Recurrent(Module):
    """What LSTM, GRU and RNN share: layers, directions, batches of sequences of different lengths."""

    GATES: ClassVar[int]
    STATES: ClassVar[tuple[str, ...]]  # the hidden state, which is the output, first
    PARAMETERS: ClassVar[tuple[str, ...]]  # of a layer in one direction, in the order in which the op takes them
    OP: ClassVar[Any]  # the layer as one op
    STEP: ClassVar[Callable[..., Any]]  # the cell that it unrolls
    SHOWN: ClassVar[Sequence[str]]  # the gates and states of a step, which a trace shows

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(self, input_size, hidden_size)
        if num_layers < 1 or not 0 <= dropout <= 1:
            raise ValueError(
                f"{type(self).__name__}: expected at least 1 layer and a dropout in [0, 1], "
                f"got {num_layers} and {dropout}"
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self._directions = ("", "_reverse") if bidirectional else ("",)
        rows = self.GATES * hidden_size
        for layer in range(num_layers):
            columns = hidden_size * len(self._directions) if layer else input_size
            for direction in self._directions:
                self._add(f"weight_ih_l{layer}{direction}", rows, columns)
                self._add(f"weight_hh_l{layer}{direction}", rows, hidden_size)
                self._add(f"bias_l{layer}{direction}", rows)
                self._add_extra(f"l{layer}{direction}")
        self._init_parameters()

    def _init_parameters(self) -> None:
        init_recurrent(self, self.hidden_size)

    def _add(self, name: str, *shape: int) -> None:
        setattr(self, name, Parameter(zeros(*shape)))

    def _add_extra(self, place: str) -> None:
        """Adds what a kind of cell has beside weights and a bias."""

    def _run(
        self, x: Tensor, state: Tensor | Sequence[Tensor] | None, lengths: Lengths | None
    ) -> tuple[Tensor, States]:
        """The outputs and final states for x and an initial state, as `forward` of the kinds documents them."""
        x = operand(x)
        name, H, T_dim = type(self).__name__, self.hidden_size, 1 if self.batch_first else 0
        if x.ndim != 3 or x.shape[2] != self.input_size:
            order = "(batch, time" if self.batch_first else "(time, batch"
            raise ValueError(f"{name}: expected an input of shape {order}, {self.input_size}), got {x.shape}")
        x = ops.transpose(x, 0, 1) if self.batch_first else x  # (T, B, I)
        T, B = x.shape[:2]
        places = self.num_layers * len(self._directions)
        states = states_of(name, state, len(self.STATES), (places, B, H), x)
        numbers = None
        if lengths is not None:
            numbers = checked_lengths(name, lengths, T, B)
            # Whatever stands past a length must not count, not even a NaN times zero.
            x = ops.where(going(numbers, T, x.device), x, 0.0)

        rows: list[Sequence[Tensor]] = list(zip(*(ops.unbind(state, 0) for state in states), strict=True))  # of a place
        for layer in range(self.num_layers):
            outputs = []
            for k, direction in enumerate(self._directions):
                place = layer * len(self._directions) + k
                output, *rows[place] = self._layer(x, rows[place], numbers, f"l{layer}{direction}", reverse=k == 1)
                outputs.append(output)
            x = ops.concat(outputs, dim=-1) if self.bidirectional else outputs[0]  # (T, B, D·H)
            if layer < self.num_layers - 1:
                x = ops.dropout(x, self.dropout, self.training)
        final = tuple(ops.stack(list(column)) for column in zip(*rows, strict=True))
        return ops.transpose(x, 0, T_dim), final

    def _layer(
        self, x: Tensor, states: Sequence[Tensor], lengths: np.ndarray[Any, Any] | None, place: str, reverse: bool
    ) -> tuple[Tensor, ...]:
        """One layer in one direction: its outputs (T, B, H), and its states after the last step of each sequence."""
        if not len(x):
            return zeros(0, x.shape[1], self.hidden_size, dtype=x.dtype, device=x.device), *states
        parameters = [getattr(self, f"{name}_{place}") for name in self.PARAMETERS]
        return show_layer(
            self, place, lambda operands: self.OP(operands, self.STEP, lengths, reverse), [x, *states, *parameters]
        )

    def stepper(self) -> Stepper:
        """The network for inference one step at a time, of the weights as they are now; see `Stepper`.

        Raises:
            ValueError: the network is bidirectional: its outputs depend on all steps to come.
        """
        if self.bidirectional:
            raise ValueError(f"{type(self).__name__}.stepper: a bidirectional network cannot go step by step")
        return Stepper(self)

    def layer_sizes(self) -> list[tuple[int, int]]:
        """The sizes I and H of each layer in each direction."""
        number, H = len(self._directions), self.hidden_size
        inputs = [self.input_size, *[H * number] * (self.num_layers - 1)]
        return [(I, H) for I in inputs for _ in range(number)]

    def extra_repr(self) -> str:
        """The sizes, and what differs from the defaults."""
        parts = [str(self.input_size), str(self.hidden_size)]
        parts += [f"num_layers={self.num_layers}"] * (self.num_layers > 1)
        parts += ["batch_first=True"] * self.batch_first
        parts += [f"dropout={self.dropout}"] * (self.dropout > 0)
        parts += ["bidirectional=True"] * self.bidirectional
        return ", ".join(parts)


class LSTM(_Recurrent):
    """Layers of `LSTMCell`s over a batch of sequences.

    Args:
        input_size: I, the length of an input.
        hidden_size: H, the length of the states.
        num_layers: L, each layer taking the outputs of the one below.
        batch_first: inputs and outputs are (B, T, ...) instead of (T, B, ...).
        dropout: the share of a layer's outputs that is dropped before the next layer, in training.
        bidirectional: every layer also runs from the end to the start; its outputs are put side by side (D = 2).

    Parameters of layer k, with `_reverse` appended for the backward direction, rows in gate order i, f, g, o:
        weight_ih_l{k} (4H, I or D·H); weight_hh_l{k} (4H, H); bias_l{k} (4H,), which starts at 1 for the forget gate.

    >>> import tinygrad_lstm as tg
    >>> lstm = LSTM(3, 5, num_layers=2, bidirectional=True)
    >>> out, (h, c) = lstm(tg.ones(7, 2, 3), lengths=[7, 4])
    >>> out.shape, h.shape, c.shape
    ((7, 2, 10), (4, 2, 5), (4, 2, 5))
    """

    GATES, STATES, PARAMETERS = 4, ("h", "c"), ("weight_ih", "weight_hh", "bias")
    OP, STEP, SHOWN = staticmethod(lstm), staticmethod(lstm_step), LSTMGates._fields

    def _init_parameters(self) -> None:
        super()._init_parameters()
        for name, parameter in self.named_parameters():
            if name.startswith("bias"):
                open_forget_gate(parameter, self.hidden_size)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None, lengths: Lengths | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """All hidden states of the last layer, and the final states of all layers.

        Args:
            x: inputs (T, B, I).
            state: initial states (h, c), each (L·D, B, H); zeros by default.
            lengths: the number of steps of each of the B sequences, where they differ, in any order: outputs past a
                length are zero, and the final states are those of each sequence's own last step.

        Returns:
            out (T, B, D·H), and (h, c), each (L·D, B, H).

        Raises:
            ValueError: a shape or a length does not fit.
        """
        out, (h, c) = self._run(x, state, lengths)
        return out, (h, c)


class GRU(_Recurrent):
    """Layers of `GRUCell`s over a batch of sequences; arguments as for `LSTM`.

    Parameters of layer k, with `_reverse` appended for the backward direction, rows in gate order r, z, n:
        weight_ih_l{k} (3H, I or D·H); weight_hh_l{k} (3H, H); bias_l{k} (3H,); bias_hn_l{k} (H,).
    """

    GATES, STATES, PARAMETERS = 3, ("h",), ("weight_ih", "weight_hh", "bias", "bias_hn")
    OP, STEP, SHOWN = staticmethod(gru), staticmethod(gru_step), GRUGates._fields

    def forward(self, x: Tensor, state: Tensor | None = None, lengths: Lengths | None = None) -> tuple[Tensor, Tensor]:
        """All hidden states of the last layer (T, B, D·H), final states of all (L·D, B, H); see `LSTM.forward`."""
        out, (h,) = self._run(x, state, lengths)
        return out, h

    def _add_extra(self, place: str) -> None:
        self._add(f"bias_hn_{place}", self.hidden_size)


class RNN(_Recurrent):
    """Layers of `RNNCell`s, with tanh, over a batch of sequences; arguments as for `LSTM`.

    Parameters of layer k, with `_reverse` appended for the backward direction:
        weight_ih_l{k} (H, I or D·H); weight_hh_l{k} (H, H); bias_l{k} (H,).
    """

    GATES, STATES, PARAMETERS = 1, ("h",), ("weight_ih", "weight_hh", "bias")
    OP, STEP, SHOWN = staticmethod(rnn), staticmethod(ops.tanh), RNNGates._fields

    def forward(self, x: Tensor, state: Tensor | None = None, lengths: Lengths | None = None) -> tuple[Tensor, Tensor]:
        """All hidden states of the last layer (T, B, D·H), final states of all (L·D, B, H); see `LSTM.forward`."""
        out, (h,) = self._run(x, state, lengths)
        return out, h
