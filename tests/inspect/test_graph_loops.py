"""Loops in the drawing of a tensor's graph: what is folded, and what the folded loop shows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dot_reader import read
from drawn_graphs import by_step, drawn, in_blocks, inputs, layer_by_layer, unrolled, with_attention

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import graph
from tinygrad_lstm.models import LSTM, GRUCell, LSTMCell, Recurrent, RNNCell

CELLS = [LSTMCell, GRUCell, RNNCell]


@pytest.mark.parametrize("kind", CELLS)
def test_a_drawing_has_one_size_whatever_the_number_of_steps(kind: Any) -> None:
    cell = kind(3, 5)
    texts = {T: graph(unrolled(cell, inputs(T))[-1].sum(), cell).dot for T in (4, 10, 100)}
    assert texts[100].count('"× 100"') == 1
    for T in (4, 10):
        assert texts[T].replace(f'"× {T}"', '"× 100"') == texts[100]


def test_a_step_of_an_lstm_is_its_equations() -> None:
    cell = LSTMCell(3, 5)
    drawing = drawn(unrolled(cell, inputs(50))[-1].sum(), cell)
    assert drawing.loops() == ["× 50"]
    assert drawing.ops() == [
        *("sum", "cat", "linear", "split", "sigmoid", "sigmoid", "tanh", "mul", "mul", "add"),
        *("sigmoid", "tanh", "mul"),
    ]
    assert [arrow for arrow in drawing.arrows() if "step" in arrow] == [
        "mul -> cat (next step)",  # h
        "add -> mul (next step)",  # c
        "mul -> sum (last step)",
    ]
    assert all(("style" in a) == (a.get("label") == "next step") for _, _, a in drawing.edges)
    assert {drawing.label(node).partition("\n")[0] for node, frames in drawing.frames.items() if not frames} == {
        *("weight", "bias", "sum", "output")
    }


def test_without_folding_all_steps_are_drawn() -> None:
    cell = LSTMCell(3, 5)
    loss = unrolled(cell, inputs(20))[-1].sum()
    whole, folded = graph(loss, cell, fold=False), graph(loss, cell)
    assert whole.ops == whole.shown == folded.ops == 12 * 20 - 1 + 1  # no [h, x] at first, but a sum
    assert folded.shown == 13
    drawing = read(whole.dot)
    assert len(drawing.ops()) == whole.ops and not drawing.loops()
    assert not any("step" in arrow for arrow in drawing.arrows())


def losses_after(T: int = 12) -> tg.Tensor:
    head = tg.nn.Linear(5, 2)
    return sum((head(h).square().sum() for h in unrolled(LSTMCell(3, 5), inputs(T))), start=tg.tensor(0.0))


def layers_in_each_step(T: int = 12) -> tg.Tensor:
    first, second, below, above = LSTMCell(3, 5), LSTMCell(5, 5), None, None
    for x in inputs(T):
        below = first(x, below)
        above = second(below[0], above)
    return above[0]  # type: ignore[index]


def two_steps_back(T: int = 12) -> tg.Tensor:
    layer, hs = tg.nn.Linear(10, 5), [tg.zeros(2, 5), tg.zeros(2, 5)]
    for _ in range(T):
        hs.append(layer(tg.cat([hs[-1], hs[-2]], 1)).tanh())
    return hs[-1]


def last_cell_state(T: int = 12) -> tg.Tensor:
    cell, state = LSTMCell(3, 5), None
    for x in inputs(T):
        state = cell(x, state)
    return state[1]  # type: ignore[index, no-any-return]


@pytest.mark.parametrize(
    ("program", "loops", "arrows"),
    [
        (by_step, ["× 12"], {"add -> add (next step)", "add -> div (last step)"}),
        (losses_after, ["× 12", "× 12"], {"mul -> linear (every step)", "add -> output (last step)"}),
        (layers_in_each_step, ["× 12"], {"mul -> cat (next step)"}),
        (layer_by_layer, ["× 12", "× 12", "× 12"], {"mul -> linear (every step)", "mul -> stack (every step)"}),
        (with_attention, ["× 12", "× 12"], {"mul -> stack (every step)", "sum -> cat (next step)"}),
        (in_blocks, ["× 12", "× 12 × 5"], {"tanh -> linear (last step)", "leaf -> cat (first step)"}),
        (two_steps_back, ["× 12"], {"tanh -> cat (next step)", "tanh -> cat (2 steps on)"}),
        (last_cell_state, ["× 12"], {"add -> mul (next step)", "add -> output (last step)"}),
    ],
)
def test_loops_are_found_in(program: Callable[[int], tg.Tensor], loops: list[str], arrows: set[str]) -> None:
    drawing, longer = drawn(program(12)), drawn(program(40))
    assert sorted(drawing.loops()) == sorted(loops)
    assert arrows <= set(drawing.arrows())
    for long, short in [(longer.labels(), drawing.labels()), (longer.arrows(), drawing.arrows())]:
        assert [text.replace("40", "12") for text in long] == short


@pytest.mark.parametrize("options", [{}, {"lengths": [12, 7]}], ids=["whole", "lengths"])
def test_a_layer_that_runs_step_by_step_is_one_loop(options: dict[str, Any]) -> None:
    layer = LSTM(3, 5, peephole=True, bidirectional=True)
    out, _ = layer(tg.ones(12, 2, 3), **options)
    drawing = drawn(out.sum(), layer)
    assert drawing.loops() == ["× 12", "× 12"]
    nets = sum(label.startswith("linear (2, 20)") for label in drawing.labels())
    assert nets == 4  # W·x and U·h of each direction, once


def test_a_user_function_is_unrolled_by_scan_into_one_loop() -> None:
    weight, x = tg.rand(5, 5, requires_grad=True), tg.rand(20, 2, 5)

    def step(x_t: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        seen = x_t + h
        return (tg.tanh(seen @ weight) + seen).sin()

    out, _ = tg.scan(step, x, tg.zeros(2, 5))
    assert drawn(out.sum(), {"U": weight}).loops() == ["× 20"]


def test_a_state_given_at_first_enters_the_first_step() -> None:
    cell = LSTMCell(3, 5)
    h, c = tg.zeros(2, 5, requires_grad=True), tg.zeros(2, 5, requires_grad=True)
    drawing = drawn(unrolled(cell, inputs(9), (h, c))[-1], {"h": h, "c": c})
    assert drawing.loops() == ["× 9"]
    assert {"h -> cat (first step)", "c -> mul (first step)"} <= set(drawing.arrows())


def test_inputs_that_differ_from_step_to_step_are_drawn_once() -> None:
    cell = RNNCell(3, 5)
    xs = inputs(9, requires_grad=True)
    own = drawn(unrolled(cell, xs)[-1])
    assert own.labels().count("leaf (2, 3) float32") == 1 and own.loops() == ["× 9"]
    x = tg.ones(9, 2, 3, requires_grad=True)
    assert "unbind -> cat (one a step)" in drawn(unrolled(cell, x)[-1]).arrows()
    assert "getitem -> cat (every step)" in drawn(unrolled(cell, [x[t] for t in range(9)])[-1]).arrows()


def test_numbers_that_differ_from_step_to_step_are_left_out() -> None:
    x = tg.ones(2, requires_grad=True)
    same, other = x, x
    for t in range(20):
        same, other = (same * 0.5).sin(), (other * (t + 0.5)).sin()
    assert "0.5" in drawn(same).labels()
    assert "constant ()" in drawn(other).labels()


def test_layers_with_names_are_all_drawn() -> None:
    layers = [layer for _ in range(12) for layer in (tg.nn.Linear(4, 4), tg.nn.Linear(4, 4))]
    model = tg.nn.Sequential(*layers)
    out = model(tg.ones(1, 4))
    assert drawn(out).loops() == ["× 24"]
    named = drawn(out, model)
    assert not named.loops()
    assert all(f"{name} {p.shape} float32" in named.labels() for name, p in model.named_parameters())


def test_long_steps_begin_where_only_the_state_is_carried() -> None:
    cell, order = RNNCell(3, 5), np.random.default_rng(1).choice(["sin", "tanh", "sigmoid", "cos"], 60)
    h, results = None, []
    for x in inputs(12):
        h = cell(x, h)
        result = h
        for name in order:
            result = getattr(result, name)()
        results.append(result)
    drawing = drawn(tg.stack(results))
    assert drawing.loops() == ["× 12"] and len(drawing.ops()) == 3 + 60 + 1
    assert [arrow for arrow in drawing.arrows() if "next step" in arrow] == ["tanh -> cat (next step)"]


def test_gates_side_by_side_are_not_a_loop() -> None:
    parts = tg.chunk(tg.ones(2, 16, requires_grad=True), 4, dim=-1)
    product = parts[0].sigmoid() * parts[1].sigmoid() * parts[2].sigmoid() * parts[3].sigmoid()
    assert not drawn(product).loops()


def test_two_loops_of_different_cells_are_two() -> None:
    first, second = RNNCell(3, 5), RNNCell(4, 5)
    hs = unrolled(first, inputs(8))
    drawing = drawn(unrolled(second, inputs(6, 4), hs[-1])[-1])
    assert drawing.loops() == ["× 8", "× 6"]
    assert "tanh -> cat (last step, first step)" in drawing.arrows()


@pytest.mark.parametrize("options", [{}, {"lengths": [12, 7]}], ids=["whole", "lengths"])
def test_a_compiled_sequence_is_drawn_as_its_steps(options: dict[str, Any]) -> None:
    """The same as of a sequence that is computed step by step; as one op once its operands are freed."""
    cells = [(GRUCell(3, 4), LSTMCell(3, 4)), RNNCell(8, 2)]
    x, drawings = tg.ones(12, 2, 3, requires_grad=True), []
    for compiled in (True, False):
        network = Recurrent(cells, compiled=compiled)
        out, state = network(x, **options)
        drawings.append(drawn(out.sum(), {**dict(network.named_parameters()), "out": out}))
    assert drawings[0].loops() == ["× 12"] * 3
    assert sorted(drawings[0].labels()) == sorted(drawings[1].labels())
    assert sorted(drawings[0].arrows()) == sorted(drawings[1].arrows())
    assert drawn(state[-1], network).loops() == ["× 12"] * 3
    compiled_out, _ = Recurrent(cells, compiled=True)(x, **options)
    loss = compiled_out.sum()
    loss.backward()
    assert sum(label.startswith("sequence") for label in drawn(loss).labels()) == 3
