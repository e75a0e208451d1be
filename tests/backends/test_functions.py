"""The elementary functions of compiled code, to the last bits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed: there are no compiled kernels")

from tinygrad_lstm.backends.compiled.functions import exp, sigmoid, tanh
from tinygrad_lstm.backends.compiled.jit import jit


@jit
def all_exp(x: Any, out: Any) -> None:
    for k in range(len(x)):
        out[k] = exp(x[k])


@jit
def all_sigmoid(x: Any, out: Any) -> None:
    for k in range(len(x)):
        out[k] = sigmoid(x[k])


@jit
def all_tanh(x: Any, out: Any) -> None:
    for k in range(len(x)):
        out[k] = tanh(x[k])


def true_sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


FUNCTIONS: dict[str, tuple[Callable[..., None], Callable[[np.ndarray], np.ndarray], float]] = {
    # the function, its true values, how many units in the last place it may be off
    "exp": (all_exp, np.exp, 2),
    "sigmoid": (all_sigmoid, true_sigmoid, 3),
    "tanh": (all_tanh, np.tanh, 3),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_right_to_the_last_bits(name: str, dtype: str) -> None:
    function, true, units = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-scale, scale, 20_000) for scale in (1e-6, 0.1, 1, 10, 80)]).astype(dtype)
    x = -np.abs(x) if name == "exp" else x
    out = np.empty_like(x)
    function(x, out)
    expected = true(x.astype(np.longdouble))
    off = np.abs(out - expected) / np.spacing(np.abs(expected).astype(dtype))
    assert off.max() <= units


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_out(dtype: str) -> None:
    """Functions saturate at extreme inputs; only a NaN computes a NaN."""
    x = np.array([-np.inf, -1e30, -200, 0, 200, 1e30, np.inf, np.nan], dtype)
    out = np.empty_like(x)
    all_tanh(x, out)
    np.testing.assert_array_equal(out, np.array([-1, -1, -1, 0, 1, 1, 1, np.nan], dtype))
    all_sigmoid(x, out)
    tiny = np.exp(-200.0) if dtype == "float64" else 0
    np.testing.assert_allclose(out, np.array([0, 0, tiny, 0.5, 1, 1, 1, np.nan], dtype), rtol=1e-12, atol=1e-37)
    low = np.array([-np.inf, -1e30, -1e4, 0, np.nan], dtype)
    found = np.empty_like(low)
    all_exp(low, found)
    np.testing.assert_array_equal(found, np.array([0, 0, 0, 1, np.nan], dtype))
