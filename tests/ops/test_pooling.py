"""Pools: derivatives, devices, modules, and errors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import nn

X = np.random.default_rng(0).permutation(2 * 2 * 5 * 6).reshape(2, 2, 5, 6) / 16

POOLS: dict[str, tuple[Callable[..., Any], nn.Module]] = {
    "max_pool1d": (lambda x: tg.max_pool1d(x[0], 3, 2, 1, ceil_mode=True), nn.MaxPool1d(3, 2, 1, ceil_mode=True)),
    "max_pool2d": (lambda x: tg.max_pool2d(x, (2, 3), 1, 1, (2, 1)), nn.MaxPool2d((2, 3), 1, 1, (2, 1))),
    "avg_pool1d": (lambda x: tg.avg_pool1d(x[0], 3, 2, 1, True, False), nn.AvgPool1d(3, 2, 1, True, False)),
    "avg_pool2d": (lambda x: tg.avg_pool2d(x, 2, 1, (1, 0)), nn.AvgPool2d(2, 1, (1, 0))),
    "adaptive_avg_pool1d": (lambda x: tg.adaptive_avg_pool1d(x[0], 4), nn.AdaptiveAvgPool1d(4)),
    "adaptive_avg_pool2d": (lambda x: tg.adaptive_avg_pool2d(x, (3, None)), nn.AdaptiveAvgPool2d((3, None))),
    "adaptive_max_pool1d": (lambda x: tg.adaptive_max_pool1d(x[0], 4), nn.AdaptiveMaxPool1d(4)),
    "adaptive_max_pool2d": (lambda x: tg.adaptive_max_pool2d(x, (3, 4)), nn.AdaptiveMaxPool2d((3, 4))),
}


@pytest.mark.parametrize("name", POOLS)
def test_derivatives_and_modules(name: str, device: str) -> None:
    function, module = POOLS[name]
    x = tg.tensor(X[:1], device=device, requires_grad=True)
    assert tg.gradcheck(lambda x: function(x) ** 2, [x], atol=1e-6, rtol=1e-5)
    assert tg.gradgradcheck(lambda x: function(x) ** 2, [x], atol=1e-6, rtol=1e-5)
    assert module(x[0] if name.endswith("1d") else x).tolist() == function(x).tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", POOLS)
def test_the_dtype_is_kept(name: str, dtype: str, device: str) -> None:
    x = tg.tensor(X, device=device)
    out = POOLS[name][0](x.astype(dtype))
    assert out.dtype == np.dtype(dtype)
    np.testing.assert_allclose(out.cpu().numpy(), POOLS[name][0](x).cpu().numpy(), rtol=2e-3)


def test_the_first_of_equal_elements_has_the_gradient(device: str) -> None:
    x = tg.ones(1, 4, device=device, requires_grad=True)
    out, places = tg.max_pool1d(x, 2, return_indices=True)
    out.sum().backward()
    assert places.tolist() == [[0, 2]] and x.grad is not None and x.grad.tolist() == [[1.0, 0.0, 1.0, 0.0]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_and_infinities_stay_in_their_windows(dtype: str, device: str) -> None:
    row = [-np.inf, -np.inf, np.nan, 1.0, 2.0, np.inf]
    x = tg.tensor([row], dtype=dtype, device=device, requires_grad=True)
    maxima, means = np.array([[-np.inf, np.nan, np.inf]]), np.array([[-np.inf, np.nan, np.inf]])
    first, halves = [[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]], [[0.5] * 6]
    flat = lambda pool: lambda x: pool(x.reshape(1, 1, 6), (1, 2))[:, 0]  # noqa: E731
    for pool, values, slopes in (
        (lambda x: tg.max_pool1d(x, 2), maxima, first),
        (lambda x: tg.avg_pool1d(x, 2), means, halves),
        (lambda x: tg.adaptive_max_pool1d(x, 3), maxima, first),
        (lambda x: tg.adaptive_avg_pool1d(x, 3), means, halves),
        (flat(tg.max_pool2d), maxima, first),
        (flat(tg.avg_pool2d), means, halves),
        (lambda x: tg.adaptive_max_pool2d(x.reshape(1, 1, 6), (1, 3))[:, 0], maxima, first),
        (lambda x: tg.adaptive_avg_pool2d(x.reshape(1, 1, 6), (1, 3))[:, 0], means, halves),
    ):
        out = pool(x)
        np.testing.assert_array_equal(out.detach().cpu().numpy(), values.astype(dtype))
        assert tg.grad(out.sum(), x)[0].tolist() == slopes


def test_windows_of_padding_keep_the_lowest_numbers(device: str) -> None:
    """Padding is below each number, but is never chosen."""
    x = tg.tensor([[-np.inf, -np.inf, -np.inf]], device=device)
    assert tg.max_pool1d(x, 2, 1, 1, return_indices=True)[1].tolist() == [[0, 0, 1, 2]]
    lowest = tg.tensor([[np.iinfo(np.int32).min] * 2], dtype="int32", device=device)
    out, places = tg.max_pool1d(lowest, 2, 1, 1, return_indices=True)
    assert out.dtype == np.int32 and out.tolist() == [[np.iinfo(np.int32).min] * 3] and places.tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tg.max_pool1d(tg.ones(3), 2), r"max_pool1d: x of shape \(3,\); expected"),
        (lambda: tg.max_pool1d(tg.ones(1, 3), 4), "a window over 4 elements does not fit into 3 elements"),
        (lambda: tg.avg_pool1d(tg.ones(1, 3), 2, padding=2), "padding is 2; expected at most half"),
        (lambda: tg.max_pool1d(tg.ones(1, 1), 2, padding=1, dilation=2), "has only padding"),
        (lambda: tg.avg_pool2d(tg.ones(1, 2, 2), 2, divisor_override=0), "divisor_override is 0"),
        (lambda: tg.adaptive_avg_pool1d(tg.ones(1, 3), 0), "output_size is 0"),
    ],
)
def test_invalid_arguments_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dims", [1, 2])
def test_large_windows_have_the_maxima_of_small_ones(dims: int, device: str) -> None:
    """A few large windows are computed one by one, in a different way from small ones."""
    values = np.random.default_rng(1).integers(-9, 9, (2, 3, *(96,) * dims)) / 4
    x = tg.tensor(values, device=device, requires_grad=True)
    pool = tg.max_pool1d if dims == 1 else tg.max_pool2d
    out, places = pool(x, 32, return_indices=True)
    small = pool(pool(x, 4), 8)
    assert out.tolist() == small.tolist()
    flat = values.reshape(2, 3, -1)
    taken = np.take_along_axis(flat, places.cpu().numpy().reshape(2, 3, -1), -1)
    assert taken.reshape(out.shape).tolist() == out.tolist()
    (gradient,) = tg.grad(out.sum(), x)
    expected = np.zeros_like(flat)
    np.put_along_axis(expected, places.cpu().numpy().reshape(2, 3, -1), 1, -1)
    assert gradient.tolist() == expected.reshape(values.shape).tolist()
