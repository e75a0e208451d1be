"""Steps that change more than their states: compiled or not, a sequence changes what a plain loop changes."""

import ctypes
import functools
import importlib
import io
import itertools
import os
import queue
import random
import sys
import weakref
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from any_cells import drawn

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRUCell, Recurrent
from tinygrad_lstm.tracing import effects

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


class CountingInPlace(tg.nn.Module):
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
    "counter": CountingInPlace,
    "logging": Logging,
    "numpy": lambda: Drawing(from_numpy),
    "python": lambda: Drawing(from_python),
    "method": lambda: Drawing(random.random),
    "own": lambda: Drawing(np.random.default_rng(3).random),
    "import": lambda: Drawing(drawn_by_import),
}


class Slots:
    __slots__ = ("number",)


class Total:
    number, log = 0.0, [0]


def with_default(log: list[int] = [0]) -> float:  # noqa: B006
    log[0] += 1
    return float(log[0])


def counted() -> float:
    counted.number = getattr(counted, "number", 0) + 1  # type: ignore[attr-defined]
    return float(counted.number)  # type: ignore[attr-defined]


class Scaling(tg.nn.Module):
    """It multiplies by a number that something else counts."""

    def __init__(self, place: Any, count: Callable[[Any], float]) -> None:
        self.place, self.count = place, count

    def forward(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        return tg.tanh(x + h) * self.count(self.place)


def more(thing: Any, name: str) -> float:
    setattr(thing, name, getattr(thing, name) + 1)
    return float(getattr(thing, name))


def after(change: Callable[[Any], Any], read: Callable[[Any], float]) -> Callable[[Any], float]:
    return lambda place: (change(place), read(place))[1]


def slots() -> Slots:
    made = Slots()
    made.number = 0
    return made


def module_of_ours() -> tg.nn.Module:
    made = tg.nn.Linear(3, 3)
    made.number = 0
    return made


def buffer_and_view() -> Any:
    buffer = tg.zeros(3)
    return buffer, buffer.numpy()


def cell_with_log() -> Any:
    cell: Any = GRUCell(3, 3)
    cell.log = [0]
    return cell


def first(elements: Any) -> float:
    elements[0] += 1
    return float(elements[0])


def read_only(values: np.ndarray) -> np.ndarray:
    view = values.view()
    view.flags.writeable = False
    return view


class Own:
    number = 0.0


ALIVE: Any = None


def kept_alive(thing: Any) -> Any:
    global ALIVE
    ALIVE = thing
    return thing


def counting_module() -> ModuleType:
    made = sys.modules["counting_module"] = ModuleType("counting_module")
    made.__file__, made.number = "counting_module.py", 0  # type: ignore[attr-defined]
    return made


def next_number(module: Any) -> float:
    module.number += 1
    return float(module.number)


def imported() -> float:
    import counting_module

    return next_number(counting_module)


def drawn_by_import() -> float:
    import random

    return random.random()


@functools.cache
def kept_scale(size: int) -> tg.Tensor:
    return tg.exp(tg.full((size,), 0.5, dtype="float64"))


@pytest.mark.parametrize("compiled", [None, False])
@pytest.mark.parametrize("state", [None, tg.zeros(B, 3, dtype="float64")])
def test_what_a_function_has_cached_is_computed(state: Any, compiled: bool | None) -> None:
    class Scaled(tg.nn.Module):
        def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
            h = tg.zeros(B, 3, dtype="float64") if h is None else h
            return x * kept_scale(3) + 0.5 * h

    kept_scale.cache_clear()
    out, _ = Recurrent(Scaled(), compiled=compiled)(tg.ones(1, B, 3, dtype="float64"), state)
    for found in (out.numpy(), kept_scale(3).numpy()):
        np.testing.assert_allclose(found, np.full(found.shape, np.exp(0.5)))


COUNTED: dict[str, tuple[Callable[[], Any], Callable[[Any], float]]] = {
    "count": (lambda: itertools.count(1), next),
    "iterator": (lambda: iter(np.arange(1.0, 99.0).tolist()), next),
    "generator": (lambda: (float(k) for k in range(1, 99)), next),
    "file": (lambda: io.StringIO("123456789" * 3), lambda file: float(file.read(1))),
    "Counter": (Counter, after(lambda c: c.update("a"), lambda c: float(c["a"]))),
    "defaultdict": (lambda: defaultdict(list), after(lambda d: d["a"].append(1), lambda d: float(len(d["a"])))),
    "OrderedDict": (
        lambda: OrderedDict(a=1.0, b=2.0, c=3.0),
        after(lambda d: d.move_to_end(next(iter(d))), lambda d: next(iter(d.values()))),
    ),
    "dict in order": (
        lambda: {1.0: 0, 2.0: 0, 3.0: 0},
        after(lambda d: d.update({(k := next(iter(d))): d.pop(k)}), lambda d: next(iter(d))),
    ),
    "slots": (slots, lambda s: more(s, "number")),
    "namespace": (lambda: SimpleNamespace(number=0), lambda s: more(s, "number")),
    "module of ours": (module_of_ours, lambda m: more(m, "number")),
    "class": (lambda: type("Own", (), {"number": 0.0}), lambda c: more(c, "number")),
    "class of an object": (lambda: type("Own", (), {"number": 0.0})(), lambda o: more(type(o), "number")),
    "list of a class": (
        lambda: type("Own", (), {"log": [0]})(),
        after(lambda o: o.log.append(1), lambda o: len(o.log)),
    ),
    "global class": (lambda: None, lambda _: more(Total, "number")),
    "default argument": (lambda: None, lambda _: with_default()),
    "attribute of a function": (lambda: None, lambda _: counted()),
    "bytearray": (bytearray, after(lambda b: b.append(1), len)),
    "queue": (queue.Queue, after(lambda q: q.put(1), lambda q: q.qsize())),
    "many objects": (
        lambda: [[1.0] for _ in range(9000)],
        after(lambda l: l[7777].append(1.0), lambda l: len(l[7777])),
    ),
    "array": (lambda: np.zeros(10_000), after(lambda a: np.add.at(a, 77, 1), lambda a: a[77])),
    "large array": (lambda: np.zeros(2_000_000), after(lambda a: np.add.at(a, 77, 1), lambda a: a[77])),
    "array of objects": (lambda: np.array([[1], None], object), after(lambda a: a[0].append(1), lambda a: len(a[0]))),
    "element of an array of objects": (lambda: np.array([0.0], object), first),
    "base of a view": (lambda: read_only(np.zeros(1)), lambda view: first(view.base)),
    "array of Python": (lambda: array("d", [0.0]), first),
    "memoryview": (lambda: memoryview(bytearray(1)), first),
    "array in C": (lambda: (ctypes.c_double * 1)(0.0), first),
    "number in C": (lambda: ctypes.c_double(0.0), lambda number: more(number, "value")),
    "weak reference": (lambda: weakref.ref(kept_alive(Own())), lambda r: more(r(), "number")),
    "read-only mapping": (lambda: MappingProxyType({"a": [0.0]}), lambda m: first(m["a"])),
    "metaclass": (lambda: type("Meta", (type,), {"number": 0.0})("Own", (), {}), lambda c: more(type(c), "number")),
    "module that is held": (lambda: [counting_module()], lambda held: next_number(held[0])),
    "module that is imported": (counting_module, lambda _: imported()),
    "view of a buffer": (buffer_and_view, after(lambda b: np.add.at(b[1], 0, 1), lambda b: float(b[1][0]))),
    "list of a cell of the library": (cell_with_log, after(lambda c: c.log.append(1), lambda c: len(c.log))),
    "data of a buffer": (lambda: tg.zeros(3), after(lambda b: np.add.at(b.data, 0, 1), lambda b: float(b.data[0]))),
    "gradient of a buffer": (
        lambda: tg.zeros(3, requires_grad=True),
        after(
            lambda p: setattr(p, "grad", tg.full((3,), 1.0 if p.grad is None else p.grad.data[0] + 1)),
            lambda p: float(p.grad.data[0]),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTED)
def test_whatever_counts_the_steps_counts_them_once(name: str) -> None:
    """In whatever Python keeps a number that changes from step to step."""
    make, count = COUNTED[name]
    x, h = tg.tensor(drawn(T, B, 3)), tg.zeros(B, 3, dtype="float64")
    found = []
    for compiled in (None, False):
        Total.number, counted.number = 0.0, 0  # type: ignore[attr-defined]
        with_default.__defaults__[0][0] = 0  # type: ignore[index]
        cell = Scaling(make(), count)
        outputs = [Recurrent(cell, compiled=compiled)(x, h)[0].numpy() for _ in range(2)]
        found.append([*outputs, count(cell.place)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"compiled=True: (the step changes|what the step changes cannot be foll)"):
        Recurrent(Scaling(make(), count), compiled=True)(x, h)


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
    ("counter", r"the step changes CountingInPlace.number, which must happen at each step"),
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


class CountingStep:
    """A step that counts in a global variable and in a dict of its class."""

    counts: ClassVar[dict[str, int]] = {"calls": 0}

    def __call__(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        global calls
        calls += 1
        self.counts["calls"] += 1
        return h + x


def test_an_object_that_is_called_changes_what_a_loop_changes() -> None:
    global calls
    calls = 0
    tg.scan(CountingStep(), tg.ones(T, B, 3), tg.zeros(B, 3))
    assert calls == T and CountingStep.counts == {"calls": T}


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


INSTALLED = """
import tinygrad_lstm as tg
from .counts import COUNTS

class Counting(tg.nn.Module):
    def forward(self, x, h):
        return step(x, h)

def step(x, h):
    COUNTS["steps"] += 1
    return tg.tanh(x + h) * COUNTS["steps"]
"""


@pytest.mark.parametrize("name", ["step", "Counting"])
def test_steps_of_an_installed_package_are_followed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / f"installed_{name}"
    package.mkdir()
    (package / "__init__.py").write_text(INSTALLED)
    (package / "counts.py").write_text('COUNTS = {"steps": 0}')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(effects, "_INSTALLED", (f"{tmp_path}{os.sep}",))
    monkeypatch.setattr(effects, "_NOT_USERS", (*effects._NOT_USERS, *effects._INSTALLED))
    made = importlib.import_module(package.name)
    step = made.step if name == "step" else made.Counting()
    x, h = tg.tensor(drawn(T, B, 3)), tg.zeros(B, 3, dtype="float64")
    out, expected = tg.scan(step, x, h)[0], h
    for t in range(T):
        expected = tg.tanh(x[t] + expected) * (t + 1)
        np.testing.assert_allclose(out[t].numpy(), expected.numpy(), rtol=1e-12)
    assert made.COUNTS == {"steps": T}
