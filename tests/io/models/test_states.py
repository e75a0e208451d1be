"""Inputs that are states, paired with outputs by their names and shapes."""

from pathlib import Path

import numpy as np
import pytest
from golden_models import model_path
from onnx import TensorProto, helper, save

import tinygrad_lstm as tg
from tinygrad_lstm.io.models.ports import Port
from tinygrad_lstm.io.models.states import paired


def ports(names: str, shape: tuple[int | str, ...] | None = (1, "batch", 8), dtype: str = "float32") -> list[Port]:
    return [Port(name, shape, dtype) for name in names.split()]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ("h0", "hn"),
        ("h0 c0", "hn cn"),
        ("h c", "hn cn"),
        ("h_0 c_0", "h_n c_n"),
        ("h c", "h_out c_out"),
        ("h_in c_in", "h_out c_out"),
        ("hx cx", "hy cy"),
        ("h_prev", "h_next"),
        ("state", "stateN"),
        ("hidden_in cell_in", "hidden_out cell_out"),
        ("state_in_0 state_in_1", "state_out_0 state_out_1"),
        ("state_0 state_1", "new_state_0 new_state_1"),
        ("initial_h initial_c", "final_h final_c"),
        ("lstm.h0 gru.h0", "lstm.hn gru.hn"),
        ("cache", "updated_cache"),
        ("encoderStateIn decoderStateIn", "encoderStateOut decoderStateOut"),
    ],
)
def test_names_of_states(inputs: str, outputs: str) -> None:
    expected = dict(zip(inputs.split(), outputs.split(), strict=True))
    for order in (1, -1):
        found = paired(ports(f"x {inputs}"), ports(f"y {outputs}")[::order])
        assert found == expected


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ("input", "output"),
        ("x", "y"),
        ("audio_in", "audio_out"),
        ("lstm_in", "lstm_out"),
        ("h0", "hn h_n"),  # which of them?
        ("h0 h_in", "hn"),
        ("encoder_h", "decoder_h_out"),
        ("h", "c"),
    ],
)
def test_names_that_are_not_paired(inputs: str, outputs: str) -> None:
    assert paired(ports(inputs), ports(outputs)) == {}


def test_shapes_and_dtypes_must_be_equal() -> None:
    h = ports("h0")
    assert paired(h, ports("hn", ("n", "batch", 8))) == paired(h, ports("hn", None, "")) == {"h0": "hn"}
    assert paired(h, ports("hn", (1, "batch", 9))) == paired(h, ports("hn", (1, 8))) == {}
    assert (
        paired(h, ports("hn", dtype="float64")) == paired(ports("h0", dtype="int64"), ports("hn", dtype="int64")) == {}
    )
    several = ("batch", "time", 8)
    assert paired(ports("hidden_states", several), ports("hidden_states_out", several)) == {}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """y = x + a, with the state a of any name."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "a", "y.1", "b")]
    nodes = [helper.make_node("Add", ["x", "a"], ["y.1"]), helper.make_node("Tanh", ["y.1"], ["b"])]
    save(helper.make_model(helper.make_graph(nodes, "g", infos[:2], infos[2:])), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@tg.no_grad()
def test_given_states_start_from_zeros(path: Path) -> None:
    assert tg.io.load_model(path).states == {}
    for name in ("y.1", "y_1"):
        model = tg.io.load_model(path, states={"a": name})
        assert model.states == {"a": "y.1"}
        np.testing.assert_array_equal(model(np.ones((2, 3))).y_1.numpy(), np.ones((2, 3)))


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({"a": "c"}, "'c' is not among the outputs; they are 'y.1', 'b'"),
        ({"z": "b"}, "'z' is not among the inputs; they are 'x', 'a'"),
        ({"a": "b", "x": "b"}, "'x' or 'b' is given twice"),
    ],
)
def test_given_states_that_are_not_there(path: Path, states: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*model\.onnx: states: {message}$"):
        tg.io.load_model(path, states)


def test_many_states_are_paired_in_no_time() -> None:
    """In a time that grows with the number of ports, not with its square."""
    number = 10_000
    before, after = ([Port(f"{k}_{role}_state", (1, 4), "float32") for k in range(number)] for role in ("in", "out"))
    assert len(paired(before, after)) == number
    ambiguous = [Port(f"state_{'in_' * k}", (1, 4), "float32") for k in range(200)]
    assert paired(ambiguous, after + ambiguous) == {}


@pytest.mark.parametrize("name", ["keras3_words", "tf_keras3_lstm", "tf_tfjs_layers", "torch_script_tagger"])
def test_names_that_a_model_does_not_have_are_refused_in_each_format(name: str) -> None:
    path = model_path(name) / "model.json" if name == "tf_tfjs_layers" else model_path(name)
    with pytest.raises(ValueError, match="states: 'h0' is not among the inputs"):
        tg.io.load_model(path, states={"h0": "hn"})


def test_a_pickled_model_has_no_states() -> None:
    with pytest.raises(ValueError, match="has no inputs that are states; leave out states="):
        tg.io.load_model(model_path("torch_pickle_sequential"), states={"h0": "hn"})
