"""Sorting, searching and cumulative ops, where the table of cases does not reach: ties, NaNs, indices, refusals."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops.case import SEEDS, HostArray, Shape, shapes
from strict_backend import STRICT

import tinygrad_lstm as tg

INF, NAN = math.inf, math.nan
DTYPES = ["float16", "float32", "float64", "int64", "int32", "uint8", "bool"]


def with_ties(seed: int, shape: Shape, dtype: str) -> HostArray:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, shape).astype(np.float64)
    unusual = dtype.startswith("float") and bool(rng.integers(2))
    return np.where(rng.random(shape) < 0.3 * unusual, rng.choice([NAN, INF, -INF, -0.0], shape), x).astype(dtype)


PAIRS: dict[str, Callable[[tg.Tensor, int], Any]] = {
    "sort": lambda x, dim: tg.sort(x, dim),
    "sort from the largest": lambda x, dim: tg.sort(x, dim, descending=True),
    "topk": lambda x, dim: tg.topk(x, x.shape[dim] // 2, dim),
    "topk of the smallest": lambda x, dim: tg.topk(x, x.shape[dim], dim, largest=False),
    "median": lambda x, dim: tg.median(x, dim, keepdim=True),
    "nanmedian": lambda x, dim: tg.nanmedian(x, dim, keepdim=True),
    "cummax": lambda x, dim: tg.cummax(x, dim),
    "cummin": lambda x, dim: tg.cummin(x, dim),
}


@pytest.mark.parametrize("name", PAIRS)
@given(shapes(1, 3, 4, 1), SEEDS, st.sampled_from(DTYPES), st.data())
def test_values_are_the_elements_at_the_indices(
    name: str, device: str, shape: Shape, seed: int, dtype: str, data: st.DataObject
) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = with_ties(seed, shape, dtype)
    values, indices = PAIRS[name](tg.tensor(x, device=device), dim)
    assert indices.dtype == np.int64 and values.dtype == dtype and values.device == indices.device == device
    places = indices.cpu().numpy()
    np.testing.assert_array_equal(values.cpu().numpy(), np.take_along_axis(x, places, dim))
    expected = {
        "sort": lambda: np.argsort(x, dim, kind="stable"),
        "topk of the smallest": lambda: np.argsort(x, dim, kind="stable"),
    }
    if name in expected:
        np.testing.assert_array_equal(places, expected[name]())
    elif name.startswith("cumm"):
        function = np.maximum if name == "cummax" else np.minimum
        np.testing.assert_array_equal(values.cpu().numpy(), function.accumulate(x, dim))
    elif name.endswith("median"):
        ordered = np.sort(x, dim)
        numbers = np.sum(x == x, dim, keepdims=True)
        middle = np.maximum(numbers - 1, 0) // 2
        if name == "median":
            middle = np.where(numbers < x.shape[dim], x.shape[dim] - 1, middle)
        np.testing.assert_array_equal(values.cpu().numpy(), np.take_along_axis(ordered, middle, dim))


def test_nan_is_larger_than_all_numbers(device: str) -> None:
    x = tg.tensor([1.0, NAN, INF, -NAN, -INF, 0.0, -0.0], device=device)
    assert tg.argsort(x).tolist() == [4, 5, 6, 0, 2, 1, 3]
    assert tg.argsort(x, descending=True).tolist() == [1, 3, 2, 0, 5, 6, 4]
    assert tg.topk(x, 3).indices.tolist() == [1, 3, 2]
    assert tg.cummax(x, 0).indices.tolist() == [0, 1, 1, 3, 3, 3, 3]
    assert tg.median(x, 0).indices.item() == 1
    assert tg.nanmedian(x, 0).indices.item() == 6
    assert math.isnan(tg.quantile(x, 0.0).item())
    sequence = tg.tensor([1.0, 2.0, NAN], device=device)
    for lead in ((), (1,)):
        places = tg.searchsorted(sequence.reshape(*lead, 3), tg.tensor([3.0, NAN], device=device).reshape(*lead, 2))
        assert places.flatten().tolist() == [2, 2]


def test_equal_elements_share_the_gradient_of_the_median_of_all(device: str) -> None:
    x = tg.tensor([[2.0, 1.0], [2.0, 5.0], [2.0, 9.0]], device=device, requires_grad=True)
    assert tg.grad(tg.median(x), x)[0].tolist() == pytest.approx(np.array([[1, 0]] * 3) / 3)
    (g,) = tg.grad(tg.median(x, 0).values.sum(), x)
    assert g.sum(0).tolist() == [1.0, 1.0] and sorted(g[:, 0].tolist()) == [0.0, 0.0, 1.0]


# -- results whose shapes depend on values -----------------------------------------------------------------------------


@given(shapes(0, 3, 4), SEEDS, st.sampled_from(DTYPES), st.data())
def test_unique(device: str, shape: Shape, seed: int, dtype: str, data: st.DataObject) -> None:
    x = np.nan_to_num(with_ties(seed, shape, dtype))
    dim = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1)) if shape and 0 not in shape else None
    tensor = tg.tensor(x, device=device)
    values, inverse, counts = tg.unique(tensor, return_inverse=True, return_counts=True, dim=dim)
    expected = np.unique(x, return_inverse=True, return_counts=True, axis=dim)
    for mine, other in zip((values, inverse, counts), expected, strict=True):
        assert mine.device == device
        np.testing.assert_array_equal(mine.cpu().numpy().reshape(-1), other.reshape(-1))
    assert inverse.shape == (shape if dim is None else (shape[dim],)) and inverse.dtype == counts.dtype == np.int64
    again = values[inverse] if dim is None else values.index_select(dim, inverse)
    np.testing.assert_array_equal(again.cpu().numpy(), x)
    assert tg.unique(tensor, dim=dim).shape == values.shape
    assert tg.unique(tensor, return_counts=True, dim=dim)[1].tolist() == counts.tolist()


def test_nans_are_different_from_each_other(device: str) -> None:
    x = tg.tensor([NAN, 1.0, NAN, 1.0], device=device)
    values, counts = tg.unique(x, return_counts=True)
    assert str(values.tolist()) == "[1.0, nan, nan]" and counts.tolist() == [2, 1, 1]


@given(shapes(0, 3, 4), SEEDS, st.sampled_from(DTYPES))
def test_nonzero(device: str, shape: Shape, seed: int, dtype: str) -> None:
    x = with_ties(seed, shape, dtype)
    tensor = tg.tensor(x, device=device)
    indices, columns = tg.nonzero(tensor), tg.nonzero(tensor, as_tuple=True)
    assert indices.dtype == np.int64 and indices.device == device
    np.testing.assert_array_equal(indices.cpu().numpy(), np.argwhere(x))
    for mine, other in zip(columns, np.nonzero(np.atleast_1d(x)), strict=True):
        np.testing.assert_array_equal(mine.cpu().numpy(), other)


@pytest.mark.parametrize("function", [tg.unique, tg.nonzero])
def test_an_exported_model_has_no_lengths_that_depend_on_values(tmp_path: Path, function: Any) -> None:
    class Model(tg.nn.Module):
        def forward(self, x: tg.Tensor) -> Any:
            return function(x)

    with pytest.raises(ValueError, match=r"^export_onnx: forward reads an input as Python numbers"):
        tg.io.export_onnx(Model(), tmp_path / "model.onnx", {"x": np.ones(3, np.float32)})


# -- derivatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [[0, 2, 3, -1], [2, 0, 3, 0], [0, 0, 0, 2], [3, 2, 1, 0], [1e-200, 1e200, 3, 0]])
def test_the_derivatives_of_a_cumulative_product_at_zeros(row: list[float], device: str) -> None:
    x = tg.tensor(np.array([row, row[::-1]]), "float64", device, requires_grad=True)
    for dim in (0, 1):
        (g,) = tg.grad(tg.cumprod(x, dim), x, tg.ones_like(x))
        expected = np.zeros((2, 4))
        for lead in np.ndindex(2, 4):
            for end in range(lead[dim], x.shape[dim]):
                others = [k for k in range(end + 1) if k != lead[dim]]
                line = x.detach().cpu().numpy()[lead[0]] if dim else x.detach().cpu().numpy()[:, lead[1]]
                expected[lead] += math.prod(line[k] for k in others)
        np.testing.assert_allclose(g.cpu().numpy(), expected, 1e-14)
        if max(map(abs, row)) < 10:
            assert tg.gradgradcheck(lambda x, dim=dim: tg.cumprod(x, dim), [x])


def test_logcumsumexp_of_minus_infinities(device: str) -> None:
    x = tg.tensor([-INF, -INF, 1.0, -INF, 2.0], device=device, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = tg.logcumsumexp(x, 0)
        (g,) = tg.grad(out[2:].sum(), x)
    np.testing.assert_allclose(out.detach().cpu().numpy(), [-INF, -INF, 1, 1, np.logaddexp(1, 2)], 1e-6)
    share = 1 / (1 + math.e)
    np.testing.assert_allclose(g.cpu().numpy(), [0, 0, 2 + share, 0, 1 - share], 1e-6)


def test_logcumsumexp_far_from_0(device: str) -> None:
    """Its gradient is that of numbers near 0; and a difference that overflows is no loss of gradients."""
    x = np.random.default_rng(0).standard_normal((3, 500))
    weights = np.random.default_rng(1).standard_normal(x.shape)
    leaf = tg.tensor(x.astype(np.float32) + 1024, device=device, requires_grad=True)
    (g,) = tg.grad(tg.logcumsumexp(leaf, 1), leaf, weights.astype(np.float32))
    exact = tg.tensor(leaf.detach().cpu().numpy().astype(np.float64) - 1024, requires_grad=True)
    (expected,) = tg.grad(tg.logcumsumexp(exact, 1), exact, weights)
    np.testing.assert_allclose(g.cpu().numpy(), expected.numpy(), 1e-5, 1e-5)
    largest = float(np.finfo(np.float32).max)
    edge = tg.tensor([-largest, largest], device=device, requires_grad=True)
    assert tg.grad(tg.logcumsumexp(edge, 0), edge, np.ones(2, np.float32))[0].tolist() == [1.0, 1.0]


def test_the_gradient_of_quantiles_in_q(device: str) -> None:
    x = tg.tensor([[3.0, 0.0, 1.0, 7.0]], dtype="float64", device=device, requires_grad=True)
    q = tg.tensor([0.1, 0.55], dtype="float64", device=device, requires_grad=True)
    assert tg.gradcheck(lambda x, q: tg.quantile(x, q, 1), [x, q])
    assert tg.gradgradcheck(lambda x, q: tg.quantile(x, q, 1), [x, q])


def test_interpolations(device: str) -> None:
    x = tg.tensor([0.0, 1.0, 4.0, 9.0, 16.0, 25.0, 36.0], device=device)
    found = {
        name: tg.quantile(x, [0.25, 0.6, 0.75, 1.0], interpolation=name).tolist()
        for name in ("linear", "lower", "higher", "midpoint", "nearest")
    }
    assert found.pop("linear") == pytest.approx([2.5, 13.2, 20.5, 36], rel=1e-6)
    assert found == {
        "lower": [1, 9, 16, 36],
        "higher": [4, 16, 25, 36],
        "midpoint": [2.5, 12.5, 20.5, 36],
        "nearest": [4, 16, 16, 36],
    }


def test_quantiles_of_infinite_elements(device: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = tg.tensor([-INF, -INF, 0.0, 1.0, INF, INF], device=device)
        assert tg.quantile(x, [0.0, 0.1, 0.3, 0.4, 0.7, 0.9, 1.0]).tolist() == [-INF, -INF, -INF, 0, INF, INF, INF]


# -- numbers beside tensors, and where values are read -----------------------------------------------------------------


def test_numbers_are_searched_in_the_dtype_of_the_sequence(device: str) -> None:
    sequence = tg.tensor([0.1, 0.2], dtype="float64", device=device)
    assert tg.searchsorted(sequence, 0.1).item() == 0
    assert tg.searchsorted(sequence, 0.1, right=True).item() == 1
    shuffled, order = sequence.flip(0), tg.tensor([1, 0], device=device)
    assert tg.searchsorted(shuffled, 0.15, sorter=order).item() == 1
    assert tg.bucketize(tg.tensor([0.3, 0.0], device=device), sequence).tolist() == [2, 0]


def test_nothing_is_read_on_the_host() -> None:
    x = tg.tensor(np.random.default_rng(0).standard_normal((3, 5)), device="strict", requires_grad=True)
    q = tg.tensor([0.2, 0.7], dtype="float64", device="strict")
    rows = tg.sort(x.detach()).values
    STRICT.counts.reset()
    made = [tg.sort(x).values, tg.topk(x, 2).values, tg.median(x, 1).values, tg.nanmedian(x), tg.quantile(x, q, 1)]
    made += [tg.cumprod(x, 1), tg.cummax(x, 0).values, tg.logcumsumexp(x, 1), tg.diff(x, 2)]
    tg.searchsorted(rows, x.detach())
    total = sum((out * out).sum() for out in made)
    (g,) = tg.grad(total, x, create_graph=True)
    tg.grad((g * g).sum(), x)
    assert STRICT.counts.device_to_host == STRICT.counts.synchronisations == 0
