"""Models exported to ONNX: onnxruntime computes what they do, for any batch and any lengths."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_exports import Applied, Function, Runner, Spotter, Tensor, assert_near, assert_same_function, on_host, rows
from ops.case import SEEDS

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, ManyToOne

KINDS = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


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


def test_a_plain_network_is_only_its_node(tmp_path: Path) -> None:
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
def test_language_models_take_ids_and_return_logits(
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


@given(size=sizes)
def test_user_defined_modules(tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int]) -> None:
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
