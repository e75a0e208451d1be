"""A whole sequence to one answer: a recurrent network and a linear layer on its last hidden state."""

from __future__ import annotations

from collections.abc import Sequence

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.nn import Linear, Module

from .recurrent import GRU, LSTM, RNN, Lengths
from .streaming import Stream, check_forward

__all__ = ["ManyToOne"]


class ManyToOne(Module):
    """Numbers, or the scores of classes, for whole sequences.

    Args:
        network: reads the sequence. The linear layer takes the hidden state that its last layer ends with; of a
            bidirectional one, those that both directions end with, side by side.
        output_size: O, how many numbers. The linear layer has the network's dtype, and is on its device.

    >>> import tinygrad_lstm as tg
    >>> model = ManyToOne(LSTM(3, 5), output_size=2)
    >>> model(tg.ones(7, 4, 3), lengths=[7, 4, 5, 1]).shape
    (4, 2)
    """

    def __init__(self, network: LSTM | GRU | RNN, output_size: int) -> None:
        super().__init__()
        self.network = network
        like = next(network.parameters())
        self.output = Linear(network.output_size, output_size).to(like.device, like.dtype)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | Tensor | None = None, lengths: Lengths | None = None
    ) -> Tensor:
        """The answers (B, O), each after its sequence's own last step.

        Args:
            x, state, lengths: as the network takes them.

        Raises:
            ValueError: a shape or a length does not fit.
        """
        _, final = self.network(x, state, lengths)
        return self._answers(final[0] if isinstance(final, tuple) else final)

    def _answers(self, h: Tensor) -> Tensor:
        """Of the states h that each layer ends with, (L·D, B, H)."""
        answers: Tensor = self.output(ops.concat(list(h[-2:]), dim=-1) if self.network.bidirectional else h[-1])
        return answers

    def example_inputs(self, T: int, B: int) -> dict[str, Tensor]:
        """Random inputs of `named_forward`, of T steps of B sequences."""
        return self.network.example_inputs(T, B)

    def named_forward(self, x: Tensor, lengths: Lengths | None = None, **states: Tensor) -> dict[str, Tensor]:
        """`forward`, with a name for each tensor, as an exported file has them: x, h0 (and c0) to output, h (and c).

        Raises:
            ValueError: there are other states; a shape or a length does not fit; it is of a subclass with a `forward`
                of its own.
        """
        check_forward(self, ManyToOne, "named_forward")
        given = self.network.named_forward(x, lengths, **states)
        del given["out"]
        return {"output": self._answers(given["h"]), **given}

    def stream(self, batch: int = 1, state: Array | Sequence[Array] | None = None) -> Stream:
        """Inference on `batch` sequences as they come in: after each step the answer (B, O) so far; see `Stream`.

        Raises:
            ValueError: it is of a subclass with a `forward` of its own; and as `Stream`.
        """
        check_forward(self, ManyToOne, "stream")
        return Stream(self.network, batch, state, output=self.output)
