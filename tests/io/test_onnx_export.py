"""Models as ONNX files: what onnxruntime computes of them is what the models compute."""

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import CASES, SEEDS, Case

import tinygrad_lstm as tg
from tinygrad_lstm.io.onnx import model as onnx_model
from tinygrad_lstm.mode import mode
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, GRUCell, ManyToOne
from tinygrad_lstm.ops.recurrent import LAYERS, scan

HostArray = np.ndarray[Any, Any]
Tensor = tg.Tensor
Function = Callable[..., Any]
Inputs = Mapping[str, Any]

TOLERANCE = 1e-5
KINDS = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}

QUIET = onnxruntime.SessionOptions()
QUIET.intra_op_num_threads = 1
QUIET.log_severity_level = 4


class Runner:
    """An exported file, checked, to be run."""

    def __init__(
        self, model: tg.nn.Module, inputs: Inputs | None = None, folder: Path | None = None, **options: Any
    ) -> None:
        path = (folder or Path(".")) / "model.onnx"
        tg.io.export_onnx(model, path, inputs, **options)
        self.proto = onnx.load(path)
        onnx.checker.check_model(self.proto, full_check=True)
        content = self.proto.SerializeToString()
        self.session = onnxruntime.InferenceSession(content, QUIET, providers=["CPUExecutionProvider"])

    def __call__(self, **inputs: Any) -> dict[str, HostArray]:
        names = [output.name for output in self.session.get_outputs()]
        given = {name: on_host(value) for name, value in inputs.items()}
        return dict(zip(names, self.session.run(None, given), strict=True))

    @property
    def nodes(self) -> list[str]:
        """The kinds of its nodes, in order."""
        return [node.op_type for node in self.proto.graph.node]

    @property
    def arrays(self) -> dict[str, HostArray]:
        """Its initialisers by name."""
        return {each.name: onnx.numpy_helper.to_array(each) for each in self.proto.graph.initializer}


def on_host(value: Any) -> HostArray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


class Applied(tg.nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def forward(self, **inputs: Tensor) -> Any:
        return self.function(**inputs)


def assert_near(actual: Mapping[str, HostArray], expected: Mapping[str, Any]) -> None:
    assert list(actual) == list(expected)
    for name, value in expected.items():
        wanted = on_host(value)
        assert (actual[name].shape, actual[name].dtype) == (wanted.shape, wanted.dtype), name
        np.testing.assert_allclose(actual[name], wanted, TOLERANCE, TOLERANCE, err_msg=name)


def assert_same_function(function: Function, example: Inputs, *others: Inputs, folder: Path, **options: Any) -> Runner:
    """Exports a function by an example, and holds what onnxruntime computes to the function's own values."""
    run = Runner(Applied(function), example, folder, **options)
    for inputs in (example, *others):
        with tg.no_grad():
            given = function(**{name: tg.tensor(value) for name, value in inputs.items()})
        outputs = given if isinstance(given, tuple | list) else [given]
        names = ["output", *(f"output_{number}" for number in range(1, len(outputs)))]
        assert_near(run(**inputs), dict(zip(names, outputs, strict=True)))
    return run


def rows(T: int, B: int, size: int = 3, seed: int = 0) -> HostArray:
    return np.random.default_rng(seed).uniform(0.2, 1.5, (T, B, size)).astype(np.float32)


# -- models ------------------------------------------------------------------------------------------------------------


def variants(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """The options of a kind of network: those of a node of ONNX's, and those that need a Scan."""
    if kind == "LSTM":
        return st.fixed_dictionaries(
            {},
            optional={
                "peephole": st.just(True),
                "proj_size": st.just(1),
                "layer_norm": st.sampled_from(["cell", "output"]),
            },
        )
    options = {"GRU": {"reset_after": st.booleans()}, "RNN": {"nonlinearity": st.sampled_from(["tanh", "relu"])}}
    return st.fixed_dictionaries({}, optional=options[kind])


@st.composite
def networks(draw: st.DrawFn, one_direction: bool = False) -> LSTM | GRU | RNN:
    kind = draw(st.sampled_from(sorted(KINDS)))
    options = draw(variants(kind))
    tg.manual_seed(draw(SEEDS))
    network = KINDS[kind](
        draw(st.integers(1, 4)),
        draw(st.integers(2, 5)),
        draw(st.integers(1, 2)),
        batch_first=draw(st.booleans()),
        dropout=draw(st.sampled_from([0.0, 0.5])),
        bidirectional=not one_direction and draw(st.booleans()),
        **options,
    )
    # Normalization makes much of little: of differences between numbers that are nearly the same.
    return network.to(dtype="float64") if "layer_norm" in options else network


sizes = st.tuples(st.integers(1, 6), st.integers(1, 4))


@given(network=networks(), size=sizes)
def test_networks_compute_the_same_with_any_batch_and_time(
    tmp_path_factory: pytest.TempPathFactory, network: LSTM | GRU | RNN, size: tuple[int, int]
) -> None:
    run = Runner(network, folder=tmp_path_factory.mktemp("export"))
    inputs = network.example_inputs(*size)
    network.eval()
    assert_near(run(**inputs), network.named_forward(**inputs))


@given(network=networks(), size=sizes, data=st.data())
def test_lengths_of_sequences_are_an_input(
    tmp_path_factory: pytest.TempPathFactory, network: LSTM | GRU | RNN, size: tuple[int, int], data: st.DataObject
) -> None:
    T, B = size
    example = {**network.example_inputs(5, 3), "lengths": np.array([5, 0, 3])}
    run = Runner(network, example, tmp_path_factory.mktemp("export"))
    lengths = np.array(data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B)))
    inputs = network.example_inputs(T, B)
    network.eval()
    assert_near(run(**inputs, lengths=lengths), network.named_forward(**inputs, lengths=lengths))


