"""Windows over series."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.data import SeriesWindows


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 8),
    st.integers(1, 5),
    st.booleans(),
)
def test_each_window_that_is_within_its_series_is_in_an_epoch_once(
    steps: list[int], length: int, horizon: int, stride: int, batch_size: int, shuffle: bool
) -> None:
    # Each number says where it is from.
    series = [100.0 * number + np.arange(n)[:, None] + np.array([0, 0.5]) for number, n in enumerate(steps)]
    expected = [
        (each[begin : begin + length].tolist(), each[begin + length : begin + length + horizon].tolist())
        for each in series
        for begin in range(0, len(each), stride)
        if begin + length + horizon <= len(each)
    ]
    if not expected:
        with pytest.raises(ValueError, match=f"expected at least {length + horizon}, for a window and its target"):
            SeriesWindows(series, length, horizon, stride)
        return
    windows = SeriesWindows(series, length, horizon, stride, batch_size=batch_size, shuffle=shuffle)
    assert windows.number == len(expected)
    for epoch in (0, 1):
        batches = list(windows.epoch(epoch))
        assert len(batches) == len(windows)
        assert all(batch.weight == batch_size for batch in batches[:-1])
        rows = np.concatenate([batch.rows for batch in batches])
        assert sorted(rows) == list(range(len(expected)))
        assert shuffle or rows.tolist() == sorted(rows)
        for batch in batches:
            assert batch.y is not None and batch.lengths == [length] * batch.weight
            for column, row in enumerate(batch.rows):
                assert (batch.x[:, column].tolist(), batch.y[column].tolist()) == expected[row]
                number, begin = windows.place(row)
                assert batch.x[0, column, 0] == series[number][begin, 0]
        rest = list(windows.epoch(epoch, 1))
        assert [batch.rows.tolist() for batch in rest] == [batch.rows.tolist() for batch in batches[1:]]


def test_the_order_depends_on_the_seed_and_the_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        windows = SeriesWindows(np.zeros(100), 5, seed=seed)
        return [int(row) for batch in windows.epoch(epoch) for row in batch.rows]

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_some_features_are_predicted() -> None:
    series = np.arange(12.0).reshape(6, 2)
    (batch,) = SeriesWindows(series, 3, targets=[1], shuffle=False)
    assert batch.x.shape == (3, 3, 2) and batch.y is not None
    assert batch.y[:, 0].tolist() == [[7], [9], [11]]


@pytest.mark.parametrize("whole", [pandas.DataFrame, tg.tensor])
def test_one_series_may_be_any_kind_of_array(whole: Callable[[Any], Any]) -> None:
    series = np.arange(12.0).reshape(6, 2)
    (expected,), (batch,) = (SeriesWindows(each, 3, shuffle=False) for each in (series, whole(series)))
    np.testing.assert_array_equal(batch.x, expected.x)


def test_series_are_not_copied() -> None:
    series = np.zeros((20, 1), "f")
    windows = SeriesWindows([series], 4, shuffle=False)
    series[:] = 1
    assert next(iter(windows)).x.all()


@pytest.mark.parametrize(
    ("series", "settings", "message"),
    [
        (np.zeros(9), {"stride": 0}, "expected stride to be at least 1, got 0"),
        (np.zeros((9, 2)), {"targets": [2]}, "expected targets from 0 to 1, got 2"),
        ([np.zeros((9, 2)), np.zeros((9, 3))], {}, "series 1: 3 features; expected 2, as series 0 has"),
        ([np.zeros((2, 2, 2))], {}, r"series 0: the sequence has shape \(2, 2, 2\); expected"),
        ([], {}, "the longest of 0 series has 0 steps; expected at least 4"),
    ],
)
def test_faults_are_named(series: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeriesWindows(series, 3, **settings)
