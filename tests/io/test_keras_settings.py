"""Every setting of a Keras layer is used, has no part in what the layer computes, or is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_files import ROLES, Arrays, Config, cell, layer, layers_of, model, older, write_hdf5, write_keras
from weight_files import lstm_steps

import tinygrad_lstm as tg
from tinygrad_lstm.io import FileLayer, Weights, load_weights
from tinygrad_lstm.io.recognition import recognised
from tinygrad_lstm.models import GRU, LSTM, RNN

DIRECTIONS = ("forward", "backward")

# Every setting that Keras 2.0 to 3.15 writes into the config of an LSTM, and what its value is by default.
LSTM_CONFIG: Config = {
    "name": "lstm", "trainable": True, "dtype": "float32", "batch_input_shape": [None, 5, 3], "input_dim": 3,
    "input_length": None, "return_sequences": False, "return_state": False, "go_backwards": False, "stateful": False,
    "unroll": False, "time_major": False, "zero_output_for_mask": False, "units": 2, "activation": "tanh",
    "recurrent_activation": "sigmoid", "use_bias": True, "kernel_initializer": {}, "recurrent_initializer": {},
    "bias_initializer": {}, "unit_forget_bias": True, "kernel_regularizer": None, "recurrent_regularizer": None,
    "bias_regularizer": None, "activity_regularizer": None, "kernel_constraint": None, "recurrent_constraint": None,
    "bias_constraint": None, "dropout": 0.0, "recurrent_dropout": 0.0, "implementation": 2, "seed": None,
    "use_cudnn": "auto", "num_constants": None, "quantization_config": None,
}  # fmt: skip
USED: dict[str, Any] = {
    "go_backwards": True, "time_major": True, "activation": "relu", "recurrent_activation": "hard_sigmoid",
}  # fmt: skip


def only_layer(folder: Path, config: Config, arrays: Arrays | None = None) -> FileLayer:
    (found,) = layers_of(folder, model(config), arrays or cell("layers/lstm/cell", 4)).values()
    return found


def test_all_settings_of_keras_are_known(tmp_path: Path) -> None:
    found = only_layer(tmp_path, layer("LSTM", **LSTM_CONFIG))
    assert not found.unsupported and not found.undecided and not found.reverse and found.batch_first


@pytest.mark.parametrize("setting", LSTM_CONFIG)
def test_each_setting_is_used_or_has_no_part(tmp_path: Path, setting: str) -> None:
    """A different value either changes how the layer is described, or changes no output."""
    usual = only_layer(tmp_path, layer("LSTM", **LSTM_CONFIG))
    other = {"num_constants": 1, "quantization_config": {"mode": "int8"}, **USED}.get(setting, "another")
    found = only_layer(tmp_path, layer("LSTM", **{**LSTM_CONFIG, setting: other}))
    if setting in (*USED, "num_constants", "quantization_config"):
        assert found != usual
    else:
        assert found == FileLayer(**{**vars(usual), "name": found.name})


@pytest.mark.parametrize("where", ["layer", "cell", "runner", "Bidirectional", "layer in Bidirectional"])
def test_settings_that_are_not_known_are_refused_by_name(tmp_path: Path, where: str) -> None:
    odd = {"peepholes\x1b": True}
    arrays = cell("layers/lstm/cell", 4)
    config = layer("LSTM", **odd)
    if where == "cell":
        config, arrays = layer("RNN", cell=layer("LSTMCell", **odd)), cell("layers/rnn/cell", 4)
    elif where == "runner":
        config, arrays = layer("RNN", cell=layer("LSTMCell"), **odd), cell("layers/rnn/cell", 4)
    elif "Bidirectional" in where:
        inner = layer("LSTM", **odd) if "layer" in where else layer("LSTM")
        config = layer("Bidirectional", layer=inner, **({} if "layer" in where else odd))
        ways = [cell(f"layers/bidirectional/{way}_layer/cell", 4) for way in ("forward", "backward")]
        arrays = ways[0] | ways[1]
    found = only_layer(tmp_path, config, arrays)
    assert tuple(found.unsupported) == (r"the setting 'peepholes\x1b'",)
    with pytest.raises(ValueError, match="a layer with the setting"):
        LSTM.from_keras(Weights(arrays, {"x": found}))


@pytest.mark.parametrize(
    "config",
    [
        layer("LSTM", inner_activation="hard_sigmoid"),  # Keras 1
        layer("SimpleRNN", recurrent_activation="sigmoid"),
        layer("LSTM", reset_after=True),
        layer("SimpleRNN", unit_norm=None),
    ],
)
def test_settings_of_other_layers_are_not_known(tmp_path: Path, config: Config) -> None:
    kind, gates = config["class_name"], {"LSTM": 4, "SimpleRNN": 1}[config["class_name"]]
    path = {"LSTM": "lstm", "SimpleRNN": "simple_rnn"}[kind]
    (setting,) = config["config"]
    assert tuple(only_layer(tmp_path, config, cell(f"layers/{path}/cell", gates)).unsupported) == (
        f"the setting {setting!r}",
    )


@pytest.mark.parametrize("module", ["__main__", "keras_contrib.layers", "my.keras"])
def test_user_defined_classes_are_named(tmp_path: Path, module: str) -> None:
    for own in ("keras.layers", "tf_keras.src.layers", "tensorflow.python.keras.layers", None):
        assert not only_layer(tmp_path, {**layer("LSTM"), "module": own}).unsupported
    found = only_layer(tmp_path, {**layer("LSTM"), "module": module, "registered_name": "LSTM"})
    assert tuple(found.unsupported) == ("the class 'LSTM'",)


def test_arrays_beside_those_of_the_layer_are_named(tmp_path: Path) -> None:
    extra = {"layers/lstm/cell/vars/3": np.ones(2), "layers/lstm/cell/norm/vars/0": np.ones(2)}
    extra |= {"layers/lstm/cell/seed_generator/vars/0": np.ones(2, np.int64)}
    found = only_layer(tmp_path, {}, cell("layers/lstm/cell", 4) | extra)
    assert sorted(found.unsupported) == [
        "the array 'layers/lstm/cell/norm/vars/0'",
        "the array 'layers/lstm/cell/vars/3'",
    ]


# --- Weights alone, whose config is lost ----------------------------------------------------------


def weights_alone(folder: Path, version: str | None, arrays: Arrays) -> Path:
    texts = {"layer_names": [b"a", b"b"]} | ({} if version is None else {"keras_version": version})
    return write_hdf5(folder / "weights.h5", arrays, {"/": texts})


@pytest.mark.parametrize("version", ["2.2.4", "2.1.6-tf", "2.2.4-tf", "1.2.2", "", None, "new"])
@pytest.mark.parametrize(("kind", "gates"), [(LSTM, 4), (GRU, 3)])
def test_before_keras_2_3_the_gates_are_not_known(
    tmp_path: Path, version: str | None, kind: type[LSTM] | type[GRU], gates: int
) -> None:
    path = weights_alone(tmp_path, version, older("a/a", gates))
    with pytest.raises(ValueError, match=r"hard_sigmoid, .* give recurrent_activation='sigmoid' or 'hard_sigmoid'"):
        kind.from_keras(path, "a")
    assert [found.network for found in recognised(load_weights(path))] == [None]
    assert kind.from_keras(path, "a", recurrent_activation="sigmoid").hidden_size == 2
    of_old = kind.from_keras(path, "a", recurrent_activation="hard_sigmoid")
    assert of_old.activations[0] == ("hard_sigmoid", 0.2, 0.5)
    with pytest.raises(ValueError, match="expected recurrent_activation to be 'sigmoid' or 'hard_sigmoid', got 'relu'"):
        kind.from_keras(path, "a", recurrent_activation="relu")  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["2.3.0", "2.3.0-tf", "2.15.0", "3.15.1", "10.0.0"])
def test_since_keras_2_3_the_gates_are_sigmoid(tmp_path: Path, version: str) -> None:
    assert LSTM.from_keras(weights_alone(tmp_path, version, older("a/a", 4)), "a").hidden_size == 2


def test_a_layer_without_gates_needs_no_version(tmp_path: Path) -> None:
    assert RNN.from_keras(weights_alone(tmp_path, "2.2.4", older("a/a", 1)), "a").hidden_size == 2


def test_what_the_config_says_is_not_overruled(tmp_path: Path) -> None:
    arrays = cell("layers/lstm/cell", 4)
    found = only_layer(tmp_path, layer("LSTM", recurrent_activation="hard_sigmoid"), arrays)
    with pytest.raises(ValueError, match="its recurrent activation is 'hard_sigmoid'; leave recurrent_activation out"):
        LSTM.from_keras(Weights(arrays, {"lstm": found}), recurrent_activation="sigmoid")


def test_without_biases_a_gru_must_be_said_to_be_one_or_the_other(tmp_path: Path) -> None:
    path = weights_alone(tmp_path, "2.15.0", older("a/a", 3, bias=False))
    arrays = [np.ones((3, 6)), np.ones((2, 6))]
    for weights in (path, arrays):
        with pytest.raises(ValueError, match="both variants of a GRU look alike: give reset_after=True or False"):
            GRU.from_keras(weights)
        assert [GRU.from_keras(weights, reset_after=given).reset_after for given in (True, False)] == [True, False]


def test_a_gru_of_a_keras_that_had_one_variant_only(tmp_path: Path) -> None:
    arrays = {name: array for name, array in cell("layers/gru/cell", 3).items() if not name.endswith("2")}
    assert not only_layer(tmp_path, layer("GRU"), arrays).reset_after


@pytest.mark.parametrize(("kind", "gates"), [(LSTM, 4), (GRU, 3)])
def test_layers_for_cudnn(tmp_path: Path, kind: type[LSTM] | type[GRU], gates: int) -> None:
    """Whether they are recognised by a config, a file of only weights, or arrays in memory."""
    name, bias = kind.__name__, (2 * gates * 2,)
    random = np.random.default_rng(0)
    shapes = [array.shape for array in cell("", gates, bias=bias).values()]
    arrays = dict(zip(ROLES, (random.standard_normal(shape).astype("f4") for shape in shapes), strict=True))
    plain = {  # as Keras 2 converts them for a layer that is not for CuDNN
        "kernel": np.hstack([part.T.reshape(part.shape, order="F") for part in np.hsplit(arrays["kernel"], gates)]),
        "recurrent_kernel": np.hstack([part.T for part in np.hsplit(arrays["recurrent_kernel"], gates)]),
        "bias": np.sum(np.split(arrays["bias"], 2), axis=0) if kind is LSTM else arrays["bias"].reshape(2, -1),
    }
    expected = kind.from_keras([*plain.values()])
    listed = {f"a/a/{role}:0": array for role, array in arrays.items()}
    texts = {"/": {"layer_names": [b"a"], "keras_version": "2.15.0"}}
    path = f"layers/cu_dnn{name.lower()}/cell/vars"
    numbered_ = {f"{path}/{k}": array for k, array in enumerate(arrays.values())}
    archive = write_keras(tmp_path / "a.keras", model(layer(f"CuDNN{name}", name="a")), numbered_)
    for weights in ([*arrays.values()], write_hdf5(tmp_path / "a.h5", listed, texts), archive):
        found = kind.from_keras(weights)
        assert not found.options
        for key, value in expected.state_dict().items():
            np.testing.assert_array_equal(found.state_dict()[key], value)


# --- Configs and arrays that contradict each other --------------------------------------------------


@pytest.mark.parametrize(("config", "left_out", "reason"), [
    ({"use_bias": True}, "2", "missing: layers/lstm/bias"),
    ({"use_bias": False}, "", "the array 'layers/lstm/cell/vars/2', though its config says that it has no bias"),
    ({"units": 7}, "", "arrays of 2 units, though its config says 7"),
])  # fmt: skip
def test_arrays_that_are_not_what_the_config_says(tmp_path: Path, config: Config, left_out: str, reason: str) -> None:
    arrays = {name: array for name, array in cell("layers/lstm/cell", 4).items() if name[-1] != left_out}
    path = write_keras(tmp_path / "a.keras", model(layer("LSTM", **config)), arrays)
    with pytest.raises(ValueError, match=reason):
        LSTM.from_keras(path)


def test_many_unknown_settings_make_a_short_message(tmp_path: Path) -> None:
    config = model(layer("LSTM", **{f"setting_{k}": k for k in range(500)}))
    (found,) = layers_of(tmp_path, config, cell("layers/lstm/cell", 4)).values()
    assert len(found.unsupported) == 4


# --- Optimizers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["optimizer_weights/adam/m/a/a", "optimizer_weights/Adam/a/a/lstm_cell"])
def test_moments_of_an_optimizer_are_not_layers(tmp_path: Path, optimizer: str) -> None:
    arrays = older("model_weights/a/a", 4) | older(optimizer, 4) | {"top/iterations:0": np.ones(1)}
    texts = {"model_weights": {"layer_names": [b"a"], "keras_version": "2.15.0"}}
    weights = load_weights(write_hdf5(tmp_path / "a.h5", arrays, texts))
    assert list(weights.layers) == ["model_weights/a"] and weights.keys() == arrays.keys()


def test_moments_beside_layers_of_keras_3_are_none_either(tmp_path: Path) -> None:
    arrays = cell("layers/lstm/cell", 4) | cell("optimizer/lstm/cell", 4) | cell("optimizer/velocities/lstm_cell", 4)
    assert list(layers_of(tmp_path, model(layer("LSTM")), arrays)) == ["layers/lstm"]


# --- Numbers --------------------------------------------------------------------------------------


def test_sigmoid_gates_are_what_is_computed(tmp_path: Path) -> None:
    """What is taken when the user says so is the equations' σ, which differs from hard_sigmoid by up to 0.5."""
    random = np.random.default_rng(0)
    arrays = {name: random.standard_normal(array.shape).astype("f4") for name, array in older("a/a", 4).items()}
    network = LSTM.from_keras(weights_alone(tmp_path, "2.2.4", arrays), "a", recurrent_activation="sigmoid")
    x = random.standard_normal((1, 6, 3)).astype("f4")
    expected = lstm_steps(x[0], *arrays.values(), gate=lambda z: 1 / (1 + np.exp(-z)))
    other = lstm_steps(x[0], *arrays.values(), gate=lambda z: np.clip(0.2 * z + 0.5, 0, 1))
    out = network(tg.tensor(x))[0].detach().numpy()[0]
    assert np.allclose(out, expected, atol=1e-6) and abs(expected - other).max() > 0.02
