"""Traces of the user's models: cells, modules that call networks several times, checkpoints, no_grad."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traced_models import (
    States,
    Unrolled,
    assert_close,
    assert_same,
    assert_traced,
    drawn,
    drawn_model,
    every_kind,
    going_of,
    host,
    itself,
    score,
    unrolled,
)

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.inspect import show_step, trace, trace_memory
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, GRUCell, LSTMCell


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
    """A user-defined cell, with a gate that no built-in cell has."""

    def __init__(self, size: int) -> None:
        self.gate = nn.Linear(2 * size, size)

    def gates(self, x: tg.Tensor, h: Any = None) -> LeakyGates:
        h = tg.zeros_like(x) if h is None else h
        a = tg.sigmoid(self.gate(tg.concat([h, x], dim=-1)))
        return show_step(self, "leaky", x, {"h": h}, LeakyGates(a, h + a * (x - h)))

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        return self.gates(x, h).h


def test_a_user_defined_cell(device: str) -> None:
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
    """Values of later steps must not reach the gradients of earlier ones."""
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

    with pytest.raises(ValueError, match=r"gates and states of shape \(2, \.\.\.\), but 'a' of Flat has shape \(3,\)"):
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
    assert_close(2 * inner.h, outer.h)
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


def test_cells_that_are_not_part_of_the_model_are_distinguished() -> None:
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
    """A network and a cell whose outputs are detached before a second network takes them."""

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
