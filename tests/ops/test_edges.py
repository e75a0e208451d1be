"""Ops at extreme inputs, and derivatives at points where there is a choice."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg

# -- extremes ----------------------------------------------------------------------------------------------------------

EXTREME = {
    tg.sigmoid: ([0, 0, 0.5, 1, 1], [0, 0, 0.25, 0, 0]),
    tg.tanh: ([-1, -1, 0, 1, 1], [0, 0, 1, 0, 0]),
    tg.softplus: ([0, 0, math.log(2), 88, 1e4], [0, 0, 0.5, 1, 1]),
    tg.logsigmoid: ([-1e4, -88, -math.log(2), 0, 0], [1, 1, 0.5, 0, 0]),
    tg.silu: ([0, 0, 0, 88, 1e4], [0, 0, 0.5, 1, 1]),
    tg.gelu: ([0, 0, 0, 88, 1e4], [0, 0, 0.5, 1, 1]),
    tg.mish: ([0, 0, 0, 88, 1e4], [0, 0, 0.6, 1, 1]),
    tg.elu: ([-1, -1, 0, 88, 1e4], [0, 0, 1, 1, 1]),
}


@pytest.mark.parametrize("function", EXTREME, ids=lambda function: function.__name__)
def test_extreme_inputs_compute_finite_values_and_gradients(function: Any, device: str) -> None:
    x = tg.tensor([-1e4, -88.0, 0.0, 88.0, 1e4], device=device, requires_grad=True)
    values, slopes = EXTREME[function]
    result = function(x)
    (g,) = tg.grad(result.sum(), x, create_graph=True)
    np.testing.assert_allclose(result.detach().cpu().numpy(), values, 1e-6, 1e-30)
    np.testing.assert_allclose(g.detach().cpu().numpy(), slopes, 1e-6, 1e-30)
    (second,) = tg.grad(g.sum(), x)
    assert np.isfinite(second.cpu().numpy()).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sigmoid_is_exact_in_both_tails(dtype: str, device: str) -> None:
    limits = np.finfo(dtype)
    values = [*np.linspace(-20, 20, 401), -12.0, -90.0, -100.0, -800.0, 100.0, 800.0, limits.min, limits.max]
    x = np.array([*values, -math.inf, math.inf], dtype)
    found = tg.tensor(x, device=device).sigmoid().cpu().numpy()
    assert found.dtype == dtype
    negative = np.exp(-np.abs(x.astype(np.float64)))
    exact = np.where(x < 0, negative, 1) / (1 + negative)
    least = limits.smallest_subnormal if dtype == "float16" else limits.smallest_normal
    np.testing.assert_allclose(found.astype(np.float64), exact, rtol=4 * float(limits.eps), atol=float(least))
    assert tg.tensor([limits.min], device=device).silu().tolist() == [0.0]


def test_logsumexp_of_extremes(device: str) -> None:
    x = tg.tensor([[-1e4, 1e4], [1e4, 1e4], [-1e4, -1e4]], device=device, requires_grad=True)
    result = tg.logsumexp(x, 1)
    (g,) = tg.grad(result.sum(), x)
    np.testing.assert_allclose(result.detach().cpu().numpy(), [1e4, 1e4 + math.log(2), -1e4 + math.log(2)])
    np.testing.assert_allclose(g.cpu().numpy(), [[0, 1], [0.5, 0.5], [0.5, 0.5]])


def test_logsumexp_of_nothing_and_of_minus_infinities(device: str) -> None:
    x = tg.tensor([[-math.inf, -math.inf], [0.0, -math.inf]], device=device, requires_grad=True)
    result = tg.logsumexp(x, 1)
    (g,) = tg.grad(result.sum(), x)
    assert result.tolist() == [-math.inf, 0.0]
    assert g.tolist() == [[0.0, 0.0], [1.0, 0.0]]
    empty = tg.zeros(2, 0, device=device, requires_grad=True)
    assert tg.logsumexp(empty, 1).tolist() == [-math.inf] * 2
    (g,) = tg.grad(tg.logsumexp(empty, 1), empty, tg.ones(2, device=device))
    assert g.shape == (2, 0)


# -- derivatives at places where there is a choice ---------------------------------------------------------------------

AT_ZERO = {
    tg.abs: 0.0,
    tg.relu: 0.0,
    tg.leaky_relu: 0.01,
    tg.elu: 1.0,
    tg.sign: 0.0,
    tg.norm: 0.0,
    tg.square: 0.0,
    tg.prod: 1.0,
}


@pytest.mark.parametrize("function", AT_ZERO, ids=lambda function: function.__name__)
def test_derivative_at_zero(function: Any, device: str) -> None:
    x = tg.tensor(0.0, device=device, requires_grad=True)
    (g,) = tg.grad(function(x), x)
    assert g.item() == pytest.approx(AT_ZERO[function])


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3])
def test_norms_derivative_is_zero_at_a_zero_element(p: float, device: str) -> None:
    x = tg.tensor([0.0, 2.0], device=device, requires_grad=True)
    assert tg.grad(x.norm(p), x)[0].tolist() == [0.0, pytest.approx(1)]
    x = tg.zeros(2, device=device, requires_grad=True)
    assert tg.grad(x.norm(p), x)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("function", [tg.amax, tg.amin])
def test_ties_share_the_gradient_of_an_extreme(function: Any, device: str) -> None:
    x = tg.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], device=device, requires_grad=True)
    (g,) = tg.grad(function(x, 1).sum(), x)
    assert g.tolist() == [pytest.approx([1 / 3] * 3)] * 2
    (g,) = tg.grad(function(x), x)
    assert math.fsum(map(math.fsum, g.tolist())) == pytest.approx(1)


@pytest.mark.parametrize("function", [tg.max, tg.min])
def test_nan_is_the_extreme_and_takes_the_gradient(function: Any, device: str) -> None:
    x = tg.tensor([1.0, math.nan, 3.0], device=device, requires_grad=True)
    result = function(x)
    (g,) = tg.grad(result, x)
    assert math.isnan(result.item())
    assert g.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("function", [tg.maximum, tg.minimum])
def test_equal_inputs_share_the_gradient(function: Any, device: str) -> None:
    x = tg.tensor([1.0, 2.0], device=device, requires_grad=True)
    y = tg.tensor([1.0, 2.0], device=device, requires_grad=True)
    for g in tg.grad(function(x, y).sum(), [x, y]):
        assert g.tolist() == [0.5, 0.5]


@given(st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0]), min_size=1, max_size=5))
def test_prod_is_differentiated_twice_where_elements_are_zero(values: list[float]) -> None:
    x = tg.tensor(values, dtype="float64", requires_grad=True)
    (first,) = tg.grad(x.prod(), x, create_graph=True)
    expected = [math.prod(values[:k] + values[k + 1 :]) for k in range(len(values))]
    np.testing.assert_allclose(first.detach().numpy(), expected)
    for k in range(len(values)):
        (second,) = tg.grad(first[k], x, retain_graph=True)
        rows = [
            0.0 if j == k else math.prod(value for m, value in enumerate(values) if m not in (j, k))
            for j in range(len(values))
        ]
        np.testing.assert_allclose(second.numpy(), rows)


def test_powers_at_zero(device: str) -> None:
    x = tg.tensor(0.0, device=device, requires_grad=True)
    for exponent, slope in {0: 0.0, 1: 1.0, 2: 0.0, 1.5: 0.0}.items():
        (g,) = tg.grad(x**exponent, x)
        assert g.item() == slope
    y = tg.tensor(2.0, device=device, requires_grad=True)
    assert [g.item() for g in tg.grad(x**y, [x, y])] == [0.0, 0.0]


def test_hardsigmoid_is_flat_from_its_bounds_on(device: str) -> None:
    x = tg.tensor([-3.0, -2.9, 2.9, 3.0], device=device, requires_grad=True)
    tg.hardsigmoid(x).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.cpu().numpy(), [0, 1 / 6, 1 / 6, 0], 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_to_num_takes_the_limits_of_the_dtype(dtype: str, device: str) -> None:
    info = np.finfo(dtype)
    x = tg.tensor([math.inf, -math.inf, math.nan, 2.0], dtype=dtype, device=device)
    assert tg.nan_to_num(x).tolist() == [info.max, info.min, 0, 2]
    assert tg.nan_to_num(x, 1.0, neginf=-3.0).tolist() == [info.max, -3, 1, 2]
    assert tg.nan_to_num(tg.tensor([3], device=device)).tolist() == [3]


def test_close_values(device: str) -> None:
    x = tg.tensor([1.0, 1e-9, math.inf, math.inf, math.nan, 100.0], device=device)
    y = tg.tensor([1.000005, 0.0, math.inf, 1.0, math.nan, 101.0], device=device)
    assert tg.isinf(-x).tolist() == [False, False, True, True, False, False]
    assert tg.isclose(x, y).tolist() == [True, True, True, False, False, False]
    assert tg.isclose(x, y, rtol=0.1, equal_nan=True).tolist() == [True, True, True, False, True, True]
    assert tg.isclose(tg.tensor([2**53 + 1, 3], device=device), 3, rtol=0, atol=0).tolist() == [False, True]
    assert tg.allclose(x[:3], y[:3]) is True
    assert x.allclose(y) is False
    assert tg.allclose(x[:1], 1.0)


def test_halves_and_weights_that_are_not_there(device: str) -> None:
    with pytest.raises(ValueError, match=r"^glu: dim -1 of shape \(2, 3\) has no two halves"):
        tg.glu(tg.ones(2, 3, device=device))
    with pytest.raises(ValueError, match=r"^prelu: weight has shape \(2,\); expected one, or one for each channel"):
        tg.prelu(tg.ones(2, 3, device=device), tg.ones(2, device=device))
    x = tg.tensor([[[-1.0], [2.0]], [[-3.0], [-4.0]]], device=device)
    assert tg.prelu(x, tg.tensor([0.5, 0.25], device=device)).tolist() == [[[-0.5], [2.0]], [[-1.5], [-1.0]]]
