"""The recurrent networks among the arrays of a file, and how each is loaded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from ..kinds import KINDS
from .contents import Weights
from .file_layers import network_of
from .gate_names import gate_arrays
from .mapped import mapped_network
from .recurrent import Recurrent, under
from .tensorflow.cells import cells_of, tensorflow_network
from .torch.names import recurrent_layers, torch_kind, torch_network

__all__ = ["Recognised", "recognised"]

MOST_NAMED = 10  # the number of foreign arrays under a network's prefix that a message names


@dataclass(frozen=True)
class Recognised:
    """A recurrent network of a file.

    Attributes:
        prefix: its name in the file.
        name: its name in the model, if that differs.
        kind: LSTM, GRU or RNN; None if its shapes do not match any of these.
        framework: the framework whose names its arrays have.
        network: the network; None if it cannot be loaded.
        reason: why it cannot be loaded.
        roles: of arrays of single gates, the names by role, for `from_arrays`.
    """

    prefix: str
    name: str
    kind: str | None
    framework: Literal["torch", "keras", "onnx", "tensorflow", "arrays"]
    network: Recurrent | None
    reason: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)


def recognised(weights: Weights) -> Iterator[Recognised]:
    """Yields the recurrent networks of a file, in its order, one at a time, since each has copies of its arrays.

    >>> import numpy as np
    >>> arrays = {"rnn.weight_ih_l0": np.ones((20, 3)), "rnn.weight_hh_l0": np.ones((20, 5))}
    >>> [(found.prefix, str(found.network)) for found in recognised(Weights(arrays))]
    [('rnn', 'LSTM(3, 5)')]
    """
    yield from _in_torch_names(weights)
    yield from _described(weights)
    yield from _tensorflow_cells(weights)
    yield from _of_single_gates(weights)


def _in_torch_names(weights: Weights) -> Iterator[Recognised]:
    in_order = sorted(weights)
    for prefix, own in recurrent_layers(weights).items():
        kind = torch_kind({name: weights[name] for name in own})
        known = set(own)
        others = (name for name in under(prefix, in_order) if name not in known)
        named = list(islice(others, MOST_NAMED))  # limited, since prefixes may be nested
        try:
            network = torch_network(kind or "LSTM", {name: weights[name] for name in (*own, *named)}, prefix)
        except ValueError as error:
            reason = f"{error}{', and others' if next(others, None) is not None else ''}"
            yield Recognised(prefix, "", kind, "torch", None, reason)
        else:
            yield Recognised(prefix, "", kind, "torch", network)


def _described(weights: Weights) -> Iterator[Recognised]:
    """The networks that the file itself describes."""
    for name, layer in weights.layers.items():
        try:
            network = network_of(weights, layer)
        except ValueError as error:
            yield Recognised(name, layer.name, layer.kind, layer.framework, None, str(error))
        else:
            yield Recognised(name, layer.name, layer.kind, layer.framework, network)


def _tensorflow_cells(weights: Weights) -> Iterator[Recognised]:
    """The cells of TensorFlow 1, each as a network; LSTMs with TensorFlow's default for the forget bias."""
    for cell in cells_of(weights):
        own = {name: weights[name] for name in cell.roles.values()}
        try:
            network = tensorflow_network(cell.kind, own, cell.path)
        except ValueError as error:
            yield Recognised(cell.path, "", cell.kind, "tensorflow", None, str(error))
        else:
            yield Recognised(cell.path, "", cell.kind, "tensorflow", network)


def _of_single_gates(weights: Weights) -> Iterator[Recognised]:
    """The layers whose gates have arrays of their own; of GRUs there are several variants, which arrays do not show."""
    for found in gate_arrays(weights):
        network, reason = None, ""
        if "reset_after" in KINDS[found.kind].options:
            reason = f"its equations are not known: give reset_after=True or False to {found.kind}.from_arrays"
        elif found.joined:
            reason = f'give joined="xh" or "hx" to {found.kind}.from_arrays: names do not show the order of the columns'
        else:
            try:
                network = mapped_network(found.kind, weights, found.roles)
            except ValueError as error:
                reason = str(error)
        yield Recognised(found.prefix, "", found.kind, "arrays", network, reason, found.roles)
