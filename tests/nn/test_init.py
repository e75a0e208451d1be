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
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_parameter_is_filled_in_place_the_same_on_every_device(name, dtype, device):
    parameter = nn.Parameter(tg.ones(4, 3), dtype=dtype, device=device)
    array = parameter.data
    assert FUNCTIONS[name](parameter) is parameter
    assert parameter.data is array
    assert parameter.dtype == dtype and parameter.device == device
    assert parameter.requires_grad and parameter.is_leaf
    tg.manual_seed(1)
    expected = FUNCTIONS[name](nn.Parameter(tg.ones(4, 3), dtype=dtype))
    np.testing.assert_array_equal(parameter.detach().cpu(), expected.detach())


def test_constants():
    assert np.unique(drawn(init.constant_, 2.5)) == [2.5]
    assert np.unique(drawn(init.zeros_)) == [0]


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
