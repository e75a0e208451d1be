"""Models of TensorFlow: loops that are layers, names, signatures, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_models import arrays, model_path

import tinygrad_lstm as tg
from tinygrad_lstm.io.models.body import Body, Step, captured
from tinygrad_lstm.io.models.tensorflow.control import While
from tinygrad_lstm.io.models.tensorflow.lengths import unmasked
from tinygrad_lstm.io.models.tensorflow.outside import Outside
from tinygrad_lstm.models import GRU, LSTM, RNN


def layers(model: Any) -> dict[str, type]:
    return {name: type(each) for name, each in model.named_modules() if isinstance(each, LSTM | GRU | RNN)}


@pytest.mark.parametrize(("name", "expected"), [
    ("tf_keras3_lstm", {"sequential.lstm.lstm_cell": LSTM}),
    ("tf_keras2", {"lower.lstm_cell": LSTM, "upper.gru_cell": GRU}),
    ("tf_keras3_conv", {"sequential_2.simple_rnn.simple_rnn_cell": RNN}),
    ("tf_tfjs_graph", {"StatefulPartitionedCall.sequential_1.lstm_1": LSTM}),
    ("tf_tfjs_layers", {"lower": LSTM, "upper": GRU}),
    ("tf_keras3_gru", {}),  # its steps are masked
    ("tf_module", {}),
    ("tf1_lstm", {}),  # two cells in one loop
    ("tf1_gru", {"bidirectional_rnn.fw.gru_cell": GRU, "bidirectional_rnn.bw.gru_cell": GRU}),
    ("tf1_lengths", {"rnn.lstm_cell": LSTM}),
])  # fmt: skip
def test_loops_that_are_layers(name: str, expected: dict[str, type]) -> None:
    assert layers(tg.io.load_model(model_path(name))) == expected


def test_a_loop_with_a_different_step_stays_a_loop(tmp_path: Path) -> None:
    """The forget gate's activation is changed to that of the candidate."""
    with_layer = json.loads((model_path("tf_tfjs_graph") / "model.json").read_text())
    shutil.copytree(model_path("tf_tfjs_graph"), tmp_path / "changed")
    for node in with_layer["modelTopology"]["node"]:
        if node["name"].endswith("lstm_cell_1/Sigmoid_1"):
            node["op"] = "Tanh"
    (tmp_path / "changed" / "model.json").write_text(json.dumps(with_layer))
    model = tg.io.load_model(tmp_path / "changed")
    assert layers(model) == {}
    inputs, outputs = arrays("tf_tfjs_graph", "in."), arrays("tf_tfjs_graph", "out.")
    assert not np.allclose(model(**inputs).detach().numpy(), *outputs.values(), atol=1e-3)


@pytest.mark.parametrize(("name", "message"), [
    ("variables.index", "missing is its file variables/variables.index"),
    ("variables.data-00000-of-00001", r"variables\.index: missing are the files 'variables\.data-00000-of-00001'"),
])  # fmt: skip
def test_files_of_variables_that_are_missing_are_named(tmp_path: Path, name: str, message: str) -> None:
    folder = Path(shutil.copytree(model_path("tf_keras3_lstm"), tmp_path / "copy"))
    (folder / "variables" / name).unlink()
    with pytest.raises(ValueError, match=message):
        tg.io.load_model(folder)


def test_a_model_is_traced_and_exported(tmp_path: Path) -> None:
    model = tg.io.load_model(model_path("tf_keras3_lstm"))
    (x,), (expected,) = arrays("tf_keras3_lstm", "in.").values(), arrays("tf_keras3_lstm", "out.").values()
    trace = tg.inspect.trace(model, tg.tensor(x))
    assert "sequential.lstm.lstm_cell" in str(trace)
    tg.io.export_onnx(model, tmp_path / "again.onnx")
    again = tg.io.load_model(tmp_path / "again.onnx")
    np.testing.assert_allclose(again(x).detach().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["tf_keras3_lstm", "tf_tfjs_graph", "tf1_lstm", "tf1_frozen"])
