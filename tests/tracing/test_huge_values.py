"""Gradients of steps with huge and tiny factors: finite wherever those of the step's own ops are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent

HUGE = st.sampled_from((-1e38, -1e20, -2.0, 0.0, 1e-8, 0.5, 3.0, 1e15, 1e30))
FACTORS = {
    "a": lambda a, b, x, h: a,
    "b": lambda a, b, x, h: b,
    "square": lambda a, b, x, h: b * b,
    "gate": lambda a, b, x, h: tg.sigmoid(x),
    "tanh": lambda a, b, x, h: tg.tanh(h),
    "rest": lambda a, b, x, h: 1 - tg.sigmoid(h),
    "exp": lambda a, b, x, h: tg.exp(20 * x),
    "state": lambda a, b, x, h: h,
}


@settings(max_examples=150)
@given(
    factors=st.lists(st.sampled_from(sorted(FACTORS)), min_size=2, max_size=5),
    huge=st.tuples(HUGE, HUGE),
    gates=st.tuples(st.floats(-4, 4, width=32), st.floats(-4, 4, width=32)),
    gradient=HUGE | st.just(1e-30),
)
def test_gradients_are_finite_where_those_of_the_ops_are(
    factors: list[str], huge: tuple[float, float], gates: tuple[float, float], gradient: float
) -> None:
    class Cell(tg.nn.Module):
        def forward(self, x: tg.Tensor, h: tg.Tensor) -> Any:
            parts = (*tg.split(x, 1, 1), h)
            product: Any = FACTORS[factors[0]](*parts)
            for name in factors[1:]:
                product = FACTORS[name](*parts) * product
            return product + 0 * parts[0] + 0 * h

    x = tg.tensor(np.float32([[[*huge, gates[0]]]]), requires_grad=True)
    h = tg.tensor(np.float32([[gates[1]]]), requires_grad=True)
    found = []
    with tg.compiled_kernels(False), np.errstate(all="ignore"):
        for compiled in (True, False):
            out, _ = Recurrent(Cell(), compiled=compiled)(x, h)
            found.append([each.numpy() for each in tg.grad(out, [x, h], tg.full((1, 1, 1), gradient))])
    for actual, expected in zip(*found, strict=True):
        finite = np.isfinite(expected)
        np.testing.assert_allclose(actual[finite], expected[finite], rtol=1e-5, atol=1e-36)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_small_factors_keep_their_digits(dtype: str, kernels: bool) -> None:
    """A large gradient times products of gates that are almost closed."""

    class Cell(tg.nn.Module):
        def forward(self, x: tg.Tensor, h: tg.Tensor) -> Any:
            return tg.sigmoid(x) * tg.sigmoid(x - 1) * tg.sigmoid(x - 2) * h

    x = tg.full((1, 1, 1), -6.0, dtype=dtype, requires_grad=True)
    h = tg.full((1, 1), 3.0, dtype=dtype, requires_grad=True)
    found = []
    with tg.compiled_kernels(kernels):
        for compiled in (True, False):
            out, _ = Recurrent(Cell(), compiled=compiled)(x, h)
            found.append([each.numpy() for each in tg.grad(out, [x, h], tg.full((1, 1, 1), 2000.0, dtype=dtype))])
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=5e-3 if dtype == "float16" else 1e-5)
