"""ONNX graphs in the making, and the ways in which exporters store or make a layer's weights."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["WAYS", "Graph", "Way", "by_gates", "constant", "initialiser", "ints", "reshaped", "transposed"]

HostArray = np.ndarray[Any, Any]


def ints(*numbers: int) -> HostArray:
    return np.array(numbers, np.int64)


@dataclass
class Graph:
    """A graph in the making, and what is to be given to it."""

    nodes: list[NodeProto] = field(default_factory=list)
    arrays: dict[str, HostArray] = field(default_factory=dict)
    inputs: dict[str, HostArray] = field(default_factory=dict)

    def node(self, kind: str, *inputs: str | HostArray, name: str = "", **attributes: Any) -> str:
        """Adds a node, with arrays as initialisers; returns the name of its output."""
        names = [each if isinstance(each, str) else self.array(each) for each in inputs]
        output = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    def array(self, array: HostArray, name: str = "") -> str:
        name = name or f"array_{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def given(self, name: str, array: HostArray) -> str:
        self.inputs[name] = array
        return name

    def model(self, *outputs: str) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
            for name, array in self.inputs.items()
        ]
        given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        arrays = [numpy_helper.from_array(array, name) for name, array in self.arrays.items()]
        graph = helper.make_graph(self.nodes, "graph", inputs, given, arrays)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def saved(self, path: Path, *outputs: str) -> Path:
        onnx.save(self.model(*outputs), path)
        return path


# -- how an array comes to a node --------------------------------------------------------------------------------------

Way = Callable[[Graph, str, HostArray], str]


def initialiser(g: Graph, name: str, array: HostArray) -> str:
    return g.array(array, name)


def constant(g: Graph, name: str, array: HostArray) -> str:
    return g.node("Constant", name=name, value=numpy_helper.from_array(array))


def by_gates(g: Graph, name: str, array: HostArray) -> str:
    """Cut in two by Slice, and put together by Concat, as exporters reorder gates."""
    half = array.shape[1] // 2
    turned = g.array(np.concatenate([array[:, half:], array[:, :half]], 1))
    split = array.shape[1] - half
    first = g.node("Slice", turned, ints(split), ints(2**63 - 1), ints(1))
    last = g.node("Slice", turned, ints(0), ints(split), ints(1), ints(1))
    return g.node("Concat", first, last, name=name, axis=1)


def one_by_one(g: Graph, name: str, array: HostArray) -> str:
    """Each direction by itself, with a dimension less."""
    rows = [g.node("Unsqueeze", g.array(each), ints(0)) for each in array]
    return g.node("Concat", *rows, name=name, axis=0)


def transposed(g: Graph, name: str, array: HostArray) -> str:
    """As Keras has it."""
    return g.node("Transpose", g.array(np.ascontiguousarray(array.T)), name=name)


def reshaped(g: Graph, name: str, array: HostArray) -> str:
    flat = g.node("Squeeze", g.node("Identity", g.array(array.reshape(1, -1))), ints(0))
    return g.node("Reshape", flat, ints(*array.shape), name=name)


def widened(g: Graph, name: str, array: HostArray) -> str:
    return g.node("Cast", g.array(array.astype(np.float64)), name=name, to=TensorProto.FLOAT)


def picked(g: Graph, name: str, array: HostArray) -> str:
    places = ints(*range(array.shape[1]))[::-1]
    return g.node("Gather", g.array(array[:, ::-1]), places, name=name, axis=1)


WAYS = [initialiser, constant, by_gates, one_by_one, transposed, reshaped, widened, picked]
