"""The NumPy backend's scattered sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.backends.numpy_backend import NumpyBackend


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64", "int64"])
def test_scatter_add_takes_indices_of_every_integer_type(dtype: str, kernels: bool) -> None:
    target = np.zeros((300, 2))
    with tg.compiled_kernels(kernels):
        NumpyBackend().scatter_add(target, np.array([100, 3, 100], dtype), np.ones((3, 2)))
    expected = np.zeros((300, 2))
    expected[100], expected[3] = 2, 1
    np.testing.assert_array_equal(target, expected)


@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(1, 12),
    indices=st.sampled_from([(0,), (1,), (40,), (5, 8)]),
    row=st.sampled_from([(), (1,), (19,), (3, 2)]),
    dtype=st.sampled_from(["float16", "float32", "float64", "int64"]),
    strided=st.booleans(),
)
def test_scatter_add_is_numpys(
    kernels: bool,
    seed: int,
    length: int,
    indices: tuple[int, ...],
    row: tuple[int, ...],
    dtype: str,
    strided: bool,
) -> None:
    rng = np.random.default_rng(seed)
    index = rng.integers(-length, length, size=indices)
    # Small integers, of which sums are exact in any order.
    values = rng.integers(-9, 10, size=(*indices, *row)).astype(dtype)
    whole = rng.integers(-9, 10, size=(2 * length, *row)).astype(dtype)
    expected = whole.copy()
    target, expected_target = (whole[::2], expected[::2]) if strided else (whole[:length], expected[:length])
    np.add.at(expected_target, index, values)
    with tg.compiled_kernels(kernels):
        NumpyBackend().scatter_add(target, index, values)
    np.testing.assert_array_equal(whole, expected)


@pytest.mark.parametrize("wrong", [3, -4])
def test_scatter_add_refuses_indices_out_of_range(wrong: int, kernels: bool) -> None:
    target = np.zeros((3, 2))
    with tg.compiled_kernels(kernels), pytest.raises(IndexError, match=rf"index {wrong} is out of"):
        NumpyBackend().scatter_add(target, np.array([1, wrong]), np.ones((2, 2)))
    assert not target.any()
