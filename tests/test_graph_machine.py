"""Random programs over graphs, against a naive reference.

The reference differentiates forwards: each of its values carries its Jacobian in every leaf. Beside that it notes,
op by op, which memory is kept for the way back, and when memory was written to; from that it says which walks must
raise. So every gradient is either that of the reference, or an error where the reference has one.
"""

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import tinygrad_lstm as tg

N = 3  # every tensor has this many elements
Array = np.ndarray[Any, np.dtype[np.float64]]
Jacobians = dict[int, Array]  # by leaf: (N, N)


@dataclass(eq=False)
class Memory:
    """What tensors may share; with the times of the last write, and of the last write that a graph noted."""

    values: Array
    written: int = -1
    recorded: int = -1


@dataclass(eq=False)
class Made:
    """One recorded op: what it was made from, and the memory that it kept."""

    time: int
    parents: list["Made | Leaf"]
    kept: list[tuple[Memory, "Made | Leaf"]]
    """What it keeps, each with the parent whose gradient needs it."""
    freed: bool = False


@dataclass(eq=False)
class Leaf:
    """A tensor that requires a gradient, and the gradient that it should have."""

    number: int
    grad: Array | None = None


@dataclass(eq=False)
class Value:
    """A tensor of the library, and what the reference knows of it."""

    tensor: tg.Tensor
    memory: Memory
    source: Made | Leaf | None = None
    jacobians: Jacobians = field(default_factory=dict)
    viewed: int | None = None

    @property
    def out_of_date(self) -> bool:
        return self.viewed is not None and self.memory.recorded > self.viewed


UNARY: dict[str, tuple[Callable[[Any], Any], Callable[[Array], Array], Callable[[Array], Array], str]] = {
    # name: the op, its value, its derivative, what it keeps
    "sin": (lambda t: t.sin(), np.sin, np.cos, "input"),
    "square": (lambda t: t.square(), np.square, lambda x: 2 * x, "input"),
    "tanh": (lambda t: t.tanh(), np.tanh, lambda x: 1 - np.tanh(x) ** 2, "output"),
    "sigmoid": (
        lambda t: t.sigmoid(),
        lambda x: (1 + np.tanh(x / 2)) / 2,
        lambda x: (1 - np.tanh(x / 2) ** 2) / 4,
        "output",
    ),
    "neg": (lambda t: -t, np.negative, lambda x: -np.ones_like(x), "nothing"),
    "halve": (lambda t: t * 0.5, lambda x: x * 0.5, lambda x: np.full_like(x, 0.5), "a number"),
}

PICK = st.integers(0, 4)  # of the latest tensors, so that ops, writes and walks meet often
NUMBERS = st.lists(st.floats(-2, 2).map(lambda x: round(x, 3)), min_size=N, max_size=N)


