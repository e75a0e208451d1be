"""Keras's files: what is read of them, and what is said of their layers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras_files import ROLES, Arrays, Config, cell, layer, layers_of, model, older, write_hdf5, write_keras
from safetensors.numpy import load_file

from tinygrad_lstm.io import FileLayer, load_weights
from tinygrad_lstm.models import LSTM

FILES = Path(__file__).parents[1] / "golden" / "files"


def numbered(*paths: str) -> list[dict[str, str]]:
    """The arrays of cells in the layout of Keras 3."""
    return [{role: f"{path}/cell/vars/{k}" for k, role in enumerate(ROLES)} for path in paths]


def named(*paths: str, suffix: str = "") -> list[dict[str, str]]:
    """The arrays of cells in the older layout."""
    return [{role: f"{path}/{role}{suffix}" for role in ROLES} for path in paths]


def keras(kind: Any, arrays: list[dict[str, str]], name: str, **options: Any) -> FileLayer:
    return FileLayer(kind, "keras", arrays, batch_first=True, name=name, **options)


def two_ways(name: str, within: str) -> FileLayer:
    """A layer of keras2_lstm.h5."""
    cells = [f"model_weights/{name}/{name}/{way}_{within}/lstm_cell" for way in ("forward", "backward")]
    return keras("LSTM", named(*cells, suffix=":0"), name, bidirectional=True)


LSTM_STACK = {
    "layers/lstm": keras("LSTM", numbered("layers/lstm"), "encoder"),
    "layers/lstm_1": keras("LSTM", numbered("layers/lstm_1"), "decoder"),
}
BOTH_WAYS = numbered("layers/bidirectional/forward_layer", "layers/bidirectional/backward_layer")
SUMMARY = named("model_weights/summary/summary/simple_rnn_cell")
GOLDEN = {
    "keras_lstm.keras": LSTM_STACK,
    "keras.weights.h5": LSTM_STACK,
    "keras_bidirectional.keras": {"layers/bidirectional": keras("LSTM", BOTH_WAYS, "both_ways", bidirectional=True)},
    "keras_gru.keras": {"layers/gru": keras("GRU", numbered("layers/gru"), "gru")},
    "keras_gru_before.keras": {"layers/gru": keras("GRU", numbered("layers/gru"), "gru", reset_after=False)},
    "keras_rnn.h5": {"model_weights/summary": keras("RNN", SUMMARY, "summary", nonlinearity="relu")},
    "keras2_lstm.h5": {
        "model_weights/lower": two_ways("lower", "lstm"),
        "model_weights/upper": two_ways("upper", "lstm_1"),
    },
    "keras2_gru_weights.h5": {"summary": keras("GRU", named("summary/summary/gru_cell", suffix=":0"), "summary")},
}


# --- What Keras wrote -----------------------------------------------------------------------------


@pytest.mark.parametrize("file", GOLDEN)
def test_files_of_keras(file: str) -> None:
    weights = load_weights(FILES / file)
    expected = load_file(FILES / f"{file.partition('.')[0]}.expected.safetensors")
    arrays = {name.removeprefix("file."): array for name, array in expected.items() if name.startswith("file.")}
    assert weights.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(weights[name], array) and weights[name].dtype == array.dtype
        assert weights[name].flags.writeable and weights[name].flags.c_contiguous
    assert list(weights.layers.items()) == list(GOLDEN[file].items())


def test_neither_keras_nor_h5py_is_needed() -> None:
    program = f"""
import sys
sys.modules["h5py"] = sys.modules["keras"] = None
from tinygrad_lstm.io import load_weights
assert list(load_weights({str(FILES / "keras_lstm.keras")!r}).layers) == ["layers/lstm", "layers/lstm_1"]
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# --- What a config says ---------------------------------------------------------------------------

UNSUPPORTED = {
    "the activation 'sparsemax'": layer("LSTM", activation="sparsemax"),
    "the activation 'PReLU'": layer("LSTM", activation=layer("PReLU")),
    "the recurrent activation 'swoosh'": layer("LSTM", recurrent_activation="swoosh"),
    "the class 'PeepholeLSTMCell'": layer("RNN", cell=layer("PeepholeLSTMCell")),
    "the class 'LSTM'": {**layer("LSTM"), "registered_name": "mine>LSTM"},
}


