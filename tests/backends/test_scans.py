"""Scans in C, orders of keys with their indices, searches in order: of large arrays, they compute what NumPy does."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg

HostArray = np.ndarray[Any, Any]
Shape = tuple[int, ...]
LARGE = 4096  # elements: smaller arrays are left to NumPy's own functions

large_shapes = st.lists(st.integers(1, 40), min_size=1, max_size=3).map(
    lambda shape: (*shape[:1], -(-LARGE // math.prod(shape)), *shape[1:])
)
SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, shape: Shape, special: bool) -> HostArray:
    """Numbers of which some are equal, and if special some NaN, infinite or a zero of either sign."""
    rng = np.random.default_rng(seed)
    x = np.where(rng.random(shape) < 0.5, np.round(rng.standard_normal(shape)), rng.standard_normal(shape))
    unusual = rng.choice([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0], shape)
    return np.where(rng.random(shape) < 0.01 * special, unusual, x)


def with_gradient(name: str, x: HostArray, dim: int, weights: HostArray) -> list[HostArray]:
    leaf = tg.tensor(x, requires_grad=True)
    made = getattr(tg, name)(leaf, dim)
    value, *index = made if isinstance(made, tuple) else (made,)
    (g,) = tg.grad(value, leaf, weights)
    return [part.detach().numpy() for part in (value, g, *index)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"])
@given(large_shapes, SEEDS, st.data())
def test_scans_in_c(name: str, dtype: str, shape: Shape, seed: int, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = drawn(seed, shape, special=name.startswith("cumm")).astype(dtype)
    weights = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    if data.draw(st.booleans()):  # strides that are not those of contiguous memory
        x, weights = (np.asfortranarray(array) for array in (x, weights))
    found = with_gradient(name, x, dim, weights)
    with tg.compiled_kernels(False):
        expected = with_gradient(name, x, dim, weights)
    for mine, plain in zip(found, expected, strict=True):
        assert mine.dtype == plain.dtype
        scale = float(np.abs(plain[np.isfinite(plain)]).max(initial=1))
        np.testing.assert_allclose(mine, plain, 1e-4, 1e-5 * scale)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int32", "uint32", "int64", "bool"])
@given(large_shapes, SEEDS, st.data())
def test_orders_of_large_arrays(dtype: str, shape: Shape, seed: int, data: st.DataObject) -> None:
    dim = data.draw(st.integers(0, len(shape) - 1))
    x = drawn(seed, shape, special=dtype.startswith("float"))
    if not dtype.startswith("float"):
        x = np.abs(x) * data.draw(st.sampled_from([1, 100]))
        x = x * 2.0**40 if dtype == "int64" and data.draw(st.booleans()) else x  # too large for keys of 32 bits
    x = x.astype(dtype)
    order = np.argsort(x, dim, kind="stable")
    from_end = x.shape[dim] - 1 - np.flip(np.argsort(np.flip(x, dim), dim, kind="stable"), dim)
    k = data.draw(st.integers(0, shape[dim]))
    for tensor in (tg.tensor(x), tg.tensor(np.asfortranarray(x))):
        np.testing.assert_array_equal(tg.argsort(tensor, dim).numpy(), order)
        np.testing.assert_array_equal(tg.argsort(tensor, dim, descending=True).numpy(), from_end)
        indices = tg.topk(tensor, k, dim, largest=False).indices.numpy()
        np.testing.assert_array_equal(indices, np.take(order, range(k), dim))


@pytest.mark.parametrize("right", [False, True])
@given(large_shapes, SEEDS)
def test_many_values_are_searched_in_order(right: bool, shape: Shape, seed: int) -> None:
    values = drawn(seed, shape, special=True).astype(np.float32)
    sequence = np.sort(drawn(seed + 1, (9,), special=False)).astype(np.float32)
    expected = np.searchsorted(sequence, values, "right" if right else "left")
    np.testing.assert_array_equal(tg.searchsorted(sequence, values, right=right).numpy(), expected)


def test_results_do_not_depend_on_the_number_of_threads(threads: Callable[[int], None]) -> None:
    x = drawn(0, (70, 1200, 3), special=False).astype(np.float32)  # large enough for three threads
    found = []
    for number in (1, 2, 3):
        threads(number)
        found.append([with_gradient(name, x, dim, x) for name in ("cumsum", "cumprod", "cummax") for dim in range(3)])
    for others in found[1:]:
        for mine, one in zip(others, found[0], strict=True):
            for part, other in zip(mine, one, strict=True):
                np.testing.assert_array_equal(part, other)
