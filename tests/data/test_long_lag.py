"""The long-time-lag tasks: what their definitions say holds for every batch that is drawn."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lstm.data import LongLagBatch, adding, distant_symbol, noisy_signal

seeds = st.integers(0, 10_000)
batches = st.integers(1, 40)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("draw", [adding, distant_symbol, noisy_signal])
@given(seed=seeds, length=st.integers(22, 60), batch=batches)
def test_every_batch_is_padded_and_repeats_with_its_generator(
    draw: Callable[[np.random.Generator, int, int], LongLagBatch], seed: int, length: int, batch: int
) -> None:
    drawn = draw(rng(seed), length, batch)
    x, targets, lengths = drawn
    assert x.dtype == np.float32 and targets.dtype in (np.float32, np.int64) and lengths.dtype == np.int64
    assert x.shape[:2] == (lengths.max(), batch) and lengths.shape == (batch,)
    assert targets.shape == ((batch, 1) if targets.dtype == np.float32 else (batch,))
    assert not x[np.arange(len(x))[:, None] >= lengths].any()
    for one, other in zip(drawn, draw(rng(seed), length, batch)):
        assert np.array_equal(one, other)


# -- adding -----------------------------------------------------------------------------------------------------------


@given(seed=seeds, length=st.integers(22, 60), batch=batches)
def test_adding_marks_two_values_and_asks_for_their_sum(seed: int, length: int, batch: int) -> None:
    x, targets, lengths = adding(rng(seed), length, batch)
    assert (length <= lengths).all() and (lengths <= length + length // 10).all()
    for b, end in enumerate(lengths):
        values, markers = x[:end, b].T
        assert markers[0] == markers[-1] == -1 and np.isin(markers[1:-1], [0, 1]).all()
        marked = np.flatnonzero(markers == 1)
        assert len(marked) == 1 or (len(marked) == 2 and marked.min() < 10)
        assert marked.max() < length // 2 - 1
        assert (np.abs(values) <= 1).all()
        assert targets[b, 0] == pytest.approx(0.5 + values[marked].sum() / 4, abs=1e-6)


def test_adding_draws_every_place_and_length_equally_often() -> None:
    T, B = 30, 40_000
    x, targets, lengths = adding(rng(0), T, B)
    markers = x[..., 1]
    shares = (markers == 1).mean(axis=1)
    # The first is one of ten; the second any other of the 14 places, which is 13/14 of the chances where it is not 0.
    assert shares[1:10] == pytest.approx(1 / 10 + (9 / 10) / 13, abs=0.01)
    assert shares[10:14] == pytest.approx(1 / 13, abs=0.01)
    assert not shares[14:].any()
    # Either mark may have been drawn for the first pair, which then counts as 0.
    assert ((markers == 1).sum(axis=0) == 1).mean() == pytest.approx(1 / 10 + (9 / 10) / 13, abs=0.01)
    assert np.bincount(lengths)[T:] / B == pytest.approx(1 / 4, abs=0.02)
    assert x[..., 0][np.arange(len(x))[:, None] < lengths].mean() == pytest.approx(0, abs=0.01)
    # The variance of a value is 1/3, and 1.83 of them are added on average.
    assert targets.var() == pytest.approx((2 - 1 / 10 - (9 / 10) / 13) / 3 / 16, rel=0.03)


# -- a symbol, a signal -----------------------------------------------------------------------------------------------


@given(seed=seeds, lag=st.integers(0, 40), batch=batches, p=st.integers(1, 12))
def test_distant_symbol_is_b_then_the_symbol_then_distractors_then_e(seed: int, lag: int, batch: int, p: int) -> None:
    x, targets, lengths = distant_symbol(rng(seed), lag, batch, distractors=p)
    assert x.shape[2] == p + 4
    assert (lengths >= lag + 3).all()
    for b, end in enumerate(lengths):
        assert (x[:end, b].sum(axis=1) == 1).all() and np.isin(x[:, b], [0, 1]).all()
        symbols = x[:end, b].argmax(axis=1)
        assert symbols[0] == p and symbols[-1] == p + 1 and symbols[1] == p + 2 + targets[b]
        assert (symbols[2:-1] < p).all()


def test_distant_symbol_goes_on_with_probability_nine_tenths() -> None:
    x, targets, lengths = distant_symbol(rng(0), 5, 20_000, distractors=4)
    more = lengths - 8
    for k in range(10):
        assert (more >= k).mean() == pytest.approx(0.9**k, abs=0.015)
    assert targets.mean() == pytest.approx(0.5, abs=0.02)
    assert x[2:7].mean(axis=(0, 1))[:4] == pytest.approx(1 / 4, abs=0.01)


@given(seed=seeds, length=st.integers(5, 60), batch=batches, signal=st.integers(1, 5))
def test_noisy_signal_begins_with_its_class(seed: int, length: int, batch: int, signal: int) -> None:
    x, targets, lengths = noisy_signal(rng(seed), length, batch, signal)
    assert x.shape[2] == 1
    assert (length <= lengths).all() and (lengths <= length + length // 10).all()
    assert np.array_equal(x[:signal, :, 0], np.tile(2 * targets - 1, (signal, 1)))


def test_noise_has_the_papers_variance() -> None:
    x, targets, _ = noisy_signal(rng(0), 50, 2_000, signal=1)
    noise = x[1:50]
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.var() == pytest.approx(0.2, rel=0.03)
    assert targets.mean() == pytest.approx(0.5, abs=0.05)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        (lambda: adding(rng(0), 21, 1), "adding: expected length to be at least 22, got 21"),
        (lambda: adding(rng(0), 22, 0), "adding: expected batch to be at least 1, got 0"),
        (lambda: distant_symbol(rng(0), -1, 1), "distant_symbol: expected lag to be at least 0, got -1"),
        (lambda: distant_symbol(rng(0), 1, 1, 0), "distant_symbol: expected distractors to be at least 1, got 0"),
        (lambda: noisy_signal(rng(0), 2, 1), "noisy_signal: expected length to be at least 3, got 2"),
        (lambda: noisy_signal(rng(0), 2, 1, 0), "noisy_signal: expected signal to be at least 1, got 0"),
    ],
)
def test_invalid_sizes_are_refused(drawing: Callable[[], LongLagBatch], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawing()