def test_a_model_is_streamed(name: str) -> None:
    (x,), (expected,) = arrays(name, "in.").values(), arrays(name, "out.").values()
    stream = tg.io.load_model(model_path(name)).stream(len(x))
    chunks = [stream(x[:, start:end]) for start, end in ((0, 2), (2, 3), (3, 5))]
    found = np.concatenate([each.numpy() if isinstance(each, tg.Tensor) else each for each in chunks], 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("name", "message"), [
    ("tf1_static", r"reads the result of 'le' as Python numbers.* \(the node 'rnn_1/cond'\)"),
    ("tf_keras3_conv", r"the file fixes the number of steps of its inputs, .* \(batch, 8, 6, 2\) float32, so it"),
    ("tf_module", r"it loops over the steps, .* \(the node 'while/strided_slice'\)"),
    ("tf1_block", r"it loops over the steps, .* \(the node 'BlockLSTM'\)"),
    ("tf1_gru", "the model cannot be computed step by step: .*ReverseSequence"),
])  # fmt: skip
def test_models_that_cannot_be_streamed_say_why(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        tg.io.load_model(model_path(name)).stream(2)
    assert str(raised.value).isprintable()


LENGTHS = ["step = GreaterEqual(t, lengths)", "new = Exp(h)", "out = Select(step, zeros, new)"]


@pytest.mark.parametrize(("last", "result", "zeros", "expected"), [
    ("kept = Select(step, h, new)", "kept", 0.0, True),
    ("kept = Select(step, h, new)", "kept", 1.0, False),  # the outputs after a length are not zeros
    ("kept = Select(step, new, h)", "kept", 0.0, False),
    ("kept = Select(step, zeros, new)", "kept", 0.0, False),  # the state after a length is not kept
    ("kept = Mul(step, new)", "kept", 0.0, False),  # whether it ended is used otherwise
    ("kept = Select(step, h, new)", "new", 0.0, False),  # nothing is kept
])  # fmt: skip
def test_loops_over_sequences_of_different_lengths(last: str, result: str, zeros: float, expected: bool) -> None:
    steps = []
    for line in [*LENGTHS, last]:
        name, op, *inputs = line.replace(" = ", " ").replace("(", " ").replace(",", "").rstrip(")").split()
        steps.append(Step(op, tuple, tuple(inputs), (name,)))
    body = Body(("t", "h"), tuple(steps), ("t", result))
    found = unmasked(While(body, body, captured(body)), Outside({"zeros": np.full((), zeros, "f4")}, {}))
    assert (found is not None) == expected
    if found:
        assert (found.lengths, found.kept, found.body.outputs) == ("lengths", {1}, ("t", "new"))
        assert [step.op for step in found.body.steps] == ["Exp"]


def test_a_length_that_is_too_long_is_refused() -> None:
    x = arrays("tf1_lengths", "in.")["x"]
    with pytest.raises(ValueError, match="LSTM: expected 3 lengths, integers from 0 to 5, got"):
        tg.io.load_model(model_path("tf1_lengths"))(x=x, lengths=[4, 6, 2])


def test_loops_are_traced_apart() -> None:
    traced = tg.inspect.trace(tg.io.load_model(model_path("tf_keras3_gru")), **arrays("tf_keras3_gru", "in."))
    assert [(layer.name, layer.shape) for layer in traced] == [("scan", (5, 2, 4)), ("scan_2", (5, 2, 4))]


@pytest.mark.parametrize("name", ["tf1_lstm", "tf_keras3_gru"])
def test_other_loops_over_time_are_scans(name: str, tmp_path: Path) -> None:
    model = tg.io.load_model(model_path(name))
    assert {step.op for step in model.body.steps} & {"scan", "While"} == {"scan"}
    tg.io.export_onnx(model, tmp_path / "again.onnx")
    again = tg.io.load_model(tmp_path / "again.onnx")
    (x,), (expected,) = arrays(name, "in.").values(), arrays(name, "out.").values()
    np.testing.assert_allclose(again(x).detach().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "expected"), [
    ("tf_keras2_whole", ["batch_normalization.moving_mean", "batch_normalization.moving_variance"]),
    ("tf_keras3_conv", [f"sequential_2.batch_normalization.moving_{name}_1" for name in ("mean", "variance")]),
    ("tf1_gru", []),
])  # fmt: skip
def test_statistics_of_a_training_set_are_buffers(name: str, expected: list[str]) -> None:
    model = tg.io.load_model(model_path(name))
    assert sorted(name for name, _ in model.named_buffers()) == expected


def field(number: int, *content: bytes) -> bytes:
    """A field of a protobuf message: a string, or a message of these fields; shorter than 128 bytes."""
    joined = b"".join(content)
    return bytes([8 * number + 2, len(joined)]) + joined


def functions(**traces: int) -> bytes:
    """The objects of a SavedModel: functions, each with a number of graphs."""
    children = [field(1, bytes([8, k + 1]), field(2, name.encode())) for k, name in enumerate(traces)]
    return field(1, *children) + b"".join(field(1, field(6, field(1, b"f") * number)) for number in traces.values())


@pytest.mark.parametrize(("objects", "message"), [
    (b"", "it has no signature, and no function with a graph; save it with signatures="),
    (functions(__call__=0), "no function with a graph; '__call__' was not called before it was saved; save it with"),
    (functions(encode=1, decode=1), "it has no signature, but several functions: 'encode', 'decode'; save it with"),
    (functions(__call__=2), "its function '__call__' has 2 graphs, of calls with different arguments; save it with"),
    (field(1, field(1, bytes([8, 7]))), "there is no object 7"),
])  # fmt: skip
def test_a_saved_model_without_a_signature_or_a_function_is_refused(
    tmp_path: Path, objects: bytes, message: str
) -> None:
    (tmp_path / "saved_model.pb").write_bytes(field(2, field(7, objects)))
    with pytest.raises(ValueError, match=message):
        tg.io.load_model(tmp_path)


def test_missing_variables_are_named(tmp_path: Path) -> None:
    shutil.copytree(model_path("tf_module"), tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / "variables")
    shutil.copytree(model_path("tf_keras3_lstm") / "variables", tmp_path / "saved" / "variables")
    with pytest.raises(ValueError, match=r"the checkpoint has no arrays '[uw]', '[uw]'$"):
        tg.io.load_model(tmp_path / "saved")


def test_missing_weights_of_a_keras_model_are_named(tmp_path: Path) -> None:
    shutil.copytree(model_path("tf_tfjs_layers"), tmp_path / "js")
    path = tmp_path / "js" / "model.json"
    model = json.loads(path.read_text())
    weights = model["weightsManifest"][0]["weights"]
    weights[0]["name"] = "other/kernel"
    path.write_text(json.dumps(model))
    with pytest.raises(ValueError, match=r"not those of the model in its config: missing .*; unused 'other/kernel'"):
        tg.io.load_model(path)


def test_a_saved_model_by_its_file_and_with_states() -> None:
    folder = model_path("tf1_block")
    assert repr(tg.io.load_model(folder / "saved_model.pb")) == repr(tg.io.load_model(folder))
