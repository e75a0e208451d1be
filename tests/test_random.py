"""Random numbers in several threads: checkpoints repeat theirs exactly, and nobody disturbs anybody's."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor
from tinygrad_lstm.random import random_state, restored_random_state, set_random_state


def in_thread(function: Callable[[], Any]) -> Any:
    """What a function returns in a thread that has ended."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def stream(number: int) -> list[list[float]]:
    """The first numbers after a seed, three at a time."""
    tg.manual_seed(5)
    drawn: list[list[float]] = tg.rand(number, 3).tolist()
    tg.manual_seed(5)
    return drawn


@pytest.mark.parametrize("draw", [
    lambda x: tg.dropout(x, 0.5),
    lambda x: x * tg.rand(*x.shape),
    lambda x: x * tg.randn(*x.shape),
], ids=["dropout", "rand", "randn"])  # fmt: skip
def test_a_checkpoint_repeats_its_draws_whatever_other_threads_draw(draw: Callable[[Tensor], Tensor]) -> None:
    others = iter([3, 1, 4, 1, 5, 9])  # how many numbers the other thread draws each time
    outputs: list[Any] = []

    def function(x: Tensor) -> Tensor:
        y = draw(x)
        in_thread(lambda: tg.rand(next(others)))
        y = draw(y)
        outputs.append(y.detach().numpy().copy())
        return y * y

    x = tg.ones(50, requires_grad=True)
    first = tg.checkpoint(function, x)
    in_thread(lambda: tg.rand(7))
    first.sum().backward()
    assert len(outputs) == 2
    np.testing.assert_array_equal(outputs[0], outputs[1])


def test_checkpoints_in_two_threads() -> None:
    start = threading.Barrier(2)
    faults: list[int] = []

    def work() -> None:
        start.wait(10)
        for _ in range(30):
            x = tg.ones(200, requires_grad=True)
            y = tg.checkpoint(lambda x: tg.dropout(tg.dropout(x, 0.3).sin(), 0.3), x)
            y.sum().backward()
            assert x.grad is not None
            faults.append(int(((y.detach().data == 0) != (x.grad.data == 0)).sum()))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == [0] * 60


def test_a_checkpoint_draws_what_its_function_would_draw_and_leaves_the_rest_to_others() -> None:
    expected = stream(4)
    drawn: list[list[float]] = []

    def function(x: Tensor) -> Tensor:
        y = tg.rand(3)
        if drawn:
            drawn.append(in_thread(lambda: tg.rand(3).tolist()))
        else:
            drawn.append(y.tolist())
        return x * y * y.exp()

    x = tg.ones(3, requires_grad=True)
    loss = tg.checkpoint(function, x).sum()
    drawn.append(tg.rand(3).tolist())
    loss.backward()
    drawn.append(tg.rand(3).tolist())
    assert drawn == [expected[0], expected[1], expected[2], expected[3]]


def test_a_checkpoint_that_draws_more_when_run_again_is_an_error() -> None:
    def function(x: Tensor) -> Tensor:
        return x * x * tg.rand(next(times)) * tg.rand(1) if next(turns) else x * x * tg.rand(3)

    turns, times = iter([False, True]), iter([3])
    y = tg.checkpoint(function, tg.ones(3, requires_grad=True))
    with pytest.raises(RuntimeError, match="checkpoint: the function draws random numbers more often when run again"):
        y.sum().backward()


def test_seeding_within_a_checkpoint() -> None:
    def function(x: Tensor) -> Tensor:
        tg.manual_seed(1)
        return (x * tg.rand(3)).exp()

    tg.manual_seed(1)
    factor = tg.rand(3)
    x = tg.ones(3, requires_grad=True)
    y = tg.checkpoint(function, x)
    tg.manual_seed(2)
    expected = tg.rand(3).tolist()
    tg.manual_seed(2)
    y.sum().backward()
    assert tg.rand(3).tolist() == expected
    assert x.grad is not None and x.grad.tolist() == (factor * factor.exp()).tolist()


def test_restored_states_are_set_per_thread() -> None:
    expected = stream(2)
    with restored_random_state(random_state()):
        assert tg.rand(3).tolist() == expected[0]
        assert in_thread(lambda: tg.rand(3).tolist()) == expected[0]
        tg.manual_seed(9)
        tg.rand(3)
    assert tg.rand(3).tolist() == expected[1]


def test_an_invalid_state_changes_nothing() -> None:
    expected = stream(1)
    for wrong in ({}, {"bit_generator": "MT19937", "state": {}}, {**random_state(), "state": {"state": -1}}):
        with pytest.raises((ValueError, KeyError, OverflowError, TypeError)):
            set_random_state(wrong)
    assert tg.rand(1, 3).tolist() == expected
