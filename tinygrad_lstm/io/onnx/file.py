"""Weights of ONNX models: initializers, constants, and the LSTM, GRU and RNN nodes that take them.

Reference: onnx.proto, which describes the format.
"""

import re
from collections import ChainMap, Counter
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.installing import how_to_install

from ...files import read_file
from ...kinds import KINDS
from ..atomic import naming_errors
from ..contents import FileLayer, Weights
from ..dtypes import BFLOAT16
from ..errors import ContentError, naming_file, shown
from .constants import Depends, Term, Unknown, Values, results_of
from .external import read_external
from .nodes import layer_of
from .protos import check_names, constant_of, domain_of, stored_arrays, subgraphs
from .tensors import array_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["OnnxUnavailableError", "parsed", "read_onnx"]

MADE_A_BYTE = 8  # bytes that evaluated constants may take for each byte of the file: int8 as float32, twice

Scope: TypeAlias = ChainMap[str, Term]
"""The tensors of a graph by name, and those of the graphs around it."""


class OnnxUnavailableError(RuntimeError):
    """onnx is not installed."""


def read_onnx(path: Path) -> Weights:
    """The initializers of an ONNX model and its LSTM, GRU and RNN nodes, by name, in the graph's order.

    A node without a name has that of its first output. The arrays include the tensors of Constant nodes, under the name
    of their output, and a recurrent node's weights that the ops in `constants` compute from constants. bfloat16 becomes
    float32; tensors of strings are skipped. No code in a file is run. The onnx package may take up to 100 times the
    file's size in memory for a hostile file.

    Raises:
        OnnxUnavailableError: onnx is not installed.
        OSError: the file is not there or cannot be read.
        ValueError: it is not an ONNX file, is cut off or damaged, has data in files outside of its folder, or has
            sparse arrays or elements of a type that NumPy lacks.
    """
    with naming_file(path):
        model, size = parsed(path)
        functions = {(function.domain, function.name) for function in model.functions}
        contents = _Contents(MADE_A_BYTE * size, functions)
        contents.add_graph(model.graph, ChainMap())
        for function in model.functions:
            unknown = Unknown(
                f"is given to the function {shown(function.name)} where it is called (inline it with "
                "onnx.inliner.inline_local_functions)"
            )
            given = {name: Term(name, stored=unknown) for name in function.input}
            contents.add_nodes(function.node, ChainMap(given))
        return Weights(contents.arrays, contents.layers, contents.types)


def parsed(path: Path) -> "tuple[ModelProto, int]":
    """The content of an ONNX file, with the arrays in files beside it, and the size of all these files in bytes."""
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from onnx import ModelProto
    except ImportError as error:
        raise OnnxUnavailableError(f"ONNX files need onnx: {how_to_install('onnx')}") from error
    with naming_errors(path):
        content = read_file(path)
    try:
        model: ModelProto = ModelProto.FromString(content)
    except DecodeError as error:
        deep = "depth" in str(error).lower()
        more = ": graphs are nested in nodes too deeply" if deep else ""
        raise ContentError(f"not a whole ONNX file{more}") from error
    if not model.HasField("graph") or not model.opset_import:
        raise ContentError("not a whole ONNX file: it has no graph, or no version of the operators")
    check_names(model)
    return model, len(content) + read_external(model, path)


class _Contents:
    """What was found so far in a model and in the graphs within its nodes.

    Args:
        most_made: the most bytes that evaluated constants may take.
        functions: the domains and names of the model's functions.
    """

    def __init__(self, most_made: int, functions: Container[tuple[str, str]]) -> None:
        self.arrays: dict[str, HostArray] = {}
        self.layers: dict[str, FileLayer] = {}
        self.types: dict[str, str] = {}
        self._functions = functions
        self._values = Values(most_made)
        self._copies: Counter[str] = Counter()

    def add_graph(self, graph: "GraphProto", scope: Scope) -> Depends:
        """Adds the arrays and nodes of a graph; returns what of the model's inputs its outputs depend on."""
        for given in graph.input:  # inputs of the model, or of a loop's body
            scope[given.name] = Term(given.name, Depends.VALUES)
        for name, tensor in stored_arrays(graph):
            scope[name] = self._constant(name, tensor)
        self.add_nodes(graph.node, scope)
        outputs = (scope.get(each.name) for each in graph.output)
        return max((term.depends for term in outputs if term is not None), default=Depends.NOTHING)

    def add_nodes(self, nodes: "Iterable[NodeProto]", scope: Scope) -> None:
        """Adds the recurrent nodes and constants, also those in graphs within nodes, such as the body of a loop."""
        for node in nodes:
            domain = domain_of(node.domain)
            inputs = [_term(name, scope) for name in node.input]
            within = [self.add_graph(graph, scope.new_child()) for graph in subgraphs(node)]
            if domain == "" and node.op_type == "Constant" and node.output:
                scope[node.output[0]] = self._constant(node.output[0], constant_of(node))
                continue
            layer = None
            if domain == "" and node.op_type in KINDS:
                layer = layer_of(node, inputs, self._values, self._read)
            elif (node.domain, node.op_type) not in self._functions:
                layer = _layer_of_other(node.domain, node.op_type)
            if layer is not None:
                name = next((name for name in [node.name, *node.output] if name), node.op_type)
                self.layers[self._unique(name, self.layers)] = layer
            if domain == "" and node.op_type == "Identity" and inputs and inputs[0] is not None:
                scope |= {output: inputs[0] for output in node.output}
                continue
            scope |= {term.name: term for term in results_of(node, inputs, max(within, default=Depends.NOTHING))}

    def _constant(self, name: str, tensor: "TensorProto | HostArray | None") -> Term:
        if tensor is None:
            return Term(name, stored=Unknown("is a constant without numbers"))
        if isinstance(tensor, np.ndarray):
            return self._stored(name, tensor)
        if tensor.data_type == tensor.STRING:
            return Term(name, stored=Unknown("holds strings"))
        bfloat16 = tensor.data_type == tensor.BFLOAT16
        return self._stored(name, array_of(name, tensor), BFLOAT16 if bfloat16 else "")

    def _stored(self, name: str, array: HostArray, type_name: str = "") -> Term:
        """A tensor of the file, added to the arrays."""
        term = Term(name, stored=array, read_as=self._unique(name, self.arrays))
        assert term.read_as is not None
        self.arrays[term.read_as] = array
        if type_name:
            self.types[term.read_as] = type_name
        return term

    def _read(self, term: Term) -> str:
        """The name of a tensor among the arrays, to which it is added if it was computed from others."""
        if term.read_as is None:
            array = self._values.copied(term)
            term.read_as = self._unique(term.name, self.arrays)
            self.arrays[term.read_as] = array
        return term.read_as

    def _unique(self, name: str, taken: Container[str]) -> str:
        """This name, with a number if it is taken."""
        free = name
        while free in taken:
            self._copies[name] += 1
            free = f"{name}_{self._copies[name]}"
        return free


def _layer_of_other(domain: str, op: str) -> FileLayer | None:
    """An unsupported layer for a recurrent op that is not ONNX's own; None for other ops."""
    found = re.search("|".join(KINDS), op)
    if found is None:
        return None
    advice = "export the model before quantization" if "Q" in op else "only ONNX's own are read"
    return FileLayer(found[0], "onnx", [{}], unsupported=[f"the op {shown(f'{domain}.{op}')} ({advice})"])


def _term(name: str, scope: Scope) -> Term | None:
    """The tensor that a node's input is; None if it is left out."""
    if not name:
        return None
    return scope.get(name) or Term(name, stored=Unknown("the file does not hold"))
