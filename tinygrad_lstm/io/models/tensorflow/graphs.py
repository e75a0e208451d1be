"""TensorFlow's graphs and functions, from their messages.

Reference: tensorflow/core/framework/graph.proto, function.proto, node_def.proto
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tinygrad_lstm.backends.base import HostArray

from ...dtypes import array_dtype
from ...errors import ContentError, shown
from ...tensorflow.messages import ARRAY_TYPES, TYPE_NAMES
from ...tensorflow.tensors import array_of
from ...tensorflow.wire import Message

__all__ = ["OUTPUTS", "Function", "Graph", "Node", "Ref", "attribute_of", "graph_of", "ordered", "strings_of"]

CONTROL = "^"  # before the name of a node that runs before, and of which no value is used
LATER = re.compile(r":(\d+)$")

# The names of outputs, of the ops that have several which are not one list.
OUTPUTS = {
    "BlockLSTM": ("i", "cs", "f", "o", "ci", "co", "h"),
    "BlockLSTMV2": ("i", "cs", "f", "o", "ci", "co", "h"),
    "CudnnRNN": ("output", "output_h", "output_c", "reserve_space"),
    "CudnnRNNV2": ("output", "output_h", "output_c", "reserve_space", "host_reserved"),
    "CudnnRNNV3": ("output", "output_h", "output_c", "reserve_space", "host_reserved"),
    "FusedBatchNorm": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV2": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV3": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2", "reserve_space_3"),
    "GRUBlockCell": ("r", "u", "c", "h"),
    "LSTMBlockCell": ("i", "cs", "f", "o", "ci", "co", "h"),
    "Switch": ("output_false", "output_true"),
    "Merge": ("output", "value_index"),
    "TensorListPopBack": ("output_handle", "tensor"),
    "TopKV2": ("values", "indices"),
    "Unique": ("y", "idx"),
    "TensorArrayV3": ("handle", "flow"),
    "TensorArrayConcatV3": ("value", "lengths"),
    "Moments": ("mean", "variance"),
}


class Ref(NamedTuple):
    """An output of a node, or an input of a function."""

    node: str
    output: int


@dataclass(frozen=True)
class Node:
    """A node of a graph.

    Attributes:
        inputs: the values that it takes.
        attributes: see `attribute_of`.
        runs_after: the names of nodes that run before it.
    """

    name: str
    op: str
    inputs: tuple[Ref, ...]
    attributes: Mapping[str, Message]
    runs_after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Function:
    """A function, or the whole graph, which has no inputs and outputs.

    Attributes:
        inputs: its arguments.
        outputs: what it returns.
    """

    name: str
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]
    nodes: Mapping[str, Node]


@dataclass(frozen=True)
class Graph:
    """A graph, and the functions that it and they call."""

    main: Function
    functions: Mapping[str, Function]


def graph_of(message: Message) -> Graph:
    """The graph of a message.

    Raises:
        ContentError: two nodes or functions have one name, or an input is invalid.
    """
    outputs = {
        each["signature"]["name"]: [arg["name"] for arg in each["signature"]["output_arg"]]
        for each in message["library"]["function"]
    }
    main = Function("", (), (), _nodes(message["node"], outputs, ()))
    functions: dict[str, Function] = {}
    for each in message["library"]["function"]:
        signature = each["signature"]
        name, inputs = signature["name"], tuple(arg["name"] for arg in signature["input_arg"])
        if name in functions:
            raise ContentError(f"two functions are called {shown(name)}")
        nodes = _nodes(each["node_def"], outputs, inputs)
        returned = []
        for arg in signature["output_arg"]:
            if arg["name"] not in each["ret"]:
                raise ContentError(f"the function {shown(name)} does not return {shown(arg['name'])}")
            returned.append(_ref(each["ret"][arg["name"]], {n.name: n.op for n in nodes.values()}, outputs))
        functions[name] = Function(name, tuple(Ref(each, 0) for each in inputs), tuple(returned), nodes)
    return Graph(main, functions)


def _nodes(messages: Iterable[Message], outputs: Mapping[str, list[str]], inputs: tuple[str, ...]) -> dict[str, Node]:
    messages = list(messages)
    ops = {each["name"]: each["op"] for each in messages}
    if len(ops) < len(messages) or not ops.keys().isdisjoint(inputs):
        raise ContentError("two nodes have the same name")
    return {
        each["name"]: Node(
            each["name"],
            each["op"],
            tuple(_ref(name, ops, outputs) for name in each["input"] if not name.startswith(CONTROL)),
            each["attr"],
            tuple(name[1:] for name in each["input"] if name.startswith(CONTROL)),
        )
        for each in messages
    }


def _ref(text: str, ops: Mapping[str, str], outputs: Mapping[str, list[str]]) -> Ref:
    """The value with this name: "node", "node:1", or in functions "node:output:1"."""
    name, *rest = text.split(":")
    if len(rest) > 2 or not all(part.isascii() and part.isdigit() and len(part) < 7 for part in rest[-1:]):
        raise ContentError(f"the input {shown(text)} is not the name of a value")
    output = int(rest[-1]) if rest else 0
    if len(rest) == 2:
        op = ops.get(name, "")
        names = OUTPUTS.get(op) or outputs.get(op) or ()
        output += names.index(rest[0]) if rest[0] in names else 0
    return Ref(name, output)


def ordered(function: Function, wanted: Iterable[Ref]) -> Iterator[Node]:
    """The nodes that values depend on, each after those whose values it takes.

    Raises:
        ContentError: a node is missing, or depends on itself.
    """
    where = f"the function {shown(function.name)}" if function.name else "the graph"
    done: set[str] = {ref.node for ref in function.inputs}
    begun: set[str] = set()
    stack = [ref.node for ref in reversed(list(wanted))]
    while stack:
        name = stack[-1]
        if name in done:
            stack.pop()
            continue
        node = function.nodes.get(name)
        if node is None:
            raise ContentError(f"{where} has no node {shown(name)}")
        missing = [ref.node for ref in node.inputs if ref.node not in done]
        if not missing:
            done.add(name)
            stack.pop()
            yield node
            continue
        if name in begun:
            raise ContentError(f"{where} has a cycle, through the node {shown(name)}")
        begun.add(name)
        stack += reversed(missing)


def attribute_of(name: str, value: Message) -> Any:
    """An attribute as a value of Python's: an integer, float, bool or string; the dtype of a type that has arrays, else
    None; a shape, with None for a length or rank that is free; an array; the name of a function; or a list of these."""
    for kind, each in value.items():
        if kind == "list":
            return [item for of_kind, items in each.items() for item in (_attribute(name, of_kind, i) for i in items)]
        return _attribute(name, kind, each)
    return None


def _attribute(name: str, kind: str, value: Any) -> Any:
    match kind:
        case "s":
            return str(value, "utf-8", "backslashreplace")
        case "type":
            type_name = TYPE_NAMES.get(value, "")
            return array_dtype(type_name) if type_name in ARRAY_TYPES else None
        case "shape":
            return None if value["unknown_rank"] else tuple(dim["size"] for dim in value["dim"])
        case "tensor":
            return _array(name, value)
        case "func":
            return value["name"]
    return value


def _array(name: str, value: Message) -> HostArray | None:
    """The array of a tensor, or None for one of strings."""
    return array_of(name, value) if TYPE_NAMES.get(value["dtype"]) in ARRAY_TYPES else None


def strings_of(node: Node | None) -> list[str]:
    """The strings of a constant; none if it is not one."""
    if node is None or node.op != "Const" or "value" not in node.attributes:
        return []
    return [str(each, "utf-8", "backslashreplace") for each in node.attributes["value"]["tensor"]["string_val"]]
