"""LSTM, GRU and RNN nodes with every attribute: a loaded model computes what onnxruntime does."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper, save
from onnx_nodes import Drawn, drawn_nodes
from onnx_runs import run
from onnxruntime import InferenceSession
from onnxruntime.quantization import quantize_dynamic

import tinygrad_lstm as tg


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx") / "model.onnx"


@settings(max_examples=100)
@given(drawn=drawn_nodes())
def test_a_model_computes_what_the_node_does(path: Path, drawn: Drawn) -> None:
    outputs = ["Y", "Y_h", "Y_c"][: 3 if drawn.kind == "LSTM" else 2]
    model = tg.io.load_model(drawn.graph.saved(path, *outputs))
    with tg.no_grad():
        actual = model(**drawn.graph.inputs)
    for ours, theirs in zip(actual, run(drawn.graph, *outputs), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.numpy(), theirs, 1e-4, 1e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_quantized_by_onnxruntime(tmp_path: Path, direction: str) -> None:
    """It rounds weights, inputs and states to 8 bits; here only the weights are rounded."""
    D = 2 if direction == "bidirectional" else 1
    some = np.random.default_rng(0).uniform
    weights = {"W": (D, 32, 6), "R": (D, 32, 8), "B": (D, 64), "initial_h": (D, 3, 8), "initial_c": (D, 3, 8)}
    arrays = {name: some(-0.5, 0.5, shape).astype("float32") for name, shape in weights.items()}
    node = helper.make_node(
        "LSTM", ["X", "W", "R", "B", "", "initial_h", "initial_c"], ["Y", "Y_h"], "rnn", hidden_size=8
    )
    node.attribute.append(helper.make_attribute("direction", direction))
    x = some(-1, 1, (7, 3, 6)).astype("float32")
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("Y", "Y_h")],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "whole.onnx")
    path = tmp_path / "small.onnx"
    quantize_dynamic(tmp_path / "whole.onnx", path)
    model, whole = tg.io.load_model(path), tg.io.load_model(tmp_path / "whole.onnx")
    assert [step.op for step in model.body.steps] == ["DynamicQuantizeLSTM"]
    assert whole.state_dict().keys() == {name.replace("_quant", "") for name in model.state_dict()}
    expected = InferenceSession(path).run(None, {"X": x})
    with tg.no_grad():
        for ours, theirs in zip(model(x), expected, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, atol=0.01)
