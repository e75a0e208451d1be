"""Traces of sequences that ran as one op: they have the values and gradients of the same steps, taken one by one."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any_cells import GatedCell, MatrixCell, as_parts, drawn
from drawn_graphs import drawn as drawn_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tracing.drawn_steps import DrawnStep, drawn_steps

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import Trace, page, trace
from tinygrad_lstm.models import Recurrent, atlas

T, B, I, H = 4, 3, 3, 2


class Layer(tg.nn.Module):
    """A layer of a cell that is given its state, lengths, resets, and directions beforehand."""

    def __init__(self, cell: Any, compiled: bool | None, **given: Any) -> None:
        self.layer, self.given = Recurrent(cell, compiled=compiled), given

    def forward(self, x: tg.Tensor) -> Any:
        return self.layer(x, **self.given)


class Stepping(tg.nn.Module):
    """A drawn step as a cell, which starts from zeros. It returns new tensors, so that each has its own gradient."""

    def __init__(self, drawn_step: DrawnStep) -> None:
        self.drawn_step = drawn_step

    def forward(self, x: tg.Tensor, state: Any = None) -> Any:
        if state is None:
            zeros = [tg.zeros(len(x), *shape, dtype=x.dtype, device=x.device) for shape in self.drawn_step.state_shapes]
            state = tuple(zeros) if len(zeros) > 1 else zeros[0]
        after = [part * 1.0 for part in as_parts(self.drawn_step.step(x, state))]
        return tuple(after) if len(after) > 1 else after[0]


def weighted(out: tg.Tensor) -> tg.Tensor:
    return (out * tg.tensor(drawn(*out.shape).astype(out.dtype), device=out.device)).sum()


def both(cell: Any, x: Any, **given: Any) -> tuple[Trace, Trace]:
    """The trace of a layer as one op, with the masks of dropout that it has step by step; and that trace."""
    found = []
    for compiled in (True, False):
        tg.manual_seed(5)
        found.append(trace(Layer(cell, compiled, **given), x, loss=weighted))
    return found[0], found[1]


def assert_equal(actual: Trace, expected: Trace, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(actual.loss, expected.loss, rtol=tolerance)
    for one, other in zip(actual, expected, strict=True):
        assert (one.name, one.kind, one.reverse, one.shape) == (other.name, other.kind, other.reverse, other.shape)
        np.testing.assert_array_equal(one.going, other.going)
        for mine, yours in ((one.values, other.values), (one.gradients, other.gradients), (one.before, other.before)):
            assert list(mine) == list(yours)
            for name in mine:
                np.testing.assert_allclose(mine[name], yours[name], tolerance, tolerance, err_msg=f"{one.name} {name}")


lengths = st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B)
resets = st.none() | arrays(bool, (T, B))


@settings(max_examples=15)
@given(drawn_step=drawn_steps(), lengths=lengths, resets=resets, pair=st.booleans())
def test_drawn_steps(
    device: str, drawn_step: DrawnStep, lengths: list[int] | None, resets: np.ndarray | None, pair: bool
) -> None:
    drawn_step = drawn_step.to(device)
    x, state = drawn_step.inputs(T, B)
    cell: Any = Stepping(drawn_step)
    with tg.compiled_kernels(False):
        cells, states = ((cell, cell), [state, state]) if pair else (cell, state)
        assert_equal(*both(cells, x, state=states, lengths=lengths, resets=resets))


class Hidden(tg.nn.Module):
    """A cell whose gates are variables. It drops elements of one of them."""

    STATES = ("h", "c")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.hidden_size = hidden_size
        self.net = tg.nn.Linear(input_size + hidden_size, 2 * hidden_size)

    def forward(self, x: tg.Tensor, state: Any = None) -> Any:
        if state is None:
            state = (tg.zeros(len(x), self.hidden_size, dtype=x.dtype, device=x.device),) * 2
        h, memory = state
        weight = self.net.weight * 0.9  # which is of no sequence, even if it has as many rows as there are
        net_z, net_g = tg.chunk(tg.linear(tg.cat([h, x], dim=-1), weight, self.net.bias), 2, dim=-1)
        z = tg.dropout(tg.sigmoid(net_z), 0.3)
        g = tg.tanh(net_g)
        c = memory + z * (g - memory)
        return c * tg.cos(c), c


class Centred(Hidden):
    """The sequences of a batch depend on each other."""

    def forward(self, x: tg.Tensor, state: Any = None) -> Any:
        h, c = super().forward(x, state)
        largest = h.amax(0, keepdim=True)
        return h - largest, c


class Branching(Hidden):
    """What it computes depends on the number of sequences, not on their values."""

    def forward(self, x: tg.Tensor, state: Any = None) -> Any:
        h, c = super().forward(x, state)
        scaled = h * (0.5 if len(x) > B else 0.9)
        return scaled, c


class Attending(Hidden):
    """It uses a tensor of the whole batch from outside."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.factor: Any = None

    def forward(self, x: tg.Tensor, state: Any = None) -> Any:
        h, c = super().forward(x, state)
        scaled = self.factor * c
        return h + scaled, c


