"""Builds the module of a SavedModel: of its signature, a graph; or of the function that computes its outputs.

Reference: tensorflow/core/protobuf/saved_model.proto, meta_graph.proto
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ....files import read_file
from ...errors import ContentError, naming_file, shown
from ...formats import SAVED_MODEL as FILE
from ...tensorflow.checkpoint import VALUE, read_saved_model_variables
from ...tensorflow.messages import SAVED_MODEL, VARIABLE
from ...tensorflow.wire import Message, from_wire
from ..loaded import Loaded
from .building import HANDLES, Builder, Variable
from .graphs import Function, Graph, Node, Ref, graph_of, strings_of
from .objects import traced_function, trained
from .signatures import ports_and_outputs

__all__ = ["model_of"]

SERVING = "serving_default"
OF_SERVING = "serve"  # the tag of the graph for inference
INTERNAL = "__saved_model"  # the beginning of the names of signatures that are not for users
MOST_NAMED = 20
MOST_DIGITS = 64  # in the description of a part, for each dimension

RESTORES, ASSIGNS = "RestoreV2", frozenset(("AssignVariableOp", "Assign"))
PART = re.compile(r"[\d ]+ ((?:\d+,\d+|-)(?::(?:\d+,\d+|-))*)")


def model_of(path: Path, states: Mapping[str, str] | None = None) -> Loaded:
    """The module of a SavedModel: its signature "serving_default", or the only one; without one, its function.

    Args:
        path: the folder, or its `saved_model.pb`.

    Raises:
        OSError, ValueError: as `load_model`.
    """
    folder = path if path.is_dir() else path.parent
    arrays = read_saved_model_variables(folder)
    with naming_file(path):
        content = read_file(folder / FILE)
        graphs = from_wire(content, SAVED_MODEL)["meta_graphs"]
        if not graphs:
            raise ContentError("a SavedModel without a graph")
        message = next((each for each in graphs if OF_SERVING in each["meta_info_def"]["tags"]), graphs[0])
        graph = graph_of(message["graph_def"])
        size = len(content) + sum(array.nbytes for array in arrays.values())
        signature = _signature(message["signature_def"])
        if signature is None:
            traced = traced_function(message["object_graph_def"], graph, arrays)
            return Builder(traced.graph, traced.variables, size).built(
                folder.name, traced.ports, traced.outputs, states
            )
        ports, outputs = ports_and_outputs(signature)
        variables = _variables(message, graph, arrays)
        return Builder(graph, variables, size).built(folder.name, ports, outputs, states)


def _signature(signatures: Mapping[str, Message]) -> Message | None:
    """The signature of inference; None if there are none."""
    own = {name: each for name, each in signatures.items() if not name.startswith(INTERNAL)}
    if len(own) > 1 and SERVING not in own:
        raise ContentError(f"expected a signature {SERVING!r}, or only one; it has {', '.join(map(shown, own))}")
    return own.get(SERVING, next(iter(own.values()), None))


# -- variables ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Saved:
    """Where the value of a variable is in the checkpoint: its key there, and the part of it that it is."""

    key: str
    part: str


def _variables(message: Message, graph: Graph, arrays: Mapping[str, HostArray]) -> dict[str, Variable]:
    """The variables that the graph has, by the names of their nodes.

    The graph's own nodes say how variables are restored from the checkpoint.
    """
    saved = dict(_restored(graph))
    of_objects = trained(message["object_graph_def"], arrays)
    listed = set(_listed_as_trained(message))
    found: dict[str, Variable] = {}
    missing = []
    for node in graph.main.nodes.values():
        if node.op not in HANDLES:
            continue
        name = _name_of(node)
        place = saved.get(node.name, _Saved(name, ""))
        array = arrays.get(place.key.removesuffix(VALUE), arrays.get(place.key))
        if array is None and node.name in saved:
            missing.append(name)
        if array is None:
            continue
        own = _part(name, array, place.part)
        is_trained = of_objects.get(place.key.removesuffix(VALUE), not listed or name in listed)
        found[node.name] = Variable(name, own, is_float(own.dtype) and is_trained)
    if missing and not arrays:
        raise ContentError("missing is its file variables/variables.index")
    if missing:
        raise ContentError(f"the checkpoint has no arrays {', '.join(map(shown, missing[:MOST_NAMED]))}")
    return found


def _name_of(node: Node) -> str:
    """The name of a variable, which may differ from that of its node."""
    shared = node.attributes.get("shared_name")
    return (str(shared["s"], "utf-8", "backslashreplace") if shared else "") or node.name


def _listed_as_trained(message: Message) -> Iterator[str]:
    """The names of the variables that TensorFlow 1 trains."""
    collection = message["collection_def"].get("trainable_variables")
    for content in collection["bytes_list"]["value"] if collection else []:
        yield from_wire(content, VARIABLE)["variable_name"].partition(":")[0]


def _restored(graph: Graph) -> Iterator[tuple[str, _Saved]]:
    """The variables that the graph's nodes restore, by the names of their nodes."""
    yield from _assigned(graph.main, {})
    for node in graph.main.nodes.values():
        for value in (node.attributes[name] for name in ("f",) if name in node.attributes):
            function = graph.functions.get(value["func"]["name"])
            if function is not None and any(each.op == RESTORES for each in function.nodes.values()):
                handles = {own.node: ref.node for own, ref in zip(function.inputs, node.inputs, strict=False)}
                yield from _assigned(function, handles)


def _assigned(function: Function, handles: Mapping[str, str]) -> Iterator[tuple[str, _Saved]]:
    """The variables to which a function assigns what it reads from a checkpoint."""
    for node in function.nodes.values():
        if node.op not in ASSIGNS or len(node.inputs) < 2:
            continue
        variable, value = (_source(function, ref) for ref in node.inputs[:2])
        restore = function.nodes.get(value.node)
        if restore is None or restore.op != RESTORES or len(restore.inputs) < 3:
            continue
        keys, parts = (strings_of(function.nodes.get(ref.node)) for ref in restore.inputs[1:3])
        if value.output < min(len(keys), len(parts)):
            yield handles.get(variable.node, variable.node), _Saved(keys[value.output], parts[value.output])


def _source(function: Function, ref: Ref) -> Ref:
    """The value that a chain of Identity nodes passes on."""
    for _ in function.nodes:
        node = function.nodes.get(ref.node)
        if node is None or node.op != "Identity" or not node.inputs:
            break
        ref = node.inputs[0]
    return ref


def _part(name: str, array: HostArray, part: str) -> HostArray:
    """The part of an array that a variable is: "4 3 0,2:-" is that of rows 0 and 1 of a shape (4, 3)."""
    if not part:
        return array
    found = PART.fullmatch(part)
    if found is None:
        raise ContentError(f"{shown(name)} is the part {shown(part)} of an array")
    index = []
    parts = found[1].split(":")
    if len(parts) > array.ndim or len(part) > MOST_DIGITS * array.ndim:
        raise ContentError(f"{shown(name)} is the part {shown(part)} of an array of shape {array.shape}")
    for each in parts:
        if each == "-":
            index.append(slice(None))
        else:
            start, length = map(int, each.split(","))
            index.append(slice(start, start + length))
    return np.ascontiguousarray(array[tuple(index)])
