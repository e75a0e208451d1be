"""Random integers, permutations, bits and indices: their distributions, by seed, on every device; and errors."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict_backend import STRICT

import tinygrad_lstm as tg

HostArray = np.ndarray[Any, Any]


def on_host(x: tg.Tensor) -> HostArray:
    return np.asarray(x.cpu().numpy())


def assert_drawn_with(probabilities: Any, drawn: HostArray) -> None:
    """Pearson's chi-square is below its 99.99th percentile, by Wilson and Hilferty's approximation."""
    expected = np.asarray(probabilities, np.float64) * drawn.size
    counts = np.bincount(drawn.reshape(-1), minlength=len(expected))
    assert counts.size == expected.size and not counts[expected == 0].any()
    positive = expected > 0
    chi_square = ((counts - expected)[positive] ** 2 / expected[positive]).sum()
    freedom = positive.sum() - 1
    assert chi_square < freedom * (1 - 2 / (9 * freedom) + 3.72 * np.sqrt(2 / (9 * freedom))) ** 3


WEIGHTS = [0.0, 1.0, 5.0, 0.0, 2.0, 0.5, 0.0]
SHARES = np.array(WEIGHTS) / sum(WEIGHTS)


def test_multinomial_with_replacement_has_the_probabilities(device: str) -> None:
    tg.manual_seed(0)
    weights = np.array([WEIGHTS, WEIGHTS[::-1]])
    rows = on_host(tg.multinomial(tg.tensor(weights, device=device), 20_000, replacement=True))
    assert rows.shape == (2, 20_000) and rows.dtype == np.int64
    assert_drawn_with(SHARES, rows[0])
    assert_drawn_with(SHARES[::-1], rows[1])


def test_one_sample_of_many_rows_has_the_probabilities() -> None:
    tg.manual_seed(1)
    drawn = tg.tensor(WEIGHTS).expand(20_000, 7).multinomial(1)
    assert drawn.shape == (20_000, 1)
    assert_drawn_with(SHARES, on_host(drawn))


def test_multinomial_without_replacement_has_the_probabilities() -> None:
    """Of an ordered pair: that of the first, times that of the second among those that are left."""
    tg.manual_seed(2)
    pairs = on_host(tg.multinomial(tg.tensor(WEIGHTS).expand(30_000, 7), 2))
    expected = np.zeros((7, 7))
    for first, second in itertools.permutations(range(7), 2):
        expected[first, second] = SHARES[first] * SHARES[second] / (1 - SHARES[first])
    assert_drawn_with(expected.reshape(-1), pairs[:, 0] * 7 + pairs[:, 1])


@given(st.data())
def test_multinomial_draws_indices_once_and_none_of_weight_zero(device: str, data: st.DataObject) -> None:
    rows, length = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weights = np.exp(rng.uniform(-60, 60, (rows, length))) * (rng.random((rows, length)) < 0.7)
    weights[np.arange(rows), rng.integers(length, size=rows)] = 1.0
    most = int((weights > 0).sum(1).min(initial=length))
    number, replacement = data.draw(st.integers(1, most)), data.draw(st.booleans())
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    drawn = on_host(tg.multinomial(tg.tensor(weights, dtype=dtype, device=device), number, replacement))
    assert drawn.shape == (rows, number)
    assert (np.take_along_axis(weights, drawn, 1) > 0).all()
    if not replacement:
        assert all(len(set(row)) == number for row in drawn.tolist())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_smallest_and_the_largest_weights(dtype: str, device: str) -> None:
    info = np.finfo(dtype)
    for weights in ([info.max] * 3, [info.smallest_subnormal] * 3, [info.smallest_subnormal, 0, 0], [0, info.max, 0]):
        x = tg.tensor(np.array(weights, dtype), device=device)
        drawn = on_host(x.multinomial(100, replacement=True))
        assert (np.array(weights)[drawn] > 0).all()
        number = np.count_nonzero(weights)
        assert sorted(on_host(x.multinomial(number)).tolist()) == np.flatnonzero(weights).tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_bernoulli(dtype: str, device: str) -> None:
    tg.manual_seed(3)
    p = tg.tensor([0.0, 0.25, 0.5, 1.0], dtype=dtype, device=device, requires_grad=True)
    drawn = tg.bernoulli(p.expand(10_000, 4))
    assert drawn.dtype == dtype and drawn.device == device and not drawn.requires_grad
    bits = on_host(drawn).astype(np.int64)
    for column, probability in zip(bits.T, (0.0, 0.25, 0.5, 1.0), strict=True):
        assert set(column.tolist()) <= {0, 1}
        assert abs(column.mean() - probability) <= 4 * np.sqrt(probability * (1 - probability) / 10_000)
    assert tg.bernoulli(p.detach()[:0]).shape == (0,)


def test_bernoulli_of_a_probability_that_float16_random_numbers_do_not_have() -> None:
    tg.manual_seed(4)
    assert 0 < on_host(tg.bernoulli(tg.full((200_000,), 2**-13, dtype="float16"))).sum() < 100


def test_randint_is_uniform(device: str) -> None:
    tg.manual_seed(5)
    assert_drawn_with([1 / 6] * 6, on_host(tg.randint(6, (20_000,), device=device)))
    assert_drawn_with([1 / 6] * 6, on_host(tg.randint(-5, 1, (100, 200), device=device)) + 5)
    assert_drawn_with([1 / 3] * 3, on_host(tg.randint_like(tg.zeros(20_000, device=device), 1, 4)).astype(np.int64) - 1)


def test_randint_takes_dtypes_and_ways_to_give_the_size(device: str) -> None:
    for x in (
        tg.randint(3, (2, 4)),
        tg.randint(3, size=[2, 4]),
        tg.randint(0, 3, (2, 4)),
        tg.randint(high=3, size=(2, 4)),
    ):
        assert (x.shape, x.dtype) == ((2, 4), np.int64)
    x = tg.randint(0, 256, (1000,), dtype="uint8", device=device)
    assert x.dtype == np.uint8 and x.max().item() > 250
    assert tg.randint(2, (3,), dtype="float16", device=device).dtype == np.float16
    assert tg.randint(2, (3,), dtype="bool").dtype == np.bool_
    like = tg.zeros(2, 0, dtype="int32", device=device)
    made = tg.randint_like(like, 7)
    assert (made.shape, made.dtype, made.device) == (like.shape, like.dtype, like.device)
    assert tg.randint_like(like, 7, dtype="float32").dtype == np.float32


@pytest.mark.parametrize("n", [0, 1, 2, 100])
def test_randperm_is_a_permutation(n: int, device: str) -> None:
    x = tg.randperm(n, device=device)
    assert x.dtype == np.int64 and x.device == device
    assert sorted(x.tolist()) == list(range(n))


def test_randperm_of_nothing_is_of_every_dtype() -> None:
    assert [tg.randperm(0, dtype=dtype).dtype for dtype in ("uint8", "bool", "float16")] == ["uint8", "bool", "float16"]


def test_randperm_draws_every_permutation_as_often() -> None:
    tg.manual_seed(6)
    orders = {order: k for k, order in enumerate(itertools.permutations(range(4)))}
    drawn = [orders[tuple(tg.randperm(4, dtype="uint8").tolist())] for _ in range(5000)]
    assert_drawn_with([1 / 24] * 24, np.array(drawn))


DRAWS: dict[str, Callable[[str], tg.Tensor]] = {
    "randint": lambda device: tg.randint(1000, (5, 5), device=device),
    "randint_like": lambda device: tg.randint_like(tg.zeros(5, 5, device=device), 1000),
    "randperm": lambda device: tg.randperm(30, device=device),
    "bernoulli": lambda device: tg.bernoulli(tg.full((50,), 0.5, device=device)),
    "multinomial": lambda device: tg.ones(100, device=device).multinomial(10),
    "multinomial with replacement": lambda device: tg.ones(3, 100, device=device).multinomial(10, replacement=True),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_draws_the_same_on_every_device(name: str, device: str) -> None:
    draws = []
    for place in ("cpu", device, device):
        tg.manual_seed(7)
        draws.append([DRAWS[name](place).tolist() for _ in range(2)])
    assert draws[0] == draws[1] == draws[2]
    assert draws[0][0] != draws[0][1]


def test_sampling_reads_nothing_from_a_device() -> None:
    p = tg.rand(4, 6, device="strict")
    STRICT.counts.reset()
    p.bernoulli(), p.multinomial(1), p.multinomial(3), p.multinomial(3, replacement=True)
    assert (STRICT.counts.device_to_host, STRICT.counts.synchronisations) == (0, 0)


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no weight": (lambda: tg.multinomial([0.0, 0.0], 1), ValueError, "0 positive weights"),
    "too few": (lambda: tg.multinomial([0.0, 1.0], 2), ValueError, "1 positive weights in a row of 2; expected 2"),
    "in one row": (lambda: tg.multinomial([[1.0, 1.0], [0.0, 0.0]], 5, True), ValueError, "0 positive weights"),
    "negative": (lambda: tg.multinomial([1.0, -1.0], 1), ValueError, "-1.0"),
    "infinite": (lambda: tg.multinomial([1.0, np.inf], 1), ValueError, "inf"),
    "nan": (lambda: tg.multinomial([1.0, np.nan], 1), ValueError, "nan"),
    "no samples": (lambda: tg.multinomial([1.0], 0), ValueError, "at least one sample"),
    "0-d weights": (lambda: tg.multinomial(1.0, 1), ValueError, r"shape \(\)"),
    "no columns": (lambda: tg.multinomial(tg.ones(2, 0), 1), ValueError, "0 positive weights in a row of 0"),
    "integers as weights": (lambda: tg.multinomial([1, 2], 1), TypeError, "int64"),
    "a float of samples": (lambda: tg.multinomial([1.0], 1.0), TypeError, "num_samples"),
    "above one": (lambda: tg.bernoulli([0.5, 1.5]), ValueError, "1.5"),
    "below zero": (lambda: tg.bernoulli([-0.5]), ValueError, "-0.5"),
    "nan as probability": (lambda: tg.bernoulli([np.nan]), ValueError, "nan"),
    "integers as probabilities": (lambda: tg.bernoulli([0, 1]), TypeError, "int64"),
    "an empty range": (lambda: tg.randint(3, 3, (2,)), ValueError, "low, 3, up to high, 3"),
    "a float as high": (lambda: tg.randint(3.0, (2,)), TypeError, "high is 3.0"),
    "beyond the dtype": (lambda: tg.randint(0, 300, (2,), dtype="uint8"), OverflowError, "299"),
    "no size": (lambda: tg.randint(3, 10), TypeError, "size is missing"),
    "a negative length": (lambda: tg.randint(3, (-2,)), ValueError, "-2"),
    "a negative n": (lambda: tg.randperm(-1), ValueError, "-1"),
    "n beyond the dtype": (lambda: tg.randperm(300, dtype="int8"), OverflowError, "299"),
    "a float as n": (lambda: tg.randperm(3.0), TypeError, "n is 3.0"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    draw, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message) as error:
        draw()
    assert "\n" not in str(error.value)
