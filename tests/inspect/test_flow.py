"""Gradient flow: the fit is exact on exponentials, the curves are autograd's, and the rates are those of the theory."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import GradientFlow, fit_decay, flow_of, gradient_flow, median_flow
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, GRUCell, LSTMCell, RNNCell


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def built(kind: Any, *sizes: int, **settings: Any) -> Any:
    tg.manual_seed(0)
    return kind(*sizes, **settings).to(dtype="float64")


def last(out: tg.Tensor) -> tg.Tensor:
    return out[-1].square().sum()


# -- the fit ----------------------------------------------------------------------------------------------------------


@given(rate=st.floats(0.3, 1.5), scale=st.floats(1e-3, 1e3), steps=st.integers(2, 200))
def test_an_exponential_is_fitted_exactly(rate: float, scale: float, steps: int) -> None:
    decay = fit_decay(scale * rate ** np.arange(steps))
    assert decay.rate == pytest.approx(rate, rel=1e-9)
    assert decay.spread == pytest.approx(1, abs=1e-6)
    assert (decay.start, decay.stop, decay.then) == (0, steps, "end")


@given(rate=st.floats(0.3, 0.99), factor=st.floats(1.1, 3), seed=st.integers(0, 99))
def test_the_spread_is_the_typical_factor_off_the_fit(rate: float, factor: float, seed: int) -> None:
    """Of a curve that is off by this factor everywhere, up and down so that neither slope nor height changes."""
    off = np.tile([1, -1, -1, 1], 25)
    decay = fit_decay(rate ** np.arange(100) * factor**off)
    assert decay.rate == pytest.approx(rate, rel=1e-9)
    assert decay.spread == pytest.approx(factor, rel=1e-9)


@given(rate=st.floats(0.3, 0.99))
def test_half_of_it_is_left_after_the_half_life(rate: float) -> None:
    assert rate ** fit_decay(rate ** np.arange(9)).half_life == pytest.approx(0.5)


@given(st.lists(st.floats(min_value=0), max_size=12))
def test_any_curve_is_fitted_within_its_range(curve: list[float]) -> None:
    decay = fit_decay(curve)
    stretch = curve[decay.start : decay.stop]
    assert all(0 < norm < math.inf for norm in stretch)
    assert math.isnan(decay.rate) == (len(stretch) < 2)
    assert len(stretch) < 2 or (decay.rate > 0 and decay.spread >= 1 and decay.half_life > 0)
    assert (decay.then == "end") == (decay.stop == len(curve) or not curve)


@pytest.mark.parametrize("rate", [1.0, 1.5])
def test_what_does_not_decay_has_no_half_life(rate: float) -> None:
    assert fit_decay(rate ** np.arange(9)).half_life == math.inf


def test_only_the_range_above_the_floor_is_fitted() -> None:
    curve = [0.0, 0.0, 8.0, 4.0, 2.0, 1.0, 0.9, 0.8, 5.0]
    decay = fit_decay(curve, floor=0.95)
    assert decay.rate == pytest.approx(0.5)
    assert (decay.start, decay.stop, decay.then) == (2, 6, "underflow")
    grown = fit_decay([1.0, 3.0, 9.0, np.inf, np.nan])
    assert grown.rate == pytest.approx(3)
    assert (grown.start, grown.stop, grown.then) == (0, 3, "overflow")


@pytest.mark.parametrize(
    ("curve", "then"), [([], "end"), ([1.0], "end"), ([0.0, 0.0], "underflow"), ([1.0, 0.0], "underflow")]
)
def test_without_values_to_fit_there_is_no_rate(curve: list[float], then: str) -> None:
    decay = fit_decay(curve)
    assert math.isnan(decay.rate) and math.isnan(decay.half_life) and math.isnan(decay.spread)
    assert decay.then == then


# -- the curves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "cell_kind"), [(LSTM, LSTMCell), (GRU, GRUCell), (RNN, RNNCell)])
def test_norms_are_those_of_autograd_through_an_unrolled_cell(kind: Any, cell_kind: Any, device: str) -> None:
    T, B, I, H = 6, 3, 2, 4
    cell = built(cell_kind, I, H).to(device)
    network = built(kind, I, H).to(device)
    weights = {name: value for name, value in cell.state_dict().items() if not name.startswith("weight")}
    if kind is GRU:
        weights |= {name: cell.state_dict()[name] for name in ("weight_ih", "weight_hh")}
    else:
        joined = cell.state_dict()["weight"]
        weights |= {"weight_hh": joined[:, :H], "weight_ih": joined[:, H:]}
    network.load_state_dict({f"{name}_l0": value for name, value in weights.items()})
    x = tg.tensor(draw(0, T, B, I), device=device)

    states: list[tuple[tg.Tensor, ...]] = []
    for x_t in x:
        state = None if not states else states[-1] if kind is LSTM else states[-1][0]
        stepped = cell(x_t, state)
        states.append(stepped if kind is LSTM else (stepped,))
    loss = states[-1][0].square().sum()

    flow = gradient_flow(network, x, last)
    assert flow.loss == pytest.approx(loss.item())
    for k, name in enumerate(("h", "c")[: len(states[0])]):
        curve = flow["l0", name]
        assert (curve.sequences == B).all() and curve.sequences.shape == (T,)
        for distance in range(T):
            (gradient,) = tg.grad(loss, [states[T - 1 - distance][k]], retain_graph=True)
            expected = np.linalg.norm(gradient.cpu().numpy(), axis=1).mean()
            assert curve.norms[distance] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("reverse", [False, True])
def test_sequences_are_aligned_at_their_own_last_steps(reverse: bool) -> None:
    lengths = np.array([5, 3, 8])
    network = built(LSTM, 2, 4, bidirectional=True)
    x = draw(0, 8, 3, 2)
    layer = "l0_reverse" if reverse else "l0"

    def ends(out: tg.Tensor) -> tg.Tensor:
        """At each sequence's own last step: in reverse the first one."""
        parts = [out[0 if reverse else length - 1, b].square().sum() for b, length in enumerate(lengths)]
        return tg.stack(parts).sum()

    flow = gradient_flow(network, x, ends, lengths=lengths)[layer, "c"]
    assert flow.sequences.tolist() == [(lengths > distance).sum() for distance in range(8)]
    alone = [
        gradient_flow(network, x[:length, b : b + 1], lambda out: out[0 if reverse else -1].square().sum())[layer, "c"]
        for b, length in enumerate(lengths)
    ]
    for distance in range(8):
        there = [curve.norms[distance] for curve in alone if distance < len(curve.norms)]
        assert flow.norms[distance] == pytest.approx(np.mean(there), rel=1e-9)


