"""ONNX graphs run in onnxruntime, and small ones with a GRU."""

from typing import Any

import numpy as np
import onnxruntime
from onnx import helper
from onnx_graphs import Graph

HostArray = np.ndarray[Any, Any]

QUIET = onnxruntime.SessionOptions()
QUIET.intra_op_num_threads = 1
QUIET.log_severity_level = 4


def run(g: Graph, *outputs: str) -> list[HostArray]:
    """What onnxruntime computes of a graph."""
    session = onnxruntime.InferenceSession(g.model(*outputs).SerializeToString(), QUIET)
    found: list[HostArray] = session.run(None, g.inputs)
    return found


SOME = np.random.default_rng(0)


def small(*shape: int) -> HostArray:
    return SOME.uniform(-1, 1, shape).astype(np.float32)


def gru(g: Graph, W: str, R: str, name: str) -> None:
    g.nodes.append(helper.make_node("GRU", ["X", W, R], [f"{name}_Y"], name, hidden_size=4))