@settings(max_examples=10)
@given(network=networks(one_direction=True), cut=st.integers(1, 6))
def test_chunks_with_their_states_carried_on_equal_the_whole(
    tmp_path_factory: pytest.TempPathFactory, network: LSTM | GRU | RNN, cut: int
) -> None:
    run = Runner(network, folder=tmp_path_factory.mktemp("export"))
    inputs = {name: on_host(value) for name, value in network.example_inputs(7, 2).items()}
    time = 1 if network.batch_first else 0
    first, second = np.split(inputs.pop("x"), [cut], axis=time)
    before = run(x=first, **inputs)
    after = run(x=second, **{f"{name}0": before[name] for name in network.STATES})
    whole = run(x=np.concatenate([first, second], axis=time), **inputs)
    assert_near({**after, "out": np.concatenate([before["out"], after["out"]], axis=time)}, whole)


@given(network=networks().filter(lambda network: not {"proj_size", "layer_norm"} & network.options.keys()))
def test_networks_are_read_back(tmp_path_factory: pytest.TempPathFactory, network: LSTM | GRU | RNN) -> None:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    tg.io.export_onnx(network, path)
    weights = tg.io.load_weights(path)
    assert list(weights.layers) == [f"l{layer}" for layer in range(network.num_layers)]
    loaded = type(network).from_onnx(weights, list(weights.layers))
    assert loaded.options == network.options
    values = loaded.state_dict()
    assert values.keys() == network.state_dict().keys()
    assert all(np.array_equal(values[name], array) for name, array in network.state_dict().items())


def test_a_plain_network_is_its_node_alone(tmp_path: Path) -> None:
    run = Runner(LSTM(3, 5), folder=tmp_path)
    assert run.nodes == ["LSTM", "Squeeze"]
    assert run.proto.graph.node[0].name == "l0"
    assert {name: array.shape for name, array in run.arrays.items() if name.startswith("l0")} == {
        "l0.W": (1, 20, 3),
        "l0.R": (1, 20, 5),
        "l0.B": (1, 40),
    }
    inputs = {
        each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in run.proto.graph.input
    }
    assert inputs == {"x": ["time", "batch", 3], "h0": [1, "batch", 5], "c0": [1, "batch", 5]}


@pytest.mark.parametrize(("kind", "options", "node"), [
    ("LSTM", {}, "LSTM"),
    ("LSTM", {"peephole": True}, "LSTM"),
    ("LSTM", {"proj_size": 2}, "Scan"),
    ("LSTM", {"layer_norm": "cell"}, "Scan"),
    ("GRU", {}, "GRU"),
    ("GRU", {"reset_after": False}, "GRU"),
    ("RNN", {}, "RNN"),
    ("RNN", {"nonlinearity": "relu"}, "RNN"),
])  # fmt: skip
def test_both_directions_are_one_node_where_there_is_one(
    tmp_path: Path, kind: str, options: dict[str, Any], node: str
) -> None:
    run = Runner(KINDS[kind](3, 5, 2, bidirectional=True, **options), folder=tmp_path)
    assert [each for each in run.nodes if each in (*KINDS, "Scan")] == [node] * (4 if node == "Scan" else 2)


@given(size=sizes, layers=st.integers(1, 2))
def test_language_models_take_ids_and_give_logits(
    tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int], layers: int
) -> None:
    model = CharLM(11, 4, 6, layers, dropout=0.5)
    run = Runner(model, folder=tmp_path_factory.mktemp("export"))
    inputs = model.example_inputs(*size)
    given = run(**inputs)
    assert list(given) == ["logits", "h", "c"]
    assert_near(given, model.eval().named_forward(**inputs))
    logits, _ = model(inputs["ids"], (inputs["h0"], inputs["c0"]))
    assert_near({"logits": given["logits"]}, {"logits": logits})