@pytest.mark.parametrize("words", UNSUPPORTED)
def test_settings_that_the_layers_here_do_not_have(tmp_path: Path, words: str) -> None:
    one = UNSUPPORTED[words]
    path = {"RNN": "rnn"}.get(one["class_name"], "lstm")
    (found,) = layers_of(tmp_path, model(one), cell(f"layers/{path}/cell", 4)).values()
    assert found.kind == "LSTM" and tuple(found.unsupported) == (words,)


@pytest.mark.parametrize(
    ("version", "settings", "activations"),
    [
        ("3.15.1", {"recurrent_activation": "hard_sigmoid"}, ("hard_sigmoid", "tanh", "tanh")),
        ("2.15.0", {"recurrent_activation": "hard_sigmoid"}, (("hard_sigmoid", 0.2, 0.5), "tanh", "tanh")),
        ("3.15.1", {"activation": "relu"}, ("sigmoid", "relu", "relu")),
        ("3.15.1", {"activation": "linear", "recurrent_activation": "swish"}, ("silu", "identity", "identity")),
        ("3.15.1", {"activation": "leaky_relu"}, ("sigmoid", ("leaky_relu", 0.2), ("leaky_relu", 0.2))),
        ("2.15.0", {"activation": layer("LeakyReLU", alpha=0.5)}, ("sigmoid", *[("leaky_relu", 0.5)] * 2)),
        ("3.15.1", {"activation": layer("function") | {"config": "gelu"}}, ("sigmoid", "gelu", "gelu")),
    ],
)
def test_activations_have_the_meaning_of_the_version(
    tmp_path: Path, version: str, settings: Config, activations: tuple[object, ...]
) -> None:
    arrays = cell("layers/lstm/cell", 4)
    path = write_keras(tmp_path / "a.keras", model(layer("LSTM", **settings)), arrays, version=version)
    (found,) = load_weights(path).layers.values()
    assert (found.activations, found.unsupported) == (activations, ())
    assert LSTM.from_keras(path).activations == activations


def test_several_such_settings_are_all_named(tmp_path: Path) -> None:
    one = layer("LSTM", activation="sparsemax", recurrent_activation="swoosh")
    (found,) = layers_of(tmp_path, model(one), cell("layers/lstm/cell", 4)).values()
    assert tuple(found.unsupported) == ("the activation 'sparsemax'", "the recurrent activation 'swoosh'")


@pytest.mark.parametrize(
    "config",
    [
        layer("LSTM", stateful=True, dropout=0.5, recurrent_dropout=0.5, unroll=True, implementation=1),
        layer("LSTM", return_sequences=True, return_state=True, unit_forget_bias=False, use_bias=True),
        layer("RNN", cell=layer("LSTMCell", units=2)),
    ],
)
def test_settings_that_change_nothing(tmp_path: Path, config: Config) -> None:
    path = f"layers/{config['class_name'].lower()}"
    expected = FileLayer("LSTM", "keras", numbered(path), batch_first=True)
    assert layers_of(tmp_path, model(config), cell(f"{path}/cell", 4)) == {path: expected}


def test_what_runs_a_cell_through_time_says_how(tmp_path: Path) -> None:
    config = layer("RNN", cell=layer("SimpleRNNCell", activation="relu"), go_backwards=True, time_major=True)
    (found,) = layers_of(tmp_path, model(config), cell("layers/rnn/cell", 1)).values()
    assert found.kind == "RNN" and found.reverse and not found.batch_first and found.nonlinearity == "relu"


