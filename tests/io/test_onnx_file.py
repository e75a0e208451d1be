"""ONNX models: which arrays are read, what is said of their recurrent nodes, and what is refused."""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from weight_files import check_read_or_refused

from tinygrad_lstm.io import FileLayer, Weights, load_weights

FILES = Path(__file__).parents[1] / "golden" / "files"
WEIGHTS = {role: role for role in "WRB"}
FLOATS = np.array([[0.0, -1.5], [2.0, np.inf]], "f4")


def layer(kind: Any, roles: dict[str, str], **options: Any) -> FileLayer:
    return FileLayer(kind, "onnx", [roles], unsupported=[], **options)


GOLDEN = {
    "onnx_lstm": {
        "node_LSTM_64": layer("LSTM", {"W": "val_40", "R": "val_41", "B": "val_63"}),
        "node_LSTM_125": layer("LSTM", {"W": "val_103", "R": "val_104", "B": "val_126"}),
    },
    "onnx_bidirectional_peephole": {"recurrent": layer("LSTM", WEIGHTS | {"P": "P"}, bidirectional=True)},
    "onnx_gru": {"recurrent": layer("GRU", WEIGHTS)},
    "onnx_gru_before": {"recurrent": layer("GRU", WEIGHTS, reset_after=False)},
    "onnx_rnn_relu": {"recurrent": layer("RNN", WEIGHTS, bidirectional=True, nonlinearity="relu")},
}


@pytest.mark.parametrize("name", GOLDEN)
def test_models_in_files(name: str) -> None:
    path = FILES / f"{name}.onnx"
    weights = load_weights(path)
    expected = load_file(path.with_suffix(".expected.safetensors"))
    of_layers = {key.removeprefix("file."): array for key, array in expected.items() if key.startswith("file.")}
    initialisers = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    assert weights.keys() == initialisers.keys() >= of_layers.keys()
    for key, array in (initialisers | of_layers).items():
        assert np.array_equal(weights[key], array) and weights[key].dtype == array.dtype
        assert weights[key].flags.writeable and weights[key].flags.c_contiguous
    assert list(weights.layers.items()) == list(GOLDEN[name].items())


