"""Steps that change more than their states: compiled or not, a sequence changes what a plain loop changes."""

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from any_cells import drawn

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent

T, B = 5, 3
LOG: list[Any] = []
COUNTS = {"calls": 0}
calls = 0


class Counting(tg.nn.Module):
    def __init__(self) -> None:
        self.weight, self.calls = tg.nn.Parameter(tg.ones(3)), 0
        self.seen: Any = None

    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        self.calls += 1
        self.seen = tg.tanh(x * self.weight) + (0 if h is None else 0.5 * h)
        return self.seen

    def changed(self) -> Any:
        return self.calls, self.seen


class Normalizing(tg.nn.Module):
    """It keeps a running mean in place."""

    def __init__(self) -> None:
        self.register_buffer("mean", tg.zeros(3))

    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        with tg.no_grad():
            self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return tg.tanh(x - self.mean) + (0 if h is None else 0.5 * h)

    def changed(self) -> Any:
        return self.mean.tolist()


class Replacing(Normalizing):
    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        self.mean.data = 0.5 * self.mean.data + 1
        return x + (0 if h is None else h)


class Counter(tg.nn.Module):
    """It counts in the array of a tensor."""

    def __init__(self) -> None:
        self.register_buffer("number", tg.zeros(1))

    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        self.number.data[0] += 1
        return x + (0 if h is None else h)

    def changed(self) -> Any:
        return self.number.tolist()


class Logging(tg.nn.Module):
    """It appends to lists of its own, of its module and of a closure, and counts in a dict and a global variable."""

    def __init__(self) -> None:
        self.own, self.last, inner = [], deque([0], 3), []
        self.append, self.inner, self.kinds = inner.append, inner, set()
        self.numbers = np.zeros(2)

    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        global calls
        calls += 1
        COUNTS["calls"] += 1
        for add in (self.own.append, self.last.append, LOG.append, self.append, self.kinds.add):
            add(len(self.own))
        self.numbers[0] += 1
        return x + (0 if h is None else h)

    def changed(self) -> Any:
        return [*self.own], [*self.last], [*LOG], [*self.inner], {*self.kinds}, self.numbers.tolist(), calls, COUNTS


class Drawing(tg.nn.Module):
    """It skips steps at random, by a generator of Python's, NumPy's or its own."""

    def __init__(self, number: Callable[[], float]) -> None:
        self.number = number

    def forward(self, x: tg.Tensor, h: Any = None) -> Any:
        h = tg.zeros_like(x) if h is None else h
        return h if self.number() < np.float32(0.3) else tg.tanh(h + x)

    def changed(self) -> Any:
        return self.number()


def from_numpy() -> float:
    return float(np.random.rand())


def from_python() -> float:
    return random.random()


MADE: dict[str, Callable[[], Any]] = {
    "counting": Counting,
    "normalizing": Normalizing,
    "replacing": Replacing,
    "counter": Counter,
    "logging": Logging,
    "numpy": lambda: Drawing(from_numpy),
    "python": lambda: Drawing(from_python),
    "method": lambda: Drawing(random.random),
    "own": lambda: Drawing(np.random.default_rng(3).random),
}


def fresh(name: str) -> Any:
    """A cell, with all global variables and generators as at first."""
    global calls
    calls = 0
    LOG.clear()
    COUNTS.update(calls=0)
    random.seed(1)
    np.random.seed(1)
    return MADE[name]()


def by_loop(cell: Any, x: tg.Tensor) -> list[np.ndarray]:
    h, out = None, []
    for x_t in x:
        h = cell(x_t, h)
        out.append(h.detach().numpy())
    return out


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("compiled", [None, False])
def test_a_sequence_changes_what_a_loop_changes(name: str, compiled: bool | None) -> None:
    x = tg.tensor(drawn(T, B, 3).astype("float32"))
    found = []
    for run in (lambda cell: Recurrent(cell, compiled=compiled)(x)[0].detach().numpy(), lambda cell: by_loop(cell, x)):
        cell = fresh(name)
        first = run(cell)
        found.append((first, run(cell), repr(cell.changed())))
    (one, again, changed), (expected, expected_again, changed_by_loop) = found
    np.testing.assert_allclose(one, expected, rtol=1e-6)
    np.testing.assert_allclose(again, expected_again, rtol=1e-6)
    assert changed == changed_by_loop


@pytest.mark.parametrize(("name", "message"), [
    ("counting", r"the step changes Counting\.(calls|seen), which must happen at each step; use compiled="),
    ("normalizing", r"the step changes a tensor of shape \(3,\) in place.*\(.*self.mean.mul_\(0.9\)"),
    ("replacing", r"the step changes a tensor of shape \(3,\) in place.*\(.*self.mean.data = "),
    ("counter", r"the step changes Counter.number, which must happen at each step"),
    ("logging", r"the step changes \w+(\.\w+)?, which must happen at each step"),
    ("numpy", r"the step changes the random numbers of rand\w*, which must happen"),
    ("python", r"the step changes the random numbers of random, which must happen"),
    ("own", r"the step changes the random numbers of Drawing.number, which must happen"),
])  # fmt: skip
def test_they_are_not_compiled_and_left_unharmed(name: str, message: str) -> None:
    expected = repr(fresh(name).changed())
    cell = fresh(name)
    with pytest.raises(ValueError, match=message) as raised:
        Recurrent(cell, compiled=True)(tg.ones(T, B, 3))
    assert "\n" not in str(raised.value)
    assert repr(cell.changed()) == expected


def test_a_function_that_changes_a_variable_around_it() -> None:
    number, seen = 0, []

    def step(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        nonlocal number
        number += 1
        seen.append(h.shape)
        return h + x

    out, _ = tg.scan(step, tg.ones(T, B, 3), tg.zeros(B, 3))
    assert number == T and seen == [(B, 3)] * T
    np.testing.assert_array_equal(out.numpy()[:, 0, 0], np.arange(T) + 1)
