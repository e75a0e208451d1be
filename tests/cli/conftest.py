"""A text, and a short run on it; a model in a file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import succeed
from onnx import helper, numpy_helper
from small_book import TEXT, TINY


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, book: Path) -> tuple[Path, str]:
    """The folder of a short run, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "deep" / "er"
    return out, succeed("train", "--data", book, "--out", out, "--steps", 30, *TINY)


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of one layer, x (steps, batch, 3) to y.0 and sum (steps, batch, 5)."""
    arrays = {"fc.weight": np.arange(15, dtype="f4").reshape(3, 5) / 15, "fc.bias": np.ones(5, "f4")}
    nodes = [
        helper.make_node("MatMul", ["x", "fc.weight"], ["product"]),
        helper.make_node("Add", ["product", "fc.bias"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["y.0"]),
    ]
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["steps", "batch", 3])]
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("y.0", "sum")]
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    path = tmp_path_factory.mktemp("models") / "head.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", inputs, outputs, initializers)), path)
    return path
