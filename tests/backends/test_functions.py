"""The NumPy backend's own `where`, `floor_divide`, `remainder` and `logaddexp`: results as NumPy's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lstm.backends import numpy_functions

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3e38, -3e38, 7.0, 0.1, -0.3, 2.0**29]
DTYPES = st.sampled_from([np.float16, np.float32, np.float64])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """Two arrays of a dtype, or an array and a number: from few and from many elements, with special values or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from([(), (0,), (3,), (2, 3000), (5000,)]))
    dtype = draw(DTYPES)
    drawn: list[Callable[[], Any]] = [
        lambda: rng.choice(np.array(SPECIAL), shape),
        lambda: rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 4),
        lambda: np.rint(rng.standard_normal(shape) * 5),
    ]
    with np.errstate(over="ignore"):
        x, y = (np.asarray(draw(st.sampled_from(drawn))(), dtype) for _ in range(2))
    other = draw(st.sampled_from(["array", "number", "row", "transposed"]))
    if other == "number":
        return x, draw(st.sampled_from([0, 1, 0.0, -0.0, 0.7, -2.5, float("nan")]))
    if other == "row" and y.size:
        return x, y[..., :1] if y.ndim else y
    return (x.T, y.T) if other == "transposed" else (x, y)


@given(pairs(), st.integers(0, 2**32 - 1), st.booleans())
def test_where_chooses_bits(pair: tuple[Any, Any], seed: int, swapped: bool) -> None:
    x, y = reversed(pair) if swapped else pair
    condition = np.random.default_rng(seed).random(np.broadcast_shapes(np.shape(x), np.shape(y))) < 0.4
    chosen, expected = numpy_functions.where(condition, x, y), np.where(condition, x, y)
    assert chosen.dtype == expected.dtype and chosen.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["floor_divide", "remainder"])
@given(pairs(), st.booleans())
def test_divisions_with_a_remainder_are_exact(name: str, pair: tuple[Any, Any], swapped: bool) -> None:
    x, y = reversed(pair) if swapped else pair
    with np.errstate(all="ignore"):
        divided, expected = getattr(numpy_functions, name)(x, y), getattr(np, name)(x, y)
    np.testing.assert_array_equal(divided, expected)
    assert divided.dtype == expected.dtype
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(divided)[known], np.signbit(expected)[known])


@given(pairs())
def test_logaddexp_has_the_last_digits(pair: tuple[Any, Any]) -> None:
    with np.errstate(all="ignore"):
        found, expected = numpy_functions.logaddexp(*pair), np.logaddexp(*pair)
    assert found.dtype == expected.dtype
    digits = 4 * np.finfo(expected.dtype).eps
    np.testing.assert_allclose(found, expected, rtol=digits, atol=digits)
