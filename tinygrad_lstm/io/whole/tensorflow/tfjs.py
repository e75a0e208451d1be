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
from ..loaded import Loaded, Port
from .building import Builder
from .graphs import Graph, Ref, attribute_of, graph_of
from .keras_arrays import arrays_by_layer
from .saved_model import ports_and_outputs

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
            return built(config, version, title, lambda model, _: arrays_by_layer(model, weights))
        except RecursionError as error:
            raise ContentError("the model is nested too deeply") from error


def _of_graph(
    model: Mapping[str, Any], topology: Any, weights: Weights, title: str, states: Mapping[str, str] | None
) -> Loaded:
    graph = graph_of(from_json(topology, GRAPH))
    given = model.get("signature") or (model.get("userDefinedMetadata") or {}).get("signature")
    if given is None:
        ports, outputs = _ends(graph)
    else:
        ports, outputs = ports_and_outputs(from_json(given, SIGNATURE))
    size = len(str(topology)) + sum(array.nbytes for array in weights.values())
    return Builder(graph, {}, size, weights).built(title, ports, outputs, states)


def _ends(graph: Graph) -> tuple[dict[Ref, Port], dict[str, Ref]]:
    """The inputs and outputs of a graph without a signature: its placeholders, and values that nothing takes."""
    nodes = graph.main.nodes
    taken = {ref.node for node in nodes.values() for ref in node.inputs}
    ports = {}
    for node in nodes.values():
        if node.op == "Placeholder":
            dtype, shape = (
                attribute_of(name, node.attributes[name]) if name in node.attributes else None
                for name in ("dtype", "shape")
            )
            lengths = shape and tuple(
                length if length >= 0 else f"{node.name}_{k}" if k else "batch" for k, length in enumerate(shape)
            )
            ports[Ref(node.name, 0)] = Port(node.name, lengths, "" if dtype is None else dtype.name)
    idle = {"NoOp", "Const", "Placeholder"}
    return ports, {name: Ref(name, 0) for name, node in nodes.items() if name not in taken and node.op not in idle}
