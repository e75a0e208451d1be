"""Cells that Python changes, in a step or between calls: a sequence is the same as a loop over its steps."""

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, Recurrent

T, H = 3, 2
SETTINGS = {"offset": 0.2, "start": 0.0}
offset = 0.1


class Cell(tg.nn.Module):
    """It applies lines, one after the other."""

    factor = 0.8

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.linear = tg.nn.Linear(H, H)
        for parameter in self.linear.parameters():
            parameter.data[...] = 0.2
        self.weight, self.bias = tg.nn.Parameter(tg.full((H, H), 0.3)), tg.nn.Parameter(tg.full((H,), 0.1))
        self.register_buffer("scale", tg.tensor(0.7))
        self.alpha, self.limit, self.calls = 0.5, 3, 0
        self.items, self.table, self.log = [tg.tensor([0.4, 0.6])], {"k": tg.tensor(0.9)}, []
        self.index, self.array = tg.tensor([1, 0]), np.array([0.2, 0.8], np.float32)
        self.counter = itertools.count(1) if "iterator" in lines else None
        self.rng = np.random.default_rng(0)

    def turn_adapter(self) -> None:
        """Adds a low-rank adapter, or merges it into the weight."""
        if any("lora" in name for name, _ in self.named_parameters()):
            tg.nn.merge_lora(self)
            return
        tg.nn.add_lora(self, "linear.weight", rank=1)
        for name, parameter in self.named_parameters():
            parameter.data[...] = 0.3 if "lora" in name else parameter.data

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        h = tg.zeros(len(x), H, dtype=x.dtype) if h is None else h
        for name in self.lines:
            h = LINES[name](self, x, h).to(dtype=x.dtype)
        return h


def counted(cell: Cell, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    cell.calls += 1
    return h * (0.5 if cell.calls % 3 else 2.0)


def logged(cell: Cell, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    cell.log.append(len(cell.log))
    return h + 0.1 * len(cell.log)


def once(cell: Cell, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
    """It makes a tensor at the first step and keeps it."""
    if "made" not in cell.table:
        cell.table["made"] = tg.full((1, H), 0.25, dtype=x.dtype)
    return h - cell.table["made"]


LINES: dict[str, Callable[[Cell, tg.Tensor, tg.Tensor], tg.Tensor]] = {
    "product": lambda cell, x, h: tg.tanh(x @ cell.weight + h + cell.bias),
    "number": lambda cell, x, h: h * cell.alpha,
    "branch on a number": lambda cell, x, h: tg.sin(h) + x if cell.alpha > 0.6 else h - x,
    "training": lambda cell, x, h: h * 0.5 + x if cell.training else tg.cos(h),
    "batch size": lambda cell, x, h: h + 0.1 * x if len(x) > cell.limit else 0.7 * h,
    "item of a list": lambda cell, x, h: h * cell.items[-1],
    "value of a dict": lambda cell, x, h: h + cell.table["k"] * x,
    "index": lambda cell, x, h: h + x[:, cell.index],
    "array": lambda cell, x, h: h + tg.tensor(cell.array),
    "number of a buffer": lambda cell, x, h: h * float(cell.scale),
    "buffer": lambda cell, x, h: h * cell.scale,
    "frozen": lambda cell, x, h: h + x if cell.weight.requires_grad else tg.sin(h),
    "reads": lambda cell, x, h: h + 1 if (h.data > 0.5).any() else h - x,
    "module": lambda cell, x, h: cell.linear(h) + x,
    "class": lambda cell, x, h: h * cell.factor,
    "globals": lambda cell, x, h: h + offset * x + SETTINGS["offset"],
    "dropout": lambda cell, x, h: tg.dropout(h, 0.5, cell.training) + x,
    "detached": lambda cell, x, h: h.detach() * x + 0.5 * h if cell.alpha > 0.6 else h,
    "counter": counted,
    "log": logged,
    "once": once,
    "iterator": lambda cell, x, h: h * (0.3 + next(cell.counter) % 2),
    "generator": lambda cell, x, h: h + float(cell.rng.random()),
    "python's generator": lambda cell, x, h: h + random.random(),
}


def turned(cell: Cell, name: str, value: Any) -> None:
    setattr(cell, name, value)


ACTIONS: dict[str, Callable[[Cell], object]] = {
    "nothing": lambda cell: None,
    "number": lambda cell: turned(cell, "alpha", 1.2 - cell.alpha),
    "eval": lambda cell: cell.train(not cell.training),
    "limit": lambda cell: turned(cell, "limit", 7 - cell.limit),
    "parameter": lambda cell: turned(cell, "weight", tg.nn.Parameter(cell.weight.detach() * 1.5)),
    "its elements": lambda cell: cell.weight.data.__imul__(0.9),
    "freeze": lambda cell: cell.weight.requires_grad_(not cell.weight.requires_grad),
    "list": lambda cell: turned(cell, "items", [tg.tensor([0.1, 0.2])]),
    "item": lambda cell: cell.items.append(tg.tensor([[0.5, 0.3]])),
    "dict": lambda cell: cell.table.update(k=tg.tensor([0.3, 0.2], requires_grad=True)),
    "index": lambda cell: turned(cell, "index", tg.tensor([1, 1])),
    "index in place": lambda cell: cell.index.data.__setitem__(0, 0),
    "array": lambda cell: cell.array.__setitem__(0, cell.array[0] + 0.5),
    "buffer": lambda cell: turned(cell, "scale", cell.scale + 0.25),
    "dtype": lambda cell: cell.to(dtype="float64" if cell.weight.dtype == "float32" else "float32"),
    "lines": lambda cell: cell.lines.reverse(),
    "hook": lambda cell: cell.linear.register_forward_hook(lambda module, inputs, output: output * 0.5),
    "adapter": lambda cell: cell.turn_adapter(),
    "class": lambda cell: setattr(type(cell), "factor", type(cell).factor + 0.1),
    "globals": lambda cell: SETTINGS.update(offset=SETTINGS["offset"] + 0.1),
    "global": lambda cell: globals().update(offset=offset + 0.1),
}
CALLS = st.tuples(st.sampled_from(sorted(ACTIONS)), st.sampled_from([1, 2, 3, 5, 8]), st.booleans())


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(LINES)), min_size=1, max_size=4), st.lists(CALLS, min_size=2, max_size=5))
def test_a_cell_that_changes_is_the_same_as_the_loop(lines: list[str], calls: list[tuple[str, int, bool]]) -> None:
    found = []
    with tg.compiled_kernels(False):
        for run in (run_as_sequence, run_as_loop):
            random.seed(0)
            tg.manual_seed(0)
            SETTINGS.update(offset=0.2)
            globals().update(offset=0.1)
            cell, results = type("Own", (Cell,), {})([*lines]), []
            for action, B, recording in calls:
                ACTIONS[action](cell)
                with tg.enable_grad() if recording else tg.no_grad():
                    results += called(cell, B, run)
            results += [np.array(next(cell.counter))] if cell.counter else []
            found.append([*results, np.array([cell.calls, *cell.log, random.random(), cell.rng.random()])])
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def run_as_sequence(cell: Cell, x: tg.Tensor, h: Any) -> tuple[tg.Tensor, tg.Tensor]:
    return Recurrent(cell)(x, h)


