"""LSTM, GRU and RNN nodes with every attribute: a loaded model computes what onnxruntime does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper, save
from onnx_nodes import Drawn, assert_close, drawn_nodes
from onnxruntime import InferenceSession
from onnxruntime.quantization import quantize_dynamic

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU


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
    for ours, theirs in zip(actual, drawn.run(*outputs), strict=True):
        assert_close(ours.numpy(), theirs)


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


@pytest.mark.parametrize(
    ("weights", "attributes", "message"),
    [
        ({"R": (1, 16, 5)}, {}, r"W \(\(16, 3\), expected .*R \(\(16, 5\), expected"),
        ({"W": (16, 3), "R": (16, 4)}, {}, "misshapen: W .*, R "),
        ({"B": (1, 31)}, {}, r"misshapen: B \(\(1, 31\)"),
        ({}, {"hidden_size": 5}, "hidden_size is 5, but R is of shape"),
        ({}, {"direction": "both"}, "an? LSTM with the direction 'both'"),
        ({}, {"clip": "high"}, "the attribute 'clip' of type STRING"),
        ({}, {"activations": ["Tanh"]}, "the activations 'tanh'"),
        ({}, {"activations": ["Affine", "Tanh", "Tanh"]}, "the activation affine without alpha or beta"),
        ({}, {"unknown": 1, "other": 1}, "the attribute 'other' .* and the attribute 'unknown'"),
    ],
)
def test_nodes_that_are_refused(tmp_path: Path, weights: Any, attributes: Any, message: str) -> None:
    shapes = {"W": (1, 16, 3), "R": (1, 16, 4), "B": (1, 32), **weights}
    arrays = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes.items()]
    node = helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], "rnn", **attributes)
    ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, None)] for name in ("X", "Y")]
    save(helper.make_model(helper.make_graph([node], "graph", *ports, arrays)), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=f"^[^\n]*the node 'rnn': [^\n]*{message}[^\n]*$"):
        tg.io.load_model(tmp_path / "model.onnx")


def test_weights_that_are_integers_are_refused(tmp_path: Path) -> None:
    arrays = [numpy_helper.from_array(np.ones((1, 16, n), np.int32), name) for name, n in (("W", 3), ("R", 4))]
    node = helper.make_node("LSTM", ["X", "W", "R"], ["Y"], "rnn")
    ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, None)] for name in ("X", "Y")]
    save(helper.make_model(helper.make_graph([node], "graph", *ports, arrays)), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"the node 'rnn': misshapen: W \(int32 .*expected floats"):
        tg.io.load_model(tmp_path / "model.onnx")


def test_nodes_with_the_same_weights_are_one_layer(tmp_path: Path) -> None:
    """As in a loop that is unrolled: training changes the weights of all."""
    some = np.random.default_rng(0).uniform
    arrays = {"W": some(-0.5, 0.5, (1, 9, 3)).astype("float32"), "R": some(-0.5, 0.5, (1, 9, 3)).astype("float32")}
    nodes = [
        helper.make_node("GRU", ["x", "W", "R"], ["", "a"], "first", hidden_size=3),
        helper.make_node("GRU", ["x", "W", "R", "", "", "a"], ["", "b"], "second", hidden_size=3),
        helper.make_node("GRU", ["x", "W", "R", "", "", "b"], ["", "y"], "third", hidden_size=3, direction="reverse"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    path, again = tmp_path / "model.onnx", tmp_path / "again.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    model, x = tg.io.load_model(path), some(-1, 1, (4, 2, 3)).astype("float32")
    assert [name for name, module in model.named_modules() if isinstance(module, GRU)] == ["first"]
    tg.io.export_onnx(model, again)
    for each in (path, again):
        (expected,) = InferenceSession(each).run(None, {"x": x})
        np.testing.assert_allclose(model(x).detach().numpy(), expected, 1e-4, 1e-5)
