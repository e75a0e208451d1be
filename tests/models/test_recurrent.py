"""What holds for every recurrent network, whatever its sizes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

KINDS = {LSTM: LSTMCell, GRU: GRUCell, RNN: RNNCell}
sizes = st.integers(1, 4)


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def built(kind: Any, seed: int, *sizes: int, **settings: Any) -> Any:
    tg.manual_seed(seed)
    return kind(*sizes, **settings).to(dtype="float64")


def hidden_of(state: Any) -> tg.Tensor:
    return state[0] if isinstance(state, tuple) else state


def joined(arrays: dict[str, np.ndarray], kind: Any) -> dict[str, np.ndarray]:
    """What belongs to the parameters of a network's only layer, under the names of the cell's."""
    named = {name.removesuffix("_l0"): value for name, value in arrays.items()}
    if kind is not GRU:
        named["weight"] = np.concatenate([named.pop("weight_hh"), named.pop("weight_ih")], axis=1)
    return named


def gradient_of(parameter: tg.Tensor) -> np.ndarray:
    assert parameter.grad is not None
    return parameter.grad.numpy()


def cell_of(network: Any) -> Any:
    """The composed cell with the weights of a network's only layer."""
    cell = KINDS[type(network)](network.input_size, network.hidden_size).to(dtype="float64")
    cell.load_state_dict(joined(network.state_dict(), type(network)))
    return cell