@given(network=networks(), size=sizes)
def test_answers_for_whole_sequences(
    tmp_path_factory: pytest.TempPathFactory, network: LSTM | GRU | RNN, size: tuple[int, int]
) -> None:
    model = ManyToOne(network, 2)
    run = Runner(model, folder=tmp_path_factory.mktemp("export"))
    inputs = model.example_inputs(*size)
    model.eval()
    assert_near(run(**inputs), model.named_forward(**inputs))
    without = Runner(model, {"x": inputs["x"]}, tmp_path_factory.mktemp("export"), dynamic={"x": {}})
    assert_near({"output": without(x=inputs["x"])["output"]}, {"output": model(inputs["x"])})


class Spotter(tg.nn.Module):
    """A convolution, a network of both directions, layer normalization, the classes of each step."""

    def __init__(self, classes: int = 3) -> None:
        self.conv = tg.nn.Conv1d(2, 4, 3, stride=2, padding=1)
        self.gru = GRU(4, 5, bidirectional=True)
        self.norm = tg.nn.LayerNorm(10)
        self.dropout = tg.nn.Dropout(0.5)
        self.classes = tg.nn.Linear(10, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = tg.relu(self.conv(x.permute(1, 2, 0))).permute(2, 0, 1)  # (T / 2, B, 4)
        out, h = self.gru(features)
        return tg.softmax(self.classes(self.dropout(self.norm(out))), dim=-1), h


@given(size=sizes)
def test_modules_of_ones_own(tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int]) -> None:
    model = Spotter()
    run = Runner(model, {"x": rows(4, 2, 2)}, tmp_path_factory.mktemp("export"))
    assert model.training and "Conv" in run.nodes and "Dropout" not in run.nodes
    x = rows(*size, 2)
    with model.evaluating():
        classes, h = model(tg.tensor(x))
    assert_near(run(x=x), {"output": classes, "output_1": h})


def test_parameters_keep_their_names(tmp_path: Path) -> None:
    model = Spotter()
    arrays = Runner(model, {"x": rows(4, 2, 2)}, tmp_path).arrays
    for name, values in model.state_dict().items():
        if not name.startswith("gru."):
            assert np.array_equal(arrays[name], values)
    assert {"gru.l0.W", "gru.l0.R", "gru.l0.B"} <= arrays.keys()


def test_a_tied_weight_is_written_once(tmp_path: Path) -> None:
    model = tg.nn.Sequential(tg.nn.Linear(3, 3), tg.tanh, tg.nn.Linear(3, 3))
    model[2].weight = model[0].weight
    x = rows(4, 2)
    run = Runner(model, {"x": x}, tmp_path)
    assert "0.weight" in run.arrays and "2.weight" not in run.arrays
    assert_near(run(x=x), {"output": model(tg.tensor(x))})


class Scores(NamedTuple):
    """Outputs with names."""

    low: Tensor
    high: Tensor


@pytest.mark.parametrize(("function", "names"), [
    (lambda x: x * 2, ["output"]),
    (lambda x: (x, (x * 2, [x * 3])), ["output", "output_1", "output_2"]),
    (lambda x: {"twice": x * 2, "thrice": x * 3}, ["twice", "thrice"]),
    (lambda x: Scores(x - 1, x + 1), ["low", "high"]),
])  # fmt: skip
def test_outputs_have_names(tmp_path: Path, function: Function, names: list[str]) -> None:
    assert list(Runner(Applied(function), {"x": rows(3, 2)}, tmp_path)(x=rows(4, 1))) == names


def test_outputs_may_be_inputs_constants_or_the_same(tmp_path: Path) -> None:
    def function(x: Tensor) -> list[Tensor]:
        y = x * 2
        return [x, y, y, y.clone(), tg.arange(3), x]

    assert_same_function(function, {"x": rows(3, 2)}, {"x": rows(5, 1)}, folder=tmp_path)


# -- ops ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=8)
@given(data=st.data())
def test_every_op(tmp_path_factory: pytest.TempPathFactory, case: Case, data: st.DataObject) -> None:
    drawn = data.draw(case.drawn.filter(lambda drawn: case.name != "unbind" or all(drawn.arrays[0].shape)))
    inputs = {f"x{k}": np.asarray(array, np.float32) for k, array in enumerate(drawn.arrays)}

    def function(**tensors: Tensor) -> Any:
        return case.call(*tensors.values(), **drawn.settings)

    folder = tmp_path_factory.mktemp("export")
    assert_same_function(function, inputs, folder=folder, dynamic={name: {} for name in inputs})