def test_cells_on_cells_are_layers_in_their_order(tmp_path: Path) -> None:
    cells = [layer("GRUCell", name="low", reset_after=False), layer("LSTMCell", name="high", activation="sparsemax")]
    config = model(layer("RNN", cell=layer("StackedRNNCells", cells=cells), go_backwards=True))
    path = "layers/rnn/cell/cells"
    found = layers_of(tmp_path, config, cell(f"{path}/lstm_cell", 4) | cell(f"{path}/gru_cell", 3))
    assert [(each.name, each.kind, each.reverse) for each in found.values()] == [
        ("low", "GRU", True),
        ("high", "LSTM", True),
    ]
    assert tuple(found[f"{path}/lstm_cell"].unsupported) == ("the activation 'sparsemax'",)


BOTH = cell("layers/bidirectional/forward_layer/cell", 3, bias=(2, 6)) | cell(
    "layers/bidirectional/backward_layer/cell", 3, bias=(2, 6)
)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ()),
        ({"backward_layer": layer("GRU", go_backwards=True)}, ()),
        ({"merge_mode": "sum"}, ("the merge mode 'sum'",)),
        ({"merge_mode": None}, ("the merge mode 'None'",)),
        ({"backward_layer": layer("GRU", reset_after=False)}, ("different settings in its two directions",)),
        ({"layer": layer("GRU", go_backwards=True)}, ("a forward direction that runs from the end",)),
        ({"layer": layer("GRU", activation="sparsemax")}, ("the activation 'sparsemax'",)),
    ],
)
def test_both_directions(tmp_path: Path, options: Config, words: tuple[str, ...]) -> None:
    config = layer("Bidirectional", **{"layer": layer("GRU"), **options})
    (found,) = layers_of(tmp_path, model(config), BOTH).values()
    assert found.kind == "GRU" and found.bidirectional and not found.reverse
    assert found.arrays == numbered("layers/bidirectional/forward_layer", "layers/bidirectional/backward_layer")
    assert tuple(found.unsupported) == words


def test_a_direction_without_arrays_is_left_empty(tmp_path: Path) -> None:
    backward = {name: array for name, array in BOTH.items() if "backward" in name}
    (found,) = layers_of(tmp_path, model(layer("Bidirectional", layer=layer("GRU"))), backward).values()
    assert found.arrays == [{}, numbered("layers/bidirectional/backward_layer")[0]]


def test_models_in_models_and_paths_that_count(tmp_path: Path) -> None:
    inner = model(layer("Dense", name="d"), layer("LSTM", name="inside", activation="sparsemax"), name="inner")
    stack = [layer("LSTM", name=f"layer_{k}") for k in range(12)]
    config = model(*stack, inner, layer("TimeDistributed", layer=layer("LSTM", name="each")))
    paths = [f"layers/lstm_{k}" if k else "layers/lstm" for k in range(12)]
    paths += ["layers/sequential/layers/lstm", "layers/time_distributed/layer"]
    arrays: Arrays = {}
    for path in reversed(paths):
        arrays |= cell(f"{path}/cell", 4)
    found = layers_of(tmp_path, config, arrays)
    assert list(found) == paths
    assert [each.name for each in found.values()] == [f"layer_{k}" for k in range(12)] + ["inside", "each"]
    assert [bool(each.unsupported) for each in found.values()] == [False] * 12 + [True, False]


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_archives_of_tensorflow_2_12(tmp_path: Path, separator: str) -> None:
    """Their paths have a different prefix, and count each layer that has weights twice; on Windows they have \\ too."""
    inner = model(layer("LSTM", name="inside"), layer("LSTM", name="above", activation="sparsemax"))
    config = model(layer("LSTM", name="low"), layer("LSTM", name="high"), layer("LSTM", name="top"), inner)
    root = "_layer_checkpoint_dependencies"
    paths = [f"{root}/{name}" for name in ("lstm", "lstm_2", "lstm_4")]
    paths += [f"{root}/sequential/{root}/{name}" for name in ("lstm", "lstm_2")]
    arrays: Arrays = {}
    for path in paths:
        arrays |= cell(path.replace("/", separator) + f"{separator}cell", 4)
    found = layers_of(tmp_path, config, arrays)
    assert list(found) == paths
    assert [each.name for each in found.values()] == ["low", "high", "top", "inside", "above"]
    assert [bool(each.unsupported) for each in found.values()] == [False, False, False, False, True]


