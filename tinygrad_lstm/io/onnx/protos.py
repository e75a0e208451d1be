"""What readers of ONNX files have in common: names, nested graphs, stored arrays.

Reference: onnx.proto.
"""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..errors import ContentError, shown

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["check_names", "constant_of", "domain_of", "stored_arrays", "subgraphs"]


def check_names(model: "ModelProto") -> None:
    """Checks that all names in a model are strings: protobuf returns those that are not UTF-8 as bytes.

    Those of attributes are left to the readers of nodes.

    Raises:
        ContentError: one is not.
    """
    for text in _names(model.graph):
        _check_text(text)
    for function in model.functions:
        own = (function.name, function.domain, *function.input, *function.output)
        for text in itertools.chain(own, *map(_names_of_node, function.node)):
            _check_text(text)


def _check_text(text: str | bytes) -> None:
    if isinstance(text, bytes):
        raise ContentError(f"an ONNX file that is damaged: a name in it is not UTF-8: {shown(text)}")


def _names(graph: "GraphProto") -> Iterator[str | bytes]:
    for port in (*graph.input, *graph.output):
        yield port.name
        kind = port.type.optional_type.elem_type if port.type.HasField("optional_type") else port.type
        yield from (dim.dim_param for dim in kind.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)
    for node in graph.node:
        yield from _names_of_node(node)


def _names_of_node(node: "NodeProto") -> Iterator[str | bytes]:
    yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    for graph in subgraphs(node):
        yield from _names(graph)


def domain_of(domain: str) -> str:
    """A domain, "" for ONNX's own."""
    return "" if domain == "ai.onnx" else domain


def subgraphs(node: "NodeProto") -> "Iterator[GraphProto]":
    """The graphs among the attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def stored_arrays(graph: "GraphProto") -> "Iterator[tuple[str, TensorProto]]":
    """The arrays that a graph stores, by name.

    Raises:
        ContentError: one is sparse, or two have the same name.
    """
    for sparse in graph.sparse_initializer:
        raise _sparse(sparse.values.name)
    own = set()
    for each in graph.initializer:
        if each.name in own:
            raise ContentError(f"two arrays are called {shown(each.name)}")
        own.add(each.name)
        yield each.name, each


def constant_of(node: "NodeProto") -> "TensorProto | HostArray | None":
    """What a Constant node holds; None if it has no numbers.

    Raises:
        ContentError: it is sparse.
    """
    for each in node.attribute:
        if each.ref_attr_name:
            return None
        match each.name:
            case "value":
                tensor: TensorProto = each.t
                return tensor
            case "sparse_value":
                raise _sparse(node.output[0])
            case "value_float":
                return np.array(each.f, np.float32)
            case "value_floats":
                return np.array(each.floats, np.float32)
            case "value_int":
                return np.array(each.i, np.int64)
            case "value_ints":
                return np.array(each.ints, np.int64)
    return None


def _sparse(name: str) -> ContentError:
    return ContentError(f"the array {shown(name)} is sparse; only whole ones are read")
