"""Traces of cells and networks, held against PyTorch's numbers, and against `tg.grad` through unrolled cells."""

import contextlib
import copy
import gc
import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from golden.load import load
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.graph import Node, Pick
from tinygrad_lstm.inspect import LayerTrace, Trace, show_step, trace, trace_memory
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, GRUCell, LSTMCell, RNNCell
from tinygrad_lstm.observing import show_layer
from tinygrad_lstm.ops.recurrent import LAYERS
from tinygrad_lstm.random import random_state, restored_random_state

CELLS: dict[Any, Any] = {LSTM: LSTMCell, GRU: GRUCell, RNN: RNNCell}
VALUES = {"LSTM": "ifgoch", "GRU": "rznh", "RNN": "h"}
every_kind = pytest.mark.parametrize("kind", CELLS, ids=lambda kind: kind.__name__)

States = tuple[tg.Tensor, ...]


# -- the same, computed by cells unrolled by hand ----------------------------------------------------------------------


@dataclass
class Unrolled:
    """A layer in one direction, as its cell computes it: of each step what it was given, and what it computed."""

    name: str
    steps: dict[int, Any] = field(default_factory=dict)
    before: dict[int, States] = field(default_factory=dict)


def going_of(lengths: np.ndarray | None, T: int, B: int) -> np.ndarray:
    """Whether each sequence is going at each step, (T, B)."""
    return np.arange(T)[:, None] < (np.full(B, T) if lengths is None else lengths)


def cell_of(network: Any, place: str) -> Any:
    """The cell of a layer in one direction, made of the network's own parameters."""
    weights = network.layer_parameters(place)
    if not isinstance(network, GRU):
        weights["weight"] = tg.cat([weights.pop("weight_hh"), weights.pop("weight_ih")], 1)
    H = network.hidden_size
    I = network.input_size if place.startswith("l0") else H * len(network._directions)
    with restored_random_state(random_state()):  # initial weights are not to draw what dropout will
        cell = CELLS[type(network)](I, H)
    vars(cell).update(weights)  # beside Module's guard: tensors of a graph in place of parameters
    return cell


def unrolled(
    network: Any, x: tg.Tensor, state: States | None = None, lengths: np.ndarray | None = None
) -> tuple[tg.Tensor, States, list[Unrolled]]:
    """The outputs (T, B, ·), the final states, and the steps of all layers, of x (T, B, I)."""
    T, B = x.shape[:2]
    masks = tg.tensor(going_of(lengths, T, B)[:, :, None], device=x.device)
    x = tg.where(masks, x, 0.0)
    finals: list[States] = []
    layers: list[Unrolled] = []
    for layer in range(network.num_layers):
        outs = []
        for direction in network._directions:
            place = f"l{layer}{direction}"
            cell, record, hs = cell_of(network, place), Unrolled(place), [x] * T
            zeros = tg.zeros(B, network.hidden_size, dtype=x.dtype, device=x.device)
            states = tuple(part[len(finals)] for part in state) if state else (zeros,) * len(network.STATES)
            for t in reversed(range(T)) if direction else range(T):
                gates = cell.gates(x[t], states if len(states) > 1 else states[0])
                record.steps[t], record.before[t] = gates, states
                hs[t] = tg.where(masks[t], gates.h, 0.0)
                after = (getattr(gates, name) for name in network.STATES)
                states = tuple(tg.where(masks[t], new, old) for new, old in zip(after, states))
            outs.append(tg.stack(hs))
            finals.append(states)
            layers.append(record)
        x = tg.cat(outs, -1)
        if layer < network.num_layers - 1:
            x = tg.dropout(x, network.dropout, network.training)
    return x, tuple(tg.stack(list(parts)) for parts in zip(*finals)), layers


