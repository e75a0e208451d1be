"""Initial values: their distributions, and that they are written in place."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.nn import init

SHAPE = (60, 20, 3)
FAN_IN, FAN_OUT = 60, 180


@pytest.fixture(autouse=True)
def seeded():
    tg.manual_seed(1)


def drawn(function, *args, shape=SHAPE, **kwargs) -> np.ndarray:
    return function(nn.Parameter(tg.zeros(shape)), *args, **kwargs).detach().numpy()


FUNCTIONS = {
    "uniform": init.uniform_,
    "normal": init.normal_,
    "constant": lambda tensor: init.constant_(tensor, 2.5),
    "zeros": init.zeros_,
    "xavier_uniform": init.xavier_uniform_,
    "xavier_normal": init.xavier_normal_,
    "kaiming_uniform": init.kaiming_uniform_,
    "kaiming_normal": init.kaiming_normal_,
    "orthogonal": init.orthogonal_,
    "trunc_normal": init.trunc_normal_,
    "ones": init.ones_,
    "eye": init.eye_,
    "identity_recurrent": init.identity_recurrent_,
    "chrono": lambda tensor: init.chrono_(tensor, 9),
}


SHAPES = {"chrono": (8,), "identity_recurrent": (6, 3)}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_parameter_is_filled_in_place_the_same_on_every_device(name, dtype, device):
    shape = SHAPES.get(name, (4, 3))
    parameter = nn.Parameter(tg.ones(shape), dtype=dtype, device=device)
    array = parameter.data
    assert FUNCTIONS[name](parameter) is parameter
    assert parameter.data is array
    assert parameter.dtype == dtype and parameter.device == device
    assert parameter.requires_grad and parameter.is_leaf
    tg.manual_seed(1)
    expected = FUNCTIONS[name](nn.Parameter(tg.ones(shape), dtype=dtype))
    np.testing.assert_array_equal(parameter.detach().cpu(), expected.detach())


def test_constants():
    assert np.unique(drawn(init.constant_, 2.5)) == [2.5]
    assert np.unique(drawn(init.zeros_)) == [0]
    assert np.unique(drawn(init.ones_)) == [1]


@given(st.integers(0, 4), st.integers(0, 4))
def test_an_identity_has_ones_on_the_diagonal(rows, columns):
    np.testing.assert_array_equal(drawn(init.eye_, shape=(rows, columns)), np.eye(rows, columns))


def density_moments(mean, std, a, b):
    """The mean and the standard deviation of a truncated normal distribution, by quadrature."""
    x = np.linspace(a, b, 200_001)
    weights = np.exp(-(((x - mean) / std) ** 2 - ((np.clip(mean, a, b) - mean) / std) ** 2) / 2)
    first = np.average(x, weights=weights)
    return first, math.sqrt(np.average((x - first) ** 2, weights=weights))


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0, 1, -2, 2), (0, 0.02, -2, 2), (1, 2, 0, 3), (0, 1, 5, 9), (0, 1, -60, -50), (3, 1, -9, 9), (0, 5, -0.1, 0.2)],
)
def test_truncated_normal_numbers_have_their_moments_within_their_bounds(mean, std, a, b):
    array = init.trunc_normal_(nn.Parameter(np.zeros(20_000)), mean, std, a, b).detach().numpy()
    assert a <= array.min() and array.max() <= b
    expected, deviation = density_moments(mean, std, a, b)
    np.testing.assert_allclose(array.mean(), expected, atol=0.05 * deviation)
    np.testing.assert_allclose(array.std(), deviation, rtol=0.05)


def test_an_infinite_bound_does_not_truncate():
    array = init.trunc_normal_(nn.Parameter(np.zeros(20_000)), a=-math.inf, b=math.inf).detach().numpy()
    np.testing.assert_allclose([array.mean(), array.std()], [0, 1], atol=0.03)


@pytest.mark.parametrize("layer", [tg.models.RNN, tg.models.LSTM, tg.models.GRU])
def test_each_gate_gets_an_identity(layer):
    weight = init.identity_recurrent_(layer(2, 3).weight_hh_l0, scale=0.5)
    for gate in weight.detach().numpy().reshape(-1, 3, 3):
        np.testing.assert_array_equal(gate, 0.5 * np.eye(3))


def test_an_identity_rnn_keeps_its_state_and_its_gradient(device):
    rnn = tg.models.RNN(2, 3, nonlinearity="relu").to(device)
    init.identity_recurrent_(rnn.weight_hh_l0)
    init.zeros_(rnn.bias_l0)
    h0 = tg.tensor([[[1.0, 2.0, 3.0]]], device=device, requires_grad=True)
    out, h_n = rnn(tg.zeros(50, 1, 2, device=device), h0)
    assert h_n.tolist() == h0.tolist() and out[0].tolist() == h0[0].tolist()
    h_n.sum().backward()
    assert h0.grad.tolist() == [[[1, 1, 1]]]


@pytest.mark.parametrize(("kind", "gates", "kept"), [("LSTM", 4, (2, 3)), ("GRU", 3, (0, 2))])
def test_chrono_times_are_uniform(kind, gates, kept):
    tensor = init.chrono_(nn.Parameter(np.full(gates * 5000, 7.0)), 40, kind)
    biases = tensor.detach().numpy().reshape(gates, -1)
    times = 1 + np.exp(biases[1])  # 1 / (1 - sigmoid(bias)): after these, a state has decayed to 1 / e
    assert 2 <= times.min() < 2.1 and 39.9 < times.max() <= 40
    np.testing.assert_allclose([times.mean(), times.std()], [21, 38 / math.sqrt(12)], rtol=0.03)
    assert all((biases[gate] == 7).all() for gate in kept)
    if kind == "LSTM":
        np.testing.assert_array_equal(biases[0], -biases[1])


@pytest.mark.parametrize("layer", [tg.models.LSTM, tg.models.GRU])
def test_a_layer_with_chrono_biases_remembers(layer):
    """With zero weights, the state decays by the gate that keeps it, which is what the biases say."""
    layer = layer(1, 6).to(dtype="float64")
    for parameter in layer.parameters():
        init.zeros_(parameter)
    init.chrono_(layer.bias_l0, 100, type(layer).__name__)
    start = tg.ones(1, 1, 6, dtype="float64")
    lstm = isinstance(layer, tg.models.LSTM)
    _, state = layer(tg.zeros(9, 1, 1, dtype="float64"), (start, start) if lstm else start)
    kept = (1 / (1 + np.exp(-layer.bias_l0.detach().numpy()[6:12]))) ** 9
    np.testing.assert_allclose((state[1] if lstm else state).detach().numpy()[0, 0], kept, rtol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: init.trunc_normal_(tg.ones(2), std=0.0), ValueError, "std must be above 0, and the mean finite"),
        (lambda: init.trunc_normal_(tg.ones(2), a=1.0, b=1.0), ValueError, "a must be below b, got 1.0 and 1.0"),
        (lambda: init.trunc_normal_(tg.ones(2), a=math.nan), ValueError, "a must be below b, got nan"),
        (lambda: init.trunc_normal_(tg.ones(2, dtype="int64")), TypeError, "trunc_normal_: expected a float tensor"),
        (lambda: init.eye_(tg.ones(2)), ValueError, r"eye_: expected a tensor of two dimensions, got \(2,\)"),
        (lambda: init.identity_recurrent_(tg.ones(5, 3)), ValueError, r"shape \(gates \* H, H\) is expected"),
        (lambda: init.identity_recurrent_(tg.ones(3)), ValueError, r"is expected, got \(3,\)"),
        (lambda: init.chrono_(tg.ones(8), 9, "RNN"), ValueError, "kind must be 'LSTM' or 'GRU', got 'RNN'"),
        (lambda: init.chrono_(tg.ones(7), 9), ValueError, r"bias of LSTM must have shape \(4 \* H,\), got \(7,\)"),
        (lambda: init.chrono_(tg.ones(8), 1.5), ValueError, "chrono_: max_length must be 2 or more, got 1.5"),
        (lambda: init.chrono_(tg.ones(8, dtype="int64"), 9), TypeError, "chrono_: expected a float tensor"),
    ],
)
def test_invalid_arguments_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (lambda: drawn(init.uniform_), 0, 1),
        (lambda: drawn(init.uniform_, -3, -1), -3, -1),
        (lambda: drawn(init.xavier_uniform_), -math.sqrt(6 / 240), math.sqrt(6 / 240)),
        (lambda: drawn(init.xavier_uniform_, gain=2.0), -2 * math.sqrt(6 / 240), 2 * math.sqrt(6 / 240)),
        (lambda: drawn(init.kaiming_uniform_), -math.sqrt(6 / FAN_IN), math.sqrt(6 / FAN_IN)),
        (lambda: drawn(init.kaiming_uniform_, math.sqrt(5)), -1 / math.sqrt(FAN_IN), 1 / math.sqrt(FAN_IN)),
        (lambda: drawn(init.kaiming_uniform_, mode="fan_out"), -math.sqrt(6 / FAN_OUT), math.sqrt(6 / FAN_OUT)),
    ],
)
def test_uniform_numbers_fill_their_range(values, low, high):
    array, width = values(), high - low
    assert low <= array.min() < low + 0.01 * width
    assert high - 0.01 * width < array.max() <= high
    np.testing.assert_allclose(array.mean(), (low + high) / 2, atol=0.03 * width)
    np.testing.assert_allclose(array.std(), width / math.sqrt(12), rtol=0.05)


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        (lambda: drawn(init.normal_), 0, 1),
        (lambda: drawn(init.normal_, 2, 0.5), 2, 0.5),
        (lambda: drawn(init.xavier_normal_), 0, math.sqrt(2 / 240)),
        (lambda: drawn(init.kaiming_normal_), 0, math.sqrt(2 / FAN_IN)),
        (lambda: drawn(init.kaiming_normal_, nonlinearity="tanh", mode="fan_out"), 0, 5 / 3 / math.sqrt(FAN_OUT)),
    ],
)
def test_normal_numbers_have_their_moments(values, mean, std):
    array = values()
    np.testing.assert_allclose(array.mean(), mean, atol=0.05 * std)
    np.testing.assert_allclose(array.std(), std, rtol=0.05)
    share_within = (np.abs(array - mean) < std).mean()
    np.testing.assert_allclose(share_within, math.erf(1 / math.sqrt(2)), atol=0.03)


@given(st.integers(1, 8), st.lists(st.integers(1, 4), min_size=1, max_size=2), st.sampled_from([0.5, 1.0, 2.0]))
def test_orthogonal_rows_or_columns_are_orthonormal(rows, rest, gain):
    matrix = init.orthogonal_(nn.Parameter(np.zeros((rows, *rest))), gain).detach().numpy().reshape(rows, -1)
    product = matrix @ matrix.T if rows <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, gain**2 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_matrices_are_uniform():
    """The trace of a uniform orthogonal matrix has mean 0 and variance 1; without the signs its mean is far off."""
    traces = [np.trace(init.orthogonal_(nn.Parameter(np.zeros((3, 3)))).detach().numpy()) for _ in range(600)]
    assert abs(np.mean(traces)) < 0.2
    assert 0.8 < np.var(traces) < 1.2


def test_gains():
    assert init.calculate_gain("linear") == 1
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("leaky_relu", 1.0) == 1
    with pytest.raises(ValueError, match=r"expected one of linear, .*; got 'swish'"):
        init.calculate_gain("swish")


@pytest.mark.parametrize(
    "function",
    [init.xavier_uniform_, init.xavier_normal_, init.kaiming_uniform_, init.kaiming_normal_, init.orthogonal_],
)
def test_a_vector_has_no_fans(function):
    parameter = nn.Parameter(tg.ones(3))
    with pytest.raises(ValueError, match=r"two dimensions at least is expected \(out, in, \.\.\.\), got \(3,\)"):
        function(parameter)
    assert parameter.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "function",
    [init.uniform_, init.normal_, init.xavier_uniform_, init.kaiming_normal_, init.orthogonal_],
)
def test_numbers_are_not_drawn_into_integers(function):
    tensor = tg.ones(2, 2, dtype="int64")
    tg.manual_seed(3)
    with pytest.raises(TypeError, match=r"_: expected a float tensor, got one of int64"):
        function(tensor)
    assert tensor.tolist() == [[1, 1], [1, 1]]
    assert init.zeros_(tensor).tolist() == [[0, 0], [0, 0]]
    after = tg.randn(2).tolist()
    tg.manual_seed(3)
    assert tg.randn(2).tolist() == after


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode must be 'fan_in' or 'fan_out', got 'both'"):
        init.kaiming_normal_(nn.Parameter(tg.ones(2, 2)), mode="both")