def test_a_loss_that_does_not_reach_a_layer_leaves_zeros() -> None:
    """The backward direction has read only the last step when it computes the last output."""
    flow = gradient_flow(built(RNN, 2, 3, bidirectional=True), draw(0, 9, 2, 2), last)
    curve = flow["l0_reverse", "h"]
    assert not curve.norms[:8].any() and curve.norms[8] > 0
    assert math.isnan(curve.decay.rate)
    assert (curve.decay.start, curve.decay.stop) == (8, 9)


# -- the rates that theory gives --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.5, -0.8, 1.0, 1.2])
def test_a_linear_rnn_decays_by_its_weight(weight: float) -> None:
    """Near 0, tanh is the identity, and every step back multiplies by W = w·I."""
    network = built(RNN, 1, 4)
    with tg.no_grad():
        network.weight_hh_l0[:] = tg.tensor(weight * np.eye(4))
        network.weight_ih_l0[:] = 1.0
    x = np.zeros((40, 2, 1))
    x[-1] = 1e-4
    decay = gradient_flow(network, x, last)["l0", "h"].decay
    assert decay.rate == pytest.approx(abs(weight), rel=1e-6)
    assert decay.spread == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("bias", [-1.0, 0.0, 1.0, 3.0])
@pytest.mark.parametrize(("kind", "state"), [(LSTM, "c"), (GRU, "h")])
def test_a_gated_state_decays_by_its_gate_where_that_depends_on_nothing(kind: Any, state: str, bias: float) -> None:
    """Without the ways through the gates, ∂c_T/∂c_t is the product of the forget gates: σ(bias) a step."""
    network = built(kind, 2, 4)
    with tg.no_grad():
        network.weight_hh_l0[:] = 0.0
        network.weight_ih_l0[4:8] = 0.0
        network.bias_l0[4:8] = bias
    decay = gradient_flow(network, draw(0, 40, 3, 2), last)["l0", state].decay
    assert decay.rate == pytest.approx(1 / (1 + math.exp(-bias)), rel=1e-9)


def test_the_forget_products_of_a_trace_are_the_rate() -> None:
    """In a network where no gate depends on the state, and the forget gates depend only on the input."""
    network = built(LSTM, 2, 1)
    with tg.no_grad():
        network.weight_hh_l0[:] = 0.0
    x = draw(0, 12, 1, 2)
    traced = tg.inspect.trace(network, x)["l0"]
    curve = gradient_flow(network, x, last)["l0", "c"]
    for distance in range(12):
        product = traced.forget_product(11 - distance, 11)[0, 0]
        assert curve.norms[distance] / curve.norms[0] == pytest.approx(product, rel=1e-9)


def test_an_additive_cell_state_keeps_what_a_simple_network_loses() -> None:
    """With the forget gates open at the start, a hundred steps back; with shut ones it is lost as well."""
    flows = {}
    for name, kind, bias in (("rnn", RNN, None), ("open", LSTM, 3.0), ("half", LSTM, 0.0)):
        network = built(kind, 1, 32)
        if bias is not None:
            with tg.no_grad():
                network.bias_l0[32:64] = bias
        flows[name] = gradient_flow(network, draw(1, 120, 8, 1), last).memory[0]
    left = {name: curve.norms[100] / curve.norms[0] for name, curve in flows.items()}
    assert left["open"] > 1e-3 and left["rnn"] < 1e-15 and left["half"] < 1e-15