TABLE = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool", "float64"])
@pytest.mark.parametrize("function", [
    lambda x: x + 1,
    lambda x: x == 2,
    lambda x: x * 1.5,
    lambda x: x / 2,
    lambda x: x + tg.tensor([[[0.5]]]),
    lambda x: x.sum(0),
    lambda x: x.mean(1),
    lambda x: x.var(),
    lambda x: x.max(0) if x.dtype != np.bool_ else x,
    lambda x: x.any(0),
    lambda x: x.cumsum(0),
    lambda x: x.exp(),
    lambda x: x.clamp(0.25, 0.75),
    lambda x: x.floor() if x.dtype != np.bool_ else x,
    lambda x: x.round() if x.dtype != np.bool_ else x,
    lambda x: (x < 1, x == 1, x != 0, x.logical_and(True), x.logical_not()),
    lambda x: (tg.isfinite(x), tg.isnan(x)),
    lambda x: tg.where(x, 1.0, 2),
    lambda x: tg.where(True, x, 2),
    lambda x: x.float() @ TABLE.T,
    lambda x: tg.linear(x.float(), TABLE, [1, 2]),
    lambda x: tg.embedding(x.astype("int32"), tg.tensor(TABLE)),
])  # fmt: skip
def test_other_dtypes(tmp_path: Path, dtype: str, function: Function) -> None:
    def of(T: int, B: int) -> HostArray:
        return np.random.default_rng(T).integers(0, 2, (T, B, 3)).astype(dtype)

    assert_same_function(function, {"x": of(4, 2)}, {"x": of(3, 5)}, folder=tmp_path)


KERNEL = np.random.default_rng(2).normal(size=(4, 3, 2)).astype(np.float32)


