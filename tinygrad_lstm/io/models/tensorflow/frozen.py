"""Builds the module of a frozen graph, whose variables are constants and which has no signature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ....files import read_file
from ...errors import naming_file
from ...tensorflow.messages import GRAPH
from ...tensorflow.wire import from_wire
from ..loaded import Loaded, Port
from .building import Builder
from .graphs import Graph, Ref, attribute_of, graph_of

__all__ = ["ends_of", "model_of"]

NOT_OUTPUTS = frozenset(("NoOp", "Const", "Placeholder", "Assert"))


def model_of(path: Path, states: Mapping[str, str] | None = None) -> Loaded:
    """The module of a frozen graph.

    Raises:
        OSError, ValueError: as `load_model`.
    """
    with naming_file(path):
        content = read_file(path)
        graph = graph_of(from_wire(content, GRAPH))
        ports, outputs = ends_of(graph)
        return Builder(graph, {}, len(content)).built(path.name, ports, outputs, states)


def ends_of(graph: Graph) -> tuple[dict[Ref, Port], dict[str, Ref]]:
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
    return ports, {
        name: Ref(name, 0) for name, node in nodes.items() if name not in taken and node.op not in NOT_OUTPUTS
    }
