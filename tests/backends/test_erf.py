"""The CPU's error function: Python's own, of whole arrays at once."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinygrad_lstm.backends.numpy_backend import NumpyBackend

erf = NumpyBackend().erf


@given(x=st.floats(-8, 8) | st.floats(allow_nan=False))
@example(x=0.5 / 256)
@example(x=-1.5 / 256)
@example(x=6.0)
def test_erf_is_pythons_to_its_rounding(x: float) -> None:
    expected = math.erf(x)
    found = erf(np.array([x]))[0]
    assert abs(found - expected) <= 2 * math.ulp(expected)
    assert math.copysign(1, found) == math.copysign(1, x)


def test_erf_of_a_million_numbers() -> None:
    x = np.random.default_rng(0).normal(size=(1000, 1000)) * 2
    expected = np.array([math.erf(value) for value in x.ravel().tolist()]).reshape(x.shape)
    np.testing.assert_array_max_ulp(erf(x), expected, maxulp=2)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_erf_keeps_shapes_and_dtypes(dtype: str) -> None:
    for shape in ((), (0, 3), (2, 3)):
        found = erf(np.full(shape, 0.5, dtype))
        assert isinstance(found, np.ndarray) and found.shape == shape and found.dtype == dtype
    special = erf(np.array([math.nan, math.inf, -math.inf, -0.0], dtype))
    assert math.isnan(special[0])
    assert special[1:].tolist() == [1.0, -1.0, 0.0] and math.copysign(1, special[3]) == -1
