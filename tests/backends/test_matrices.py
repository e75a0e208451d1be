"""Products of matrices by compiled kernels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled import matrices
from tinygrad_lstm.backends.compiled.building import why_not
from tinygrad_lstm.backends.numpy_backend import NumpyBackend

Matmul = Callable[[np.ndarray, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def matmul() -> Matmul:
    if why_not() is not None:
        pytest.skip("there is no C compiler")
    return matrices.matmul


ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "every other": lambda array: np.repeat(array, 2, axis=1)[:, ::2],
}


def factors(M: int, K: int, N: int, dtype: str, orders: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((M, K)).astype(dtype), rng.standard_normal((K, N)).astype(dtype)
    return ORDERS[orders[0]](x), ORDERS[orders[1]](y)


@settings(deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70)),
    dtype=st.sampled_from(["float32", "float64"]),
    orders=st.tuples(st.sampled_from(list(ORDERS)), st.sampled_from(list(ORDERS))),
)
def test_they_are_numpys(matmul: Matmul, sizes: tuple[int, int, int], dtype: str, orders: tuple[str, str]) -> None:
    x, y = factors(*sizes, dtype, orders)
    expected = x.astype(np.float64) @ y.astype(np.float64)
    bound = 4 * sizes[1] * np.finfo(dtype).eps * (np.abs(x).astype(np.float64) @ np.abs(y).astype(np.float64))
    result = matmul(x, y)
    assert result.dtype == dtype and result.shape == expected.shape
    assert (np.abs(result - expected) <= bound).all()


@pytest.mark.parametrize("sizes", [(300, 129, 65), (65, 2500, 128), (3, 2100, 700), (700, 3, 900)])
@pytest.mark.parametrize("orders", [("rows", "rows"), ("columns", "rows"), ("rows", "columns")])
def test_results_do_not_depend_on_the_number_of_threads(
    matmul: Matmul, sizes: tuple[int, int, int], orders: tuple[str, str], threads: Callable[[int], None]
) -> None:
    x, y = factors(*sizes, "float32", orders)
    threads(1)
    alone = matmul(x, y)
    np.testing.assert_allclose(alone, x @ y, rtol=1e-4, atol=1e-3)
    for number in (2, 3):
        threads(number)
        assert (matmul(x, y) == alone).all()


@settings(deadline=None)
@given(
    stack=st.sampled_from([(1,), (3,), (2, 3)]),
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70)),
    dtype=st.sampled_from(["float32", "float64"]),
    orders=st.tuples(st.permutations(range(4)), st.permutations(range(4))),
    number=st.integers(1, 4),
)
def test_stacks_are_numpys(
    matmul: Matmul, stack: tuple[int, ...], sizes: tuple[int, int, int], dtype: str, orders: Any, number: int
) -> None:
    """In any order of the dimensions in memory, and with fewer or more matrices than threads."""
    rng, (M, K, N) = np.random.default_rng(0), sizes
    arrays = []
    for shape, order in zip(((*stack, M, K), (*stack, K, N)), orders):
        order = [d for d in order if d < len(shape)]
        array = rng.standard_normal([shape[d] for d in order]).astype(dtype)
        arrays.append(array.transpose(np.argsort(order)))
    before = tg.get_num_threads()
    tg.set_num_threads(number)
    try:
        result = matrices.matmul_stack(*arrays)
    finally:
        tg.set_num_threads(before)
    np.testing.assert_allclose(result, np.matmul(*arrays), rtol=1e-4, atol=1e-4)
    for k in np.ndindex(stack):
        np.testing.assert_array_equal(result[k], matmul(arrays[0][k], arrays[1][k]))


@pytest.mark.parametrize("number", [2, 9])
def test_threads_share_a_stack(matmul: Matmul, number: int, threads: Callable[[int], None]) -> None:
    x, y = (np.random.default_rng(k).standard_normal((number, 130, 130)).astype(np.float32) for k in range(2))
    found = []
    for used in (1, 2, 4):
        threads(used)
        found.append(NumpyBackend().matmul(x, y))
        np.testing.assert_array_equal(found[0], found[-1])
    np.testing.assert_allclose(found[0], x @ y, rtol=1e-4, atol=1e-3)


def test_a_field_of_records(matmul: Matmul) -> None:
    """Its strides are not multiples of the element size."""
    records = np.zeros((40, 50), [("value", np.float32), ("more", np.uint8)])
    records["value"] = np.random.default_rng(2).standard_normal((40, 50))
    y = np.random.default_rng(3).standard_normal((50, 60)).astype(np.float32)
    np.testing.assert_allclose(matmul(records["value"], y), records["value"].copy() @ y, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(matmul(y.T, records["value"].T), (records["value"] @ y).T, rtol=1e-4, atol=1e-4)


def test_other_strides(matmul: Matmul) -> None:
    """Reversed, broadcast and unaligned matrices."""
    x = np.random.default_rng(4).standard_normal((33, 35)).astype(np.float32)
    bytes_ = np.empty(x.nbytes + 1, np.uint8)
    unaligned = bytes_[1:].view(np.float32).reshape(x.shape)
    unaligned[...] = x
    for matrix in (x[::-1], x[:, ::-1], x[::-1, ::-1], np.broadcast_to(x[0], x.shape), unaligned, unaligned[:, :1]):
        for a, b in ((matrix, matrix.T), (matrix.T, matrix)):
            np.testing.assert_allclose(matmul(a, b), np.matmul(a, b), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(why_not() is not None, reason="there is no C compiler")
def test_large_products_of_tensors(threads: Callable[[int], None]) -> None:
    """Values and gradients of `linear`, to the bit whatever the number of threads; and as without compiled kernels."""
    found = []
    for number, compiled in ((1, True), (3, True), (1, False)):
        threads(number)
        rng = np.random.default_rng(1)
        x, weight, bias = (
            tg.tensor(rng.standard_normal(shape), requires_grad=True) for shape in [(300, 4, 128), (65, 128), (65,)]
        )
        with tg.compiled_kernels(compiled):
            out = tg.linear(x, weight, bias)
            found.append([part.detach().numpy() for part in (out, *tg.grad(out.square().sum(), [x, weight, bias]))])
    for alone, shared, plain in zip(*found):
        assert (alone == shared).all()
        np.testing.assert_allclose(alone, plain, rtol=1e-9, atol=1e-9)