def test_without_onnx_the_error_says_what_to_install() -> None:
    program = f"""
import sys
sys.modules["onnx"] = None
from tinygrad_lstm.io import load_weights
try:
    load_weights({str(FILES / "onnx_gru.onnx")!r})
except RuntimeError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout == "ONNX files need onnx: pip install '.[onnx]' in a checkout of tinygrad_lstm\n"


# --- Nodes --------------------------------------------------------------------------------------


def tensors(*names: str) -> list[TensorProto]:
    return [numpy_helper.from_array(np.full((1, 2), k, "f4"), name) for k, name in enumerate(names)]


def graph(nodes: Iterable[NodeProto], arrays: Iterable[TensorProto] = ()) -> GraphProto:
    return helper.make_graph(list(nodes), "graph", [], [], list(arrays))


def write(path: Path, of: GraphProto | ModelProto) -> Path:
    if isinstance(of, GraphProto):
        of = helper.make_model(of, opset_imports=[helper.make_opsetid("", 22)])
    path.write_bytes(of.SerializeToString())
    return path


def read(folder: Path, nodes: Iterable[NodeProto], arrays: Iterable[TensorProto] = ()) -> Weights:
    return load_weights(write(folder / "model.onnx", graph(nodes, arrays)))


def node(kind: str, name: str = "", **attributes: Any) -> NodeProto:
    return helper.make_node(kind, ["x", "W", "R", "B"], ["y"], name, **attributes)


def described(folder: Path, one: NodeProto) -> FileLayer:
    (found,) = read(folder, [one], tensors("W", "R", "B")).layers.values()
    return found


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (node("LSTM", activations=["Sigmoid"]), ["the activations 'sigmoid'"]),
        (node("LSTM", clip=3.0), ["sums clipped at 3"]),
        (node("LSTM", input_forget=1), ["coupled input and forget gates"]),
        (node("LSTM", direction="sideways"), ["the direction 'sideways'"]),
        (node("LSTM", layout=2), ["the layout 2"]),
        (
            node("RNN", activations=["Tanh", "Relu"], direction="bidirectional"),
            ["activations that differ by direction: ('tanh',) and ('relu',)"],
        ),
        (node("RNN", activations=["Relu"], direction="bidirectional"), ["the activations 'relu'"]),
        (node("LSTM", color=3), ["the attribute 'color' of type INT"]),
        (node("LSTM", clip=3), ["the attribute 'clip' of type INT"]),
        (node("LSTM", direction=1), ["the attribute 'direction' of type INT"]),
        (node("LSTM", hidden_size=5), ["a hidden_size of 5 beside an R of shape (1, 2)"]),
        (helper.make_node("GRU", [*"xWRB", "", "", "", "P"], ["y"]), ["more inputs than such a node has"]),
        (
            node("GRU", activations=["Affine", "Tanh"], clip=0.5),
            ["the activation affine without alpha or beta", "sums clipped at 0.5"],
        ),
    ],
)
def test_settings_that_the_layers_here_do_not_have(tmp_path: Path, one: NodeProto, words: list[str]) -> None:
    assert list(described(tmp_path, one).unsupported) == words


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (node("LSTM"), layer("LSTM", WEIGHTS)),
        (node("LSTM", direction="forward", hidden_size=2, clip=None), layer("LSTM", WEIGHTS)),
        (node("LSTM", direction="reverse", layout=1), layer("LSTM", WEIGHTS, reverse=True, batch_first=True)),
        (node("LSTM", activations=["SIGMOID", "tanh", "Tanh"], input_forget=0, layout=0), layer("LSTM", WEIGHTS)),
        (
            node("LSTM", activations=["Sigmoid", "Tanh", "Tanh"] * 2, direction="bidirectional"),
            layer("LSTM", WEIGHTS, bidirectional=True),
        ),
        (node("GRU"), layer("GRU", WEIGHTS, reset_after=False)),
        (node("GRU", linear_before_reset=0), layer("GRU", WEIGHTS, reset_after=False)),
        (node("GRU", linear_before_reset=1, activations=["Sigmoid", "Tanh"]), layer("GRU", WEIGHTS)),
        (node("RNN"), layer("RNN", WEIGHTS)),
        (node("RNN", activations=["Tanh"]), layer("RNN", WEIGHTS)),
        (node("RNN", activations=["Relu"]), layer("RNN", WEIGHTS, nonlinearity="relu")),
        (
            node(
                "LSTM",
                activations=["HardSigmoid", "Affine", "Elu"],
                activation_alpha=[0.3, 1.0],
                activation_beta=[0.25, 0.0],
            ),
            layer("LSTM", WEIGHTS, activations=(("hard_sigmoid", 0.3, 0.25), "identity", "elu")),
        ),
        (
            node("GRU", activations=["HardSigmoid", "LeakyRelu"], activation_alpha=[1 / 6, 0.1], linear_before_reset=1),
            layer("GRU", WEIGHTS, activations=("hard_sigmoid", ("leaky_relu", 0.1))),
        ),
        (node("RNN", activations=["HardSigmoid"]), layer("RNN", WEIGHTS, activations=(("hard_sigmoid", 0.2, 0.5),))),
    ],
)
def test_settings_that_they_have(tmp_path: Path, one: NodeProto, expected: FileLayer) -> None:
    assert described(tmp_path, one) == expected


def test_weights_that_are_not_in_the_file(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "R"], ["of_x"]),
        helper.make_node("LSTM", ["x", "W", "R", "", "", "", "", "P"], ["y"], "one"),
        helper.make_node("LSTM", ["x"], ["z"], "two"),
        helper.make_node("LSTM", ["x", "x", "of_x", "labels"], ["z"], "three"),
        helper.make_node("MatMul", ["R", "R"], ["of_R"]),
        helper.make_node("Theirs", ["R"], ["theirs"], domain="com.example"),
        helper.make_node("Squeeze", ["R", "place"], ["narrow"]),
        helper.make_node("LSTM", ["x", "of_R", "theirs", "narrow"], ["z"], "four"),
    ]
    arrays = [*tensors("R", ""), helper.make_tensor("labels", TensorProto.STRING, [1], [b"a"])]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    of = helper.make_graph(nodes, "graph", [given], [], [*arrays, numpy_helper.from_array(np.array([1]), "place")])
    layers = load_weights(write(tmp_path / "model.onnx", of)).layers
    assert layers["one"].arrays == [{"R": "R"}]
    assert list(layers["one"].unsupported) == ["a W that the file does not hold", "a P that the file does not hold"]
    assert layers["two"].arrays == [{}]
    reasons = ["a W that depends on what the model is given", "an R that depends on what the model is given"]
    assert list(layers["three"].unsupported) == [*reasons, "a B that holds strings"]
    w, r, b = layers["four"].unsupported
    assert w == "a W that is made by the op 'MatMul', which is not evaluated"
    assert r == "an R that is made by the op 'Theirs', which is not evaluated"
    assert b.startswith("a B that 'Squeeze' cannot make of the file's arrays: ")


def constant(name: str, value: TensorProto) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=value)


def test_constants_are_arrays(tmp_path: Path) -> None:
    w, other = tensors("of_w", "of_other")
    nodes = [constant("W", w), constant("other", other), helper.make_node("RNN", ["x", "W", "R"], ["", "y"])]
    weights = read(tmp_path, [*nodes, helper.make_node("RNN", ["y", "W", "R"], ["z"])], tensors("R"))
    assert weights.keys() == {"W", "other", "R"} and list(weights.layers) == ["y", "z"]
    assert all(found.arrays == [{"W": "W", "R": "R"}] for found in weights.layers.values())


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ({"value": numpy_helper.from_array(FLOATS)}, FLOATS),
        ({"value_float": 1.5}, np.array(1.5, "f4")),
        ({"value_floats": [1.5, -2.0]}, np.array([1.5, -2.0], "f4")),
        ({"value_int": -3}, np.array(-3)),
        ({"value_ints": [1, 2, 3]}, np.array([1, 2, 3])),
    ],
)
def test_constants_of_all_forms(tmp_path: Path, attribute: dict[str, Any], expected: Any) -> None:
    x = read(tmp_path, [helper.make_node("Constant", [], ["x"], **attribute)])["x"]
    assert x.dtype == expected.dtype and np.array_equal(x, expected) and x.flags.writeable


@pytest.mark.parametrize("attribute", [{"value_string": b"a"}, {"value_strings": [b"a", b"b"]}, {}])
def test_constants_without_numbers_are_left_out(tmp_path: Path, attribute: dict[str, Any]) -> None:
    weights = read(tmp_path, [helper.make_node("Constant", [], ["W"], **attribute), node("GRU")], tensors("R", "B"))
    assert weights.keys() == {"R", "B"}
    (found,) = weights.layers.values()
    assert list(found.unsupported) == ["a W that is a constant without numbers"]


def test_what_one_name_stands_for_is_one_array(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["stored"], ["W"]), node("LSTM")]
    weights = read(tmp_path, nodes, tensors("stored", "R", "B"))
    assert list(weights) == ["stored", "R", "B"]
    assert [found.arrays for found in weights.layers.values()] == [[{"W": "stored", "R": "R", "B": "B"}]]


def test_names_in_a_loop_hide_those_around_it(tmp_path: Path) -> None:
    body = graph([node("GRU", "inside")])
    body.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, None))
    weights = read(tmp_path, [helper.make_node("Loop", ["n", "c"], ["y"], body=body)], tensors("W", "R", "B"))
    assert list(weights.layers["inside"].unsupported) == ["a W that depends on what the model is given"]


def test_graphs_within_nodes(tmp_path: Path) -> None:
    """A nested graph sees the names around it and may shadow them; equal names in two graphs become two."""
    one, two = tensors("W", "W")
    inner = graph([helper.make_node("GRU", ["x", "W", "R"], ["y"], "gru")], [two])
    innermost = graph([helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)])
    nodes = [
        helper.make_node("GRU", ["x", "W", "R"], ["h"], "gru"),
        helper.make_node("Loop", ["n", "c"], ["y"], body=innermost),
        helper.make_node("GRU", ["x", "W", "R"], ["z"], "last"),
        helper.make_node("GRU", ["x", "W", "R"], ["z"], "theirs", domain="com.example"),
    ]
    weights = read(tmp_path, nodes, [one, *tensors("R")])
    assert list(weights) == ["W", "R", "W_1", "W_2"] and weights["W"][0, 0] == 0 and weights["W_1"][0, 0] == 1
    assert weights.layers.pop("theirs").unsupported == ["the op 'com.example.GRU' (only ONNX's own are read)"]
    names = {name: found.arrays[0]["W"] for name, found in weights.layers.items()}
    assert names == {"gru": "W", "gru_1": "W_1", "gru_2": "W_2", "last": "W"}


def test_functions(tmp_path: Path) -> None:
    function = helper.make_function(
        "here", "f", ["x"], ["y"], [constant("W", tensors("")[0]), node("RNN", "inside")], []
    )
    function.node[1].input[2:] = ["W"]
    model = helper.make_model(graph([]), functions=[function])
    assert load_weights(write(tmp_path / "a.onnx", model)).layers["inside"].arrays == [{"W": "W", "R": "W"}]


# --- Arrays -------------------------------------------------------------------------------------

NUMBERS = ["f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16"]


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("code", NUMBERS)
def test_types(tmp_path: Path, code: str, raw: bool) -> None:
    lowest = 0 if code[0] in "u?" else -3
    array = np.array([[lowest, 0, 1], [100, 7, 2]]).astype(code)
    data = array.astype(array.dtype.newbyteorder("<"))
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    stored = helper.make_tensor("x", kind, array.shape, data.tobytes() if raw else array.ravel().tolist(), raw=raw)
    x = read(tmp_path, [], [stored])["x"]
    assert x.dtype == array.dtype and np.array_equal(x, array) and x.flags.writeable


@pytest.mark.parametrize("raw", [True, False])
def test_bfloat16_is_widened(tmp_path: Path, raw: bool) -> None:
    bits = (FLOATS.view("u4") >> 16).astype("<u2")
    stored = TensorProto(name="x", data_type=TensorProto.BFLOAT16, dims=FLOATS.shape)
    if raw:
        stored.raw_data = bits.tobytes()
    else:
        stored.int32_data[:] = bits.ravel().tolist()
    weights = read(tmp_path, [], [stored])
    assert weights["x"].dtype == np.float32 and np.array_equal(weights["x"], FLOATS)
    assert weights.types == {"x": "bfloat16"}


def test_arrays_without_dimensions_or_elements(tmp_path: Path) -> None:
    arrays = {"one": np.array(2.5, "f4"), "none": np.zeros((0, 3), "i8")}
    weights = read(tmp_path, [], [numpy_helper.from_array(array, name) for name, array in arrays.items()])
    assert all(
        np.array_equal(weights[name], array) and weights[name].shape == array.shape for name, array in arrays.items()
    )


def test_strings_are_left_out(tmp_path: Path) -> None:
    weights = read(tmp_path, [], [helper.make_tensor("labels", TensorProto.STRING, [2], [b"a", b"b"]), *tensors("W")])
    assert list(weights) == ["W"]


# --- What is refused ----------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match=f"^{path}: ") as raised:
        load_weights(path)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 1000
    return message


def outside(location: str, **where: str) -> TensorProto:
    """An array of three numbers in a different file."""
    stored = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **where}.items():
        stored.external_data.add(key=key, value=value)
    return stored


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (
            outside("../../etc/passwd"),
            "the array 'W' is in '../../etc/passwd', which is not a file in the model's folder",
        ),
        (outside("/etc/passwd"), "which is not a file in the model's folder"),
        (outside("link"), "which is not a file in the model's folder"),
        (outside("circle"), "which cannot be read"),
        (outside(""), "which is not a file in the model's folder"),
        (outside("none.data"), "is in the file 'none.data' beside the model, which cannot be read: No such file"),
        (outside("."), "which cannot be read: Is a directory"),
        (outside("zero\0"), "which cannot be read: not a regular file"),
        (outside("data", offset="8", length="8"), "is at bytes 8 to 16 of a file of 12"),
        (outside("data", offset="-4"), "is at bytes -4 to 12 of a file of 12"),
        (outside("data", offset="x"), "has no valid place in its file"),
        (outside("data", length="8"), r"2 elements do not have the shape \(3,\)"),
        (TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[2**60], raw_data=b"1234"), "1 elements do not have"),
        (
            TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[2**60]),
            "the array 'W' is damaged: 0 elements do not",
        ),
        (TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[2**62, 2**62], float_data=[1]), "1 elements do not"),
        (
            TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[-1], float_data=[1]),
            r"do not have the shape \(-1,\)",
        ),
        (TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[-1, -1], float_data=[1]), "the array 'W' is damaged"),
        (TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[0, 2**63 - 1]), "the array 'W' is damaged"),
        (TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[1] * 100, float_data=[1]), "more than 32 dimensions"),
        (
            TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[1], raw_data=b"123"),
            "3 bytes are not a multiple of the size of float32",
        ),
        (TensorProto(name="W", data_type=TensorProto.INT8, dims=[1], int32_data=[300]), "numbers that no int8 holds"),
        (TensorProto(name="W", data_type=TensorProto.BOOL, dims=[1], int32_data=[2]), "numbers that no bool holds"),
        (TensorProto(name="W", data_type=TensorProto.FLOAT16, dims=[1], int32_data=[-1]), "numbers that no float16"),
        (
            TensorProto(name="W", data_type=TensorProto.FLOAT8E4M3FN, dims=[1], raw_data=b"1"),
            "elements of FLOAT8E4M3FN,",
        ),
        (
            TensorProto(name="W", data_type=TensorProto.INT4, dims=[2], raw_data=b"1"),
            "the array 'W' has elements of INT4,",
        ),
        (TensorProto(name="W", data_type=99, dims=[1], raw_data=b"1"), "elements of 99, which NumPy lacks"),
        (TensorProto(name="W", dims=[1], raw_data=b"1"), "elements of UNDEFINED"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, stored: TensorProto, words: str) -> None:
    (tmp_path / "data").write_bytes(bytes(12))
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "circle").symlink_to("circle")
    path = write(tmp_path / "a.onnx", graph([], [stored]))
    assert re.search(words, refusal(path))
    path = write(tmp_path / "b.onnx", graph([constant("W", stored), node("LSTM")]))
    assert re.search(words, refusal(path))


def test_arrays_in_a_file_beside_the_model(tmp_path: Path) -> None:
    """As PyTorch's exporter stores those of large models."""
    arrays = {"W": np.arange(6, dtype="f4").reshape(2, 3), "R": np.arange(4, dtype="i8"), "B": np.ones(3, "f2")}
    whole = helper.make_model(graph([], [numpy_helper.from_array(array, name) for name, array in arrays.items()]))
    path = tmp_path / "model.onnx"
    onnx.save(whole, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    assert path.stat().st_size < 500 and (tmp_path / "model.onnx.data").exists()
    weights = load_weights(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(weights[name], array)
        assert weights[name].flags.writeable


def test_a_model_and_its_arrays_may_be_links_to_files_of_one_folder(tmp_path: Path) -> None:
    """As in the cache of Hugging Face."""
    whole = helper.make_model(graph([], [numpy_helper.from_array(np.arange(3, dtype="f4"), "W")]))
    (tmp_path / "blobs").mkdir()
    onnx.save(whole, tmp_path / "blobs" / "model.onnx", save_as_external_data=True, location="data", size_threshold=0)
    links = tmp_path / "snapshots" / "x"
    links.mkdir(parents=True)
    (tmp_path / "blobs" / "data").rename(tmp_path / "blobs" / "b")
    for name, blob in {"model.onnx": "model.onnx", "data": "b"}.items():
        (links / name).symlink_to(f"../../blobs/{blob}")
    np.testing.assert_array_equal(load_weights(links / "model.onnx")["W"], [0, 1, 2])
    (tmp_path / "blobs" / "b").rename(tmp_path / "b")
    (links / "data").unlink()
    (links / "data").symlink_to("../../b")
    assert "'data', which is not a file in the model's folder" in refusal(links / "model.onnx")


def test_a_file_beside_the_model_is_not_read_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(12))
    stored = [outside("data") for _ in range(100)]
    for number, each in enumerate(stored):
        each.name = f"W{number}"
    assert "its arrays refer to more bytes than 'data' has" in refusal(write(tmp_path / "a.onnx", graph([], stored)))


def test_sparse_arrays_are_refused(tmp_path: Path) -> None:
    of = graph([])
    values, indices = numpy_helper.from_array(np.ones(1, "f4"), "W"), numpy_helper.from_array(np.zeros(1, "i8"))
    of.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10]))
    assert "the array 'W' is sparse" in refusal(write(tmp_path / "a.onnx", of))
    of = graph([helper.make_node("Constant", [], ["W"], sparse_value=of.sparse_initializer[0])])
    assert "the array 'W' is sparse" in refusal(write(tmp_path / "b.onnx", of))


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "two arrays are called 'W'" in refusal(write(tmp_path / "a.onnx", graph([], tensors("W", "W"))))


