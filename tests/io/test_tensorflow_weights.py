"""Weights in TensorFlow's files: checkpoints, SavedModel folders, TensorFlow.js; in tests/golden/tensorflow."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from golden_models import model_path
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.io.errors import ContentError
from tinygrad_lstm.io.recognition import recognised
from tinygrad_lstm.io.tensorflow.checksum import masked_crc32c
from tinygrad_lstm.io.tensorflow.table import _unpacked
from tinygrad_lstm.io.tensorflow.wire import Enum, from_json, from_wire
from tinygrad_lstm.models import GRU, LSTM, RNN

GOLDEN = Path(__file__).parents[1] / "golden" / "tensorflow"
FILES = [
    "objects",
    "objects.index",
    "names",
    "old",
    *(f"tfjs{dtype}" for dtype in ("", "_uint8", "_uint16", "_float16")),
]


@pytest.mark.parametrize("name", FILES)
def test_arrays_are_those_of_tensorflow(name: str) -> None:
    found = tg.io.load_weights(GOLDEN / name)
    same = "names" if name == "old" else name.removesuffix(".index")
    expected = tg.io.load_weights(GOLDEN / f"{same}.expected.safetensors")
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array, err_msg=key)
        assert found[key].flags.writeable


def test_bfloat16_is_noted() -> None:
    assert tg.io.load_weights(GOLDEN / "objects").types == {"extra/brain": "bfloat16"}


def test_recurrent_layers_are_found() -> None:
    weights = tg.io.load_weights(GOLDEN / "tfjs" / "model.json")
    assert str(LSTM.from_keras(weights, "encoder")).startswith("LSTM(3, 4, batch_first=True)")
    assert GRU.from_keras(weights, "both").bidirectional
    checkpoint = tg.io.load_weights(GOLDEN / "objects")
    ours = GRU.from_keras(checkpoint, "model/layer_with_weights-1", recurrent_activation="sigmoid")
    for key, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, GRU.from_keras(weights, "both").state_dict()[key])


def test_a_saved_model_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    assert tg.io.load_weights(tmp_path) == {}
    for path in GOLDEN.glob("names.*"):
        shutil.copy(path, tmp_path / "variables" / path.name.replace("names", "variables"))
    assert tg.io.load_weights(tmp_path).keys() == tg.io.load_weights(GOLDEN / "names").keys()
    assert tg.io.load_weights(tmp_path / "saved_model.pb").keys() == tg.io.load_weights(GOLDEN / "names").keys()


# -- cells of TensorFlow 1 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prefix", "kind", "settings"), [
    ("basic", LSTM, {}),
    ("biased", LSTM, {"forget_bias": 0.25}),
    ("peepholes", LSTM, {}),
    ("stack", LSTM, {}),
    ("gru", GRU, {}),
    ("both", GRU, {}),
    ("plain", RNN, {}),
])  # fmt: skip
def test_cells_of_tensorflow_1(prefix: str, kind: Any, settings: dict[str, Any]) -> None:
    expected = tg.io.load_weights(GOLDEN / "cells_outputs.safetensors")
    network = kind.from_tensorflow(GOLDEN / "cells", prefix, **settings)
    with tg.no_grad():
        out, _ = network(tg.tensor(expected["x"]))
    np.testing.assert_allclose(out.numpy(), expected[prefix], atol=2e-6)


def test_cells_are_recognised() -> None:
    found = {each.prefix: str(each.network) for each in recognised(tg.io.load_weights(GOLDEN / "cells"))}
    assert found["basic/basic_lstm_cell"] == "LSTM(3, 4)"
    assert found["peepholes/lstm_cell"] == "LSTM(3, 4, proj_size=2, peephole=True)"
    assert found["both/bw/gru_cell"] == "GRU(3, 4, reset_after=False)"
    assert len(found) == 9


def test_layers_of_keras_are_not_recognised_as_cells() -> None:
    weights = tg.io.load_weights(model_path("tf_tfjs_layers") / "model.json")
    assert "lower/lstm_cell/recurrent_kernel" in weights
    assert [(each.prefix, str(each.network)) for each in recognised(weights)] == [
        ("lower", "LSTM(3, 3)"),
        ("upper", "GRU(3, 4)"),
    ]


def test_cells_of_a_frozen_graph() -> None:
    models = GOLDEN.parent / "models"
    network = LSTM.from_tensorflow(models / "tf1_frozen.pb", "rnn/multi_rnn_cell/cell_0")
    same = LSTM.from_tensorflow(model_path("tf1_lstm"), "rnn/multi_rnn_cell/cell_0")
    for name, array in network.state_dict().items():
        np.testing.assert_array_equal(array, same.state_dict()[name])


def test_a_prefix_of_several_cells_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there are \d cells; give the prefix of one"):
        LSTM.from_tensorflow(GOLDEN / "cells")
    with pytest.raises(ValueError, match=r"no cell's name begins with 'gru'; there are 'basic/basic_lstm_cell'"):
        LSTM.from_tensorflow(GOLDEN / "cells", "gru")


def test_a_forget_bias_of_a_gru_is_refused() -> None:
    with pytest.raises(ValueError, match=r"forget_bias is for an LSTM, got 0\.5"):
        GRU.from_tensorflow(GOLDEN / "cells", "gru", forget_bias=0.5)


# -- files that are missing, damaged, or lead elsewhere ----------------------------------------------------------------


def copied(name: str, folder: Path) -> None:
    for path in GOLDEN.glob(f"{name}.*"):
        shutil.copy(path, folder)


def test_missing_files_of_a_checkpoint_are_named(tmp_path: Path) -> None:
    copied("names", tmp_path)
    (tmp_path / "names.data-00000-of-00001").unlink()
    with pytest.raises(ValueError, match=r"names.index: missing are the files 'names.data-00000-of-00001'"):
        tg.io.load_weights(tmp_path / "names")
    copied("names", tmp_path)
    with pytest.raises(ValueError, match=r"without their names: give its index, names.index"):
        tg.io.load_weights(tmp_path / "names.data-00000-of-00001")
    with pytest.raises(FileNotFoundError):
        tg.io.load_weights(tmp_path / "other")


@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001"])
def test_each_changed_byte_of_a_checkpoint_is_noticed(tmp_path: Path, ending: str) -> None:
    copied("objects", tmp_path)
    path = tmp_path / f"objects{ending}"
    whole = path.read_bytes()
    whole_arrays = tg.io.load_weights(tmp_path / "objects")
    for at in range(3, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            found = tg.io.load_weights(tmp_path / "objects")
        except ValueError as error:
            assert str(tmp_path) in str(error)
        else:  # the graph of objects is a string, which is not read
            assert all(np.array_equal(found[name], array) for name, array in whole_arrays.items())


def changed(change: Callable[[Any], None], folder: Path) -> Path:
    """A copy of a `model.json` with a changed manifest."""
    shutil.copytree(GOLDEN / "tfjs", folder / "tfjs")
    path = folder / "tfjs" / "model.json"
    model = json.loads(path.read_text())
    change(model)
    path.write_text(json.dumps(model))
    return path


def set_path(name: Any) -> Callable[[Any], None]:
    return lambda model: model["weightsManifest"][0]["paths"].__setitem__(0, name)


def set_weight(**fields: Any) -> Callable[[Any], None]:
    return lambda model: model["weightsManifest"][0]["weights"][0].update(fields)


@pytest.mark.parametrize(("change", "message"), [
    (set_path("missing.bin"), "missing are the files 'missing.bin'"),
    (set_path("../tfjs/group1-shard1of4.bin"), "refuses the file '../tfjs/group1-shard1of4.bin', which is outside"),
    (set_path("/etc/passwd"), "refuses the file '/etc/passwd', which is outside"),
    (set_path("group1-shard2of4.bin"), "a file of weights is named twice"),
    (set_path("model.json"), "bytes too many"),
    (set_path(3), "the path of a file of weights is missing or of a wrong type"),
    (set_weight(shape=[10**6, 10**6]), "the files of weights are cut off within"),
    (set_weight(shape=[-1]), "has an invalid shape"),
    (set_weight(shape=[0, 2**62, 4]), "model.json: NumPy has no arrays of shape .*, as '.*' has"),
    (set_weight(dtype="object"), "has the unknown element type 'object'"),
    (set_weight(name=None), "the name of a weight is missing"),
    (set_weight(quantization={"dtype": "uint8", "scale": 10**400, "min": 0}), "the scale of .* is too large"),
    (set_weight(dtype="string"), "cut off within|bytes too many"),
    (lambda model: model.pop("weightsManifest"), "'weightsManifest' is missing"),
])  # fmt: skip
def test_a_bad_manifest_is_refused(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    path = changed(change, tmp_path)
    with pytest.raises(ValueError, match=message) as raised:
        tg.io.load_weights(path)
    assert str(raised.value).isprintable()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"a folder, which has neither saved_model.pb nor model.json"):
        tg.io.load_weights(tmp_path)


# -- the formats below -------------------------------------------------------------------------------------------------


def slow_crc32c(content: bytes) -> int:
    register = 2**32 - 1
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    register ^= 2**32 - 1
    return (((register >> 15) | (register << 17)) + 0xA282EAD8) % 2**32


@given(size=st.integers(0, 10_000), seed=st.integers(0, 100))
def test_checksums(size: int, seed: int) -> None:
    content = np.random.default_rng(seed).bytes(size)
    assert masked_crc32c(content) == slow_crc32c(content)


def test_snappy() -> None:
    packed = bytes([14, 3 << 2, *b"abcd", (4 - 4) << 2 | 1, 4, (6 - 1) << 2 | 2, 1, 0])
    assert _unpacked(memoryview(packed)) == b"abcdabcd" + b"d" * 6
    for at in range(len(packed)):
        with pytest.raises(ContentError):
            _unpacked(memoryview(packed[:at]))


TENSOR_OF_ONNX = {
    1: ("dims", ["int"]),
    2: ("data_type", "int"),
    4: ("float_data", ["float"]),
    7: ("int64_data", ["int"]),
    8: ("name", "string"),
    9: ("raw_data", "bytes"),
}


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1)),
    st.lists(st.floats(width=32, allow_nan=False)),
    st.text(st.characters(exclude_categories=("Cs",))),
    st.binary(),
)
def test_messages_are_read_as_protobuf_reads_them(ints: list[int], floats: list[float], name: str, raw: bytes) -> None:
    tensor = onnx.TensorProto(
        dims=ints, int64_data=ints, float_data=floats, name=name, raw_data=raw, doc_string="skipped"
    )
    found = from_wire(tensor.SerializeToString(), TENSOR_OF_ONNX)
    assert found["dims"] == found["int64_data"] == ints
    assert (found["float_data"], found["name"], found["raw_data"], found["data_type"]) == (floats, name, raw, 0)
    cut = tensor.SerializeToString()[:-1]
    if cut:
        with pytest.raises(ContentError):
            from_wire(cut, {**TENSOR_OF_ONNX, 12: ("doc_string", "string")})


def test_json_of_messages() -> None:
    kind = Enum(DT_FLOAT=1)
    schema = {1: ("node_name", "string"), 2: ("sizes", ["int"]), 3: ("type", kind), 4: ("attr", ("bytes",))}
    found = from_json({"nodeName": "a", "sizes": ["-1", 2], "type": "DT_FLOAT", "attr": {"b": "aGk="}, "x": 1}, schema)
    assert (found["node_name"], found["sizes"], found["type"], bytes(found["attr"]["b"])) == ("a", [-1, 2], 1, b"hi")
    for bad in ([], {"sizes": 1}, {"sizes": ["a"]}, {"attr": {"b": "a"}}, {"type": "DT_OTHER"}):
        with pytest.raises(ContentError):
            from_json(bad, schema)
