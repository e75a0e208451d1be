"""Standardization of features."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tinygrad_lstm as tg
from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.data import Standardization

numbers = st.floats(-1e6, 1e6)
some_sequences = st.integers(1, 3).flatmap(
    lambda width: st.lists(arrays("f8", st.tuples(st.integers(1, 6), st.just(width)), elements=numbers), min_size=1)
)


@given(some_sequences)
def test_features_have_mean_0_and_deviation_1_or_are_0(sequences: list[HostArray]) -> None:
    fitted = Standardization.fit(sequences)
    steps, together = np.concatenate(sequences), np.concatenate([fitted.apply(each) for each in sequences])
    assert fitted.constant.tolist() == [len(set(column)) == 1 for column in steps.T]
    assert not together[:, fitted.constant].any()
    # What a difference of two numbers loses, in deviations.
    lost = 1e-14 * np.abs(steps).max(0) / fitted.std
    for column in np.flatnonzero(~fitted.constant & (lost < 1e-6)):
        np.testing.assert_allclose(together[:, column].mean(), 0, atol=1e-5)
        np.testing.assert_allclose(together[:, column].std(), 1, atol=1e-5)


@given(some_sequences, some_sequences)
def test_undo_is_the_inverse(sequences: list[HostArray], others: list[HostArray]) -> None:
    fitted = Standardization.fit(sequences)
    for each in (*sequences, *others):
        if each.shape[1] == len(fitted.mean):
            restored = fitted.undo(fitted.apply(each))
            np.testing.assert_allclose(restored, each, rtol=1e-12, atol=1e-9)


def test_dtypes_are_kept() -> None:
    fitted = Standardization.fit([np.array([[1], [3]])])
    assert fitted.apply(np.ones((2, 1), "f")).dtype == np.float32
    assert fitted.apply(np.ones((2, 1))).dtype == np.float64
    assert fitted.apply(np.ones((2, 1), int)).dtype == np.float32
    assert fitted.apply([[[5]]]).tolist() == [[[3]]]


def test_a_large_mean_leaves_a_small_deviation_exact() -> None:
    steps = 1e8 + np.array([[0.0], [1.0]])
    assert Standardization.fit([steps]).apply(steps).tolist() == [[-1], [1]]
    assert Standardization.fit([np.full((7, 1), 0.1)]).apply([[0.1]]).tolist() == [[0]]


def test_a_checkpoint_stores_it(tmp_path: Path) -> None:
    fitted = Standardization.fit([np.array([[1.0, 2.0], [3.0, 2.0]])])
    model = tg.nn.Linear(2, 1)
    trainer = tg.train.Trainer(
        model,
        lambda model, batch, carry: (model(batch).square().mean(), None),
        tg.optim.SGD(model.parameters(), lr=0.1),
        out=tmp_path,
        about={"standardization": fitted.state_dict()},
    )
    trainer.fit([tg.ones(1, 2)], steps=1)
    about = tg.train.Checkpoint.load(tmp_path / "last.safetensors").about
    again = Standardization.from_state_dict(about["standardization"])
    assert again.state_dict().keys() == fitted.state_dict().keys()
    for name, array in fitted.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)


def test_faults_are_named() -> None:
    with pytest.raises(ValueError, match="no steps to fit on"):
        Standardization.fit([])
    with pytest.raises(ValueError, match="sequence 1, step 2, feature speed: the number is NaN"):
        Standardization.fit([np.zeros((1, 1)), np.array([[0], [0], [np.nan]])], ["speed"])
    with pytest.raises(ValueError, match="1 names for 2 features; expected one for each"):
        Standardization.fit([np.zeros((1, 2))], ["speed"])
    with pytest.raises(ValueError, match="sequence 0: the sequence is an array of object; expected real numbers"):
        Standardization.fit([np.array([[1, None]])])
    with pytest.raises(ValueError, match=r"sequence 1: 3 features; expected 1, as sequence 0 has"):
        Standardization.fit([np.zeros((1, 1)), np.zeros((2, 3))])
    fitted = Standardization.fit([np.zeros((1, 2))])
    with pytest.raises(ValueError, match=r"expected 2 features, as in the data .* got an array of shape \(4, 1\)"):
        fitted.apply(np.zeros((4, 1)))
    with pytest.raises(ValueError, match="expected arrays mean, std and constant of one shape, got mean"):
        Standardization.from_state_dict({"mean": np.zeros(2)})
    with pytest.raises(ValueError, match="feature 1: its numbers are too large"):
        Standardization.fit([np.array([[0, 1e200], [0, -1e200]])])
    state = fitted.state_dict()
    for name, array in (("std", np.zeros(2)), ("mean", np.array([np.nan, 0])), ("std", np.array([np.inf, 1]))):
        with pytest.raises(ValueError, match=r"expected finite numbers \(F,\), and std above 0"):
            Standardization.from_state_dict({**state, name: array})
