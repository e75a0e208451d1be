"""Keras's files: what is read of them, what is said of their layers, and what is refused."""

import json
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_files import ROLES, Arrays, Config, cell, layer, layers_of, model, older, write_hdf5, write_keras
from safetensors.numpy import load_file
from weight_files import check_read_or_refused

from tinygrad_lstm.io import FileLayer, load_weights

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
    "the activation 'elu'": layer("LSTM", activation="elu"),
    "the activation 'relu'": layer("LSTM", activation="relu"),
    "the activation 'LeakyReLU'": layer("LSTM", activation=layer("LeakyReLU")),
    "the recurrent activation 'hard_sigmoid'": layer("LSTM", recurrent_activation="hard_sigmoid"),
    "the class 'PeepholeLSTMCell'": layer("RNN", cell=layer("PeepholeLSTMCell")),
    "the class 'LSTM'": {**layer("LSTM"), "registered_name": "mine>LSTM"},
}


@pytest.mark.parametrize("words", UNSUPPORTED)
def test_settings_that_the_layers_here_do_not_have(tmp_path: Path, words: str) -> None:
    one = UNSUPPORTED[words]
    path = {"RNN": "rnn"}.get(one["class_name"], "lstm")
    (found,) = layers_of(tmp_path, model(one), cell(f"layers/{path}/cell", 4)).values()
    assert found.kind == "LSTM" and tuple(found.unsupported) == (words,)


def test_several_such_settings_are_all_named(tmp_path: Path) -> None:
    one = layer("LSTM", activation="elu", recurrent_activation="linear")
    (found,) = layers_of(tmp_path, model(one), cell("layers/lstm/cell", 4)).values()
    assert tuple(found.unsupported) == ("the activation 'elu'", "the recurrent activation 'linear'")


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
    cells = [layer("GRUCell", name="low", reset_after=False), layer("LSTMCell", name="high", activation="elu")]
    config = model(layer("RNN", cell=layer("StackedRNNCells", cells=cells), go_backwards=True))
    path = "layers/rnn/cell/cells"
    found = layers_of(tmp_path, config, cell(f"{path}/lstm_cell", 4) | cell(f"{path}/gru_cell", 3))
    assert [(each.name, each.kind, each.reverse) for each in found.values()] == [
        ("low", "GRU", True),
        ("high", "LSTM", True),
    ]
    assert tuple(found[f"{path}/lstm_cell"].unsupported) == ("the activation 'elu'",)


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
        ({"layer": layer("GRU", activation="relu")}, ("the activation 'relu'",)),
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
    inner = model(layer("Dense", name="d"), layer("LSTM", name="inside", activation="elu"), name="inner")
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
    """Their paths have another beginning, and count each layer that has weights twice; on Windows they have \\ too."""
    inner = model(layer("LSTM", name="inside"), layer("LSTM", name="above", activation="elu"))
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
    assert tuple(found["model_weights/b"].unsupported) == ("the recurrent activation 'hard_sigmoid'",)
    assert [(each.kind, each.reset_after) for each in found.values()] == [("LSTM", True), ("GRU", False), ("RNN", True)]


def test_weights_alone_in_the_older_layout(tmp_path: Path) -> None:
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


# --- What is refused ------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match=f"^{path}: ") as raised:
        load_weights(path)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 1000
    return message


def soft(file: h5py.File) -> None:
    file["there"] = np.zeros(3)
    file["here"] = h5py.SoftLink("/there")


