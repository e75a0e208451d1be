"""Builds the module of a model of TensorFlow.js: of its graph, or of the config of a Keras model.

Reference: https://github.com/tensorflow/tfjs/blob/master/tfjs-converter/src/executor/graph_model.ts
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...contents import Weights
from ...errors import ContentError, naming_file
from ...tensorflow.messages import GRAPH, SIGNATURE
from ...tensorflow.tfjs import read_model_json
from ...tensorflow.wire import from_json
from ..keras.building import built
from ..loaded import Loaded
from .building import Builder
from .graphs import graph_of
from .keras_arrays import arrays_by_layer
from .signatures import ends_of, ports_and_outputs

__all__ = ["model_of"]


def model_of(path: Path, states: Mapping[str, str] | None = None) -> Loaded:
    """The module of a model of TensorFlow.js.

    Args:
        path: its `model.json`, or the folder with it.

    Raises:
        OSError, ValueError: as `load_model`.
    """
    model, weights = read_model_json(path)
    with naming_file(path):
        topology = model.get("modelTopology")
        if not isinstance(topology, dict):
            raise ContentError("it has weights and no model; tg.io.load_weights reads them")
        title = path.parent.name if path.name == "model.json" else path.name
        try:
            if "node" in topology:
                return _of_graph(model, topology, weights, title, states)
            config = topology.get("model_config", topology)
            version = str(topology.get("keras_version", ""))
            return built(config, version, title, lambda model, _: arrays_by_layer(model, weights), states)
        except RecursionError as error:
            raise ContentError("the model is nested too deeply") from error


def _of_graph(
    model: Mapping[str, Any], topology: Any, weights: Weights, title: str, states: Mapping[str, str] | None
) -> Loaded:
    graph = graph_of(from_json(topology, GRAPH))
    given = model.get("signature") or (model.get("userDefinedMetadata") or {}).get("signature")
    if given is None:
        ports, outputs = ends_of(graph)
    else:
        ports, outputs = ports_and_outputs(from_json(given, SIGNATURE))
    size = len(str(topology)) + sum(array.nbytes for array in weights.values())
    return Builder(graph, {}, size, weights).built(title, ports, outputs, states)
