"""Batches that are made in the background."""

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.data import SequenceBatch, SequenceBatches, prefetched


def threads() -> int:
    return sum(thread.name == "prefetched" for thread in threading.enumerate())


@given(st.lists(st.integers(), max_size=20), st.integers(1, 25))
def test_the_same_batches_in_the_same_order(batches: list[int], number: int) -> None:
    ahead = prefetched(batches, number)
    assert list(ahead) == list(ahead) == batches
    assert len(ahead) == len(batches)  # type: ignore[arg-type]
    assert list(ahead.epoch(3, 1)) == batches[1:]
    assert threads() == 0


def test_epochs_are_those_of_the_batches() -> None:
    batches = SequenceBatches([np.full((n % 5 + 1, 1), n, "f") for n in range(23)], batch_size=4)
    for epoch, start in ((0, 0), (3, 0), (3, 4)):
        pairs = list(zip(prefetched(batches).epoch(epoch, start), batches.epoch(epoch, start), strict=True))
        assert len(pairs) == 6 - start
        for ahead, plain in pairs:
            np.testing.assert_array_equal(ahead.x, plain.x)
            assert ahead.rows.tolist() == plain.rows.tolist()


def test_batches_without_a_number_have_none() -> None:
    assert not hasattr(prefetched(iter([1, 2])), "__len__")
    assert hasattr(prefetched([1, 2]), "__len__")


def test_an_error_is_raised_when_its_turn_comes() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise FileNotFoundError("the third file is gone")

    got = []
    with pytest.raises(FileNotFoundError, match="the third file is gone"):
        for batch in prefetched(broken(), 5):
            got.append(batch)
    assert got == [1, 2] and threads() == 0


@pytest.mark.parametrize("number", [1, 3])
def test_no_more_batches_are_made_than_asked_for(number: int) -> None:
    made, used = [], []
    done = threading.Event()

    def batches() -> Iterator[int]:
        for k in range(20):
            made.append(k)
            assert k <= len(used) + number
            if k == 10:
                done.set()
            yield k

    for batch in prefetched(batches(), number):
        used.append(batch)
        if batch == 10 - number:
            assert done.wait(10), "the batches after this one are not made while it is used"
    assert used == made == list(range(20))


def test_the_thread_ends_when_the_batches_are_left() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    iterator = iter(prefetched(endless()))
    next(iterator)
    assert threads() == 1
    del iterator
    gc.collect()
    assert threads() == 0 and closed.is_set()


def test_a_training_on_prefetched_batches_is_bit_for_bit_the_same() -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.normal(size=(n % 4 + 2, 3)).astype("f") for n in range(20)]
    batches = SequenceBatches(sequences, np.array([s.sum() for s in sequences], "f"), batch_size=3)

    def loss(model: tg.nn.Linear, batch: SequenceBatch, carry: None) -> tuple[tg.Tensor, None]:
        assert batch.y is not None
        return tg.mse_loss(model(tg.tensor(batch.x).sum(0))[:, 0], tg.tensor(batch.y)), None

    weights = []
    for each in (batches, prefetched(batches)):
        tg.manual_seed(0)
        model = tg.nn.Linear(3, 1)
        trainer = tg.train.Trainer(model, loss, tg.optim.Adam(model.parameters()))
        trainer.fit(each, steps=5)
        trainer.fit(each, epochs=3)
        assert threads() == 0
        weights.append(model.weight.detach().numpy().copy())
    np.testing.assert_array_equal(*weights)


def test_a_number_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="expected number to be at least 1, got 0"):
        prefetched([1], 0)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([], "there are no sequences; expected at least one"),
        ([np.ones((2, 1)), np.ones(3)], r"sequence 1: the sequence has shape \(3,\); expected \(T, F\)"),
        ([np.ones((2, 1)), np.ones((2, 2))], "sequence 1: 2 features; expected 1, as sequence 0 has"),
        ([np.ones((2, 1)), np.ones((0, 1))], "sequence 1: the sequence is empty; expected at least one step"),
        ([np.ones((2, 0))], "sequence 0: the sequence has no features; expected at least one"),
        ([[["a"]]], "sequence 0: the sequence is an array of <U1; expected real numbers"),
    ],
)
def test_sequences_of_other_shapes_are_named(sequences: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^SequenceBatches: {message}"):
        SequenceBatches(sequences)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0], r"targets of shape \(1,\) for 2 sequences; expected one for each"),
        (7, r"targets of shape \(\) for 2 sequences"),
        ([[0, 1], [1, 0, 1]], "the targets differ in shape; .* pad them in the loss"),
    ],
)
def test_targets_that_are_not_one_for_each_sequence(targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^SequenceBatches: {message}"):
        SequenceBatches([np.ones((2, 1)), np.ones((3, 1))], targets)


def test_sequences_of_different_dtypes_keep_their_numbers() -> None:
    (batch,) = SequenceBatches([np.array([[1], [2]]), np.array([[0.5]], "f")], shuffle=False)
    assert batch.x.dtype == np.float32 and batch.x[:, :, 0].T.tolist() == [[1, 2], [0.5, 0]]
    (batch,) = SequenceBatches([np.array([[0.5]], "f"), np.array([[1e300]])], shuffle=False)
    assert batch.x.dtype == np.float64 and batch.x[0, :, 0].tolist() == [0.5, 1e300]
