"""What is read off a traced layer: products of forget gates, saturation, norms; held against plain loops."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import LayerTrace, Trace, trace
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM

KEEPS = {"LSTM": "f", "GRU": "z"}
gated = pytest.mark.parametrize("kind", [LSTM, GRU], ids=lambda kind: kind.__name__)


def traced(kind: Any, lengths: list[int] | None = None, T: int = 5, B: int = 3, **options: Any) -> Trace:
    """A trace with gradients, of a network whose gates are open and shut alike."""
    rng = np.random.default_rng(0)
    network = kind(2, 4, **options).to(dtype="float64")
    network.load_state_dict({name: rng.normal(0, 2, array.shape) for name, array in network.state_dict().items()})
    x = rng.normal(0, 2, (T, B, 2))
    return trace(network, x, lengths=lengths, loss=lambda out: (out * out).sum())


@st.composite
def lengths_and_steps(draw: st.DrawFn) -> tuple[list[int] | None, int, int, int]:
    """Lengths, how many steps there are, and two of them in order."""
    T = draw(st.integers(1, 6))
    lengths = draw(st.none() | st.lists(st.integers(0, T), min_size=3, max_size=3))
    first, second = sorted(draw(st.tuples(st.integers(0, T - 1), st.integers(0, T - 1))))
    return lengths, T, first, second


@gated
@given(drawn=lengths_and_steps())
def test_forget_product_is_that_of_the_steps(kind: Any, drawn: tuple[list[int] | None, int, int, int]) -> None:
    """In both directions; a sequence that is not going keeps its state."""
    lengths, T, early, late = drawn
    for layer in traced(kind, lengths, T, bidirectional=True):
        start, end = (late, early) if layer.reverse else (early, late)
        product = layer.forget_product(start, end)
        assert (product.shape, product.dtype) == ((3, 4), np.float64)
        gate = layer.values[KEEPS[layer.kind]]
        for b in range(3):
            length = T if lengths is None else lengths[b]
            for j in range(4):
                expected = 1.0
                for t in range(early, late + 1):
                    if t != start and t < length:
                        expected *= gate[t, b, j]
                np.testing.assert_allclose(product[b, j], expected, rtol=1e-12)


def test_forget_product_is_the_derivative_where_the_gates_are_constant() -> None:
    """Without weights on h, all of ∂c_end/∂c_start is by way of the cell state."""
    network = LSTM(2, 4).to(dtype="float64")
    with tg.no_grad():
        network.weight_hh_l0.zero_()
    x, start, end = np.random.default_rng(1).normal(size=(6, 1, 2)), 1, 4
    layer = trace(network, x)[0]
    c = tg.tensor(layer.c[start][None], requires_grad=True)
    _, (_, last) = network(tg.tensor(x[start + 1 : end + 1]), (tg.tensor(layer.h[start][None]), c))
    (derivative,) = tg.grad(last.sum(), c)
    np.testing.assert_allclose(layer.forget_product(start, end), derivative.numpy()[0], rtol=1e-12)


class Twice(tg.nn.Module):
    """A network that goes over its input twice, with the states that it came to, or anew."""

    def __init__(self, network: Any, carried: bool) -> None:
        self.network, self.carried = network, carried

    def forward(self, x: tg.Tensor, lengths: Any = None) -> tg.Tensor:
        _, state = self.network(x, lengths=lengths)
        return self.network(x, state if self.carried else None, lengths)[0]


@gated
@pytest.mark.parametrize("lengths", [None, [2, 3], [1, 2], [2, 0]])
def test_forget_product_continues_where_the_states_are_carried_on(kind: Any, lengths: list[int] | None) -> None:
    network, x = kind(2, 4), tg.randn(3, 2, 2)
    going_on, anew = (trace(Twice(network, carried), x, lengths=lengths)[0] for carried in (True, False))
    whole = going_on.forget_product(2, 5) * going_on.forget_product(0, 2)
    np.testing.assert_allclose(going_on.forget_product(0, 5), whole, rtol=1e-12)
    assert (anew.forget_product(0, 2) == going_on.forget_product(0, 2)).all()
    with refused(ValueError, "^forget_product: between steps 0 and 5 the layer began anew, with another state than"):
        anew.forget_product(0, 5)


def test_forget_product_of_a_sequence_that_is_not_a_number() -> None:
    x = np.ones((4, 2, 2), np.float32)
    x[1, 0] = np.nan
    product = trace(LSTM(2, 4), x)[0].forget_product(0, 3)
    assert np.isnan(product[0]).all() and (product[1] > 0).all()


@pytest.mark.parametrize("lengths", [None, [5, 2, 0], [0, 0, 0]])
def test_saturation_counts_the_steps(lengths: list[int] | None) -> None:
    """Of each unit alone, over the steps at which a sequence is going."""
    for kind in (LSTM, GRU):
        for layer in traced(kind, lengths, bidirectional=True):
            for gate in layer.gates:
                for low, high in ((0.1, 0.9), (0.4, 0.6)):
                    below, above = layer.saturation(gate, low, high)
                    steps = [layer.values[gate][t, b] for t in range(5) for b in range(3) if layer.going[t, b]]
                    for j in range(4):
                        shut, opened = sum(step[j] < low for step in steps), sum(step[j] > high for step in steps)
                        assert below[j] == (shut / len(steps) if steps else 0)
                        assert above[j] == (opened / len(steps) if steps else 0)


def test_saturation_by_default() -> None:
    layer = traced(LSTM)[0]
    for of_default, of_given in zip(layer.saturation("f"), layer.saturation("f", 0.1, 0.9), strict=True):
        np.testing.assert_array_equal(of_default, of_given)
    assert layer.saturation("f").below.any() and layer.saturation("f").above.any()


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_gradient_norms_are_over_the_units(kind: Any) -> None:
    for layer in traced(kind, [5, 2, 0], bidirectional=True):
        for name in layer.values:
            norms = layer.gradient_norms(name)
            assert (norms.shape, norms.dtype) == ((5, 3), np.float64)
            for t in range(5):
                for b in range(3):
                    expected = sum(g * g for g in layer.gradients[name][t, b]) ** 0.5
                    np.testing.assert_allclose(norms[t, b], expected, rtol=1e-12)
            assert norms[:, 0].any() and not norms[2:, 1].any()


def test_norms_of_half_precision_do_not_overflow() -> None:
    network, x = RNN(2, 4).to(dtype="float16"), np.ones((3, 1, 2), np.float16)
    layer = trace(network, x, loss=lambda out: (out * 300.0).sum())[0]
    assert layer.gradients["h"].dtype == np.float16
    assert 300 < layer.gradient_norms("h")[-1, 0] < np.inf


def test_names_of_values() -> None:
    model = traced(LSTM, num_layers=2)
    layer = model["l1"]
    assert layer is model[1] is model[-1] is list(model)[1] and len(model) == 2
    assert layer.shape == (5, 3, 4)
    assert layer.f is layer.values["f"]
    assert (layer.gates, traced(GRU)[0].gates, traced(RNN)[0].gates) == (("i", "f", "o"), ("r", "z"), ())
    assert repr(layer) == "LayerTrace(name='l1', kind='LSTM', reverse=False)"
    assert model.model == "LSTM(2, 4, num_layers=2)"


def refused(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match=message)


def test_what_is_not_there() -> None:
    lstm, rnn = traced(LSTM, num_layers=2), traced(RNN)[0]
    with refused(KeyError, "no layer 'l2'; there are l0, l1"):
        lstm["l2"]
    with pytest.raises(IndexError):
        lstm[2]
    with refused(AttributeError, "LayerTrace has no 'q'; this layer's values are i, f, g, o, c, h"):
        lstm[0].q
    with refused(ValueError, "^gradient_norms: there is no 'q'; there are i, f, g, o, c, h$"):
        lstm[0].gradient_norms("q")
    with refused(ValueError, "^gradient_norms: this trace has no gradients; give trace.. a loss$"):
        trace(RNN(2, 4), tg.ones(1, 1, 2))[0].gradient_norms("h")
    with refused(ValueError, "^saturation: 'g' is not a gate of this LSTM; its gates are i, f, o$"):
        lstm[0].saturation("g")
    with refused(ValueError, "^saturation: 'h' is not a gate of this RNN; its gates are none$"):
        rnn.saturation("h")
    with refused(ValueError, "^forget_product: this RNN has no single gate that multiplies its state at each step$"):
        rnn.forget_product(0, 1)


def test_steps_that_a_forget_product_cannot_have() -> None:
    forward, reverse = traced(LSTM, bidirectional=True)
    for start, end in ((0, 5), (-1, 2), (5, 5)):
        with refused(ValueError, f"^forget_product: expected steps from 0 to 4, got {start} and {end}$"):
            forward.forget_product(start, end)
    with refused(ValueError, "^forget_product: step 1 comes before step 3; the layer runs forward$"):
        forward.forget_product(3, 1)
    with refused(ValueError, "^forget_product: step 3 comes before step 1; the layer runs from the end, so its later"):
        reverse.forget_product(1, 3)


# -- in notebooks ------------------------------------------------------------------------------------------------------


def rows_of(layer_or_trace: LayerTrace | Trace) -> list[list[str]]:
    """The table's cells; raises if the page is not well-formed."""
    page = ElementTree.fromstring(f"<div>{layer_or_trace._repr_html_()}</div>")
    return [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]