@pytest.mark.parametrize("of", [7, None, [], {"class_name": 3}, layer("Mine"), layer("LSTM")])
def test_layers_that_the_config_does_not_describe_are_known_by_their_shapes(tmp_path: Path, of: Any) -> None:
    arrays = (
        cell("encoder/cell", 4)
        | cell("gru/cell", 3, bias=(2, 6))
        | cell("last/cells/gru_cell", 3)
        | cell("rnn/cell", 1)
    )
    arrays |= cell("dense", 4) | cell("odd/cell", 5) | {"wide/cell/vars/0": np.zeros((3, 2, 2), "f4")}
    found = layers_of(tmp_path, of, arrays)
    assert {path: (each.kind, each.reset_after) for path, each in found.items()} == {
        "encoder": ("LSTM", True),
        "gru": ("GRU", True),
        "last/cells/gru_cell": ("GRU", False),
        "rnn": ("RNN", True),
    }


# --- The older layout -----------------------------------------------------------------------------


def test_settings_in_the_older_layout(tmp_path: Path) -> None:
    inner = model(layer("GRU", name="deep", reset_after=False), layer("SimpleRNN", name="top"), name="part")
    config = model(layer("LSTM", name="b", use_bias=False, recurrent_activation="hard_sigmoid"), inner)
    arrays = older("model_weights/b/b/lstm_cell", 4, bias=False)
    arrays |= older("model_weights/part/deep/gru_cell", 3, bias=False) | older(
        "model_weights/part/top/simple_rnn_cell", 1
    )
    texts = {"/": {"model_config": json.dumps(config)}, "model_weights": {"layer_names": [b"b", b"part"]}}
    found = load_weights(write_hdf5(tmp_path / "a.h5", arrays, texts)).layers
    assert list(found) == ["model_weights/b", "model_weights/part/deep", "model_weights/part/top"]
    assert list(found["model_weights/b"].arrays[0]) == ["kernel", "recurrent_kernel"]
    assert found["model_weights/b"].activations == (("hard_sigmoid", 0.2, 0.5), "tanh", "tanh")
    assert [(each.kind, each.reset_after) for each in found.values()] == [("LSTM", True), ("GRU", False), ("RNN", True)]


def test_only_weights_in_the_older_layout(tmp_path: Path) -> None:
    arrays = (
        older("z/z", 4)
        | older("both/forward_gru_3", 3)
        | older("both/backward_gru_3", 3)
        | {"d/d/kernel:0": np.zeros(3)}
    )
    texts = {"/": {"layer_names0": [b"z"], "layer_names1": np.array([b"both", b"d"])}}
    found = load_weights(write_hdf5(tmp_path / "a.h5", arrays, texts)).layers
    assert list(found) == ["z", "both"]
    assert found["both"].bidirectional and not found["both"].reset_after and not found["z"].bidirectional


# --- Arrays ---------------------------------------------------------------------------------------


def test_types_and_shapes(tmp_path: Path) -> None:
    types = ["f2", "f4", "f8", ">f2", ">f4", ">f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">u8", "?"]
    arrays = {f"types/{code.replace('>', 'big_')}": (np.arange(6).reshape(2, 3) * 7 % 4).astype(code) for code in types}
    arrays |= {"one": np.array(3.5), "none": np.zeros((0, 4), "f4"), "deep": np.arange(24.0).reshape(1, 2, 1, 3, 4)}
    arrays |= {f"many/layer_{k}": np.full(k, k) for k in range(1, 300)}
    weights = load_weights(write_hdf5(tmp_path / "a.h5", arrays))
    assert weights.keys() == arrays.keys()
    for name, array in arrays.items():
        assert weights[name].dtype == array.dtype.newbyteorder("=") and weights[name].shape == array.shape
        assert np.array_equal(weights[name], array)


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.140625, np.inf], "f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = (values.view("u4") >> 16).astype("u2").view("V2")
        file["x"].attrs["dtype"] = "bfloat16"
    weights = load_weights(tmp_path / "a.h5")
    assert weights["x"].dtype == np.float32 and np.array_equal(weights["x"], values)
    assert weights.types == {"x": "bfloat16"}