def host(tensor: tg.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def assert_close(actual: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    """Equal but for rounding errors of the dtype, of numbers as large as the largest."""
    assert isinstance(actual, np.ndarray)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
    largest = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=60 * largest * np.finfo(expected.dtype).eps, err_msg=what)


def assert_traced(layer: LayerTrace, expected: Unrolled, going: np.ndarray, loss: tg.Tensor | None) -> None:
    """The trace is that of these steps, and its gradients are those that `tg.grad` gives of them."""
    T = len(going)
    names = expected.steps[0]._fields
    assert "".join(names) == "".join(layer.values) == VALUES[layer.kind]
    np.testing.assert_array_equal(layer.going, going)

    def stacked(tensors: Sequence[tg.Tensor | None], like: tg.Tensor) -> np.ndarray:
        steps = [np.zeros_like(host(like)) if tensor is None else host(tensor) for tensor in tensors]
        return np.where(going[:, :, None], steps, 0).astype(like.dtype)

    for name in names:
        tensors = [getattr(expected.steps[t], name) for t in range(T)]
        assert_close(layer.values[name], stacked(tensors, tensors[0]), f"{layer.name} {name}")
        if loss is None:
            assert not layer.gradients
            continue
        found = tg.grad(loss, tensors, retain_graph=True, allow_unused=True)
        assert_close(layer.gradients[name], stacked(found, tensors[0]), f"{layer.name} gradient of {name}")
    for k, name in enumerate(layer.before):
        states = [expected.before[t][k] for t in range(T)]
        assert_close(layer.before[name], stacked(states, states[0]), f"{layer.name} {name} before")


class Scored(nn.Module):
    """A network, and a score of its outputs and final states, each number in its own way."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tg.Tensor:
        out, final = self.network(x, state, lengths)
        return score(out, *(final if isinstance(final, tuple) else (final,)))


def score(*outputs: tg.Tensor) -> tg.Tensor:
    """A scalar that depends on each number in its own way."""
    rng = np.random.default_rng(5)
    total = 0.0
    for part in outputs:
        weights = tg.tensor(rng.uniform(-1, 1, part.shape).astype(part.dtype), device=part.device)
        total = total + (part * weights).sum()
    return total


def itself(value: tg.Tensor) -> tg.Tensor:
    """The loss of a model whose output is one."""
    return value


def drawn_model(
    make: Callable[..., Any], *sizes: int, dtype: str = "float64", device: str = "cpu", **options: Any
) -> Any:
    """A model with random weights."""
    model = make(*sizes, **options)
    rng = np.random.default_rng(3)
    model.load_state_dict({name: rng.normal(0, 0.6, array.shape) for name, array in model.state_dict().items()})
    return model.to(device, dtype)


def drawn(*shape: int, dtype: str = "float64", seed: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def assert_same(one: Trace, other: Trace) -> None:
    """The same names, and the same numbers but for rounding."""
    assert [layer.name for layer in one] == [layer.name for layer in other]
    for a, b in zip(one, other):
        assert (a.kind, a.reverse, a.shape) == (b.kind, b.reverse, b.shape)
        assert_close(a.inputs, b.inputs)
        for mine, yours in ((a.values, b.values), (a.gradients, b.gradients), (a.before, b.before)):
            assert list(mine) == list(yours)
            for name in mine:
                assert_close(mine[name], yours[name], f"{a.name} {name}")


# -- against PyTorch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("unit", ["network", "cell"])
def test_agrees_with_torch(kind: str, unit: str, device: str, compiled: bool) -> None:
    """Every gate and state of every step, and their gradients."""
    golden = load("traces", kind)
    H, I = golden["weight_hh"].shape[1], golden["weight_ih"].shape[1]
    weights = {name: golden[name] for name in ("weight_ih", "weight_hh", "bias", "bias_hn") if name in golden}
    network: Any = {"lstm": LSTM, "gru": GRU, "rnn": RNN}[kind]
    if unit == "network":
        model = network(I, H).to(dtype="float64")
        model.load_state_dict({f"{name}_l0": array for name, array in weights.items()})
    else:
        model = CELLS[network](I, H).to(dtype="float64")
        if kind != "gru":
            weights["weight"] = np.concatenate([weights.pop("weight_hh"), weights.pop("weight_ih")], axis=1)
        model.load_state_dict(weights)
    model.to(device)

    states = [golden[name] if unit == "cell" else golden[name][None] for name in ("h0", "c0") if name in golden]
    state = [tg.tensor(part, device=device) for part in states]
    w_out = tg.tensor(golden["w_out"], device=device)
    traced = trace(
        model, tg.tensor(golden["x"], device=device), tuple(state) if kind == "lstm" else state[0],
        loss=lambda out: (out * w_out).sum(),
    )  # fmt: skip

    (layer,) = traced
    assert (layer.name, layer.kind) == ("l0" if unit == "network" else "cell", kind.upper())
    assert "".join(layer.values) == "".join(layer.gradients) == VALUES[layer.kind]
    for name in layer.values:
        for array, key in ((layer.values[name], name), (layer.gradients[name], f"grad_{name}")):
            assert isinstance(array, np.ndarray) and array.dtype == np.float64
            np.testing.assert_allclose(array, golden[key], rtol=1e-10, atol=1e-10, err_msg=key)
    for name in layer.before:
        before = np.concatenate([golden[f"{name}0"][None], golden[name][:-1]])
        np.testing.assert_allclose(layer.before[name], before, rtol=1e-10, atol=1e-10)
    for name, array in layer.parameters.items():
        np.testing.assert_array_equal(array, golden[name])
    np.testing.assert_array_equal(layer.inputs, golden["x"])
    np.testing.assert_allclose(traced.output, golden["h"], rtol=1e-10)
    np.testing.assert_allclose(traced.loss, (golden["h"] * golden["w_out"]).sum(), rtol=1e-10)


# -- against cells unrolled by hand ------------------------------------------------------------------------------------


@st.composite
def arguments(draw: st.DrawFn, most: int = 5) -> dict[str, Any]:
    """Sizes, options, lengths, and whether there is an initial state."""
    T, B = draw(st.integers(1, most)), draw(st.integers(0, 4))
    return {
        "T": T,
        "B": B,
        "I": draw(st.integers(1, 4)),
        "H": draw(st.integers(1, 5)),
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "dtype": draw(st.sampled_from(["float64", "float64", "float32", "float16"])),
        "lengths": draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B)),
        "with_state": draw(st.booleans()),
        "with_loss": draw(st.sampled_from([True, True, False])),
    }


@every_kind
@settings(max_examples=40)
@example(
    options={
        "T": 4, "B": 3, "I": 2, "H": 3, "num_layers": 2, "bidirectional": True, "batch_first": True,
        "dtype": "float64", "lengths": [2, 0, 4], "with_state": True, "with_loss": True,
    }
)  # fmt: skip
@given(options=arguments())
def test_agrees_with_cells_unrolled_by_hand(kind: Any, compiled: bool, options: dict[str, Any]) -> None:
    """Of any sizes, lengths, layers, directions and dtypes; the loss depends on the final states too."""
    T, B, I, H, dtype = (options[name] for name in ("T", "B", "I", "H", "dtype"))
    rest = {name: options[name] for name in ("num_layers", "bidirectional", "batch_first")}
    network = drawn_model(kind, I, H, dtype=dtype, **rest)
    places = options["num_layers"] * (1 + options["bidirectional"])
    lengths = None if options["lengths"] is None else np.array(options["lengths"], np.int64)
    x = drawn(T, B, I, dtype=dtype)
    x[~going_of(lengths, T, B)] = np.nan  # which must not count
    state = None
    if options["with_state"]:
        state = tuple(tg.tensor(drawn(places, B, H, dtype=dtype, seed=k)) for k in range(len(network.STATES)))

    given_state = state if state is None or kind is LSTM else state[0]
    given_x = x.swapaxes(0, 1) if options["batch_first"] else x
    traced = trace(Scored(network), given_x, given_state, lengths, itself if options["with_loss"] else None)

    out, final, layers = unrolled(network, tg.tensor(x), state, lengths)
    loss = score(out.transpose(0, 1) if options["batch_first"] else out, *final)
    assert [layer.name for layer in traced] == [f"network.{layer.name}" for layer in layers]
    assert [layer.reverse for layer in traced] == ["reverse" in layer.name for layer in layers]
    for layer, expected in zip(traced, layers, strict=True):
        assert layer.shape == (T, B, H)
        assert_traced(layer, expected, going_of(lengths, T, B), loss if options["with_loss"] else None)
    np.testing.assert_array_equal(traced[0].inputs, np.nan_to_num(x))
    np.testing.assert_array_equal(traced.inputs, given_x)
    assert traced.nbytes == trace_memory(network, given_x, options["with_loss"])


@every_kind
@settings(max_examples=20)
@given(options=arguments())
def test_a_cell_traces_as_its_network(kind: Any, options: dict[str, Any]) -> None:
    """With an initial state, and with lengths, past which anything may stand."""
    T, B, I, H, dtype = (options[name] for name in ("T", "B", "I", "H", "dtype"))
    lengths = None if options["lengths"] is None else np.array(options["lengths"], np.int64)
    network = drawn_model(kind, I, H, dtype=dtype)
    cell = CELLS[kind](I, H).to(dtype=dtype)
    weights = {name.removesuffix("_l0"): array for name, array in network.state_dict().items()}
    if kind is not GRU:
        weights["weight"] = np.concatenate([weights.pop("weight_hh"), weights.pop("weight_ih")], axis=1)
    cell.load_state_dict(weights)
    x = drawn(T, B, I, dtype=dtype)
    x[~going_of(lengths, T, B)] = np.nan
    parts = [drawn(B, H, dtype=dtype, seed=k) for k in range(len(network.STATES))]

    def given_as(states: Any) -> Any:
        return None if not options["with_state"] else tuple(states) if kind is LSTM else states[0]

    loss = score if options["with_loss"] else None
    of_cell = trace(cell, x, given_as(parts), lengths, loss)
    of_network = trace(network, x, given_as([part[None] for part in parts]), lengths, loss)
    assert (of_cell[0].name, of_network[0].name) == ("cell", "l0")
    assert_close(of_cell.output, of_network.output)
    a, b = of_cell[0], of_network[0]
    np.testing.assert_array_equal(a.going, b.going)
    np.testing.assert_array_equal(a.inputs, b.inputs)
    for mine, yours in ((a.values, b.values), (a.gradients, b.gradients), (a.before, b.before)):
        assert list(mine) == list(yours)
        for name in mine:
            assert_close(mine[name], yours[name], name)
    for name in a.parameters:
        np.testing.assert_array_equal(a.parameters[name], b.parameters[name])
    assert of_cell.nbytes == trace_memory(cell, x, options["with_loss"])


@every_kind
def test_is_the_same_on_every_device(kind: Any, device: str, compiled: bool) -> None:
    """NumPy arrays, wherever the model is."""
    lengths, x = np.array([3, 0, 5, 4]), drawn(5, 4, 3)
    options = {"num_layers": 2, "bidirectional": True}
    here = trace(Scored(drawn_model(kind, 3, 4, **options)), x, lengths=lengths, loss=itself)
    model = Scored(drawn_model(kind, 3, 4, device=device, **options))
    there = trace(model, tg.tensor(x, device=device), lengths=tg.tensor(lengths, device=device), loss=itself)
    assert_same(here, there)
    for layer in there:
        arrays = [layer.inputs, layer.going, *layer.values.values(), *layer.gradients.values(), *layer.before.values()]
        assert all(type(array) is np.ndarray for array in [*arrays, *layer.parameters.values()])
    assert type(there.inputs) is type(there.output) is type(there.lengths) is np.ndarray


@pytest.mark.parametrize("make", [LSTMCell, GRUCell, RNNCell])
def test_a_cell_takes_one_step_of_two_dimensions(make: Any) -> None:
    cell = make(3, 4)
    one, several = trace(cell, drawn(2, 3, dtype="float32")), trace(cell, drawn(2, 3, dtype="float32")[None])
    assert_same(one, several)
    assert one[0].shape == (1, 2, 4)
    assert one.inputs.shape == (2, 3)
    assert one.nbytes == trace_memory(cell, one.inputs)


# -- nothing is changed ------------------------------------------------------------------------------------------------


def graph_nodes() -> int:
    """How many nodes of graphs there are, without collecting any."""
    return sum(type(found) in (Node, Pick) for found in gc.get_objects())


@every_kind
def test_results_are_the_same_to_the_bit(kind: Any, device: str, compiled: bool) -> None:
    """Outputs and random numbers; the trace shows what the outputs are made of."""
    network = drawn_model(kind, 3, 4, dtype="float32", device=device, num_layers=2, dropout=0.5)
    x = tg.tensor(drawn(6, 2, 3, dtype="float32"), device=device)
    tg.manual_seed(7)
    out, _ = network(x)
    after = random_state()
    tg.manual_seed(7)
    traced = trace(network, x, loss=score)
    assert random_state() == after
    np.testing.assert_array_equal(traced.output, host(out))
    np.testing.assert_array_equal(traced["l1"].h, host(out))


def test_no_gradient_and_no_graph_is_left(device: str) -> None:
    network = drawn_model(LSTM, 3, 4, device=device)
    network.bias_l0.requires_grad = False
    kept = network.weight_hh_l0.grad = tg.ones_like(network.weight_hh_l0)
    x = tg.tensor(drawn(3, 2, 3), device=device, requires_grad=True)
    before = graph_nodes()
    traced = trace(network, x, loss=score)
    assert graph_nodes() == before
    assert [name for name, p in network.named_parameters() if p.grad is not None] == ["weight_hh_l0"]
    assert network.weight_hh_l0.grad is kept
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["bias_l0"]
    assert x.grad is None and x.requires_grad and traced.loss is not None


class Looping(nn.Module):
    """A cell in a loop over the vectors of ids."""

    def __init__(self, hidden_size: int = 4) -> None:
        self.embedding, self.cell = nn.Embedding(7, 3), LSTMCell(3, hidden_size)

    def forward(self, ids: tg.Tensor) -> tg.Tensor:
        state, outs = None, []
        for step in self.embedding(ids):
            state = self.cell(step, state)
            outs.append(state[0])
        return tg.stack(outs)


@pytest.mark.parametrize("make", [lambda: CharLM(7, 3, 4, num_layers=2), Looping], ids=["network", "cell"])
def test_frozen_models_have_gradients_and_stay_frozen(make: Callable[[], nn.Module], compiled: bool) -> None:
    model = drawn_model(make)
    ids = np.random.default_rng(0).integers(0, 7, (5, 2))
    expected = trace(model, ids, loss=score)
    model.requires_grad_(False)
    assert_same(trace(model, ids, loss=score), expected)
    with tg.no_grad():
        assert_same(trace(model, ids, loss=score), expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert expected[0].gradients["f"][1:].any()


def test_parameters_are_as_before_after_an_error() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            self.lstm = LSTM(3, 4).requires_grad_(False)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            self.lstm(x)
            raise ArithmeticError("on the way")

    model = Failing()
    with pytest.raises(ArithmeticError):
        trace(model, tg.ones(2, 2, 3))
    with pytest.raises(ZeroDivisionError):
        trace(model.lstm, tg.ones(2, 2, 3), loss=lambda out: 1 / 0)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    out, _ = model.lstm(tg.zeros(2, 2, 3))  # no one looks any more
    assert not out.requires_grad


def test_weights_that_are_no_parameters_are_followed() -> None:
    """Such as a reservoir's, or those that another module computes."""

    class Reservoir(nn.Module):
        def __init__(self, weights: Any) -> None:
            for name, weight in weights.items():
                self.register_buffer(name, weight.detach())

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            cell, h, outs = RNNCell(3, 4).to(dtype="float64"), tg.zeros(x.shape[1], 4, dtype="float64"), []
            vars(cell).update({name: getattr(self, name) for name in ("weight", "bias")})
            for step in x:
                h = cell(step, h)
                outs.append(h)
            return tg.stack(outs)

    own, x = drawn_model(RNNCell, 3, 4), drawn(5, 2, 3)
    traced, expected = trace(Reservoir(dict(own.named_parameters())), x, loss=score), trace(own, x, loss=score)
    assert traced[0].name == "rnncell"  # it is no part of the model
    assert_close(traced[0].gradients["h"], expected[0].gradients["h"])


class OwnLayer(nn.Module):
    """A layer op of the library's in a network of the user's own, of numbers that nothing is followed back to."""

    def __init__(self, recorded: bool) -> None:
        self.recorded = recorded

    def forward(self, ids: tg.Tensor) -> tg.Tensor:
        weights = [tg.tensor(drawn(*shape, seed=7)) for shape in ((4, 3), (4, 4), (4,))]
        operands = [ids.to(dtype="float64"), tg.zeros(2, 4, dtype="float64"), *weights]
        with contextlib.nullcontext() if self.recorded else tg.no_grad():
            out, _ = show_layer(self, "own", lambda operands: LAYERS["RNN"](operands, tg.tanh, None, False), operands)
            assert out.requires_grad == self.recorded
        return out * tg.ones(1, requires_grad=True)


def test_a_layer_of_the_users_own() -> None:
    ids = np.arange(30).reshape(5, 2, 3) % 4
    network = RNN(3, 4).to(dtype="float64")
    network.load_state_dict({name: drawn(*array.shape, seed=7) for name, array in network.state_dict().items()})
    recorded, expected = trace(OwnLayer(True), ids, loss=score), trace(network, ids.astype(float), loss=score)
    assert [layer.name for layer in recorded] == ["own"]
    assert_close(recorded[0].h, expected[0].h)
    assert_close(recorded[0].gradients["h"], expected[0].gradients["h"])
    with pytest.raises(ValueError, match="the loss does not depend on what the recurrent parts computed"):
        trace(OwnLayer(False), ids, loss=score)


def test_a_frozen_network_that_is_no_part_of_the_model() -> None:
    class Borrowing(nn.Module):
        def forward(self, ids: tg.Tensor) -> Any:
            return network(ids.to(dtype="float64"))

    network, ids = drawn_model(LSTM, 3, 4, num_layers=2), np.arange(30).reshape(5, 2, 3) % 4
    expected = trace(network, ids.astype(float), loss=score)
    network.requires_grad_(False)
    found = trace(Borrowing(), ids, loss=score)
    assert [layer.name for layer in found] == ["lstm.l0", "lstm.l1"]
    for a, b in zip(found, expected):
        assert_close(a.gradients["c"], b.gradients["c"])


def test_integer_parameters_are_left_alone() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            self.shift = nn.Parameter(tg.tensor([1, 2, 3]), requires_grad=False)
            self.lstm = LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> Any:
            return self.lstm(x + self.shift)

    assert trace(Shifted(), drawn(2, 2, 3, dtype="float32"), loss=score)[0].name == "lstm.l0"


def test_arrays_are_the_traces_own() -> None:
    """Training goes on, inputs are filled anew, and a trace stays as it was; nor can it be changed by mistake."""
    model, x, lengths = drawn_model(LSTM, 3, 4), drawn(3, 2, 3), np.array([3, 2])
    traced = trace(model, tg.as_tensor(x), lengths=lengths, loss=score)
    saved = pickle.loads(pickle.dumps(traced))
    x[:], lengths[:] = 9, 1
    with tg.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    layer = traced[0]
    assert_same(traced, saved)
    np.testing.assert_array_equal(layer.parameters["weight_hh"], saved[0].parameters["weight_hh"])
    assert layer.parameters["weight_hh"].any()
    np.testing.assert_array_equal(traced.inputs, saved.inputs)
    np.testing.assert_array_equal(traced.lengths, saved.lengths)
    for array in (layer.h, layer.inputs, layer.before["c"], layer.gradients["f"], layer.going, traced.output):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert_same(copy.deepcopy(traced), traced)


def test_inputs_that_the_model_keeps_may_be_filled_anew() -> None:
    class Buffered(nn.Module):
        def __init__(self) -> None:
            self.register_buffer("steps", tg.ones(2, 2, 3))
            self.lstm = LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> Any:
            return self.lstm(self.steps)

    model = Buffered()
    layer = trace(model, tg.zeros(1))[0]
    model.steps.fill_(9)
    np.testing.assert_array_equal(layer.inputs, np.ones((2, 2, 3)))


# -- models of the user's ----------------------------------------------------------------------------------------------


def test_a_language_model_with_ids(compiled: bool) -> None:
    model = drawn_model(CharLM, 7, 3, 4, num_layers=2)
    ids = np.random.default_rng(0).integers(0, 7, (6, 2))
    targets = tg.tensor(np.roll(ids, -1, 0).reshape(-1))
    traced = trace(model, ids, loss=lambda logits: tg.cross_entropy(logits.flatten(0, 1), targets))
    assert [layer.name for layer in traced] == ["lstm.l0", "lstm.l1"]
    out, _, layers = unrolled(model.lstm, model.embedding(tg.tensor(ids)))
    loss = tg.cross_entropy(model.output(out).flatten(0, 1), targets)
    np.testing.assert_allclose(traced.loss, loss.item())
    for layer, expected in zip(traced, layers, strict=True):
        assert_traced(layer, expected, np.ones((6, 2), bool), loss)
    assert traced.model.startswith("CharLM")
    assert traced.nbytes == trace_memory(model, ids, gradients=True)
    np.testing.assert_array_equal(traced.inputs, ids)
    assert traced.output.shape == (6, 2, 7)


class Translation(nn.Module):
    """Two networks, and a cell in a loop."""

    def __init__(self) -> None:
        self.encoder = GRU(3, 4, bidirectional=True)
        self.decoder = nn.ModuleList([LSTMCell(3, 4)])
        self.smooth = RNN(4, 2)
        self.head = nn.Linear(2, 1)

    def forward(self, x: tg.Tensor) -> dict[str, tg.Tensor]:
        _, codes = self.encoder(x)
        return {"score": self.end(x, codes[0], codes[1], lambda step, states: self.decoder[0].gates(step, states))}

    def end(self, x: tg.Tensor, h: tg.Tensor, c: tg.Tensor, step: Callable[..., Any]) -> tg.Tensor:
        hs = []
        for x_t in x:
            gates = step(x_t, (h, c))
            h, c = gates.h, gates.c
            hs.append(h)
        return self.head(self.smooth(tg.stack(hs))[0])


def test_a_module_with_networks_and_a_cell(compiled: bool) -> None:
    model, x = drawn_model(Translation), drawn(4, 2, 3)
    traced = trace(model, x, loss=lambda outputs: (outputs["score"] ** 2).sum())
    names = ["encoder.l0", "encoder.l0_reverse", "decoder.0", "smooth.l0"]
    assert [layer.name for layer in traced] == names
    assert [layer.kind for layer in traced] == ["GRU", "GRU", "LSTM", "RNN"]
    assert traced.output is None  # it is no tensor

    decoded = Unrolled("decoder")

    def noted(step: tg.Tensor, states: States) -> Any:
        t = len(decoded.steps)
        decoded.steps[t], decoded.before[t] = model.decoder[0].gates(step, states), states
        return decoded.steps[t]

    _, codes, encoded = unrolled(model.encoder, tg.tensor(x))
    loss = (model.end(tg.tensor(x), codes[0][0], codes[0][1], noted) ** 2).sum()
    for layer, expected in zip(traced, [*encoded, decoded]):
        assert_traced(layer, expected, np.ones((4, 2), bool), loss)
    np.testing.assert_allclose(traced.loss, loss.item())


class LeakyGates(NamedTuple):
    """What a `Leaky` cell computes."""

    a: tg.Tensor
    h: tg.Tensor


class Leaky(nn.Module):
    """A cell of the user's own, with a gate of its own."""

    def __init__(self, size: int) -> None:
        self.gate = nn.Linear(2 * size, size)

    def gates(self, x: tg.Tensor, h: Any = None) -> LeakyGates:
        h = tg.zeros_like(x) if h is None else h
        a = tg.sigmoid(self.gate(tg.concat([h, x], dim=-1)))
        return show_step(self, "leaky", x, {"h": h}, LeakyGates(a, h + a * (x - h)))

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        return self.gates(x, h).h


def test_a_cell_of_the_users_own(device: str) -> None:
    cell, x = drawn_model(Leaky, 3, device=device), tg.tensor(drawn(5, 2, 3), device=device)
    lengths = np.array([5, 3])
    (layer,) = trace(cell, x, lengths=lengths, loss=score)
    steps, h, going = [], tg.zeros(2, 3, dtype="float64", device=device), going_of(lengths, 5, 2)[:, :, None]
    masks = tg.tensor(going, device=device)
    for x_t, mask in zip(x, masks):
        steps.append(cell.gates(x_t, h))
        h = tg.where(mask, steps[-1].h, h)
    loss = score(tg.where(masks, tg.stack([step.h for step in steps]), 0.0))
    assert (layer.name, layer.kind, layer.gates, layer.parameters) == ("cell", "leaky", ("a",), {})
    assert layer.shape == (5, 2, 3)
    for name in ("a", "h"):
        tensors = [getattr(step, name) for step in steps]
        found = tg.grad(loss, tensors, retain_graph=True)
        assert_close(layer.values[name], np.where(going, list(map(host, tensors)), 0))
        assert_close(layer.gradients[name], np.where(going, list(map(host, found)), 0))
    assert trace_memory(cell, x) == 0  # only the built-in ones say their sizes


class OnlyState(NamedTuple):
    """What an `Exploding` cell computes."""

    h: tg.Tensor


class Exploding(nn.Module):
    """A cell whose state grows beyond all bounds."""

    def gates(self, x: tg.Tensor, h: Any = None) -> OnlyState:
        h = tg.zeros_like(x) if h is None else h
        return show_step(self, "exploding", x, {"h": h}, OnlyState(x + 1e100 * h * h))

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        return self.gates(x, h).h


def test_a_cell_stops_where_a_sequence_ends() -> None:
    """What it would come to later must not reach the gradients before."""
    x = np.ones((6, 1, 1))
    ended, short = trace(Exploding(), x, lengths=[2], loss=tg.sum), trace(Exploding(), x[:2], loss=tg.sum)
    assert np.isfinite(short[0].h).all()
    assert_close(ended[0].gradients["h"][:2], short[0].gradients["h"])
    assert not ended[0].h[2:].any() and not ended[0].gradients["h"][2:].any()


def test_a_state_must_be_among_the_gates() -> None:
    class Nameless(Leaky):
        def gates(self, x: tg.Tensor, h: Any = None) -> LeakyGates:
            return show_step(self, "nameless", x, {"s": x}, super().gates(x, h))

    with pytest.raises(ValueError, match=r"states before are s, but the gates of Nameless are a, h; put s among them"):
        trace(Nameless(3), tg.ones(2, 2, 3))


def test_gates_have_names() -> None:
    class Nameless(nn.Module):
        def forward(self, x: tg.Tensor) -> tg.Tensor:
            gates: Any = (x, x)
            return tg.inspect.show_step(self, "nameless", x, {}, gates)[0]

    with pytest.raises(TypeError, match=r"^show_step: expected a NamedTuple of what Nameless computed, got tuple$"):
        trace(Nameless(), tg.ones(2, 3))


def test_gates_have_a_row_for_each_sequence() -> None:
    class Flat(Leaky):
        def gates(self, x: tg.Tensor, h: Any = None) -> LeakyGates:
            return show_step(self, "flat", x, {"h": x}, LeakyGates(x[0], x))

    with pytest.raises(ValueError, match=r"gates and states of shape \(2, size\), but 'a' of Flat has shape \(3,\)"):
        trace(Flat(3), tg.ones(2, 2, 3))


def test_a_cell_around_a_cell() -> None:
    """Both are there, each under a name of its own, and both end where a sequence does."""

    class Doubled(nn.Module):
        def __init__(self) -> None:
            self.cell = LSTMCell(3, 4)

        def gates(self, x: tg.Tensor, state: Any = None) -> OnlyState:
            h = self.cell(x, None if state is None else (state, state))[0]
            return show_step(self, "doubled", x, {"h": tg.zeros_like(h) if state is None else state}, OnlyState(2 * h))

        def forward(self, x: tg.Tensor, state: Any = None) -> tg.Tensor:
            return self.gates(x, state).h

    inner, outer = trace(drawn_model(Doubled), drawn(5, 2, 3), lengths=[5, 3], loss=score)
    assert (inner.name, outer.name) == ("cell", "cell_2")
    np.testing.assert_array_equal(2 * inner.h, outer.h)
    assert_close(inner.gradients["h"], 2 * outer.gradients["h"])
    for layer in (inner, outer):
        np.testing.assert_array_equal(layer.going, going_of(np.array([5, 3]), 5, 2))
        assert not layer.h[3:, 1].any()


class Chunked(nn.Module):
    """A network that takes a sequence in pieces."""

    def __init__(self, network: Any, piece: int) -> None:
        self.network, self.piece = network, piece

    def forward(self, x: tg.Tensor, state: Any = None) -> tg.Tensor:
        outs = []
        for begin in range(0, len(x), self.piece):
            out, state = self.network(x[begin : begin + self.piece], state)
            outs.append(out)
        return tg.cat(outs)


@every_kind
@given(T=st.integers(1, 6), piece=st.integers(1, 6))
def test_calls_are_joined_in_time(kind: Any, T: int, piece: int) -> None:
    network, x = drawn_model(kind, 3, 4, num_layers=2), drawn(T, 2, 3)
    joined, whole = trace(Chunked(network, piece), x, loss=score), trace(network, x, loss=score)
    assert [layer.name for layer in joined] == ["network.l0", "network.l1"]
    for a, b in zip(joined, whole):
        np.testing.assert_array_equal(a.going, b.going)
        for mine, yours in ((a.values, b.values), (a.gradients, b.gradients), (a.before, b.before)):
            for name in mine:
                assert_close(mine[name], yours[name], name)
        if kind is not RNN:
            assert_close(a.forget_product(0, T - 1), b.forget_product(0, T - 1))


class Siamese(nn.Module):
    """One network under two names, for two parts of a batch or of a sequence."""

    def __init__(self, network: Any, dim: int, at: int) -> None:
        self.left = self.right = network
        self.dim, self.at = dim, at

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        left, right = tg.split(x, [self.at, x.shape[self.dim] - self.at], self.dim)
        return self.left(left)[0].sum() - self.right(right)[0].sum()


def test_one_network_under_two_names() -> None:
    network, x = drawn_model(LSTM, 3, 4, bidirectional=True), drawn(5, 2, 3)
    traced = trace(Siamese(network, dim=0, at=2), x, loss=itself)
    assert [layer.name for layer in traced] == ["left.l0", "left.l0_reverse"]
    first, second = trace(network, x[:2], loss=tg.sum), trace(network, x[2:], loss=lambda out: -out.sum())
    for layer, a, b in zip(traced, first, second):
        for name in layer.values:
            assert_close(layer.values[name], np.concatenate([a.values[name], b.values[name]]))
            assert_close(layer.gradients[name], np.concatenate([a.gradients[name], b.gradients[name]]))
    forward, reverse = traced
    assert_close(forward.forget_product(2, 4), second[0].forget_product(0, 2))
    assert_close(reverse.forget_product(1, 0), first[1].forget_product(1, 0))
    for layer, start, end in ((forward, 1, 2), (reverse, 2, 1)):
        with pytest.raises(ValueError, match=f"between steps {start} and {end} the layer began anew"):
            layer.forget_product(start, end)


def test_calls_with_batches_of_two_sizes() -> None:
    model = Siamese(LSTM(3, 4), dim=1, at=2)
    with pytest.raises(ValueError, match=r"'left\.l0' was called with batches of 1, 2 sequences; trace calls of one"):
        trace(model, drawn(2, 3, 3, dtype="float32"))


def test_cells_that_are_no_part_of_the_model_are_told_apart() -> None:
    class Borrowing(nn.Module):
        def forward(self, x: tg.Tensor) -> tg.Tensor:
            return tg.stack([cell(x[0])[0] for cell in others])

    others = [LSTMCell(3, 4), LSTMCell(3, 4), LSTMCell(3, 4)]
    traced = trace(Borrowing(), tg.ones(1, 2, 3), loss=score)
    assert [layer.name for layer in traced] == ["lstmcell", "lstmcell_2", "lstmcell_3"]
    assert all(layer.shape == (1, 2, 4) and layer.gradients["h"].any() for layer in traced)


def test_an_attribute_named_gates_makes_no_cell() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            self.gates = nn.Linear(4, 4)
            self.lstm = LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            return tg.sigmoid(self.gates(self.lstm(x)[0]))

    assert [layer.name for layer in trace(Gated(), tg.ones(5, 2, 3))] == ["lstm.l0"]


class Through(nn.Module):
    """A network that is called through a function such as `tg.checkpoint`."""

    def __init__(self, network: Any, function: Callable[..., Any]) -> None:
        self.network, self.function = network, function

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.function(lambda part: self.network(part)[0], x)


def test_checkpoints_within_the_model_and_around_it(compiled: bool) -> None:
    network, x = drawn_model(LSTM, 3, 4, num_layers=2, dropout=0.5), drawn(5, 2, 3)
    tg.manual_seed(1)
    expected = trace(Through(network, lambda function, part: function(part)), x, loss=score)
    model, found = Through(network, tg.checkpoint), []

    def traced(part: tg.Tensor) -> tg.Tensor:
        tg.manual_seed(1)
        found.append(trace(model, x, loss=score))
        return part.exp()

    traced(tg.ones(2))
    tg.checkpoint(traced, tg.ones(2, requires_grad=True)).sum().backward()
    assert len(found) == 3  # the last on the way back
    for each in found:
        assert_same(each, expected)


def test_within_no_grad() -> None:
    network, x = drawn_model(GRU, 3, 4), drawn(5, 2, 3)
    expected = trace(network, x, loss=score)
    with tg.no_grad():
        assert_same(trace(network, x, loss=score), expected)
        assert not network(tg.tensor(x))[0].requires_grad


class Detaching(nn.Module):
    """A network and a cell whose outputs another gets without their graphs."""

    def __init__(self) -> None:
        self.below, self.between, self.above = LSTM(3, 4), GRUCell(4, 4), RNN(4, 2)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        with tg.no_grad():
            out, _ = self.below(x)
            assert not out.requires_grad
            out = tg.stack([self.between(step) for step in out])
        return self.above(out)[0]


def test_what_the_model_runs_under_no_grad(compiled: bool) -> None:
    """Its values are there; no gradient reaches it."""
    model, x = drawn_model(Detaching), drawn(5, 2, 3)
    below, between, above = trace(model, x, loss=score)
    alone = trace(model.below, x)[0]
    for name in below.values:
        assert_close(below.values[name], alone.values[name])
        assert below.gradients[name].shape == (5, 2, 4) and not below.gradients[name].any()
    assert between.kind == "GRU" and between.h.any() and not between.gradients["h"].any()
    last = trace(model.above, between.h, loss=score)[0]
    assert_close(above.h, last.h)
    assert_close(above.gradients["h"], last.gradients["h"])


@every_kind
def test_dropout_between_layers(kind: Any, compiled: bool) -> None:
    """The gradients belong to the masks that were drawn."""
    network, x = drawn_model(kind, 3, 5, num_layers=3, dropout=0.5), drawn(4, 2, 3)
    tg.manual_seed(2)
    traced = trace(network, x, loss=score)
    tg.manual_seed(2)
    out, _, layers = unrolled(network, tg.tensor(x))
    for layer, expected in zip(traced, layers, strict=True):
        assert_traced(layer, expected, np.ones((4, 2), bool), score(out))
    dropped = traced["l1"].inputs == 0
    assert dropped.any() and not dropped.all()
    assert not (traced["l0"].gradients["h"][-1][dropped[-1]] != 0).any()  # nothing else follows the last step


@pytest.mark.parametrize("where", ["output", "view", "state", "input", "weight"])
def test_what_is_changed_in_place_is_refused(where: str) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            self.cell, self.lstm = RNNCell(3, 3), LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            h = self.cell(x[0])
            out, _ = self.lstm(x)
            with tg.no_grad():
                written = {"output": out, "view": out[-1], "state": h, "input": x, "weight": self.lstm.weight_hh_l0}
                written[where][0] = 0.0
            return out

    named = "'cell'" if where == "state" else r"'lstm\.l0'"
    with pytest.raises(RuntimeError, match=rf"that {named} gave, or computed with, was changed in place later; change"):
        trace(Writing(), tg.ones(2, 2, 3))


def test_an_input_that_the_model_writes_into_first() -> None:
    class Masking(nn.Module):
        def __init__(self) -> None:
            self.lstm = LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> Any:
            x[:, :, 0] = 0.0
            return self.lstm(x)

    x = tg.ones(2, 2, 3)
    traced = trace(Masking(), x, loss=score)
    assert x.sum().item() == traced.inputs.sum() == 12
    assert traced[0].inputs.sum() == 8


def test_buffers_that_a_model_writes_into() -> None:
    """What goes into a cell, and the states of a network, may stand in one place at every step."""

    class Stateful(nn.Module):
        def __init__(self) -> None:
            self.cell, self.gru = RNNCell(3, 4), GRU(4, 2)
            for name, shape in {"x": (2, 3), "h": (2, 4), "code": (1, 2, 2)}.items():
                self.register_buffer(name, tg.zeros(shape, dtype="float64"))

        def forward(self, x: tg.Tensor) -> None:
            for step in x:
                self.x.copy_(step.detach())
                self.h.copy_(self.cell(self.x, self.h).detach())
                self.code.copy_(self.gru(self.h.clone().unsqueeze(0), self.code)[1].detach())

    model, x = drawn_model(Stateful), drawn(4, 2, 3)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    cell, gru = trace(model, x)
    (cell_alone,) = trace(model.cell, x, buffers["h"])
    (gru_alone,) = trace(model.gru, cell_alone.h, buffers["code"])
    for layer, alone in ((cell, cell_alone), (gru, gru_alone)):
        assert_close(layer.inputs, alone.inputs)
        assert_close(layer.h, alone.h)
        assert_close(layer.before["h"], alone.before["h"])


@pytest.mark.parametrize("first_out", [0, 1])
def test_traces_of_one_frozen_model_that_overlap_in_threads(first_out: int) -> None:
    """Whichever is done first, the other goes on as before; then the model is frozen again."""
    begun, done = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]
    own = threading.local()

    class Meeting(Looping):
        def forward(self, ids: tg.Tensor) -> tg.Tensor:
            begun[own.number].set()
            awaited = begun[1] if own.number == first_out else done[first_out]
            assert awaited.wait(timeout=30)
            return super().forward(ids)

    def traced(number: int) -> Trace:
        own.number = number
        assert number == 0 or begun[0].wait(timeout=30)
        found = trace(model, ids, loss=score)
        done[number].set()
        return found

    ids = np.random.default_rng(0).integers(0, 7, (5, 2))
    expected = trace(drawn_model(Looping), ids, loss=score)
    model = drawn_model(Meeting).requires_grad_(False)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(traced, range(2)):
            assert_same(found, expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("frozen", [True, False])
def test_a_trace_changes_no_parameter_for_other_threads(frozen: bool) -> None:
    """What they see is the model as it is, and may freeze and unfreeze it."""
    seen: list[Any] = []

    class Looked(Looping):
        def forward(self, ids: tg.Tensor) -> tg.Tensor:
            if not seen:
                look()
                seen.append([parameter.requires_grad for parameter in self.parameters()])
            return super().forward(ids)

    def look() -> None:
        def from_outside() -> None:
            seen.append([parameter.requires_grad for parameter in model.parameters()])
            with tg.enable_grad():
                seen.append(score(model(tg.tensor(ids))).requires_grad)
            model.requires_grad_(frozen)
            seen.append([parameter.requires_grad for parameter in model.parameters()])

        thread = threading.Thread(target=from_outside)
        thread.start()
        thread.join()

    ids = np.random.default_rng(0).integers(0, 7, (5, 2))
    expected = trace(drawn_model(Looping), ids, loss=score)
    model = drawn_model(Looked).requires_grad_(not frozen)
    number, classes = len(list(model.parameters())), {type(parameter) for parameter in model.parameters()}
    found = trace(model, ids, loss=score)
    assert_same(found, expected)
    assert seen[0] == [not frozen] * number and seen[1] == (not frozen) and seen[2] == [frozen] * number
    assert seen[3] == [True] * number  # in the trace's own thread
    assert all(parameter.requires_grad == frozen for parameter in model.parameters())
    assert {type(parameter) for parameter in model.parameters()} == classes == {nn.Parameter}


def test_layers_that_another_thread_runs_are_not_seen() -> None:
    class Sending(nn.Module):
        def __init__(self) -> None:
            self.here, self.there = LSTM(3, 4), LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            with ThreadPoolExecutor(1) as pool:
                other, _ = pool.submit(self.there, x).result()
            return self.here(x)[0] + other.detach()

    assert [layer.name for layer in trace(Sending(), tg.ones(2, 2, 3))] == ["here.l0"]


# -- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradients", [False, True])
def test_memory_is_known_beforehand(gradients: bool) -> None:
    x, ids = drawn(6, 2, 3), np.zeros((6, 2), np.int64)
    models = [
        (LSTM(3, 4, num_layers=2, bidirectional=True), x.astype("float32")),
        (GRU(3, 4, num_layers=2).to(dtype="float64"), x),
        (RNN(3, 4, batch_first=True).to(dtype="float16"), x.astype("float16")),
        (LSTMCell(3, 4), x.astype("float32").tolist()),
        (GRUCell(3, 4), x.astype("float32")[0]),
        (CharLM(5, 2, 3, num_layers=2), ids),
    ]
    for model, given_x in models:
        traced = trace(model, given_x, loss=score if gradients else None)
        assert trace_memory(model, given_x, gradients) == traced.nbytes == sum(layer.nbytes for layer in traced)
        for layer in traced:
            arrays = [layer.inputs, *layer.values.values(), *layer.gradients.values(), *layer.before.values()]
            assert layer.nbytes == sum(array.nbytes for array in arrays)


def test_memory_is_said_and_limited(caplog: pytest.LogCaptureFixture) -> None:
    model, x = LSTM(3, 500), tg.zeros(50, 2, 3)
    needed = trace_memory(model, x)
    with caplog.at_level("INFO", "tinygrad_lstm"):
        trace(model, x, max_bytes=needed)
    assert caplog.messages == [f"a trace will take {needed / 1e6:.1f} MB"]
    with pytest.raises(
        MemoryError, match=f"it would take {needed:,} bytes, and max_bytes is {needed - 1:,}; give fewer"
    ):
        trace(model, x, max_bytes=needed - 1)
    with pytest.raises(MemoryError, match="it would take"):
        trace(model, x, loss=score, max_bytes=needed)


# -- errors ------------------------------------------------------------------------------------------------------------


class Ending(nn.Module):
    """A network, and a head that ends in a vector; takes no lengths."""

    def __init__(self) -> None:
        self.lstm = LSTM(3, 4)

    def forward(self, x: tg.Tensor, state: Any = None) -> tg.Tensor:
        return self.lstm(x, state)[0][-1]


LOSSES: dict[str, tuple[Callable[..., Any], str]] = {
    "a vector": (lambda out: out.sum(0), r"the loss gave float32 \(4,\); expected a scalar tensor, as .sum"),
    "an integer": (lambda out: (out > 0).sum(), r"the loss gave int64 \(\); expected a scalar tensor"),
    "a number": (lambda out: 1.0, "the loss gave a float; expected a scalar tensor"),
    "a constant": (lambda out: tg.ones(1), "the loss does not depend on what the recurrent parts computed; make it of"),
    "another graph": (
        lambda out: (tg.ones(1, requires_grad=True) * 2).sum(),
        "the loss does not depend on what the recurrent parts computed",
    ),
    "detached": (lambda out: out.detach().sum(), "the loss does not depend on what the recurrent parts computed"),
}


@pytest.mark.parametrize("which", LOSSES)
def test_losses_that_are_refused(which: str) -> None:
    loss, message = LOSSES[which]
    with pytest.raises(ValueError, match=f"^trace: {message}") as caught:
        trace(Ending(), tg.ones(5, 2, 3), loss=loss)
    assert "\n" not in str(caught.value)


def test_a_loss_of_one_element_is_a_scalar() -> None:
    assert trace(Ending(), tg.ones(5, 2, 3), loss=lambda out: out.sum().reshape(1, 1)).loss is not None


ARGUMENTS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "nothing recurrent": (
        lambda: nn.Linear(3, 4), {},
        r"nothing recurrent has run in this Linear, of an input of shape \(5, 2, 3\); expected at least one step",
    ),
    "no steps": (lambda: LSTM(3, 4), {"x": tg.zeros(0, 2, 3)}, r"nothing recurrent .* of shape \(0, 2, 3\)"),
    "no steps of a cell": (
        lambda: LSTMCell(3, 4), {"x": np.zeros((0, 2, 3))},
        r"LSTMCell expects an input of shape .*, at least one step, .* got \(0, 2, 3\)",
    ),
    "one number": (lambda: GRUCell(3, 4), {"x": 1.0}, r"GRUCell expects .* \(time, batch, size\), .* got \(\)"),
    "lengths that are not taken": (
        Ending, {"lengths": [5, 2]},
        r"Ending.forward\(x, state\) cannot be given x and lengths: got an unexpected keyword argument 'lengths'",
    ),
    "a state that is not taken": (
        lambda: nn.Linear(3, 4), {"state": tg.zeros(1)}, r"Linear.forward\(x\) cannot be given x and a state: too many",
    ),
    "a cell's lengths, too few": (lambda: LSTMCell(3, 4), {"lengths": [5]}, "expected 2 lengths, integers from 0 to 5"),
    "too long": (lambda: LSTMCell(3, 4), {"lengths": [5, 6]}, r"expected 2 .* from 0 to 5, got int64 \[5 6\]"),
    "negative": (lambda: RNNCell(3, 4), {"lengths": [5, -1]}, "expected 2 lengths"),
    "no integers": (lambda: RNNCell(3, 4), {"lengths": [5.0, 1.0]}, "expected 2 lengths, integers .* got float32"),
}  # fmt: skip


