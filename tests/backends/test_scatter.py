"""The NumPy backend's scattered sums."""

import numpy as np
import pytest

from tinygrad_lstm.backends.numpy_backend import NumpyBackend


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64", "int64"])
def test_scatter_add_takes_indices_of_every_integer_type(dtype: str) -> None:
    target = np.zeros((300, 2))
    NumpyBackend().scatter_add(target, np.array([100, 3, 100], dtype), np.ones((3, 2)))
    expected = np.zeros((300, 2))
    expected[100], expected[3] = 2, 1
    np.testing.assert_array_equal(target, expected)
