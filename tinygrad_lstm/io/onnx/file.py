"""Weights of ONNX models: their initialisers, and the LSTM, GRU and RNN nodes that take them.

Reference: https://onnx.ai/onnx/operators/ and onnx.proto, which describes the format.
"""

import math
import sys
from collections import ChainMap, Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ...backends.base import HostArray
from ..atomic import naming_errors
from ..contents import FileLayer, Kind, Weights
from ..dtypes import BFLOAT16, elements
from ..errors import ContentError, naming_file, shown

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

    Attributes = Mapping[str, AttributeProto]

__all__ = ["OnnxUnavailableError", "read_onnx"]

DIRECTIONS = ("forward", "reverse", "bidirectional")
KINDS: dict[str, Kind] = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "RNN"}
STANDARD = ("", "ai.onnx")  # what the set of ONNX's own operators is called

# The inputs that are weights, by place, and the activations that the layers here have.
WEIGHTS: dict[Kind, dict[str, int]] = {
    "LSTM": {"W": 1, "R": 2, "B": 3, "P": 7},
    "GRU": {"W": 1, "R": 2, "B": 3},
    "RNN": {"W": 1, "R": 2, "B": 3},
}
ACTIVATIONS: dict[Kind, list[str]] = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}

MOST_DIMENSIONS = 32

# The types of elements that NumPy has, and bfloat16, and which field of a tensor has them where it has no raw bytes.
TYPES = {
    "FLOAT": ("float32", "float_data"),
    "DOUBLE": ("float64", "double_data"),
    "FLOAT16": ("float16", "int32_data"),
    "BFLOAT16": (BFLOAT16, "int32_data"),
    "COMPLEX64": ("complex64", "float_data"),
    "COMPLEX128": ("complex128", "double_data"),
    "BOOL": ("bool", "int32_data"),
    "INT8": ("int8", "int32_data"),
    "INT16": ("int16", "int32_data"),
    "INT32": ("int32", "int32_data"),
    "INT64": ("int64", "int64_data"),
    "UINT8": ("uint8", "int32_data"),
    "UINT16": ("uint16", "int32_data"),
    "UINT32": ("uint32", "uint64_data"),
    "UINT64": ("uint64", "uint64_data"),
}
FIELD_TYPES = {
    "float_data": "float32",
    "double_data": "float64",
    "int32_data": "int32",
    "int64_data": "int64",
    "uint64_data": "uint64",
}


Scope: TypeAlias = "ChainMap[str, _Stored]"
"""What names stand for in a graph: what it has itself, and what the graphs around it have."""


class OnnxUnavailableError(RuntimeError):
    """onnx is not installed."""


def read_onnx(path: Path) -> Weights:
    """The initialisers of an ONNX model by name, and its LSTM, GRU and RNN nodes by theirs, in the graph's order.

    A node without a name has that of its first output. Weights that come from a Constant node are among the arrays,
    under the name of its output. bfloat16 is given as float32; tensors of texts are left out. Nothing in a file is run.
    The onnx package, by which it is read, may take up to 100 times its size in memory if it is made for that.

    Raises:
        OnnxUnavailableError: onnx is not installed.
        OSError: the file is not there or cannot be read.
        ValueError: it is no ONNX file, is cut off or damaged, has its data in another file, or has sparse arrays or
            elements of a type that NumPy lacks.
    """
    with naming_file(path):
        contents = _Contents()
        model = _parsed(path)
        contents.add_graph(model.graph, ChainMap())
        for function in model.functions:
            contents.add_nodes(function.node, ChainMap())
        return Weights(contents.arrays, contents.layers, contents.types)


def _parsed(path: Path) -> "ModelProto":
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from onnx import ModelProto
    except ImportError as error:
        raise OnnxUnavailableError("ONNX files need onnx: pip install 'tinygrad-lstm[onnx]'") from error
    with open(path, "rb") as file, naming_errors(path):
        content = file.read()
    try:
        model: ModelProto = ModelProto.FromString(content)
    except DecodeError as error:
        raise ContentError("not a whole ONNX file") from error
    if not model.HasField("graph") or not model.opset_import:
        raise ContentError("not a whole ONNX file: it has no graph, or no version of the operators")
    return model


@dataclass
class _Stored:
    """A tensor that a name in a graph stands for, and as which of the arrays it is read, once it is."""

    name: str
    tensor: "TensorProto"
    read_as: str | None = None


