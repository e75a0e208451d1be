"""The inputs and outputs of a graph: those of its signature, or of a graph without one."""

from __future__ import annotations

from ...dtypes import array_dtype
from ...errors import ContentError, shown
from ...tensorflow.messages import ARRAY_TYPES, TYPE_NAMES
from ...tensorflow.wire import Message
from ..ports import Port
from .graphs import Graph, Ref, attribute_of

__all__ = ["ends_of", "port_of", "ports_and_outputs"]

NOT_OUTPUTS = frozenset(("NoOp", "Const", "Placeholder", "Assert"))


def ports_and_outputs(signature: Message) -> tuple[dict[Ref, Port], dict[str, Ref]]:
    """The inputs of a signature, by the values of the graph that they are, and the values that are its outputs.

    Raises:
        ContentError: an input is of a type that tensors cannot have.
    """
    ports = {
        _ref(info["name"]): port_of(name, info["dtype"], info["tensor_shape"])
        for name, info in sorted(signature["inputs"].items())
    }
    outputs = {name: _ref(info["name"]) for name, info in sorted(signature["outputs"].items())}
    return ports, outputs


def _ref(name: str) -> Ref:
    node, _, output = name.partition(":")
    return Ref(node, int(output) if output.isdigit() and len(output) < 7 else 0)


def port_of(name: str, dtype: int, shape: Message) -> Port:
    """An input with the number of its element type, and its shape.

    Raises:
        ContentError: tensors cannot have this type.
    """
    type_name = TYPE_NAMES.get(dtype, "")
    if type_name not in ARRAY_TYPES:
        raise ContentError(f"its input {shown(name)} is of the type {type_name}, which tensors cannot have")
    lengths = None if shape["unknown_rank"] else _lengths(name, [dim["size"] for dim in shape["dim"]])
    return Port(name, lengths, array_dtype(type_name).name, guessed=True)


def _lengths(name: str, shape: list[int] | tuple[int, ...]) -> tuple[int | str, ...]:
    """A shape with names for its free lengths, which are negative."""
    return tuple(length if length >= 0 else f"{name}_{k}" if k else "batch" for k, length in enumerate(shape))


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
            lengths = None if shape is None else _lengths(node.name, shape)
            ports[Ref(node.name, 0)] = Port(node.name, lengths, "" if dtype is None else dtype.name, guessed=True)
    return ports, {
        name: Ref(name, 0) for name, node in nodes.items() if name not in taken and node.op not in NOT_OUTPUTS
    }
