"""One output for a whole sequence: a recurrent network and a linear layer on its last hidden state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.nn import Dropout, Linear, Module

from .layout import Lengths
from .networks import GRU, LSTM, RNN
from .recurrent import Recurrent
from .standardize import Standardize
from .streaming import Stream, check_forward

__all__ = ["ManyToOne"]


class ManyToOne(Module):
    """Predicts numbers, or scores of classes, for whole sequences.

    Args:
        network: reads the sequence. The linear layer takes the final output of its last layer, or of both directions,
            concatenated, if it is bidirectional. The first cell of a `Recurrent` must have an attribute `input_size`.
        output_size: O, the number of outputs. The linear layer has the network's dtype and device.
        dropout: the probability of dropout, in training, of what the linear layer takes.
        standardize: whether the inputs are standardised first, by the mean and standard deviation that
            `standardization.measure(sequences)` sets.

    >>> import tinygrad_lstm as tg
    >>> model = ManyToOne(LSTM(3, 5), output_size=2)
    >>> model(tg.ones(7, 4, 3), lengths=[7, 4, 5, 1]).shape
    (4, 2)
    """

    def __init__(
        self,
        network: LSTM | GRU | RNN | Recurrent,
        output_size: int,
        dropout: float = 0.0,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        like = next(network.parameters())
        self.standardization: Standardize | None = None
        if standardize:
            if network.input_size is None:
                raise ValueError("ManyToOne: standardize needs the size of an input; give the first cell an input_size")
            self.standardization = Standardize(network.input_size).to(like.device, like.dtype)
        self.network = network
        self.dropout = Dropout(dropout)
        self.output = Linear(network.output_size, output_size).to(like.device, like.dtype)

    def forward(self, x: Tensor, state: Any = None, lengths: Lengths | None = None) -> Tensor:
        """The outputs (B, O), each after the last step of its sequence.

        Args:
            x, state, lengths: as the network takes them.

        Raises:
            ValueError: a shape or a length is invalid.
        """
        return self._outputs_and_final(x, state, lengths)[0]

    def _outputs_and_final(self, x: Tensor, state: Any, lengths: Lengths | None) -> tuple[Tensor, Any]:
        """The outputs and the network's final state."""
        inputs = x if self.standardization is None else self.standardization(x)
        _, final = self.network(inputs, state, lengths)
        outputs: Tensor = self.output(self.dropout(self.network.final_output(final)))
        return outputs, final

    def example_inputs(self, T: int, B: int) -> dict[str, Tensor]:
        """Random inputs of `named_forward`, T steps of B sequences."""
        return self.network.example_inputs(T, B)

    def named_forward(self, x: Tensor, lengths: Lengths | None = None, **states: Tensor) -> dict[str, Tensor]:
        """`forward` with the tensor names of an exported file: x, h0 (and c0) to output, h (and c).

        Raises:
            ValueError: the states have different names; a shape or a length is invalid; a subclass overrides `forward`.
        """
        check_forward(self, ManyToOne, "named_forward")
        output, final = self._outputs_and_final(x, self.network.state_of(states, x), lengths)
        return {"output": output, **self.network.named_state(final)}

    def stream(self, batch: int = 1, state: Array | Sequence[Array] | None = None) -> Stream:
        """Inference on `batch` sequences as they come in: after each step the output (B, O) so far; see `Stream`.

        Raises:
            ValueError: a subclass overrides `forward`; and as `Stream`.
        """
        check_forward(self, ManyToOne, "stream")
        return Stream(self.network, batch, state, output=self.output, scaling=self.standardization)