def circular(file: h5py.File) -> None:
    file["a"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/a")


def external_link(file: h5py.File) -> None:
    file["here"] = h5py.ExternalLink("other.h5", "/there")


def not_ascii(file: h5py.File) -> None:
    file.create_group("größe")["kernel:0"] = np.zeros(3)


def external_data(file: h5py.File) -> None:
    file.create_dataset("here", (3,), "f4", external=[("other.bin", 0, 12)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "there", (3,))
    file.create_virtual_dataset("here", layout)


def chunked(file: h5py.File) -> None:
    file.create_dataset("here", (2**20, 2**20, 2**20), "f4", chunks=(1, 1, 64), fillvalue=1.0)


def compressed(file: h5py.File) -> None:
    file.create_dataset("here", data=np.zeros(10000), compression="gzip")


def never_written(file: h5py.File) -> None:
    file.create_dataset("here", (2**40,), "f4")


def texts_in_an_array(file: h5py.File) -> None:
    file["here"] = ["a", "b"]


def objects(file: h5py.File) -> None:
    file["here"] = np.array([file.ref], h5py.ref_dtype)


def ragged(file: h5py.File) -> None:
    file.create_dataset("here", (2,), h5py.vlen_dtype("f4"))


def structures(file: h5py.File) -> None:
    file["here"] = np.zeros(2, [("x", "f4"), ("y", "i4")])


def type_alone(file: h5py.File) -> None:
    file["here"] = np.dtype("f4")


def shared_type(file: h5py.File) -> None:
    file["here"] = np.dtype("f4")
    file.create_dataset("there", (3,), file["here"])


def two_names(file: h5py.File) -> None:
    file["there"] = np.zeros(3)
    file["here"] = file["there"]


def many_names(file: h5py.File) -> None:
    file["there"] = np.zeros(100000)
    for k in range(100):
        file[f"here_{k}"] = file["there"]


def in_itself(file: h5py.File) -> None:
    inner = file.create_group("a/b")
    inner["c"] = file["a"]


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (soft, "'here' is a soft link, which Keras does not write"),
        (circular, "'a' is a soft link"),
        (external_link, "has links to other files"),
        (not_ascii, "or layers whose names are not ASCII, neither of which is read; save the model as .keras"),
        (external_data, "the dataset 'here' lies in another file, which is not followed"),
        (virtual, "the dataset 'here' is compressed or not in one piece"),
        (chunked, "the dataset 'here' is compressed or not in one piece, .* h5repack"),
        (compressed, "the dataset 'here' is compressed"),
        (never_written, "it points past its end"),
        (texts_in_an_array, "the dataset 'here' has elements other than integers, floats and booleans"),
        (objects, "elements other than"),
        (ragged, "elements other than"),
        (structures, "elements other than"),
        (type_alone, "'here' is neither a group nor a dataset"),
        (shared_type, "'there' shares its type with others|'here' is neither"),
        (two_names, "the dataset 'there' overlaps another, or is another with a second name"),
        (many_names, "parts of it overlap"),
        (in_itself, "overlap"),
    ],
)
def test_what_keras_does_not_write(tmp_path: Path, write: Callable[[h5py.File], None], words: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file)
    assert re.search(words, refusal(tmp_path / "a.h5"))