class Graphs(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.values: list[Value] = []
        self.leaves: list[Value] = []
        self.recording = True
        self.clock = itertools.count()
        self.given_out: list[tuple[Array, Array]] = []

    # -- helpers

    def pick(self, number: int) -> Value:
        return self.values[-1 - number % len(self.values)]

    def mode(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.recording else tg.no_grad()

    def made(self, inputs: list[Value], kept: list[tuple[Memory, "Made | Leaf"]]) -> Made | None:
        """The record of an op on these inputs, if one is made."""
        parents = [value.source for value in inputs if value.source is not None]
        return Made(next(self.clock), parents, kept) if parents and self.recording else None

    def result(self, tensor: tg.Tensor, values: Array, made: Made | None, jacobians: Jacobians) -> None:
        self.values.append(Value(tensor, Memory(values), made, jacobians if made else {}))

    def wrote(self, value: Value, values: Array, made: Made | None, jacobians: Jacobians) -> None:
        """Notes a write in place."""
        value.memory.values[...] = values
        value.memory.written = next(self.clock)
        if made is not None:
            value.memory.recorded = value.memory.written
            value.source, value.jacobians = made, jacobians

    def may_be_written(self, value: Value, recorded: bool) -> bool:
        noted = self.recording and (recorded or value.source is not None)
        return not (noted and (isinstance(value.source, Leaf) or value.viewed is not None))

    # -- rules

    @initialize(numbers=NUMBERS)
    def begin(self, numbers: list[float]) -> None:
        self.create(numbers, True)

    @rule(numbers=NUMBERS, requires_grad=st.booleans())
    def create(self, numbers: list[float], requires_grad: bool) -> None:
        tensor = tg.tensor(numbers, dtype="float64", requires_grad=requires_grad)
        value = Value(tensor, Memory(np.array(numbers)))
        if requires_grad:
            number = len(self.leaves)
            value.source, value.jacobians = Leaf(number), {number: np.eye(N)}
            self.leaves.append(value)
        self.values.append(value)

    @rule(name=st.sampled_from(sorted(UNARY)), x=PICK)
    def unary(self, name: str, x: int) -> None:
        op, forward, derivative, keeps = UNARY[name]
        value = self.pick(x)
        with self.mode():
            if value.out_of_date:
                with pytest.raises(RuntimeError, match="view of a tensor that was changed"):
                    op(value.tensor)
                return
            tensor = op(value.tensor)
        slopes = derivative(value.memory.values)
        source = value.source
        kept = {"input": [value.memory], "a number": [Memory(np.array(0.5))]}.get(keeps, [])
        made = self.made([value], [(memory, source) for memory in kept if source is not None])
        self.result(
            tensor, forward(value.memory.values), made, {k: slopes[:, None] * j for k, j in value.jacobians.items()}
        )
        if made and source is not None and keeps == "output":
            made.kept.append((self.values[-1].memory, source))

    @rule(name=st.sampled_from(["add", "sub", "mul"]), x=PICK, y=PICK)
    def binary(self, name: str, x: int, y: int) -> None:
        a, b = self.pick(x), self.pick(y)
        if name == "mul" and np.abs(a.memory.values * b.memory.values).max() > 100:
            name = "add"
        with self.mode():
            if a.out_of_date or b.out_of_date:
                with pytest.raises(RuntimeError, match="view of a tensor that was changed"):
                    getattr(tg, name)(a.tensor, b.tensor)
                return
            tensor = getattr(tg, name)(a.tensor, b.tensor)
        values, kept, jacobians = self.combined(name, a, b)
        self.result(tensor, values, self.made([a, b], kept), jacobians)

    def combined(self, name: str, a: Value, b: Value) -> tuple[Array, list[tuple[Memory, Made | Leaf]], Jacobians]:
        p, q = a.memory.values, b.memory.values
        one = np.ones(N)
        values, da, db = {"add": (p + q, one, one), "sub": (p - q, one, -one), "mul": (p * q, q, p)}[name]
        kept = []
        if name == "mul":  # each input's gradient needs the other
            pairs = ((b.memory, a.source), (a.memory, b.source))
            kept = [(memory, source) for memory, source in pairs if source is not None]
        jacobians: Jacobians = {}
        for value, slopes in ((a, da), (b, db)):
            for k, j in value.jacobians.items():
                jacobians[k] = jacobians.get(k, 0) + slopes[:, None] * j
        return values, kept, jacobians

    @rule(x=PICK)
    def detach(self, x: int) -> None:
        value = self.pick(x)
        self.values.append(Value(value.tensor.detach(), value.memory))

    @rule(x=PICK)
    def view(self, x: int) -> None:
        value = self.pick(x)
        with self.mode():
            if value.out_of_date:
                with pytest.raises(RuntimeError, match="view of a tensor that was changed"):
                    value.tensor[:]
                return
            tensor = value.tensor[:]
        made = self.made([value], [])
        jacobians = value.jacobians if made else {}
        self.values.append(Value(tensor, value.memory, made, jacobians, viewed=next(self.clock)))

    @rule()
    def switch_recording(self) -> None:
        self.recording = not self.recording

    @rule(name=st.sampled_from(["add", "sub", "mul"]), x=PICK, y=PICK)
    def change_in_place(self, name: str, x: int, y: int) -> None:
        a, b = self.pick(x), self.pick(y)
        if name == "mul" and np.abs(a.memory.values * b.memory.values).max() > 100:
            return
        values, kept, jacobians = self.combined(name, a, b)
        recorded = self.recording and (a.source is not None or b.source is not None)
        with self.mode():
            if a.out_of_date or b.out_of_date or not self.may_be_written(a, recorded):
                with pytest.raises(RuntimeError, match=r"changed in place|is a view of another tensor"):
                    getattr(a.tensor, f"{name}_")(b.tensor)
                return
            assert getattr(a.tensor, f"{name}_")(b.tensor) is a.tensor
        self.wrote(a, values.copy(), self.made([a, b], kept), jacobians)

    @rule(x=PICK, y=PICK, index=st.integers(0, N - 1))
    def set_item(self, x: int, y: int, index: int) -> None:
        a, b = self.pick(x), self.pick(y)

        def run() -> None:
            a.tensor[index : index + 1] = b.tensor.sum()

        recorded = self.recording and b.source is not None
        with self.mode():
            if a.out_of_date or b.out_of_date or not self.may_be_written(a, recorded):
                with pytest.raises(RuntimeError, match=r"changed in place|is a view of another tensor"):
                    run()
                return
            total, rows = b.memory.values.sum(), {k: j.sum(0) for k, j in b.jacobians.items()}
            run()
        values = a.memory.values.copy()
        values[index] = total
        jacobians = {k: j.copy() for k, j in a.jacobians.items()}
        for k in {*jacobians, *rows}:
            jacobians.setdefault(k, np.zeros((N, N)))[index] = rows.get(k, 0)
        summed = self.made([b], [])
        made = None
        if self.recording and (a.source or summed):
            made = Made(next(self.clock), [source for source in (a.source, summed) if source is not None], [])
        self.wrote(a, values, made, jacobians)

    @rule(x=PICK, weights=NUMBERS, retain=st.booleans())
    def backward(self, x: int, weights: list[float], retain: bool) -> None:
        value = self.pick(x)
        error = self.walked(value, None, retain)
        with self.mode():
            if error is not None:
                with pytest.raises(RuntimeError, match=error):
                    value.tensor.backward(weights, retain_graph=retain)
                return
            value.tensor.backward(weights, retain_graph=retain)
        for leaf in self.leaves:
            if leaf.source in self.reached(value):
                assert isinstance(leaf.source, Leaf)
                g = np.array(weights) @ value.jacobians.get(leaf.source.number, np.zeros((N, N)))
                leaf.source.grad = g if leaf.source.grad is None else leaf.source.grad + g
                assert leaf.tensor.grad is not None
                self.given_out.append((leaf.tensor.grad.data, leaf.tensor.grad.data.copy()))

    @rule(x=PICK, chosen=st.lists(PICK, min_size=1, max_size=3), weights=NUMBERS, retain=st.booleans())
    def grad(self, x: int, chosen: list[int], weights: list[float], retain: bool) -> None:
        value, leaves = self.pick(x), [self.leaves[-1 - k % len(self.leaves)] for k in chosen]
        error = self.walked(value, [leaf.source for leaf in leaves], retain)
        inputs = [leaf.tensor for leaf in leaves]
        with self.mode():
            if error is not None:
                with pytest.raises(RuntimeError, match=error):
                    tg.grad(value.tensor, inputs, weights_of(weights), retain_graph=retain, allow_unused=True)
                return
            found = tg.grad(value.tensor, inputs, weights_of(weights), retain_graph=retain, allow_unused=True)
        for leaf, g in zip(leaves, found, strict=True):
            assert isinstance(leaf.source, Leaf)
            assert (g is None) == (leaf.source not in self.reached(value))
            if g is not None:
                expected = np.array(weights) @ value.jacobians.get(leaf.source.number, np.zeros((N, N)))
                np.testing.assert_allclose(g.data, expected, rtol=1e-9, atol=1e-9)

    def reached(self, value: Value) -> set[Made | Leaf]:
        found: set[Made | Leaf] = set()

        def visit(source: Made | Leaf | None) -> None:
            if source is not None and source not in found:
                found.add(source)
                for parent in source.parents if isinstance(source, Made) else ():
                    visit(parent)

        visit(value.source)
        return found

    def walked(self, value: Value, targets: list[Any] | None, retain: bool) -> str | None:
        """What error walking back must raise, if any; notes what it frees up to there."""
        if value.source is None:
            return "requires no gradient"
        if value.out_of_date:
            return "view of a tensor that was changed"
        order = sorted((s for s in self.reached(value) if isinstance(s, Made)), key=lambda made: -made.time)
        leading: set[Any] = self.reached(value)
        if targets is not None:
            leading = set(targets)
            for made in reversed(order):
                if any(parent in leading for parent in made.parents):
                    leading.add(made)
            order = [made for made in order if made in leading]
        if any(made.freed for made in order):
            return "was freed by an earlier backward"
        for made in order:
            if any(memory.written > made.time for memory, parent in made.kept if parent in leading):
                return "was changed in place since"
            made.freed = bool(made.kept) and not retain
        return None

    @rule(x=PICK)
    def forget_gradient(self, x: int) -> None:
        leaf = self.leaves[-1 - x % len(self.leaves)]
        assert isinstance(leaf.source, Leaf)
        leaf.tensor.grad = leaf.source.grad = None

    # -- what always holds

    @invariant()
    def values_agree(self) -> None:
        for value in self.values:
            np.testing.assert_allclose(value.tensor.data, value.memory.values, rtol=1e-9, atol=1e-9)
            assert value.tensor.requires_grad == (value.source is not None)
            assert value.tensor.is_leaf == (not isinstance(value.source, Made))

    @invariant()
    def gradients_agree(self) -> None:
        for leaf in self.leaves:
            assert isinstance(leaf.source, Leaf)
            assert (leaf.tensor.grad is None) == (leaf.source.grad is None)
            if leaf.tensor.grad is not None:
                np.testing.assert_allclose(leaf.tensor.grad.data, leaf.source.grad, rtol=1e-9, atol=1e-9)

    @invariant()
    def gradients_given_out_stay(self) -> None:
        for array, copy in self.given_out:
            np.testing.assert_array_equal(array, copy)


def weights_of(weights: list[float]) -> tg.Tensor:
    return tg.tensor(weights, dtype="float64")


TestGraphs = Graphs.TestCase
TestGraphs.settings = hypothesis.settings(max_examples=200, stateful_step_count=40, deadline=None)