class _Contents:
    """What has been found so far in a model and in the graphs within its nodes."""

    def __init__(self) -> None:
        self.arrays: dict[str, HostArray] = {}
        self.layers: dict[str, FileLayer] = {}
        self.types: dict[str, str] = {}
        self._copies: Counter[str] = Counter()

    def add_graph(self, graph: "GraphProto", scope: Scope) -> None:
        """Adds the arrays of a graph, to whose scope they are added too, and its nodes."""
        for sparse in graph.sparse_initializer:
            raise ContentError(f"the array {shown(_name(sparse.values.name))} is sparse; only whole ones are read")
        own = set()
        for tensor in graph.initializer:
            name = _name(tensor.name)
            if name in own:
                raise ContentError(f"two arrays are called {shown(name)}")
            own.add(name)
            if tensor.data_type != tensor.STRING:
                scope[name] = _Stored(name, tensor)
                self._read(scope[name])
        self.add_nodes(graph.node, scope)

    def add_nodes(self, nodes: "Iterable[NodeProto]", scope: Scope) -> None:
        """Adds the recurrent nodes, and the graphs within nodes, such as the body of a loop."""
        for node in nodes:
            kind = KINDS.get(node.op_type) if node.domain in STANDARD else None
            if kind:
                name = next((_name(name) for name in [node.name, *node.output] if name), kind)
                self.layers[self._unique(name, self.layers)] = self._layer(kind, node, scope)
            elif node.op_type == "Constant" and node.output:
                name = _name(node.output[0])
                for each in node.attribute:
                    if each.name == "value":
                        scope[name] = _Stored(name, each.t)
            for attribute in node.attribute:
                for graph in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                    self.add_graph(graph, scope.new_child())

    def _layer(self, kind: Kind, node: "NodeProto", scope: Scope) -> FileLayer:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        roles, unsupported = self._roles(kind, node, scope)
        direction = _text(attributes["direction"].s) if "direction" in attributes else "forward"
        if direction not in DIRECTIONS:
            unsupported.append(f"the direction {shown(direction)}")
        bidirectional = direction == "bidirectional"
        activations = _activations(kind, attributes, bidirectional)
        relu = kind == "RNN" and activations == ["relu"] * (1 + bidirectional)
        if not relu and activations != ACTIVATIONS[kind] * (1 + bidirectional):
            unsupported.append(f"the activations {shown(', '.join(activations))}")
        if "clip" in attributes:
            unsupported.append(f"sums clipped at {attributes['clip'].f:g}")
        if _number(attributes, "input_forget"):
            unsupported.append("coupled input and forget gates")
        return FileLayer(
            kind,
            "onnx",
            [roles],
            reverse=direction == "reverse",
            bidirectional=bidirectional,
            reset_after=kind != "GRU" or bool(_number(attributes, "linear_before_reset")),
            nonlinearity="relu" if relu else "tanh",
            batch_first=bool(_number(attributes, "layout")),
            unsupported=unsupported,
        )

    def _roles(self, kind: Kind, node: "NodeProto", scope: Scope) -> tuple[dict[str, str], list[str]]:
        """The names of a node's weights by their roles, and in words which of them are not in the file."""
        roles, elsewhere = {}, []
        for role, place in WEIGHTS[kind].items():
            name = _name(node.input[place]) if place < len(node.input) else ""
            if name and name in scope:
                roles[role] = self._read(scope[name])
            elif name:
                elsewhere.append(f"a {role} that the file does not hold")
        return roles, elsewhere

    def _read(self, stored: _Stored) -> str:
        """The name of an array, which is read if it was not yet."""
        if stored.read_as is None:
            stored.read_as = self._unique(stored.name, self.arrays)
            self.arrays[stored.read_as] = _array(stored.read_as, stored.tensor)
            if stored.tensor.data_type == stored.tensor.BFLOAT16:
                self.types[stored.read_as] = BFLOAT16
        return stored.read_as

    def _unique(self, name: str, taken: Container[str]) -> str:
        """A name that is not taken: this one, or this one and a number."""
        free = name
        while free in taken:
            self._copies[name] += 1
            free = f"{name}_{self._copies[name]}"
        return free


def _array(name: str, tensor: "TensorProto") -> HostArray:
    """The elements of a tensor, of which there must be as many as its shape has."""
    if tensor.data_location == tensor.EXTERNAL:
        raise ContentError(
            f"the array {shown(name)} lies in another file, which is not followed; save the model in one file,"
            " with torch by torch.onnx.export(..., external_data=False)"
        )
    types = {number: type_name for type_name, number in tensor.DataType.items()}
    type_name = types.get(tensor.data_type, str(tensor.data_type))
    if type_name not in TYPES:
        raise ContentError(f"the array {shown(name)} has elements of {type_name}, which NumPy lacks")
    if len(tensor.dims) > MOST_DIMENSIONS:
        raise ContentError(f"the array {shown(name)} has more than {MOST_DIMENSIONS} dimensions")
    own_type, field = TYPES[type_name]
    try:
        if tensor.HasField("raw_data"):
            array = elements(bytearray(tensor.raw_data), own_type)
        else:
            array = _from_numbers(getattr(tensor, field), own_type, FIELD_TYPES[field])
        shape = tuple(tensor.dims)
        if array.size != math.prod(shape):
            raise ContentError(f"{array.size} elements do not have the shape {shape}")
        return array.reshape(shape)
    except (ContentError, ValueError) as error:
        raise ContentError(f"the array {shown(name)} is damaged: {error}") from error


def _from_numbers(numbers: Sequence[int | float], own_type: str, field_type: str) -> HostArray:
    """Elements that are written as numbers of another type; float16 and bfloat16 are written as their bits."""
    wide = np.fromiter(numbers, field_type, len(numbers))
    if own_type.startswith("complex"):
        return elements(bytearray(wide), own_type, sys.byteorder)
    bits = own_type in ("float16", BFLOAT16)
    narrow = wide.astype("uint16" if bits else own_type)
    if not np.array_equal(narrow, wide, equal_nan=True):
        raise ContentError(f"numbers that no {own_type} holds")
    return elements(bytearray(narrow), own_type, sys.byteorder) if bits else narrow


def _activations(kind: Kind, attributes: "Attributes", bidirectional: bool) -> list[str]:
    """The names of all directions' activations in small letters; where none are given, those that every node has."""
    given = attributes["activations"].strings if "activations" in attributes else []
    return [_text(name).lower() for name in given] or ACTIVATIONS[kind] * (1 + bidirectional)


def _number(attributes: "Attributes", name: str) -> int:
    return int(attributes[name].i) if name in attributes else 0


def _name(text: str | bytes) -> str:
    """A text of the model, which protobuf gives as bytes if it is not UTF-8."""
    if isinstance(text, bytes):
        raise ContentError("an ONNX file that is damaged: a name in it is not UTF-8")
    return text


def _text(text: bytes) -> str:
    return text.decode(errors="replace")
