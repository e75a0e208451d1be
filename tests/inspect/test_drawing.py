"""Drawings of cells, made of their programs: everything that has a name is there, and nothing covers anything else."""

import re
from itertools import combinations, pairwise
from typing import Any

import pytest
from any_cells import GatedCell, as_parts
from hypothesis import given, settings
from tracing.drawn_steps import DrawnStep, drawn_steps

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import LayerTrace
from tinygrad_lstm.inspect.drawing import Drawing, drawn
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models import GRU, LSTM, RNN, Recurrent
from tinygrad_lstm.models.atlas import ATLAS

Point = tuple[int, int]

PLAIN = {f"{name}Cell" for name in KINDS}  # the page has their drawings
CELLS = [name for name, cell in ATLAS.items() if cell.__name__ not in PLAIN]
VARIANTS = {
    "LSTM": LSTM(3, 4, peephole=True, layer_norm="cell", proj_size=2, activations=("hard_sigmoid", "softsign", "relu")),
    "GRU": GRU(3, 4, reset_after=False),
    "RNN": RNN(3, 4, nonlinearity="relu"),
}


def traced(model: tg.nn.Module, *state: Any) -> LayerTrace:
    (layer,) = tg.inspect.trace(model, tg.rand(2, 2, 3), *state)
    return layer


def words(drawing: Drawing) -> set[str]:
    """What is written in a drawing."""
    return {word for shape in drawing.shapes for word in re.findall(r"\w+", shape.get("text", ""))}


def numbers(drawing: Drawing) -> set[str]:
    """The values whose numbers are shown."""
    return {shape["value"] for shape in drawing.shapes if shape.get("value")}


def wires(drawing: Drawing) -> list[list[Point]]:
    """The corners of the wires."""
    found = []
    for shape in drawing.shapes:
        if shape["kind"] == "wire":
            points: list[Point] = []
            for letter, first, second in re.findall(r"([MHV])(-?\d+)(?: (-?\d+))?", shape["line"]):
                x, y = points[-1] if points else (0, 0)
                points.append({"M": (int(first), int(second or 0)), "H": (int(first), y), "V": (x, int(first))}[letter])
            found.append(points)
    return found


def check_places(drawing: Drawing) -> None:
    """No part covers another; no wire passes a part, or runs along a wire of a different value."""
    width, height = drawing.size
    boxes = [box for _, box in drawing.boxes]
    for box in boxes:
        assert 0 <= box.left < box.right <= width and 0 <= box.top < box.bottom <= height
    for a, b in combinations(boxes, 2):
        assert a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top, (a, b)
    lines: list[tuple[Point, Point, Point]] = []
    for points in wires(drawing):
        (x, y), (end_x, end_y) = points[0], points[-1]
        passed = [
            box
            for box in boxes
            if not (box.left <= x <= box.right and box.top <= y <= box.bottom)
            and not (box.left <= end_x <= box.right and box.top <= end_y <= box.bottom)
        ]
        for start, end in pairwise(points):
            (left, right), (top, bottom) = sorted((start[0], end[0])), sorted((start[1], end[1]))
            assert 0 <= left <= right <= width and 0 <= top <= bottom <= height
            assert left == right or top == bottom
            lines.append((points[0], (left, top), (right, bottom)))
            for box in passed:
                assert right <= box.left or box.right <= left or bottom <= box.top or box.bottom <= top, (box, points)
    for (source, start, end), (other, begin, stop) in combinations(lines, 2):
        across = start[0] == end[0] == begin[0] == stop[0] and start[1] < stop[1] and begin[1] < end[1]
        along = start[1] == end[1] == begin[1] == stop[1] and start[0] < stop[0] and begin[0] < end[0]
        assert source == other or not (across or along), (start, end, begin, stop)


