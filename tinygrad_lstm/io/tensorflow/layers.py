"""Keras's recurrent layers among the arrays of TensorFlow's files."""

from collections.abc import Mapping
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from ..contents import FileLayer
from ..keras.config import described_layers
from ..keras.hdf5 import Hdf5Contents
from ..keras.layers import recurrent_layers as keras_layers

__all__ = ["recurrent_layers"]

OF_OPTIMIZER = ".OPTIMIZER_SLOT"  # within the path of a value that an optimizer keeps beside a variable


def recurrent_layers(arrays: Mapping[str, HostArray], topology: Any = None) -> dict[str, FileLayer]:
    """The recurrent layers among arrays whose names end as Keras's do, by their paths.

    Args:
        arrays: the arrays of a file.
        topology: the config of a Keras model with its version, as it is in the `model.json` of TensorFlow.js.
    """
    own = {name: array for name, array in arrays.items() if OF_OPTIMIZER not in name}
    if not isinstance(topology, dict):
        return keras_layers(Hdf5Contents(own, {"": {}}), [])
    groups = list(dict.fromkeys(name.split("/")[0] for name in own if "/" in name))
    strings = {"": {"layer_names": groups, "keras_version": [str(topology.get("keras_version", ""))]}}
    return keras_layers(Hdf5Contents(own, strings), described_layers(topology.get("model_config")))