CELLS: dict[str, Any] = {
    "dropout": Hidden, "mixing": Centred, "branching": Branching, "whole batch": Attending,
    "zoneout": atlas.ZoneoutLSTMCell, "integers": GatedCell, "matrix": MatrixCell,
    "sLSTM": atlas.SLSTMCell, "mLSTM": atlas.MLSTMCell,
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_cells(device: str, name: str, with_lengths: bool) -> None:
    """Those that drop elements, that mix the sequences of a batch, or whose states are matrices or integers."""
    tg.manual_seed(1)
    pair = tuple(CELLS[name](I, H).to(device, "float64") for _ in range(2))
    for cell in pair:
        if name == "whole batch":
            cell.factor = tg.tensor(drawn(B, H), device=device)
    given = {"lengths": [4, 0, 2], "resets": drawn(T, B) < -0.3} if with_lengths else {}
    assert_equal(*both(pair, tg.tensor(drawn(T, B, I), device=device), **given))


def test_a_cell_is_shown_by_its_variables() -> None:
    """All that are of floats and have a row for each sequence."""
    (layer,) = trace(Recurrent(Hidden(I, T * B // 2)), drawn(T, B, I).astype("float32"), loss=weighted)
    assert (layer.name, layer.kind, layer.memory) == ("cells.0", "Hidden", "c")
    assert list(layer.values) == ["net_z", "net_g", "z", "g", "h", "c"] and list(layer.before) == ["h", "c"]
    assert layer.equations[-2:] == ("next_c = c + z * (g - c)", "next_h = next_c * cos(next_c)")
    np.testing.assert_allclose(layer.g, np.tanh(layer.net_g), rtol=1e-6)
    np.testing.assert_allclose(layer.gradients["net_g"], layer.gradients["g"] * (1 - layer.g**2), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(layer.before["c"][1:], layer.c[:-1])


def test_functions_over_sequences_are_shown() -> None:
    class Scanning(tg.nn.Module):
        def __init__(self) -> None:
            self.weight = tg.nn.Parameter(tg.tensor(drawn(I, I)))

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            def decaying(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
                kept = tg.sigmoid(x @ self.weight)
                return kept * h + x

            first, state = tg.scan(decaying, x[:2], tg.zeros_like(x[0]))
            return tg.cat([first, tg.scan(decaying, x[2:], state)[0]])

    (layer,) = trace(Scanning(), drawn(T, B, I), loss=weighted)
    assert (layer.name, layer.kind, list(layer.values), layer.shape) == (
        "decaying",
        "decaying",
        ["kept", "state0"],
        (T, B, I),
    )
    np.testing.assert_allclose(layer.gradients["kept"], layer.gradients["state0"] * layer.before["state0"], rtol=1e-12)
    np.testing.assert_allclose(
        layer.gradients["state0"][:-1] - drawn(T, B, I)[:-1], layer.gradients["state0"][1:] * layer.kept[1:], rtol=1e-9
    )


@pytest.mark.parametrize("name", ["lstm", "lem", "mlstm"])
def test_states_and_outputs_are_those_of_the_run(name: str, compiled: bool) -> None:
    """To the bit, as the code of the sequence rounds them."""
    layer = Recurrent((cell := atlas.ATLAS[name](I, 4), atlas.ATLAS[name](I, 4)))
    x = drawn(T, B, I).astype("float32")
    out, finals = layer(tg.tensor(x), lengths=[T, 0, 2])
    traced = trace(layer, x, lengths=[T, 0, 2], loss=weighted)
    np.testing.assert_array_equal(traced.output, out.detach().numpy())
    forward, backward = traced
    output = cell.STATES[0]
    np.testing.assert_array_equal(np.concatenate([forward.values[output], backward.values[output]], -1), traced.output)
    for name, last, first in zip(cell.STATES, *finals, strict=True):
        for b, end in ((0, T - 1), (2, 1)):
            np.testing.assert_array_equal(forward.values[name][end, b], last.detach().numpy()[b].ravel())
            np.testing.assert_array_equal(backward.values[name][0, b], first.detach().numpy()[b].ravel())


class Branching(tg.nn.Module):
    """Its steps have different variables, and a method has the name that built-in cells give theirs."""

    def gates(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        return tg.sigmoid(x + h)

    def forward(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        z = self.gates(x, h)
        if float(x.sum().item()) > 0:
            twice = z * 2
            return twice * 0.25
        return z * 0.25


def test_steps_that_branch_show_what_all_have() -> None:
    x, h = drawn(T, B, I), np.zeros((B, I))
    layer = Recurrent(Branching())
    traced = trace(layer, x, tg.tensor(h), loss=weighted)
    out, _ = layer(tg.tensor(x), tg.tensor(h))
    assert "z" in traced[0].values and "twice" not in traced[0].values
    np.testing.assert_array_equal(traced.output, out.numpy())


def layers_of_a_page(traced: Trace, path: Path) -> list[dict[str, Any]]:
    text = page(traced, path).read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="trace">(.*?)</script>', text, re.DOTALL)
    layers: list[dict[str, Any]] = json.loads(data)["layers"]
    return layers


@pytest.mark.parametrize("kind", [atlas.LEMCell, atlas.MLSTMCell, Hidden])
def test_a_page_of_both_directions(kind: Any, tmp_path: Path) -> None:
    """Of cells that the page does not know, with sequences of different lengths."""
    network = Recurrent([(kind(I, 4), kind(I, 4)), kind(8, 4)])
    traced = trace(network, drawn(T, B, I).astype("float32"), lengths=[T, 1, 2], loss=weighted)
    layers = layers_of_a_page(traced, tmp_path / "page.html")
    assert [layer["name"] for layer in layers] == ["cells.0.0", "cells.0.1", "cells.1"]
    assert [layer["reverse"] for layer in layers] == [False, True, False]
    assert all(tuple(layer["equations"]) == traced[0].equations != () for layer in layers[:2])
    for layer, shown in zip(traced, layers, strict=True):
        assert [run["steps"] for run in shown["items"]] == [T, 1, 2]
        for run in shown["items"]:
            wide = [name for name, value in layer.values.items() if value.shape == layer.shape]
            assert list(run["values"]) == list(run["gradients"]) == wide and set(run["restarts"]["states"]) <= set(wide)


@pytest.mark.parametrize("kind", [atlas.LEMCell, Hidden])
def test_summary_and_graph(kind: Any) -> None:
    """They are of the steps, of cells that nothing else knows."""
    network, x = Recurrent((kind(I, 4), kind(I, 4))), tg.ones(T, B, I, requires_grad=True)
    out, _ = network(x, lengths=[T, 1, 2])
    assert drawn_graph(out.sum(), network).loops() == [f"× {T}", f"× {T}"]
    summary = str(tg.inspect.summary(network, x))
    assert kind.__name__ in summary


def test_variables_that_the_input_does_not_reach_name_nothing() -> None:
    """Their memory may be that of what is computed later."""

    class Forgetting(tg.nn.Module):
        def make(self) -> None:
            first, second = tg.ones(3), tg.ones(3)  # noqa: F841

        def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
            self.make()
            return tg.tanh(tg.sigmoid(x * 2) + (0 if h is None else h))

    layer = Recurrent(Forgetting(), compiled=False)
    for _ in range(50):
        (seen,) = trace(layer, tg.rand(1, B, 3))
        assert list(seen.values) == ["state0"]