@pytest.mark.parametrize("name", CELLS)
def test_every_name_of_a_cell_is_in_its_drawing(name: str) -> None:
    cell: Any = ATLAS[name](3, 4)
    drawing = drawn(traced(Recurrent(cell)).data_path)
    states, parameters = set(cell.STATES), dict(cell.named_parameters())
    assert words(drawing) >= {"x", "output", *states, *(f"next_{state}" for state in states), *parameters}
    assert words(drawing) >= set(cell.GATES._fields)
    assert numbers(drawing) == {*cell.GATES._fields, *(f"{state}_before" for state in states)}
    check_places(drawing)


@pytest.mark.parametrize("kind", VARIANTS)
def test_layers_with_options_have_drawings_of_their_own(kind: str) -> None:
    layer = traced(VARIANTS[kind])
    drawing = drawn(layer.data_path)
    assert words(drawing) >= layer.parameters.keys()
    assert numbers(drawing) == {*KINDS[kind].values, *(f"{state}_before" for state in layer.before)}
    check_places(drawing)


@pytest.mark.parametrize("model", [LSTM(3, 4), GRU(3, 4), RNN(3, 4), Recurrent(ATLAS["rnn"](3, 4))])
def test_plain_layers_have_the_drawing_of_their_kind(model: tg.nn.Module) -> None:
    layer = traced(model)
    assert (layer.data_path, layer.equations) == ((), ())


def test_states_without_numbers_are_drawn_too() -> None:
    """One is an integer, and is in no trace."""
    drawing = drawn(traced(Recurrent(GatedCell(3, 5))).data_path)
    assert words(drawing) >= {"h", "n", "next_h", "next_n", "gate_weight", "gate_bias"}
    assert numbers(drawing) >= {"h", "h_before"} and "n" not in numbers(drawing)
    check_places(drawing)


def test_what_belongs_together_is_one_part() -> None:
    def step(x: tg.Tensor, state: Any) -> Any:
        h, c = state
        net = weight(tg.cat([x, h], dim=-1))
        i, f = tg.sigmoid(net[:, :4]), tg.sigmoid(net[:, 4:])
        c = (1 - f) * c + i * scale - 0.5 * h
        return c / (c + 2), c

    weight, scale = tg.nn.Linear(7, 8), tg.nn.Parameter(tg.rand(4))

    class Over(tg.nn.Module):
        def forward(self, x: tg.Tensor) -> Any:
            return tg.scan(step, x, (tg.zeros(2, 4), tg.zeros(2, 4)))[0]

    parts = [part for part in traced(Over()).data_path if part.shape != "port"]
    shown = [(part.shape, part.title, part.lines, [each.mark for each in part.inputs]) for part in parts]
    assert shown == [
        ("circle", "[,]", (), ["", ""]),
        ("box", "net", ("weight_weight · …", "+ weight_bias"), [""]),
        ("circle", "split", (), [""]),
        ("box", "i: σ", (), [""]),
        ("box", "f: σ", (), [""]),
        ("circle", "×", (), ["1−", ""]),
        ("box", "next_state1", ("… + scale ⊙ i", "− 0.5 · state0"), ["", "", ""]),
        ("circle", "+ 2", (), [""]),
        ("circle", "÷", (), ["", "÷"]),
    ]