@pytest.mark.parametrize("kind", KINDS)
@given(T=sizes, B=st.integers(0, 3), I=sizes, H=sizes, seed=st.integers(0, 99))
def test_network_equals_its_cell_step_by_step(kind: Any, T: int, B: int, I: int, H: int, seed: int) -> None:
    """Values, and gradients with respect to the inputs and all parameters."""
    network = built(kind, seed, I, H)
    cell = cell_of(network)
    x = tg.tensor(draw(seed, T, B, I), requires_grad=True)
    out, final = network(x)
    state, steps = None, []
    for x_t in x:
        state = cell(x_t, state)
        steps.append(hidden_of(state))
    composed = tg.stack(steps)
    np.testing.assert_allclose(out.detach().numpy(), composed.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(hidden_of(final).detach().numpy()[0], steps[-1].detach().numpy(), atol=1e-12)
    weights = tg.tensor(draw(seed + 1, T, B, H))
    (expected,) = tg.grad((composed * weights).sum(), x, retain_graph=True)
    (actual,) = tg.grad((out * weights).sum(), x, retain_graph=True)
    np.testing.assert_allclose(actual.numpy(), expected.numpy(), atol=1e-12)
    (composed * weights).sum().backward()
    (out * weights).sum().backward()
    gradients = joined({name: gradient_of(parameter) for name, parameter in network.named_parameters()}, kind)
    for name, parameter in cell.named_parameters():
        np.testing.assert_allclose(gradients[name], gradient_of(parameter), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(T=st.integers(2, 6), cut=st.integers(1, 5), layers=st.integers(1, 2), seed=st.integers(0, 99))
def test_chunks_with_carried_state_equal_the_whole(kind: Any, T: int, cut: int, layers: int, seed: int) -> None:
    cut = min(cut, T - 1)
    network = built(kind, seed, 3, 4, num_layers=layers)
    x = tg.tensor(draw(seed, T, 2, 3))
    whole, final = network(x)
    first, state = network(x[:cut])
    second, state = network(x[cut:], state)
    np.testing.assert_allclose(tg.cat([first, second]).detach().numpy(), whole.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(hidden_of(state).detach().numpy(), hidden_of(final).detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    batch_first=st.booleans(),
    seed=st.integers(0, 99),
)
def test_padded_batch_equals_each_sequence_by_itself(
    kind: Any, lengths: list[int], layers: int, bidirectional: bool, batch_first: bool, seed: int
) -> None:
    """Values past a length change nothing, and no gradient reaches them."""
    network = built(kind, seed, 2, 3, num_layers=layers, bidirectional=bidirectional, batch_first=batch_first)
    T, B = 5, len(lengths)
    data = draw(seed, B, T, 2)
    x = tg.tensor(data if batch_first else data.swapaxes(0, 1), requires_grad=True)
    out, final = network(x, lengths=lengths)
    rows = out if batch_first else out.swapaxes(0, 1)
    for b, length in enumerate(lengths):
        alone = data[b : b + 1, :length]
        single, single_final = network(tg.tensor(alone if batch_first else alone.swapaxes(0, 1)))
        single = single if batch_first else single.swapaxes(0, 1)
        np.testing.assert_allclose(rows[b, :length].detach().numpy(), single[0].detach().numpy(), atol=1e-12)
        assert not rows[b, length:].detach().numpy().any()
        np.testing.assert_allclose(
            hidden_of(final)[:, b].detach().numpy(), hidden_of(single_final)[:, 0].detach().numpy(), atol=1e-12
        )
    (rows.sum() + hidden_of(final).sum()).backward()
    assert x.grad is not None
    gradient = x.grad.numpy() if batch_first else x.grad.numpy().swapaxes(0, 1)
    for b, length in enumerate(lengths):
        assert not gradient[b, length:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives(kind: Any) -> None:
    network = built(kind, 0, 2, 3, bidirectional=True)
    x = tg.tensor(draw(0, 3, 2, 2), requires_grad=True)
    assert tg.gradgradcheck(lambda x: network(x, lengths=[3, 2])[0], [x])


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_between_layers_only_in_training(kind: Any) -> None:
    network = built(kind, 0, 2, 8, num_layers=2, dropout=0.5)
    x = tg.tensor(draw(0, 3, 2, 2))
    tg.manual_seed(1)
    first, _ = network(x)
    second, _ = network(x)
    tg.manual_seed(1)
    again, _ = network(x)
    assert (first.detach().numpy() != second.detach().numpy()).any()
    assert (first.detach().numpy() == again.detach().numpy()).all()
    network.eval()
    assert (network(x)[0].detach().numpy() == network(x)[0].detach().numpy()).all()


@pytest.mark.parametrize("given", [{}, {"forget_bias": 0.0}, {"forget_bias": 2.5}])
def test_forget_gate_starts_open_or_at_the_given_bias(given: dict[str, float]) -> None:
    start = given.get("forget_bias", 1.0)
    lstm, cell = LSTM(2, 3, num_layers=2, bidirectional=True, **given), LSTMCell(2, 3, **given)  # type: ignore[arg-type]
    biases = [value for name, value in lstm.named_parameters() if name.startswith("bias")]
    assert len(biases) == 4
    for bias in (*biases, cell.bias):
        assert bias.tolist() == [0.0] * 3 + [start] * 3 + [0.0] * 6


@pytest.mark.parametrize("kind", [LSTM, LSTMCell])
def test_forget_bias_must_be_finite(kind: Any) -> None:
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match=f"{kind.__name__}: expected a finite forget_bias, got {wrong}"):
            kind(2, 3, forget_bias=wrong)


def test_parameter_names_and_shapes() -> None:
    lstm = LSTM(5, 3, num_layers=2, bidirectional=True)
    shapes = {name: value.shape for name, value in lstm.named_parameters()}
    for direction in ("", "_reverse"):
        assert shapes[f"weight_ih_l0{direction}"] == (12, 5)
        assert shapes[f"weight_ih_l1{direction}"] == (12, 6)
        assert shapes[f"weight_hh_l1{direction}"] == (12, 3)
        assert shapes[f"bias_l1{direction}"] == (12,)
    assert len(shapes) == 12


def test_gates_are_those_of_the_equations() -> None:
    tg.manual_seed(0)
    cell = LSTMCell(3, 4).to(dtype="float64")
    x, h, c = draw(0, 2, 3), draw(1, 2, 4), draw(2, 2, 4)
    gates = cell.gates(tg.tensor(x), (tg.tensor(h), tg.tensor(c)))
    weight, bias = cell.weight.detach().numpy(), cell.bias.detach().numpy()
    net_i, net_f, net_g, net_o = np.split(np.concatenate([h, x], axis=1) @ weight.T + bias, 4, axis=1)
    f, i, o = (1 / (1 + np.exp(-net)) for net in (net_f, net_i, net_o))
    expected = {"f": f, "i": i, "g": np.tanh(net_g), "o": o, "c": f * c + i * np.tanh(net_g)}
    expected["h"] = o * np.tanh(expected["c"])
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(gates, name).detach().numpy(), value, rtol=1e-12)
    np.testing.assert_array_equal(cell(tg.tensor(x), (tg.tensor(h), tg.tensor(c)))[0].tolist(), gates.h.tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [np.nan, np.inf])
def test_padding_may_hold_anything(kind: Any, padding: float) -> None:
    network = built(kind, 0, 2, 3, bidirectional=True)
    data = draw(0, 4, 2, 2)
    data[2:, 1] = padding
    out, _ = network(tg.tensor(data), lengths=[4, 2])
    out.sum().backward()
    assert np.isfinite(out.detach().numpy()).all()
    assert all(np.isfinite(gradient_of(parameter)).all() for parameter in network.parameters())


def test_no_sequences_at_all() -> None:
    out, (h, _) = LSTM(2, 3)(tg.zeros(4, 0, 2), lengths=[])
    assert out.shape == (4, 0, 3)
    assert h.shape == (1, 0, 3)


@pytest.mark.parametrize("saturation", [-1e4, 1e4])
def test_saturated_gates_stay_finite(saturation: float) -> None:
    cell = LSTMCell(1, 2)
    with tg.no_grad():
        cell.bias.fill_(saturation)
    x = tg.ones(1, 1, requires_grad=True)
    h, c = cell(x, (tg.ones(1, 2), tg.ones(1, 2)))
    (h.sum() + c.sum()).backward()
    assert x.grad is not None
    assert all(np.isfinite(value.detach().numpy()).all() for value in (h, c, x.grad))


@pytest.mark.parametrize("kind", KINDS)
def test_empty_sequence_returns_the_initial_state(kind: Any) -> None:
    network = built(kind, 0, 2, 3)
    out, state = network(tg.zeros(0, 2, 2, dtype="float64"))
    assert out.shape == (0, 2, 3)
    assert not hidden_of(state).detach().numpy().any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LSTM(2, 3)(tg.zeros(4, 3)), r"LSTM: expected an input of shape \(time, batch, 2\), got \(4, 3\)"),
        (lambda: LSTM(2, 3)(tg.zeros(4, 1, 5)), r"got \(4, 1, 5\)"),
        (
            lambda: LSTM(2, 3)(tg.zeros(4, 1, 2), (tg.zeros(1, 1, 3), tg.zeros(1, 2, 3))),
            r"got \(1, 1, 3\), \(1, 2, 3\)",
        ),
        (lambda: GRU(2, 3)(tg.zeros(4, 2, 2), lengths=[4]), "GRU: expected 2 lengths"),
        (lambda: RNN(2, 3)(tg.zeros(4, 2, 2), lengths=[5, 1]), "integers from 0 to 4"),
        (lambda: RNN(2, 3)(tg.zeros(4, 2, 2), lengths=[1.5, 1.0]), "float64"),
        (lambda: LSTM(2, 3)(tg.zeros(4, 1, 2), tg.zeros(1, 1, 3)), r"2 states, \(h, c\), each"),
        (lambda: LSTM(2, 1)(tg.zeros(4, 1, 2), tg.zeros(1, 1, 1)), r"2 states, \(h, c\), each"),
        (lambda: GRU(2, 3)(tg.zeros(4, 1, 2), tg.zeros(1, 3)), r"a state of shape \(1, 1, 3\), got \(1, 3\)"),
        (lambda: LSTM(2, 0), "LSTM: expected an input size and a hidden size of at least 1, got 2 and 0"),
        (lambda: GRU(-1, 3), "got -1 and 3"),
        (lambda: LSTMCell(3, 0), "LSTMCell: expected an input size"),
        (lambda: GRUCell(0, 3), "GRUCell: expected an input size"),
        (lambda: RNNCell(-1, 3), "RNNCell: expected an input size"),
        (lambda: LSTM(2, 3, num_layers=0), "at least 1 layer"),
        (lambda: LSTM(2, 3, dropout=1.5), "dropout"),
        (lambda: LSTMCell(2, 3)(tg.zeros(1, 4)), r"LSTMCell: expected an input of shape \(batch, 2\)"),
        (
            lambda: LSTMCell(2, 3)(tg.zeros(1, 2), (tg.zeros(1, 3), tg.zeros(1, 2))),
            r"2 states, \(h, c\)",
        ),
        (lambda: GRUCell(2, 3)(tg.zeros(1, 2), tg.zeros(2, 3)), r"a state of shape \(1, 3\), got \(2, 3\)"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("kind", KINDS)
def test_named_forward_is_forward_of_a_subclass_too(kind: Any) -> None:
    class Doubled(kind):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out, state = super().forward(*args, **kwargs)
            return out * 2, state

    network = built(Doubled, 0, 2, 3, num_layers=2)
    given = network.example_inputs(4, 2)
    x, *states = given.values()
    out, state = network(x, tuple(states) if len(states) > 1 else states[0], [4, 2])
    named = network.named_forward(lengths=[4, 2], **given)
    assert list(named) == ["out", *network.STATES]
    for found, expected in zip(named.values(), (out, *(state if isinstance(state, tuple) else [state])), strict=True):
        np.testing.assert_array_equal(found.detach().numpy(), expected.detach().numpy())
