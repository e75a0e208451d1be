"""Builds the module of a frozen graph, whose variables are constants and which has no signature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ....files import read_file
from ...errors import naming_file
from ...tensorflow.messages import GRAPH
from ...tensorflow.wire import from_wire
from ..loaded import Loaded
from .building import Builder
from .graphs import graph_of
from .signatures import ends_of

__all__ = ["model_of"]


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
