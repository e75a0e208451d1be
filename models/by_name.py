"""Recurrent networks by the names of their cells."""

from typing import TypeAlias

from .atlas import known_cell
from .cells import CELLS
from .networks import GRU, LSTM, NETWORKS, RNN
from .recurrent import Recurrent

__all__ = ["network_of"]

AnyNetwork: TypeAlias = LSTM | GRU | RNN | Recurrent


def network_of(
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> AnyNetwork:
    """Recurrent layers of a cell: an `LSTM`, `GRU` or `RNN`, or a `Recurrent` of any other cell.

    Args:
        cell: a name in `tinygrad_lstm.models.atlas.ATLAS`, such as "lstm", "gru" or "mgu".
        input_size: the number of features of a step.
        hidden_size: the number of units in a layer.
        num_layers: the number of layers.
        bidirectional: whether the sequences are read in both directions.
        dropout: the probability of dropout, in training, between layers.

    Raises:
        ValueError: the cell is unknown.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import network_of
    >>> network_of("mgu", 3, 5, bidirectional=True)(tg.ones(7, 2, 3))[0].shape
    (7, 2, 10)
    """
    kind = known_cell("network_of", cell)
    network = {CELLS[name]: made for name, made in NETWORKS.items()}.get(kind)
    if network is not None:
        layers: AnyNetwork = network(input_size, hidden_size, num_layers, dropout=dropout, bidirectional=bidirectional)
        return layers
    directions = 1 + bidirectional
    outputs = next(iter(kind.state_shapes_of(hidden_size).values()))[0] * directions
    made = [
        [kind(size, hidden_size) for _ in range(directions)] for size in [input_size] + [outputs] * (num_layers - 1)
    ]
    return Recurrent([(cells[0], cells[1]) if bidirectional else cells[0] for cells in made], dropout=dropout)