def test_html_of_a_trace() -> None:
    model = CharLM(7, 2, 4)
    shown = trace(model, np.zeros((3, 2), np.int64), loss=lambda logits: (logits * logits).sum())
    assert f"CharLM, loss {shown.loss:.4g}" in shown._repr_html_()
    header, *rows = rows_of(shown)
    assert header[-2:] == ["‖∂L/∂·‖ at first step", "at last step"]
    assert [row[:2] for row in rows] == [["lstm.l0: LSTM, 3 × 2 × 4", "i"], ["", "f"], ["", "o"], ["", "h"], ["", "c"]]
    layer = shown[0]
    for row in rows[:3]:
        gate = layer.values[row[1]]
        assert row[2] == f"{gate.mean():.2f}"
        assert row[3:5] == [f"{(gate < 0.1).mean():.0%}", f"{(gate > 0.9).mean():.0%}"]
    assert rows[3][2:5] == rows[4][2:5] == [""] * 3  # of states
    for row in rows:
        norms = layer.gradient_norms(row[1])
        assert row[5:] == [f"{norms[0].mean():.1e}", f"{norms[-1].mean():.1e}"]


def test_html_with_lengths_takes_each_sequence_to_its_own_end() -> None:
    for layer in traced(GRU, [5, 2, 0], bidirectional=True):
        rows = {row[1]: row for row in rows_of(layer)[1:]}
        norms = layer.gradient_norms("h")
        assert rows["h"][5:] == [f"{norms[0, :2].mean():.1e}", f"{(norms[4, 0] + norms[1, 1]) / 2:.1e}"]
        assert rows["z"][2] == f"{layer.z[layer.going].mean():.2f}"


def test_html_without_a_loss_and_without_steps() -> None:
    without = trace(RNN(2, 4), tg.ones(3, 1, 2))
    assert rows_of(without) == [
        ["layer: kind, T × B × H", "", "mean", "below 0.1", "above 0.9"],
        ["l0: RNN, 3 × 1 × 4", "h", "", "", ""],
    ]
    assert "loss" not in without._repr_html_()
    assert [row[2:] for row in rows_of(traced(LSTM, [0, 0, 0]))[1:]] == [["", "", ""]] * 5
