"""Traces of cells and networks, held against PyTorch's numbers, and against `tg.grad` through unrolled cells."""

from typing import Any

import numpy as np
import pytest
from golden.load import load
from hypothesis import example, given, settings
from hypothesis import strategies as st
from traced_models import (
    CELLS,
    VALUES,
    assert_close,
    assert_same,
    assert_traced,
    drawn,
    drawn_model,
    every_kind,
    going_of,
    itself,
    score,
    unrolled,
)

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.inspect import trace, trace_memory
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell


class Scored(nn.Module):
    """A network, and a score of its outputs and final states, each number in its own way."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tg.Tensor:
        out, final = self.network(x, state, lengths)
        return score(out, *(final if isinstance(final, tuple) else (final,)))


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
    """Sizes, options, lengths, and whether there is an initial state. Code is compiled for I, H and the dtype."""
    T, B = draw(st.integers(1, most)), draw(st.integers(0, 4))
    return {
        "T": T,
        "B": B,
        "I": draw(st.sampled_from([1, 3])),
        "H": draw(st.sampled_from([1, 3])),
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "dtype": draw(st.sampled_from(["float64", "float64", "float32", "float16"])),
        "lengths": draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B)),
        "with_state": draw(st.booleans()),
        "with_loss": draw(st.sampled_from([True, True, False])),
    }


@every_kind
@settings(max_examples=30)
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
    traced = trace(Scored(network), given_x, given_state, lengths, loss=itself if options["with_loss"] else None)

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
    of_cell = trace(cell, x, given_as(parts), lengths, loss=loss)
    of_network = trace(network, x, given_as([part[None] for part in parts]), lengths, loss=loss)
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