# Of a tensor (T, B, 3), with T and B others when it runs.
@pytest.mark.parametrize("function", [
    lambda x: x.flatten(),
    lambda x: x.flatten(0, 1),
    lambda x: x.reshape(-1, 3),
    lambda x: x.reshape(x.shape[0], -1),
    lambda x: x.reshape(x.shape[1], x.shape[0] * 3),
    lambda x: x.reshape(x.shape[1], 3, x.shape[0]),
    lambda x: x.reshape(1, *x.shape),
    lambda x: x.reshape(-1).reshape(3, x.shape[1], x.shape[0]),
    lambda x: x.unsqueeze(1).squeeze(1),
    lambda x: x.transpose(0, 1).reshape(x.shape[1], -1),
    lambda x: x[0],
    lambda x: x[-1],
    lambda x: x[1:],
    lambda x: x[:, :-1],
    lambda x: x[::-1, 0],
    lambda x: x[::2],
    lambda x: x[-1, :, None, 1:],
    lambda x: x[..., 0, None],
    lambda x: x[None, ..., 1],
    lambda x: x[..., np.array([True, False, True])],
    lambda x: x[len(x) - 1],
    lambda x: x[: len(x) - 1],
    lambda x: x[: len(x) // 2],
    lambda x: x[: 2 * (len(x) // 2)].reshape(len(x) // 2, x.shape[1], 6),
    lambda x: x[: 4 * (len(x) // 4)].mean(0),
    lambda x: x[: 2 * (len(x) // 4)].mean(0),
    lambda x: x[: 3 * (len(x) // 3)].mean(0),
    lambda x: x[[0, -1, 0]],
    lambda x: x[:, [[0, 1], [1, 0]]],
    lambda x: x[tg.argmax(x[:, 0, 0])],
    lambda x: x[x.shape[0] - 1 - tg.arange(x.shape[0])],
    lambda x: x[tg.argmax(x[..., 0], 0), tg.arange(x.shape[1])],
    lambda x: x[tg.tensor([[0], [1]]), [0, 1], None],
    lambda x: x.index_select(1, [0, 0]),
    lambda x: x.gather(0, x[..., :1].argmax(0, keepdim=True)),
    lambda x: x.take_along_axis(x[:1].argmax(-1, True), -1),
    lambda x: x.mean(0),
    lambda x: x.mean((0, 1), keepdim=True),
    lambda x: x.mean(),
    lambda x: x.var(0, correction=0),
    lambda x: x.std((0, 1)),
    lambda x: x.sum(1) / x.shape[1],
    lambda x: x.sum(0) * (1.0 / len(x)) + float(len(x)),
    lambda x: x.sum(np.int64(0)) / (x.shape[0] * x.shape[1]),
    lambda x: x.reshape(x.shape[0], 1, x.shape[1] * 3)[:, 0].reshape(*x.shape[:2], 3) @ TABLE.T,
    lambda x: x.reshape(x.shape[0], -1).reshape(*x.shape) @ TABLE[0],
    lambda x: x.norm(2, 0),
    lambda x: x.max(0) + x.min(1).max(),
    lambda x: x.logsumexp((0, 1)),
    lambda x: x.argmax(),
    lambda x: x.argmin(1),
    lambda x: x.cumsum(0),
    lambda x: x.flip(0),
    lambda x: x.roll(7, 0),
    lambda x: x.roll((1, -4), (0, 1)),
    lambda x: x.roll(2),
    lambda x: x.roll(len(x) // 2, 0),
    lambda x: x.tril(),
    lambda x: x.permute(2, 0, 1).tril(x.shape[1] - 1),
    lambda x: tg.pad(x, (0, 0, 1, 0, 2, 2), value=1.5),
    lambda x: tg.pad(x, (0, 0, 0, x.shape[0])),
    lambda x: x.repeat(2, 1, 1),
    lambda x: x[:, :1].expand(*x.shape),
    lambda x: tg.cat([x, tg.zeros(*x.shape[:2], 1)], dim=-1),
    lambda x: tg.cat([x, x[:1]], dim=0),
    lambda x: tg.cat([x, tg.zeros(*x.shape[:2], 0), x[..., :1].expand(*x.shape[:2], 0)], dim=-1),
    lambda x: tg.stack([x, x * 2], dim=1),
    lambda x: x.unbind(-1),
    lambda x: x.split([1, 2], -1),
    lambda x: x.chunk(2, -1),
    lambda x: x + tg.arange(x.shape[0]).reshape(-1, 1, 1),
    lambda x: x + tg.sin(tg.arange(1, x.shape[0] + 1) * 0.1).reshape(-1, 1, 1),
    lambda x: x * tg.full(x.shape, 0.5),
    lambda x: x + tg.full((x.shape[1], 1), len(x)),
    lambda x: tg.where(tg.arange(2 * x.shape[1], 0, -2).unsqueeze(-1) > 2, x, 0.0),
    lambda x: tg.softmax(x, 0),
    lambda x: tg.log_softmax(x, -1),
    lambda x: tg.gelu(x) + tg.silu(x) + tg.elu(-x) + tg.softplus(x) + tg.leaky_relu(x - 1),
    lambda x: tg.layer_norm(x, 3),
    lambda x: tg.layer_norm(x, 3, [1.0, 2.0, 3.0], [0.0, 1.0, 2.0], eps=0.1),
    lambda x: tg.layer_norm(x.permute(1, 2, 0), [3, len(x)]),
    lambda x: x @ x.mT,
    lambda x: x @ TABLE[0],
    lambda x: tg.einsum("tbi,tbj->bij", x, x),
    lambda x: tg.outer(x[:, 0, 0], x[0, :, 0]),
    lambda x: tg.conv1d(x.permute(1, 2, 0), KERNEL, padding=1),
    lambda x: tg.conv1d(x.permute(1, 2, 0), KERNEL, [1.0, 2.0, 3.0, 4.0], padding="same", dilation=2),
    lambda x: tg.conv1d(x.permute(1, 2, 0), KERNEL[:3, :1], stride=2, padding=2, groups=3),
    lambda x: tg.conv1d(x[:, 0].T, KERNEL, padding=1),
    lambda x: tg.dropout(x, 0.5, training=False),
    lambda x: x.detach() + x.clone().double().float(),
    lambda x: tg.isfinite(x),
])  # fmt: skip
def test_lengths_may_be_others(tmp_path: Path, function: Function) -> None:
    assert_same_function(function, {"x": rows(4, 3)}, {"x": rows(6, 2)}, {"x": rows(5, 7)}, folder=tmp_path)


@pytest.mark.parametrize("part", [
    slice(-3, None, -1), slice(-3, -6, -1), slice(-2, 0, -1), slice(-2, -1, -1), slice(-2, 5, -2), slice(5, -3, -1)
])  # fmt: skip
def test_slices_may_begin_before_the_first_element(tmp_path: Path, part: slice) -> None:
    shorter = [{"x": rows(T, 2)} for T in (1, 2, 3, 8)]
    assert_same_function(lambda x: x[part], {"x": rows(4, 2)}, *shorter, folder=tmp_path)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_lengths_may_be_of_any_integers(tmp_path: Path, dtype: str) -> None:
    network = LSTM(3, 4, bidirectional=True)

    def function(x: Tensor, lengths: Tensor) -> Tensor:
        return network(x, lengths=lengths)[0]

    one, two = ({"x": rows(5, len(each)), "lengths": np.array(each, dtype)} for each in ([4, 2], [1, 5, 0]))
    assert_same_function(function, one, two, folder=tmp_path)


def test_one_layer_called_twice_is_written_once(tmp_path: Path) -> None:
    network = GRU(3, 3)

    def function(x: Tensor) -> Tensor:
        return network(network(x)[0])[0]

    run = assert_same_function(function, {"x": rows(4, 2)}, {"x": rows(3, 1)}, folder=tmp_path)
    assert run.nodes.count("GRU") == 2 and sum(array.size > 1 for array in run.arrays.values()) == 3


def test_networks_that_are_no_part_of_the_model_keep_apart(tmp_path: Path) -> None:
    one, both = LSTM(3, 2), LSTM(3, 4, bidirectional=True)

    def function(x: Tensor) -> list[Tensor]:
        return [one(x)[0], both(x)[0]]

    assert_same_function(function, {"x": rows(4, 2)}, {"x": rows(3, 1)}, folder=tmp_path)


def test_a_checkpointed_part_is_written_as_it_is(tmp_path: Path) -> None:
    network = LSTM(3, 4)
    function = lambda x: tg.checkpoint(lambda x: tg.tanh(network(x)[0]), x)  # noqa: E731
    assert_same_function(function, {"x": rows(4, 2)}, {"x": rows(3, 1)}, folder=tmp_path)


@pytest.mark.parametrize("T", [1, 2, 5])
def test_lengths_may_be_fixed(tmp_path: Path, T: int) -> None:
    """Of a cell that goes step by step in a loop, too; and of a Scan of fewer steps than there are runs."""
    cell, network = GRUCell(3, 4), LSTM(4, 4, proj_size=2)

    def function(x: Tensor) -> Tensor:
        h = tg.zeros(x.shape[1], 4)
        outputs = []
        for step in x:
            h = cell(step, h)
            outputs.append(h)
        return network(tg.stack(outputs))[0]

    inputs = {"x": rows(T, 2)}
    assert_same_function(function, inputs, {"x": rows(T, 5)}, folder=tmp_path, dynamic={"x": {1: "batch"}})


def test_a_cell_of_ones_own_goes_through_a_sequence(tmp_path: Path) -> None:
    """By way of `scan`; its step takes elements of two sequences, and what is an output besides."""

    def function(x: Tensor, y: Tensor) -> list[Tensor]:
        context = x.mean(0)  # (B, 3)
        xs, ys = x.unbind(0), y.unbind(1)

        def step(t: int, h: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
            return tg.tanh(xs[t] + h * context).reshape(*context.shape), n + ys[t] / len(xs) + tg.zeros(*n.shape)

        return [context, *scan(step, len(xs), [tg.zeros(x.shape[1], 3), tg.ones(x.shape[1], 1)], reverse=True)]

    def of(T: int, B: int) -> dict[str, HostArray]:
        return {"x": rows(T, B), "y": rows(B, T, 1)}

    dynamic = {"x": {0: "time", 1: "batch"}, "y": {0: "batch", 1: "time"}}
    run = assert_same_function(function, of(4, 2), of(1, 3), of(6, 1), folder=tmp_path, dynamic=dynamic)
    assert run.nodes.count("Scan") == 1


def test_dimensions_may_stand_elsewhere_and_be_several(tmp_path: Path) -> None:
    network = LSTM(3, 4, batch_first=True)

    def function(x: Tensor, keys: Tensor) -> Tensor:
        return network(x)[0] @ keys  # (B, T, 4) times (B, 4, K)

    def of(B: int, T: int, K: int) -> dict[str, HostArray]:
        return {"x": rows(B, T), "keys": rows(B, 4, K)}

    dynamic = {"x": {0: "batch", 1: "time"}, "keys": {0: "batch", 2: "keys"}}
    run = assert_same_function(function, of(2, 4, 3), of(1, 6, 2), of(3, 1, 5), folder=tmp_path, dynamic=dynamic)
    (output,) = run.proto.graph.output
    assert [dim.dim_param for dim in output.type.tensor_type.shape.dim] == ["batch", "time", "keys"]


def test_examples_may_be_of_the_lengths_that_a_model_takes(tmp_path: Path) -> None:
    """Of four steps each: the runs for the export have such lengths too."""

    def function(x: Tensor) -> Tensor:
        if len(x) % 4:
            raise ValueError("expected a multiple of 4 steps")
        return x.reshape(len(x) // 4, 4, x.shape[1], 3).mean(1)

    assert_same_function(function, {"x": rows(4, 2)}, {"x": rows(12, 3)}, folder=tmp_path)


def test_adapters_are_part_of_the_weights(tmp_path: Path) -> None:
    model = CharLM(11, 4, 6)
    plain = Runner(model, folder=tmp_path).nodes
    tg.nn.add_lora(model, rank=2)
    with tg.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_lora.B"):
                parameter.copy_(tg.randn(*parameter.shape))
    run = Runner(model, folder=tmp_path)
    inputs = model.example_inputs(4, 2)
    assert run.nodes == plain
    assert_near(run(**inputs), model.named_forward(**inputs))
    assert not any("lora" in name for name in run.arrays)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_models_of_other_dtypes_are_written_as_they_are(tmp_path: Path, dtype: str) -> None:
    model = CharLM(11, 4, 6).to(dtype=dtype)
    tg.io.export_onnx(model, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    (weight,) = [each for each in proto.graph.initializer if each.name == "lstm.l0.W"]
    assert onnx.numpy_helper.to_array(weight).dtype == dtype


def test_a_model_of_float16_runs(tmp_path: Path) -> None:
    model = LSTM(3, 4).to(dtype="float16")
    inputs = model.example_inputs(5, 2)
    out = Runner(model, folder=tmp_path)(**inputs)["out"]
    assert out.dtype == np.float16
    np.testing.assert_allclose(out, on_host(model.named_forward(**inputs)["out"]), atol=5e-3)


def test_the_file_says_what_made_it_and_for_which_programs(tmp_path: Path) -> None:
    proto = Runner(LSTM(3, 4), folder=tmp_path).proto
    assert (proto.producer_name, proto.producer_version) == ("tinygrad_lstm", tg.__version__)
    assert (proto.ir_version, [(each.domain, each.version) for each in proto.opset_import]) == (8, [("", 17)])


def test_every_device_gives_the_same_file(tmp_path: Path, device: str) -> None:
    for name, place in (("here", "cpu"), ("there", device)):
        tg.manual_seed(0)
        tg.io.export_onnx(CharLM(11, 4, 6).to(place), tmp_path / name)
        tg.io.export_onnx(Spotter().to(place), tmp_path / f"{name} too", {"x": rows(4, 2, 2)})
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    assert (tmp_path / "here too").read_bytes() == (tmp_path / "there too").read_bytes()


def test_all_else_stays_as_it_was(tmp_path: Path) -> None:
    model = CharLM(11, 4, 6, dropout=0.5)
    before, outside = model.state_dict(), mode().value
    tg.manual_seed(0)
    drawn = tg.randn(3).tolist()
    tg.manual_seed(0)
    Runner(model, folder=tmp_path)
    assert tg.randn(3).tolist() == drawn
    assert model.training and model.dropout.training
    assert all(np.array_equal(values, before[name]) for name, values in model.state_dict().items())
    assert mode().value is outside


# -- what cannot be exported -------------------------------------------------------------------------------------------


@tg.op()
def of_ones_own(xp: Any, x: tg.Array) -> tg.Array:
    """An op that the export does not know."""
    return x * 2


def in_a_loop(x: Tensor) -> Tensor:
    h = tg.zeros(x.shape[1], 3)
    for step in x:
        h = tg.tanh(step + h)
    return h


def changing(x: Tensor) -> Tensor:
    y = x * 2
    y[0] = 0
    return y + 1


def changing_its_output(x: Tensor) -> Tensor:
    y = x * 2
    y += 1
    return y


def with_weights_of_the_input(x: Tensor) -> Any:
    h = tg.zeros(x.shape[1], 2)
    return LAYERS["RNN"]([x, h, tg.ones(2, 3) * x.mean(), tg.ones(2, 2), tg.ones(2)], tg.tanh, None, False)


def counting_its_steps(x: Tensor) -> Any:
    xs = x.unbind(0)
    return scan(lambda t, h: (xs[t] * t + h,), len(x), [x[0]])


def going_by_the_last_step(x: Tensor) -> Any:
    xs = x.unbind(0)
    return scan(lambda t, h: (xs[t] * (2.5 if t == len(xs) - 1 else 1.5) + h,), len(xs), [x[0]])


@pytest.mark.parametrize(("function", "message"), [
    (of_ones_own, "op 'of_ones_own' cannot be written as ONNX; do what it does by those that can: abs, add, all, "),
    (in_a_loop, "forward applies .* ops to inputs of some lengths, .*: it goes through the steps one by one"),
    (lambda x: x * 2 if len(x) > 9 else x + 2, "'add' where that has 'mul': it goes .* or chooses by a length"),
    (lambda x: [x * 2, x + 1][len(x) % 2], "an output is given what 'mul' gave in one run and what 'add' gave in"),
    (lambda x: x + tg.full((x.shape[1], 3), 1.0 / len(x)), "op 'add' is given an array, of shape"),
    (changing, r"op 'add' is given a tensor of shape \(4, 2, 3\) that was changed in place"),
    (changing_its_output, "output 'output' is given a tensor of shape .* that was changed in place"),
    (lambda x: x[x > 0.5], "op 'getitem' is given a mask"),
    (lambda x: x[:, 0, [0, 1]], "'getitem' is given arrays as an index together with numbers"),
    (lambda x: x[:, [0, 1], [0, 1]], "'getitem' is given arrays .* for dimensions that are not the first"),
    (lambda x: x + tg.tensor(x.numpy()), "op 'add' is given an array, of shape .* not made of them by ops"),
    (lambda x: x * x.numpy().max(), "op 'mul' is given .* in one run and .* in another"),
    (lambda x: x * len(x) ** 0.5, "op 'mul' is given 2.0 in one run and 2.236.* in another"),
    (lambda x: x[: math.isqrt(len(x))], "op 'getitem' takes the number 2 or 3 or 5, by the lengths of the inputs"),
    (lambda x: x[: 3 * len(x) // 4], "op 'getitem' takes the number 3 or 4 or 5 or 6, by the lengths of the inputs"),
    (lambda x: x[:: len(x)], "'getitem' takes the number 4 or 5 or 6 or 7, .* that is not always the same"),
    (lambda x: tg.conv1d(x.permute(1, 2, 0), x.permute(1, 2, 0)), "'conv1d' takes the number .* always the same"),
    (lambda x: tg.stack(x.unbind(0)[:2]), "op 'unbind' gives 4 results in one run and 5 in another"),
    (lambda x: scan(lambda t, h: (x[t] + h,), len(x), [x[0]]), "a step takes no element of a sequence"),
    (counting_its_steps, "op 'mul' takes the number 0 or 4 or 1 or 5, by the lengths"),
    (going_by_the_last_step, "op 'mul' is given 1.5 in one run and 2.5 in another"),
    (lambda x: x * 2 if x.max() > 100 else x, "forward reads what 'gt' gave as Python's numbers"),
    (lambda x: x[:1] if x.tolist() else x, "forward reads an input as Python's numbers"),
    (lambda x: (x > 1).max(0), r"ONNX does not take what forward computes: .*\(bool\); where it names a type"),
    (lambda x: tg.softmax(x, (0, 1)), "op 'softmax' goes over the dimensions"),
    (lambda x: tg.maximum(x > 1, x < 2), "op 'maximum' is given bool tensors"),
    (lambda x: tg.dropout(x, 0.5), "op 'dropout' cannot be written"),
    (lambda x: x + tg.randn(3), "op 'add' is given an array"),
    (with_weights_of_the_input, "weight_ih of 'RNN' depends on an input"),
    (lambda x: {}, "forward gave nothing"),
    (lambda x: (x, None), "expected forward to give tensors, .* but 'output_1' is NoneType"),
    (lambda x: {0: x}, "expected forward to give tensors by names, in a dict, but one is 0"),
    (lambda x: {"x": x * 2}, "x is the name of an input and of an output"),
])  # fmt: skip
def test_what_cannot_be_written_is_named(tmp_path: Path, function: Function, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    outside = mode().value
    with pytest.raises(ValueError, match=f"^export_onnx: .*{message}") as raised:
        tg.io.export_onnx(Applied(function), path, {"x": rows(4, 2)})
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
    assert mode().value is outside


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool", "float32"])
def test_numbers_made_of_values_are_seen(tmp_path: Path, dtype: str) -> None:
    def function(x: Tensor, lengths: Tensor) -> Tensor:
        return x[: int(10 * lengths.numpy().sum())]

    inputs = {"x": rows(4, 3), "lengths": np.array([1, 0, 0], dtype)}
    with pytest.raises(ValueError, match="op 'getitem' takes the number"):
        tg.io.export_onnx(Applied(function), tmp_path / "model.onnx", inputs)


class Counter(tg.nn.Module):
    """A module that changes a buffer of its own."""

    def __init__(self) -> None:
        self.register_buffer("seen", tg.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.seen
        self.seen += 1
        return y


def test_a_model_that_keeps_something_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="forward changes 'seen' in place"):
        tg.io.export_onnx(Counter(), tmp_path / "model.onnx", {"x": rows(4, 2)})


X, LETTERS = rows(4, 2), "abcdefghijklmnopqrstuvw"


@pytest.mark.parametrize(("model", "inputs", "dynamic", "message"), [
    (Spotter(), None, None, "a Spotter says nothing of its inputs; give examples"),
    (Spotter(), {"y": X}, None, r"Spotter.forward\(x\) cannot be given the inputs y: missing a required argument: 'x'"),
    (Spotter(), {"x": X}, {"y": {}}, "dynamic names y, but the inputs are x"),
    (Spotter(), {"x": X}, {"x": {3: "time"}}, r"'time' is to be dimension 3 of 'x', .* has shape \(4, 2, 3\)"),
    (Spotter(), {"x": X[:0]}, None, "'time' is to be dimension 0 of 'x', .* expected a dimension of length 1 or more"),
    (Applied(tg.add), {"x": X, "y": X[:3]}, None, "'time' is 4 of 'x' and 3 of 'y'; say which dimensions"),
    (Applied(tg.add), {"x": X, "y": np.ones((1,) * 23)}, {"y": dict(enumerate(LETTERS))}, "at most 6 dynamic dim"),
])  # fmt: skip
def test_inputs_that_do_not_fit_are_named(
    tmp_path: Path, model: tg.nn.Module, inputs: Inputs | None, dynamic: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^export_onnx: .*{message}"):
        tg.io.export_onnx(model, tmp_path / "model.onnx", inputs, dynamic=dynamic)
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_models_own_comes_with_the_shapes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="conv1d: x of shape") as raised:
        tg.io.export_onnx(Spotter(), tmp_path / "model.onnx", {"x": rows(4, 2, 5)})
    assert raised.value.__notes__ == ["export_onnx ran Spotter with x (4, 2, 5), made of the examples"]


def test_states_have_names() -> None:
    with pytest.raises(ValueError, match="LSTM: expected the states h0, c0, got h0"):
        LSTM(3, 4).named_forward(tg.ones(2, 1, 3), h0=tg.ones(1, 1, 4))


def test_only_modules_are_exported(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected a Module, got function"):
        tg.io.export_onnx(in_a_loop, tmp_path / "model.onnx", {"x": X})  # type: ignore[arg-type]


def test_too_large_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "LARGEST_FILE", 1000)
    with pytest.raises(ValueError, match=r"the weights take 1,.* bytes, and an ONNX file holds at most 1,000"):
        tg.io.export_onnx(LSTM(3, 8), tmp_path / "model.onnx")


def test_without_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(RuntimeError, match=r"pip install '\.\[onnx\]' in a checkout"):
        tg.io.export_onnx(LSTM(3, 8), tmp_path / "model.onnx")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.model\.onnx"):
        tg.io.export_onnx(LSTM(3, 8), tmp_path / "none" / "model.onnx")