@pytest.mark.parametrize("version", ["v108", "latest"])
def test_newer_forms_are_refused_with_a_remedy(tmp_path: Path, version: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["here"] = np.zeros(3)
    assert "is written in a newer form of HDF5 than Keras uses; h5repack" in refusal(tmp_path / "a.h5")


def patched(folder: Path, arrays: Arrays, old: bytes, new: bytes) -> Path:
    """A file of these arrays in which some bytes are others, wherever they stand."""
    path = write_hdf5(folder / "a.h5", arrays)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize("sizes", [(2**60, 17), (13, 2**60), (2**63, 2), (2**32, 2**32), (13, 18), (0, 17)])
def test_shapes_that_the_bytes_do_not_fill(tmp_path: Path, sizes: tuple[int, int]) -> None:
    old, new = struct.pack("<QQ", 13, 17), struct.pack("<QQ", *sizes)
    path = patched(tmp_path, {"x": np.zeros((13, 17), "f4")}, old, new)
    assert f"the dataset 'x' of shape {sizes} has 884 bytes, 4 an element" in refusal(path)


def test_a_shape_without_elements_that_no_array_has(tmp_path: Path) -> None:
    path = patched(tmp_path, {"x": np.zeros((0, 17), "f4")}, struct.pack("<QQ", 0, 17), struct.pack("<QQ", 0, 2**63))
    assert "the dataset 'x' cannot have the shape" in refusal(path)


def test_groups_within_groups_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group: Any = file
        for _ in range(5000):
            group = group.create_group("g")
    assert "its texts overlap" in refusal(tmp_path / "a.h5")


def test_texts_that_are_one_text_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["long"] = "x" * 50000
        for k in range(100):
            file.attrs[f"short_{k}"] = "y" * 77
    content = (tmp_path / "a.h5").read_bytes()
    (long,) = re.findall(re.escape(struct.pack("<I", 50000)) + rb".{8}\x01\0\0\0", content, re.DOTALL)
    patched, number = re.subn(
        re.escape(struct.pack("<I", 77)) + rb".{8}.\0\0\0", lambda _: long, content, flags=re.DOTALL
    )
    assert number == 100
    (tmp_path / "a.h5").write_bytes(patched)
    assert "its texts overlap" in refusal(tmp_path / "a.h5")


def test_texts_without_length_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["texts"] = np.array([b"abcde"] * 13)
    content = (tmp_path / "a.h5").read_bytes()
    width, number = struct.pack("<BBHI", 0x13, 1, 0, 5), struct.pack("<QQ", 13, 13)
    assert width in content and number in content
    content = content.replace(width, width[:4] + bytes(4)).replace(number, struct.pack("<QQ", 2**60, 2**60))
    (tmp_path / "a.h5").write_bytes(content)
    assert "an HDF5 file that is damaged" in refusal(tmp_path / "a.h5")


def test_long_names_take_no_long_time(tmp_path: Path) -> None:
    name = "cell" * 250_000  # of which a pattern that goes back over it would take hours
    arrays = {f"{name}/kernel": np.zeros(3), "x": np.zeros(2_000_000, "u1")}
    assert load_weights(write_hdf5(tmp_path / "a.h5", arrays)).keys() == arrays.keys()


def test_any_cut_is_noticed(tmp_path: Path) -> None:
    content = (FILES / "keras_rnn.h5").read_bytes()
    path = tmp_path / "a.h5"
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        refusal(path)


def overwrite(content: bytearray, where: int, piece: bytes) -> None:
    """Puts a piece over what is there, as far as there is something."""
    content[where : where + len(piece)] = piece[: len(content) - where]


@pytest.mark.parametrize("file", ["keras2_lstm.h5", "keras.weights.h5", "keras_gru.keras"])
@settings(max_examples=200)
@given(data=st.data())
def test_damage_is_survived(tmp_path_factory: pytest.TempPathFactory, file: str, data: st.DataObject) -> None:
    """Bits are flipped, numbers changed, pieces copied over others: there is an error or there are arrays."""
    content = bytearray((FILES / file).read_bytes())
    used = [place for place, byte in enumerate(content) if byte]
    place = st.sampled_from(used) | st.integers(0, len(content) - 1)
    numbers = st.sampled_from([0, 1, 2**16, 2**32 - 1, 2**60, 2**64 - 1, len(content)]) | st.integers(0, len(content))
    for _ in range(data.draw(st.integers(1, 8))):
        where = data.draw(place)
        match data.draw(st.sampled_from(["bit", "number", "piece"])):
            case "bit":
                content[where] ^= 1 << data.draw(st.integers(0, 7))
            case "number":
                overwrite(content, where, data.draw(numbers).to_bytes(8, "little"))
            case _:
                source = data.draw(place)
                overwrite(content, where, content[source : source + 32])
    check_read_or_refused(tmp_path_factory.mktemp("damaged") / file, bytes(content), times_as_large=2)


# --- Archives and configs -------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_archives_that_lack_something(tmp_path: Path, missing: str) -> None:
    with zipfile.ZipFile(FILES / "keras_gru.keras") as whole, zipfile.ZipFile(tmp_path / "a.keras", "w") as part:
        for name in {"config.json", "model.weights.h5"} - {missing}:
            part.writestr(name, whole.read(name))
    refusal(tmp_path / "a.keras")


def test_packed_archives_are_read(tmp_path: Path) -> None:
    weights = load_weights(
        write_keras(tmp_path / "a.keras", model(layer("LSTM")), cell("layers/lstm/cell", 4), packed=True)
    )
    assert list(weights.layers) == ["layers/lstm"]


@pytest.mark.parametrize("config", ["", "{", '{"class_name": "Seq', "\xff", "[" * 100000, "1" * 5000])
def test_configs_that_are_no_json(tmp_path: Path, config: str) -> None:
    assert "the model's config cannot be read" in refusal(write_keras(tmp_path / "a.keras", config, {}))


def test_configs_that_unpack_to_much_more_than_the_file(tmp_path: Path) -> None:
    config = json.dumps([[]] * 1000000)
    path = write_keras(tmp_path / "a.keras", config, {"x": np.random.default_rng(0).random(5000)}, packed=True)
    assert "the model's config is larger than the file" in refusal(path)


def test_layers_within_layers_end(tmp_path: Path) -> None:
    config: Config = layer("LSTM")
    for _ in range(150):
        config = model(config)
    assert "layers within layers" in refusal(write_keras(tmp_path / "a.keras", config, {}))
