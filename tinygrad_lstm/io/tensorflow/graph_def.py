"""Frozen graphs of TensorFlow: one message, whose constants are the weights."""

from pathlib import Path

from tinygrad_lstm.backends.dtypes import is_float

from ...files import read_file
from ..contents import Weights
from ..errors import naming_file
from .layers import recurrent_layers
from .messages import ARRAY_TYPES, GRAPH, TYPE_NAMES
from .tensors import array_of
from .wire import from_wire

__all__ = ["read_graph_def"]


def read_graph_def(path: Path) -> Weights:
    """The constants of a graph, by the names of their nodes, that have floats and dimensions.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is cut off or damaged.
    """
    with naming_file(path):
        arrays = {}
        for node in from_wire(read_file(path), GRAPH)["node"]:
            value = node["attr"].get("value")
            if node["op"] == "Const" and value and TYPE_NAMES.get(value["tensor"]["dtype"]) in ARRAY_TYPES:
                array = array_of(node["name"], value["tensor"])
                if is_float(array.dtype) and array.ndim:
                    arrays[node["name"]] = array
        return Weights(arrays, recurrent_layers(arrays))