def test_names_that_are_not_strings_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", graph([], tensors("name")))
    path.write_bytes(path.read_bytes().replace(b"name", b"\xff\xffme"))
    assert "a name in it is not UTF-8" in refusal(path)


def test_files_without_a_graph_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(ModelProto(ir_version=10, producer_name="nobody").SerializeToString())
    assert "not a whole ONNX file" in refusal(tmp_path / "a.onnx")


def test_graphs_within_graphs_end(tmp_path: Path) -> None:
    content = b""
    for _ in range(200):  # a graph (field 1), in it a node, in it an attribute (field 5), in it a graph (field 6)
        for field in (6, 5, 1):
            size = len(content)
            content = bytes([field << 3 | 2, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + content
    model = helper.make_model(graph([]), opset_imports=[helper.make_opsetid("", 22)])
    whole = model.SerializeToString()
    (tmp_path / "a.onnx").write_bytes(
        whole + b"\x3a" + bytes([len(content) & 0x7F | 0x80, len(content) >> 7]) + content
    )
    assert "not a whole ONNX file: graphs are nested in nodes too deeply" in refusal(tmp_path / "a.onnx")


def test_any_cut_is_noticed(tmp_path: Path) -> None:
    content = (FILES / "onnx_gru_before.onnx").read_bytes()
    path = tmp_path / "a.onnx"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refusal(path)


@settings(max_examples=200)
@pytest.mark.parametrize("name", ["onnx_lstm", "onnx_bidirectional_peephole", "onnx_gru_before"])
@given(data=st.data())
def test_damage_is_survived(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject) -> None:
    """Bits are flipped, bytes changed, pieces copied, put in and taken out: there is an error or there are arrays."""
    content = bytearray((FILES / f"{name}.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        place = st.integers(0, len(content) - 1)
        where, source, size = data.draw(place), data.draw(place), data.draw(st.integers(1, 32))
        match data.draw(st.sampled_from(["bit", "byte", "copy", "insert", "remove"])):
            case "bit":
                content[where] ^= 1 << data.draw(st.integers(0, 7))
            case "byte":
                content[where] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
            case "copy":
                content[where : where + size] = content[source : source + size]
            case "insert":
                content[where:where] = content[source : source + size]
            case _:
                del content[where : min(where + size, len(content) - 1)]
    check_read_or_refused(tmp_path_factory.mktemp("damaged") / "model.onnx", bytes(content), times_as_large=8)
