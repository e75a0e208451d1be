"""A whole sequence to one answer: a recurrent network and a linear layer on its last hidden state."""

from __future__ import annotations

from .. import ops
from ..nn import Linear, Module
from ..tensor import Tensor
from .recurrent import GRU, LSTM, RNN, Lengths

__all__ = ["ManyToOne"]


class ManyToOne(Module):
    """Numbers, or the scores of classes, for whole sequences.

    Args:
        network: reads the sequence. The linear layer takes the hidden state that its last layer ends with; of a
            bidirectional one, those that both directions end with, side by side.
        output_size: O, how many numbers.

    >>> import tinygrad_lstm as tg
    >>> model = ManyToOne(LSTM(3, 5), output_size=2)
    >>> model(tg.ones(7, 4, 3), lengths=[7, 4, 5, 1]).shape
    (4, 2)
    """

    def __init__(self, network: LSTM | GRU | RNN, output_size: int) -> None:
        super().__init__()
        self.network = network
        self.output = Linear(network.hidden_size * (2 if network.bidirectional else 1), output_size)

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
        h = final[0] if isinstance(final, tuple) else final  # (L·D, B, H)
        answers: Tensor = self.output(ops.concat(list(h[-2:]), dim=-1) if self.network.bidirectional else h[-1])
        return answers