@pytest.mark.parametrize(("dtype", "stop"), [("float32", 126), ("float64", 511)])
def test_what_the_dtype_cannot_hold_is_not_fitted(dtype: str, stop: int) -> None:
    """A gradient that halves at every step becomes subnormal after this many steps; of float64, its square does."""
    network = built(RNN, 1, 1).to(dtype=dtype)
    with tg.no_grad():
        network.weight_hh_l0[:], network.weight_ih_l0[:] = 0.5, 0.0
    curve = gradient_flow(network, np.zeros((1200, 1, 1), dtype), lambda out: out[-1].sum())["l0", "h"]
    assert curve.norms[-1] == 0
    assert curve.decay.rate == pytest.approx(0.5, rel=1e-6)
    assert (curve.decay.start, curve.decay.stop, curve.decay.then) == (0, stop, "underflow")


# -- several layers, several flows ------------------------------------------------------------------------------------


def test_every_layer_has_its_curves_and_the_table_shows_them() -> None:
    model = built(CharLM, 5, 3, 4, num_layers=2)
    ids = tg.tensor(np.random.default_rng(0).integers(0, 5, (60, 2)))
    flow = gradient_flow(model, ids, lambda logits: logits[-1].square().sum())
    assert [(curve.layer, curve.state) for curve in flow] == [
        ("lstm.l0", "h"),
        ("lstm.l0", "c"),
        ("lstm.l1", "h"),
        ("lstm.l1", "c"),
    ]
    assert [curve.state for curve in flow.memory] == ["c", "c"]
    title, header, *rows = repr(flow).splitlines()
    assert title.startswith("GradientFlow, loss ")
    assert " ".join(header.split()) == "layer state rate half-life fit of steps at 0 at 10 at 50"
    assert len(rows) == len(flow) == 4
    for row, curve in zip(rows, flow):
        layer, state, rate, half_life, _, steps, *norms = row.split()
        assert (layer, state, steps) == (curve.layer, curve.state, "0-59")
        assert float(rate) == pytest.approx(curve.decay.rate, abs=1e-4)
        assert float(half_life) == pytest.approx(curve.decay.half_life, rel=1e-2)
        assert [float(norm) for norm in norms] == pytest.approx(curve.norms[[0, 10, 50]], rel=0.1)


def test_the_table_shows_where_nothing_could_be_fitted() -> None:
    network = built(RNN, 1, 1)
    with tg.no_grad():
        network.weight_hh_l0[:] = 0.0
    row = gradient_flow(network, np.ones((3, 1, 1)), last).table().splitlines()[-1]
    assert row.split()[:7] == ["l0", "h", "-", "-", "-", "0-0,", "underflow"]


def test_the_median_of_flows_is_taken_at_each_distance() -> None:
    network, x = built(LSTM, 2, 4), draw(0, 30, 2, 2)
    scales = [1.0, 5.0, 2.0]
    flows = [gradient_flow(network, x, lambda out, scale=scale: scale * last(out)) for scale in scales]
    median = median_flow(flows)
    assert median.loss == flows[2].loss
    for curve, expected in zip(median, flows[2], strict=True):
        np.testing.assert_allclose(curve.norms, expected.norms, rtol=1e-12)
        assert curve.decay.rate == pytest.approx(expected.decay.rate)
        assert (curve.sequences == 6).all()


# -- bad input --------------------------------------------------------------------------------------------------------


def test_invalid_arguments_are_refused() -> None:
    network, x = built(GRU, 2, 4), draw(0, 5, 2, 2)
    flow = gradient_flow(network, x, last)
    with pytest.raises(KeyError, match=r"no curve \('l0', 'c'\); there are \('l0', 'h'\)"):
        flow["l0", "c"]
    with pytest.raises(ValueError, match="expected flows of one model"):
        median_flow([flow, gradient_flow(network, x[1:], last)])
    with pytest.raises(ValueError, match="median_flow: expected flows"):
        median_flow([])
    with pytest.raises(ValueError, match=r"fit_decay: expected norms of shape \(distances,\), got \(2, 2\)"):
        fit_decay([[1.0, 0.5], [0.5, 0.25]])
    with pytest.raises(ValueError, match="loss returned float64"):
        gradient_flow(network, x, lambda out: out)
    with pytest.raises(ValueError, match="no recurrent layer or cell"):
        gradient_flow(tg.nn.Linear(2, 3).to(dtype="float64"), x, last)


def test_a_cell_is_measured_over_its_steps() -> None:
    flow = gradient_flow(built(GRUCell, 2, 4), draw(0, 5, 2, 2), last)
    assert isinstance(flow, GradientFlow)
    (curve,) = flow
    assert (curve.layer, curve.state, len(curve.norms)) == ("cell", "h", 5)


def test_flow_of_a_trace_is_that_of_the_model() -> None:
    network, x = LSTM(3, 5), tg.randn(12, 2, 3)
    traced = tg.inspect.trace(network, x, loss=lambda out: out[-1].sum())
    measured = gradient_flow(network, x, lambda out: out[-1].sum())
    assert repr(flow_of(traced)) == repr(measured)
    with pytest.raises(ValueError, match="this trace has no gradients; give trace"):
        flow_of(tg.inspect.trace(network, x))