_TIMES = [("×", ["", ""])]
WRITTEN: dict[str, tuple[Any, list[tuple[str, list[str]]]]] = {
    "a value twice in a sum": (lambda x, h: x + x + h, [("+", ["", "", ""])]),
    "a value twice in an op": (lambda x, h: tg.where(h > x, h, x), [(">", ["", ""]), ("where", ["", "", ""])]),
    "a large power": (lambda x, h: h * h * h * h * h * h * h * h * h * h * x, [("×", ["¹⁰", ""])]),
    "a number in a function": (lambda x, h: tg.tanh(tg.maximum(h, 0.5)) * x, [("tanh(max(·, 0.5))", [""]), *_TIMES]),
    "a number as the base": (lambda x, h: 2.0**h * x, [("pow(2, ·)", [""]), *_TIMES]),
    "a comparison": (lambda x, h: tg.where(h > 0.5, x, 0.0), [("· > 0.5", [""]), ("where(·, ·, 0)", ["", ""])]),
    "a parameter in an op": (lambda x, h: tg.where(h > x, x, V), [(">", ["", ""]), ("where(·, ·, V)", ["", ""])]),
    "a parameter that divides": (lambda x, h: (h / V) * x, [("· ÷ V", [""]), *_TIMES]),
    "a power of a quotient": (lambda x, h: (h / 2) ** 2 * x, [("(· ÷ 2)²", [""]), *_TIMES]),
    "a quotient of a quotient": (lambda x, h: 2 / (h / 3) * x, [("2 ÷ (· ÷ 3)", [""]), *_TIMES]),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_drawing_says_what_is_computed(name: str) -> None:
    step, expected = WRITTEN[name]

    class Over(tg.nn.Module):
        def forward(self, x: tg.Tensor) -> Any:
            return tg.scan(step, x, tg.rand(2, 3))[0]

    path = traced(Over()).data_path
    shown = [(part.title, [each.mark for each in part.inputs]) for part in path if part.shape != "port"]
    assert shown == expected
    check_places(drawn(path))


W, V = tg.nn.Parameter(tg.rand(3, 3)), tg.nn.Parameter(tg.rand(3))
ODD_STEPS = {
    "a state stays": lambda x, s: (tg.tanh(x @ W + s[1]), s[1]),
    "states are exchanged": lambda x, s: (s[1], s[0] + x),
    "two states are one": lambda x, s: (x * s[0],) * 2,
    "a state is constant": lambda x, s: (tg.tanh(x + s[0]), tg.ones_like(s[1])),
    "the input is not used": lambda x, s: (0.5 * s[0], s[1] @ W.T @ W),
    "powers": lambda x, s: (s[0] * s[0] * s[0] + x, (1 - s[1]) * s[1] + x**2),
    "functions of parameters": lambda x, s: (s[0] @ tg.softmax(W, dim=0) + V * V, tg.layer_norm(s[1] + x, 3)),
    "a function with a parameter, and a factor": lambda x, s: (s[0] + x, 0.5 * tg.layer_norm(s[1], 3, V)),
    "parts that are joined": lambda x, s: (tg.stack(list(tg.unbind(s[0], 1)), dim=1) + x, tg.flip(s[1], 1)),
}


@pytest.mark.parametrize("name", ODD_STEPS)
def test_odd_steps_can_be_drawn(name: str) -> None:
    class Over(tg.nn.Module):
        def forward(self, x: tg.Tensor) -> Any:
            return tg.scan(ODD_STEPS[name], x, (tg.rand(2, 3), tg.rand(2, 3)))[0]

    drawing = drawn(traced(Over()).data_path)
    assert words(drawing) >= {"x", "state0", "state1", "next_state0", "next_state1"}
    assert words(drawing) >= {"W", "V"}.intersection(ODD_STEPS[name].__code__.co_names)
    assert len(wires(drawing)) >= 3
    check_places(drawing)


def test_a_step_with_many_parts_can_be_drawn() -> None:
    """Wires pass many columns."""

    class Deep(tg.nn.Module):
        def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
            h = tg.zeros_like(x) if h is None else h
            for _ in range(10):
                z = tg.sigmoid(x @ W + h)
                x = z * h + (1 - z) * tg.tanh(x * z)
            return x

    drawing = drawn(traced(Recurrent(Deep())).data_path)
    assert len(drawing.boxes) > 50
    check_places(drawing)


@settings(max_examples=25)
@given(drawn_steps())
def test_any_step_can_be_drawn(step: DrawnStep) -> None:
    x, state = step.inputs(T=2, B=2)

    class Over(tg.nn.Module):
        def forward(self, x: tg.Tensor) -> Any:
            return tg.scan(step.step, x, state)[0]

    with tg.compiled_kernels(False):
        (layer,) = tg.inspect.trace(Over(), x)
    drawing = drawn(layer.data_path)
    names = {f"{before}state{k}" for before in ("", "next_") for k in range(len(as_parts(state)))}
    assert words(drawing) >= {"x", *names}
    check_places(drawing)