def run_as_loop(cell: Cell, x: tg.Tensor, h: Any) -> tuple[tg.Tensor, tg.Tensor]:
    outputs = []
    for x_t in x:
        h = cell(x_t, h)
        outputs.append(h)
    return tg.stack(outputs), h


def called(cell: Cell, B: int, run: Callable[..., tuple[tg.Tensor, tg.Tensor]]) -> list[np.ndarray]:
    """The outputs and final states, and the gradients to inputs and parameters."""
    x = np.random.default_rng(B).uniform(-1, 1, (T, B, H)).astype(cell.weight.dtype)
    inputs = [tg.tensor(x, requires_grad=True), *cell.parameters()]
    start = tg.zeros(B, H, dtype=x.dtype) if "iterator" in cell.lines else None  # an iterator cannot be put back
    out, final = run(cell, inputs[0], start)
    learning = [each for each in inputs if each.requires_grad]
    grads = tg.grad((out * out).sum(), learning, allow_unused=True) if out.requires_grad else [None] * len(learning)
    results = [out, final, *(tg.zeros_like(one) if g is None else g for one, g in zip(learning, grads))]
    return [each.detach().numpy() for each in results]


class Scaled(LSTM):
    """A layer with a step of its own, which uses a number and a parameter."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.factor, self.extra, self.calls = 1.0, tg.nn.Parameter(tg.ones(4)), 0

    def _step(self, *given: Any) -> Any:
        h, c = super()._step(*given)
        return self.factor * h * self.extra, c


class Counting(Scaled):
    def _step(self, *given: Any) -> Any:
        self.calls += 1
        return super()._step(*given)


def by_ops(layer: Any, x: tg.Tensor) -> np.ndarray:
    with tg.detect_anomaly():  # which takes the steps one by one
        return layer(x)[0].detach().numpy()


@pytest.mark.parametrize("kind", [Scaled, Counting])
def test_the_step_of_a_subclass_may_use_more_than_it_is_given(kind: type[Scaled]) -> None:
    x = tg.tensor(np.random.default_rng(0).normal(size=(T, 2, 3)).astype(np.float32))
    first, second = kind(3, 4), kind(3, 4)
    for layer, factor in ((first, 1.0), (first, 0.5), (second, 2.0), (second, 3.0)):
        layer.factor, layer.extra, layer.calls = factor, tg.nn.Parameter(factor * tg.ones(4)), 0
        out, _ = layer(x)
        assert layer.calls == (T if kind is Counting else 0)
        np.testing.assert_allclose(out.detach().numpy(), by_ops(layer, x), rtol=1e-5, atol=1e-6)
        (g,) = tg.grad(out.sum(), [layer.extra])
        assert float(abs(g).sum()) > 0


def test_equations_that_are_replaced_are_computed() -> None:
    x = tg.tensor(np.random.default_rng(0).normal(size=(T, 2, 3)).astype(np.float32))
    gru, rnn = GRU(3, 4, reset_after=False), RNN(3, 4, nonlinearity="relu")
    for layer in (gru, rnn):
        layer(x)
    gru._step = lambda *given: (2 * GRU._step(gru, *given)[0],)
    rnn.nonlinearity = "tanh"
    for layer in (gru, rnn):
        np.testing.assert_allclose(layer(x)[0].detach().numpy(), by_ops(layer, x), rtol=1e-5, atol=1e-6)


def test_many_settings_of_one_class_are_compiled() -> None:
    class Leaky(tg.nn.Module):
        def __init__(self, rate: float) -> None:
            self.rate = rate

        def forward(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
            return (1 - self.rate) * h + self.rate * x

    for k in range(40):
        layer = Recurrent(Leaky(k / 64), compiled=True)
        for _ in range(2):
            out, _ = layer(tg.ones(1, 2, 3), tg.zeros(2, 3))
            assert float(out[0, 0, 0]) == k / 64


class Starting(tg.nn.Module):
    """It starts from what its attributes say."""

    kind = "zeros"

    def __init__(self) -> None:
        self.linear, self.learnt = tg.nn.Linear(H, H), tg.nn.Parameter(tg.full((H,), 0.4))
        self.value, self.table, self.later = 0.0, {"k": 0.0}, 1.0

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        if h is None:
            value = self.value + self.table["k"] + SETTINGS["start"]
            h = tg.full((len(x), H), value) if self.kind == "zeros" else self.learnt + tg.zeros(len(x), H)
        elif self.later != 1.0:
            h = h * self.later
        return tg.tanh(self.linear(h) + x)


STARTS: dict[str, Callable[[Starting], object]] = {
    "number": lambda cell: turned(cell, "value", 0.3),
    "dict": lambda cell: cell.table.update(k=0.2),
    "globals": lambda cell: SETTINGS.update(start=0.1),
    "attribute": lambda cell: turned(cell, "kind", "learnt"),
    "class": lambda cell: setattr(type(cell), "kind", "learnt"),
    "later steps": lambda cell: turned(cell, "later", 0.5),
    "method": lambda cell: turned(cell, "forward", lambda x, h=None: Starting.forward(cell, x, h) + 0.1),
}


@pytest.mark.parametrize("action", STARTS)
@pytest.mark.parametrize("recording", [False, True])
def test_what_a_cell_starts_from_may_change(action: str, recording: bool) -> None:
    SETTINGS.update(start=0.0)
    cell, x = type("Own", (Starting,), {})(), tg.ones(T, 2, H)
    layer = Recurrent(cell)
    with tg.enable_grad() if recording else tg.no_grad():
        for change in (lambda _: None, lambda _: None, STARTS[action], lambda cell: cell.learnt.data.__imul__(2)):
            change(cell)
            (out, h), (expected, last) = layer(x), run_as_loop(cell, x, None)
            np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(h.detach().numpy(), last.detach().numpy(), rtol=1e-5, atol=1e-6)
    if recording and cell.kind == "learnt":
        one, other = (tg.grad(each.sum(), [cell.learnt])[0] for each in (out, expected))
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


class FromOnes(GRUCell):
    """A built-in cell with a start of its own."""

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        return GRUCell.forward(self, x, tg.ones(len(x), H) if h is None else h)


def test_the_start_of_a_built_in_cell_may_be_replaced() -> None:
    replaced, patched, x = GRUCell(H, H), type("Own", (GRUCell,), {})(H, H), tg.ones(T, 2, H)
    for cell in (replaced, patched):
        Recurrent(cell)(x)
    replaced.forward = lambda x, h=None: FromOnes.forward(replaced, x, h)
    type(patched).gates = lambda self, x, h=None: GRUCell.gates(self, x, tg.ones(len(x), H) if h is None else h)
    for cell in (FromOnes(H, H), replaced, patched):
        out, expected = Recurrent(cell)(x)[0], run_as_loop(cell, x, None)[0]
        np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_start_is_not_looked_for_where_this_could_advance_an_iterator() -> None:
    cell = Cell(["iterator"])
    with pytest.raises(ValueError, match=r"could advance Cell.counter, an iterator; give a state"):
        Recurrent(cell)(tg.ones(T, 2, H))
    assert next(cell.counter) == 1
