"""Streams of loaded models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from golden_models import arrays, model_path
from onnx import TensorProto, helper, numpy_helper

import tinygrad_lstm as tg
from tinygrad_lstm.backends.base import HostArray


def joined(parts: list[Any], time: int) -> HostArray:
    return np.concatenate([part[0] if isinstance(part, tuple) else part for part in parts], time)


def test_keras_words() -> None:
    """Ids, several layers, and only the last output: that of the steps until now."""
    model, ids = tg.io.load_model(model_path("keras3_words")), arrays("keras3_words", "in.")["ids"]
    stream = model.stream(len(ids))
    for end in range(1, ids.shape[1] + 1):
        with tg.no_grad():
            whole = model(ids[:, :end])
        np.testing.assert_allclose(stream(ids[:, end - 1]), whole.numpy(), rtol=0, atol=1e-6)


def test_a_model_of_torch_that_looks_ahead() -> None:
    model, given = tg.io.load_model(model_path("torch_script_vad")), arrays("torch_script_vad", "in.")
    audio = np.tile(given["audio"], (1, 3))
    dynamic = {"audio": {0: "batch", 1: "time"}, "h0": {1: "batch"}, "c0": {1: "batch"}}
    with pytest.raises(ValueError, match=r"looks ahead by 2 steps \(conv1d 'features\.0' by 2\)"):
        model.stream(2, given, dynamic=dynamic)
    start = {name: given[name] for name in ("h0", "c0")}
    stream = model.stream(2, given, dynamic=dynamic, fixed=start, lookahead=2)
    with tg.no_grad():
        whole = model(audio, **start)
    parts = [stream(audio[:, :10]), stream(audio[:, 10:51]), stream(audio[:, 51:])]
    np.testing.assert_allclose(joined([*parts, stream.finish()], 1), whole[0].numpy(), rtol=0, atol=1e-6)


def test_a_backward_direction_is_named() -> None:
    model, given = tg.io.load_model(model_path("torch_script_tagger")), arrays("torch_script_tagger", "in.")
    with pytest.raises(ValueError, match=r"scan 'lstm\.l0_reverse' goes through the sequence backward"):
        model.stream(2, given, dynamic={"ids": {0: "batch", 1: "time"}})


def write_onnx(path: Path, nodes: list[Any], inputs: dict[str, Any], outputs: list[str], weights: Any) -> None:
    graph = helper.make_graph(
        nodes, "model",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def lstm_with_a_head(path: Path, batch: str | int, time: str | int) -> None:
    """x (T, B, 3) to y (T, B, 2), with states that go in and come out."""
    draw: Callable[..., Any] = np.random.default_rng(0).standard_normal
    weights = {name: draw(shape, "float32") for name, shape in {
        "W": (1, 16, 3), "R": (1, 16, 4), "B": (1, 32), "head": (4, 2)
    }.items()}  # fmt: skip
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B", "", "h0", "c0"], ["out", "hn", "cn"], hidden_size=4),
        helper.make_node("Squeeze", ["out", "axes"], ["squeezed"]),
        helper.make_node("MatMul", ["squeezed", "head"], ["y"]),
    ]
    states = {name: [1, batch, 4] for name in ("h0", "c0")}
    outputs = ["y", "hn", "cn"]
    write_onnx(path, nodes, {"x": [time, batch, 3], **states}, outputs, weights | {"axes": np.array([1])})


@pytest.mark.parametrize("batch", ["batch", 1])
def test_states_that_go_in_and_come_out_are_kept(tmp_path: Path, batch: str | int) -> None:
    lstm_with_a_head(tmp_path / "lstm.onnx", batch, "time")
    model = tg.io.load_model(tmp_path / "lstm.onnx", states={"h0": "hn", "c0": "cn"})
    x = np.random.default_rng(1).standard_normal((9, 1, 3)).astype("float32")
    stream = model.stream()
    with tg.no_grad():
        whole = model(x)
    parts = [stream(each) for each in x]
    np.testing.assert_allclose(np.stack([part.y for part in parts]), whole.y.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(parts[-1].hn, whole.hn.numpy(), rtol=0, atol=1e-6)
    h = parts[-1].hn
    with tg.no_grad():
        again = model(x[:1], h0=h, c0=parts[-1].cn)
    np.testing.assert_allclose(stream(x[0]).y, again.y.numpy()[0], rtol=0, atol=1e-6)


def test_a_model_of_one_step(tmp_path: Path) -> None:
    """Its time has a fixed length, and its states say what comes next."""
    lstm_with_a_head(tmp_path / "step.onnx", "batch", 1)
    lstm_with_a_head(tmp_path / "whole.onnx", "batch", "time")
    model, whole = (
        tg.io.load_model(tmp_path / f"{name}.onnx", states={"h0": "hn", "c0": "cn"}) for name in ("step", "whole")
    )
    x = np.random.default_rng(1).standard_normal((9, 1, 2, 3)).astype("float32")
    with tg.no_grad():
        expected = whole(x[:, 0]).y.numpy()
    stream = model.stream(2)
    found = [stream(each).y[0] for each in x[:5]] + [*stream(x[5:]).y[:, 0]]
    np.testing.assert_allclose(np.stack(found), expected, rtol=0, atol=1e-6)
    assert stream.state["h0"].shape == (2, 4)


def test_a_window_that_is_longer_than_the_shortest_examples(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((2, 3, 100)).astype("float32")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    write_onnx(tmp_path / "conv.onnx", nodes, {"x": ["batch", 3, "time"]}, ["y"], {"w": weight})
    model, x = tg.io.load_model(tmp_path / "conv.onnx"), np.ones((1, 3, 120), "float32")
    with tg.no_grad():
        np.testing.assert_allclose(model.stream()(x), model(x).numpy(), rtol=0, atol=1e-5)


def test_what_needs_the_whole_sequence_is_named_as_in_the_file(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], name="/pool/Mean", axes=[0], keepdims=1)]
    write_onnx(tmp_path / "mean.onnx", nodes, {"x": ["time", 2, 3]}, ["y"], {})
    with pytest.raises(ValueError, match=r"mean goes over all steps \(.*'?/pool/Mean'?\)"):
        tg.io.load_model(tmp_path / "mean.onnx").stream()


def test_a_file_that_does_not_say_which_dimension_is_the_time(tmp_path: Path) -> None:
    nodes = [helper.make_node("Tanh", ["x"], ["y"])]
    write_onnx(tmp_path / "tanh.onnx", nodes, {"x": ["rows", "columns", 3]}, ["y"], {})
    model = tg.io.load_model(tmp_path / "tanh.onnx")
    with pytest.raises(ValueError, match=r"does not say which dimension of x .* is the time"):
        model.stream()
    x = np.ones((4, 5, 3), "float32")
    assert model.stream(5, {"x": x}, dynamic={"x": {0: "time", 1: "batch"}})(x[0]).shape == (5, 3)


def test_inputs_without_time_are_named_if_the_model_cannot_be_recorded() -> None:
    with pytest.raises(ValueError, match="as Python numbers") as raised:
        tg.io.load_model(model_path("onnx_vad")).stream()
    assert raised.value.__notes__[-1] == "(inputs that have no time dimension are given by fixed=: sr)"


def test_windows_longer_than_short_examples(tmp_path: Path) -> None:
    weights = {"w": np.random.default_rng(0).standard_normal((2, 1, 64)).astype("float32")}
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    write_onnx(tmp_path / "model.onnx", [node], {"x": ["batch", 1, "time"]}, ["y"], weights)
    model, x = (
        tg.io.load_model(tmp_path / "model.onnx"),
        np.random.default_rng(1).standard_normal((1, 1, 90), "float32"),
    )
    with tg.no_grad():
        whole = model(x).numpy()
        tg.io.export_onnx(model, tmp_path / "again.onnx")
        np.testing.assert_allclose(tg.io.load_model(tmp_path / "again.onnx")(x).numpy(), whole, rtol=0, atol=1e-5)
    stream = model.stream()
    found = joined([stream(x[..., start : start + 30]) for start in (0, 30, 60)], 2)
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5)


def test_windows_of_which_short_examples_have_one(tmp_path: Path) -> None:
    weights = {"w": np.random.default_rng(0).standard_normal((2, 1, 40)).astype("float32")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], strides=[40], pads=[0, 39]),
        helper.make_node("Shape", ["y"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Concat", ["y", "zeros"], ["z"], axis=1),
    ]
    write_onnx(tmp_path / "model.onnx", nodes, {"x": ["batch", 1, "time"]}, ["z"], weights)
    model, x = tg.io.load_model(tmp_path / "model.onnx"), np.random.default_rng(1).standard_normal((1, 1, 90))
    tg.io.export_onnx(model, tmp_path / "again.onnx")
    with tg.no_grad():
        whole = model(x).numpy()
        np.testing.assert_allclose(tg.io.load_model(tmp_path / "again.onnx")(x).numpy(), whole, rtol=0, atol=1e-5)