@pytest.mark.parametrize("which", ARGUMENTS)
def test_arguments_that_are_refused(which: str) -> None:
    make, options, message = ARGUMENTS[which]
    with pytest.raises(ValueError, match=f"^trace: {message}") as caught:
        trace(make(), **{"x": np.ones((5, 2, 3), np.float32), **options})
    assert "\n" not in str(caught.value)


def test_what_is_no_model_and_no_loss() -> None:
    wrong: Any = np.tanh
    for run in (lambda: trace(wrong, tg.ones(5, 2, 3)), lambda: tg.inspect.trace_memory(wrong, tg.ones(5, 2, 3))):
        with pytest.raises(TypeError, match=r"^trace: expected a Module, got ufunc$"):
            run()
    number: Any = 3
    with pytest.raises(TypeError, match=r"^trace: expected the loss to be a function of the model's output, got int$"):
        trace(LSTM(3, 4), tg.ones(5, 2, 3), loss=number)


def test_a_networks_own_errors_come_through() -> None:
    with pytest.raises(ValueError, match=r"^LSTM: expected 2 lengths"):
        trace(LSTM(3, 4), tg.ones(5, 2, 3), lengths=[1])
    with pytest.raises(ValueError, match=r"^GRUCell: expected a state of shape"):
        trace(GRUCell(3, 4), tg.ones(5, 2, 3), state=tg.zeros(2, 5))
    with pytest.raises(ValueError, match=r"^LSTM: expected 2 states, \(h, c\), each of shape \(1, 2, 4\), got int"):
        trace(LSTM(3, 4), tg.ones(5, 2, 3), state=3)
