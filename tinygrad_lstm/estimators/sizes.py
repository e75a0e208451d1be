"""The sizes that an estimator's file claims."""

import math
from collections.abc import Mapping
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.models.atlas import known_cell

__all__ = ["check_sizes"]


def check_sizes(parameters: Mapping[str, Any], features: Any, weights: Mapping[str, HostArray]) -> None:
    """Compares the parameters with the arrays, before a network of these sizes is made.

    So a file from an unknown source cannot ask for more memory than its own size.

    Raises:
        ValueError: they are different.
    """
    if type(features) is not int or features < 1:
        raise ValueError(f"expected a number of features, got {features!r:.50}")
    found = sum(array.size for name, array in weights.items() if name.startswith("network."))
    layers, H, directions = parameters["num_layers"], parameters["hidden_size"], 1 + bool(parameters["bidirectional"])
    if layers > len(weights):
        raise ValueError(f"there are {len(weights)} arrays for {layers} layers")
    kind = known_cell("the parameters", parameters["cell"])
    outputs = next(iter(kind.state_shapes_of(H).values()))[0] * directions
    sizes = [features] + [outputs] * (layers - 1)
    shapes = [shape for size in sizes for shape in kind.parameter_shapes(size, H).values()]
    expected = directions * sum(map(math.prod, shapes))
    if expected != found:
        raise ValueError(f"the parameters are of a network of {expected} numbers; the file has {found}")
