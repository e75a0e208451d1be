"""A trace leaves the model, its gradients and its graph as they were; its arrays are its own."""

import contextlib
import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from traced_models import Looping, assert_close, assert_same, drawn, drawn_model, every_kind, host, score

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.graph import Node, Pick
from tinygrad_lstm.inspect import trace
from tinygrad_lstm.models import LSTM, RNN, CharLM, RNNCell
from tinygrad_lstm.random import random_state


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
    trace(network, x, loss=score)  # the step's program and its derivative are made once
    gc.collect()
    before = graph_nodes()
    traced = trace(network, x, loss=score)
    assert graph_nodes() == before
    assert [name for name, p in network.named_parameters() if p.grad is not None] == ["weight_hh_l0"]
    assert network.weight_hh_l0.grad is kept
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["bias_l0"]
    assert x.grad is None and x.requires_grad and traced.loss is not None


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


def test_weights_that_are_not_parameters_are_followed() -> None:
    """Such as a reservoir's weights, or weights that a different module computes."""

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
    """A sequence in a user-defined network, of which nothing requires a gradient."""

    def __init__(self, recorded: bool) -> None:
        self.recorded = recorded

    def forward(self, ids: tg.Tensor) -> tg.Tensor:
        W, U, b = (tg.tensor(drawn(*shape, seed=7)) for shape in ((4, 3), (4, 4), (4,)))

        def own(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
            return tg.tanh(x @ W.T + h @ U.T + b)

        with contextlib.nullcontext() if self.recorded else tg.no_grad():
            out, _ = tg.scan(own, ids.to(dtype="float64"), tg.zeros(2, 4, dtype="float64"))
            assert out.requires_grad == self.recorded
        return out * tg.ones(1, requires_grad=True)


def test_a_user_defined_layer() -> None:
    ids = np.arange(30).reshape(5, 2, 3) % 4
    network = RNN(3, 4).to(dtype="float64")
    network.load_state_dict({name: drawn(*array.shape, seed=7) for name, array in network.state_dict().items()})
    recorded, expected = trace(OwnLayer(True), ids, loss=score), trace(network, ids.astype(float), loss=score)
    assert [(layer.name, layer.kind) for layer in recorded] == [("own", "own")]
    assert_close(recorded[0].state0, expected[0].h)
    assert_close(recorded[0].gradients["state0"], expected[0].gradients["h"])
    with pytest.raises(ValueError, match="the loss does not depend on what the recurrent parts computed"):
        trace(OwnLayer(False), ids, loss=score)


def test_a_frozen_network_that_is_not_part_of_the_model() -> None:
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


def test_integer_parameters_are_unchanged() -> None:
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
