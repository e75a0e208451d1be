"""The explained step: its numbers are the cell's, its lines the file's, and what is shown adds up."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from written_modules import module_of

import tinygrad_lstm as tg
from tinygrad_lstm import models
from tinygrad_lstm.inspect import Stage, explain, stage_text
from tinygrad_lstm.inspect._stage_text import needs_ascii
from tinygrad_lstm.models import GRUCell, LSTMCell

TITLES = ["Concatenation", "Forget gate", "Input gate and candidate", "Cell update", "Output gate", "Hidden state"]
GATES = {"i": 2, "f": 1, "c̃": 2, "o": 4}  # by symbol, the stage that tells of it
CELLS = Path(models.__file__).with_name("cells.py")

State = tuple[tg.Tensor, tg.Tensor]


def step(seed: int, I: int, H: int, scale: float = 1.0) -> tuple[LSTMCell, tg.Tensor, State]:
    """A cell with random weights, an input and states for it, on the default device."""
    rng = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(0, scale, shape).astype(np.float32)

    cell = LSTMCell(I, H)
    cell.load_state_dict({"weight": drawn(4 * H, H + I), "bias": drawn(4 * H)})
    return cell, tg.tensor(drawn(1, I)), (tg.tensor(drawn(1, H)), tg.tensor(drawn(1, H)))


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_the_stages_come_in_the_order_of_the_data_path() -> None:
    assert [stage.title for stage in explain(*step(0, 3, 2))] == TITLES


@pytest.mark.parametrize("sizes", [(1, 1), (4, 3), (20, 9)])
def test_results_are_those_of_the_cell(device: str, sizes: tuple[int, int]) -> None:
    with tg.default_device(device):
        cell, x, state = step(0, *sizes)
        units = range(cell.hidden_size)
        stages = explain(cell, x, state, units)
        gates = cell.gates(x, state)
    told = {
        (calculation.symbol, calculation.unit): calculation.result
        for stage in stages
        for calculation in stage.calculations
    }
    named = {"i": gates.i, "f": gates.f, "c̃": gates.g, "o": gates.o, "c'": gates.c, "h'": gates.h}
    expected = {(name, unit): value for name, values in named.items() for unit, value in enumerate(values.tolist()[0])}
    tanh = {("tanh(c')", unit): math.tanh(expected["c'", unit]) for unit in units}
    assert told == expected | tanh
    h, x_told, hx = stages[0].vectors.values()
    assert ([*h], [*x_told]) == (state[0].tolist()[0], x.tolist()[0]) and hx == h + x_told


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 5))
def test_calculations_add_up(seed: int, I: int, H: int) -> None:
    functions = {"σ": lambda net: 1 / (1 + math.exp(-net)), "tanh": math.tanh, "": lambda net: net}
    for stage in explain(*step(seed, I, H)):
        for calculation in stage.calculations:
            total = sum(math.prod(factors) for factors in calculation.terms)
            assert calculation.argument == pytest.approx(total, rel=1e-4, abs=1e-5)
            assert calculation.result == pytest.approx(functions[calculation.function](total), rel=1e-4, abs=1e-5)


def test_the_state_is_zero_by_default() -> None:
    cell, x, _ = step(0, 3, 2)
    zeros = tg.zeros(1, 2)
    assert explain(cell, x) == explain(cell, x, (zeros, zeros))


def test_the_chosen_units_are_explained() -> None:
    given_step = step(0, 3, 7)
    assert [calculation.unit for calculation in explain(*given_step, [6, 2])[1].calculations] == [6, 2]
    assert [calculation.unit for calculation in explain(*given_step)[1].calculations] == [0, 1]
    assert [calculation.unit for calculation in explain(*step(0, 3, 1))[1].calculations] == [0]


def test_explaining_a_step_does_not_change_the_graph() -> None:
    cell, x, state = step(0, 3, 2)
    x.requires_grad = True
    explain(cell, x, state)
    assert all(parameter.grad is None for parameter in cell.parameters()) and x.grad is None


# -- code -------------------------------------------------------------------------------------------------------------


def test_the_lines_are_those_of_the_file() -> None:
    source = CELLS.read_text(encoding="utf-8").splitlines()
    stages = explain(*step(0, 3, 2))
    for line in (line for stage in stages for line in stage.code):
        assert Path(line.path).samefile(CELLS) and line.file == "models/cells.py"
        assert line.text == source[line.number - 1].strip()
    # Each stage shows the line that sets its variables.
    computed = [["hx"], ["net_f", "f"], ["i", "g"], ["c"], ["o"], ["h"]]
    for stage, names in zip(stages, computed, strict=True):
        for name in names:
            assert any(re.match(rf"(\w+, )*{name}(, \w+)* = ", line.text) for line in stage.code), (stage.title, name)
    assert any('ops.linear(hx, self.adapted("weight"), self.bias)' in line.text for line in stages[1].code)


def test_the_lines_are_those_that_run(tmp_path: Path) -> None:
    """For a cell of a different file, that file's lines are shown."""
    source = """\
import tinygrad_lstm as tg
from tinygrad_lstm.models.cells import LSTMCell, LSTMGates


class Coupled(LSTMCell):
    def gates(self, x, state):
        h, c = state
        hx = tg.concat([h, x], dim=-1)
        return self.step(hx @ self.weight.T + self.bias, c)

    def step(self, net, c):
        net_i, net_f, net_g, net_o = tg.chunk(net, 4, dim=-1)
        i = tg.sigmoid(net_i)
        f = 1 - i  # one gate for both
        g = tg.tanh(net_g)
        c = c + i * (g - c)
        o = tg.sigmoid(net_o)
        h = o * tg.tanh(c)
        return LSTMGates(i, f, g, o, c, h)
"""
    path = tmp_path / "coupled.py"
    module = module_of(path, source)
    stages = explain(module.Coupled(3, 2), tg.ones(1, 3), (tg.zeros(1, 2), tg.ones(1, 2)))
    assert [(line.path, line.number) for line in stages[1].code] == [(str(path), number) for number in (9, 12, 14)]
    assert [line.text for line in stages[3].code] == ["c = c + i * (g - c)"]


OWN = """\
from typing import NamedTuple

import tinygrad_lstm as tg
from tinygrad_lstm.nn import Linear, Module


class Computed(NamedTuple):
    h: tg.Tensor
    c: tg.Tensor
    o: tg.Tensor
    i: tg.Tensor
    g: tg.Tensor
    f: tg.Tensor


class Own(Module):
    def __init__(self, size, units):
        self.look = Linear(size, 4 * units)
        self.recall = Linear(units, 4 * units, bias=False)

    def gates(self, inputs, state=None):
        shown, memory = (tg.zeros(1, 2), tg.zeros(1, 2)) if state is None else state
        sums = self.look(inputs) + self.recall(shown)
        write, keep, new, show = tg.chunk(sums, 4, dim=-1)
        keep, write = keep.sigmoid(), write.sigmoid()
        memory = keep * memory + write * (new := new.tanh())
        return Computed(tg.tanh(memory) * (show := show.sigmoid()), memory, show, write, new, keep)

    def layer_parameters(self):
        return {"weight_ih": self.look.weight, "weight_hh": self.recall.weight, "bias": self.look.bias}
"""


def test_a_cell_with_names_of_its_own_is_explained(tmp_path: Path) -> None:
    tg.manual_seed(0)
    cell = module_of(tmp_path / "own.py", OWN).Own(3, 2)
    x, state = tg.rand(1, 3), (tg.rand(1, 2), tg.rand(1, 2))
    same = LSTMCell(3, 2)
    own = cell.state_dict()
    weight = np.concatenate([own["recall.weight"], own["look.weight"]], axis=1)
    same.load_state_dict({"weight": weight, "bias": own["look.bias"]})
    for given_state in (state, None):
        stages = explain(cell, x, given_state)
        for stage, expected in zip(stages, explain(same, x, given_state), strict=True):
            assert (stage.title, stage.equations, stage.meaning) == (
                expected.title,
                expected.equations,
                expected.meaning,
            )
            for one, other in zip(stage.calculations, expected.calculations, strict=True):
                assert (one.unit, one.symbol, one.function) == (other.unit, other.symbol, other.function)
                assert one.terms == other.terms
                assert (one.argument, one.result) == pytest.approx((other.argument, other.result), rel=1e-5)
    source = OWN.splitlines()
    keeps, updates, returns = (
        source.index(f"        {line}") + 1
        for line in (
            "keep, write = keep.sigmoid(), write.sigmoid()",
            "memory = keep * memory + write * (new := new.tanh())",
            "return Computed(tg.tanh(memory) * (show := show.sigmoid()), memory, show, write, new, keep)",
        )
    )
    assert [[line.number for line in stage.code] for stage in stages] == [
        [keeps - 2],
        [keeps - 1, keeps],
        [keeps, updates],
        [updates],
        [returns],
        [returns],
    ]


def test_a_cell_says_what_it_lacks_to_be_explained(tmp_path: Path) -> None:
    module = module_of(tmp_path / "own.py", OWN)

    class Undeclared(module.Own):  # type: ignore[misc, name-defined]
        layer_parameters = None

    class Incomplete(module.Own):  # type: ignore[misc, name-defined]
        def layer_parameters(self) -> Any:
            return {"weight_ih": self.look.weight}

    class Other(module.Own):  # type: ignore[misc, name-defined]
        def layer_parameters(self) -> Any:
            return super().layer_parameters() | {"bias": self.look.bias + 1.0}

    class Pair(module.Own):  # type: ignore[misc, name-defined]
        def gates(self, *given: Any) -> Any:
            return super().gates(*given)[:2]

    for cell, message in [
        (Undeclared, r"Undeclared has no layer_parameters\(\) with weight_ih, weight_hh, bias; define it"),
        (Incomplete, r"Incomplete has no layer_parameters\(\) with weight_hh, bias; define it"),
        (Other, r"the forget gate of Other, unit 0, is σ of .*, but W·\[h, x\] \+ b is .*; return from layer_para"),
        (Pair, r"gates\(\) of Pair returns a tuple; return a NamedTuple with the fields i, f, g, o, c, h"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            explain(cell(3, 2), tg.ones(1, 3))
        assert "\n" not in str(caught.value)


# -- text -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """All numbers that a shown one may have been before it was rounded."""

    low: float
    high: float

    @classmethod
    def of(cls, shown: str) -> "Interval":
        # The least bit more than half a digit, for the float32 numbers' own rounding.
        around = 0.00051 if "." in shown else 1e-6
        return cls(float(shown) - around, float(shown) + around)

    def __neg__(self) -> "Interval":
        return Interval(-self.high, -self.low)

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: "Interval") -> "Interval":
        return self + -other

    def __mul__(self, other: "Interval") -> "Interval":
        corners = [one * two for one in (self.low, self.high) for two in (other.low, other.high)]
        return Interval(min(corners), max(corners))

    def meets(self, other: "Interval") -> bool:
        return self.low <= other.high and other.low <= self.high


def sigmoid(x: Interval) -> Interval:
    return Interval(1 / (1 + math.exp(-x.low)), 1 / (1 + math.exp(-x.high)))


def tanh(x: Interval) -> Interval:
    return Interval(math.tanh(x.low), math.tanh(x.high))


def shown_equations(text: str) -> list[tuple[str, list[str]]]:
    """The equations of the units: what is computed, and the sides that it is said to equal, as Python reads them."""
    joined = re.sub(r"\n {9,}(?=\S)", " ", text)
    found = re.findall(r"^  unit +\d+  (\S+) = (.*?)(?:  [█░#.]+)?$", joined, re.MULTILINE)
    return [(name, sides.replace("σ", "sigmoid").replace("·", "*").split(" = ")) for name, sides in found]


def value(side: str) -> Interval:
    numbers = re.sub(r"\d+(\.\d+)?", lambda match: f"Interval.of('{match[0]}')", side)
    result: Interval = eval(numbers)
    return result


def all_meet(sides: list[str]) -> bool:
    return all(value(one).meets(value(other)) for one in sides for other in sides)


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 5), st.sampled_from([0.1, 1.0, 5.0]), st.booleans())
def test_shown_equations_add_up(seed: int, I: int, H: int, scale: float, ascii: bool) -> None:
    for stage in explain(*step(seed, I, H, scale), units=range(H)):
        equations = shown_equations(stage_text(stage, ascii))
        assert len(equations) == len(stage.calculations)
        for (symbol, sides), calculation in zip(equations, stage.calculations, strict=True):
            assert symbol == (calculation.symbol.replace("c̃", "c~") if ascii else calculation.symbol)
            assert value(sides[-1]).meets(Interval(calculation.result, calculation.result))
            assert all_meet(sides), sides


def test_a_wrong_number_would_be_seen() -> None:
    for _, sides in shown_equations(stage_text(explain(*step(0, 3, 2))[1])):
        assert len(sides) == 3 and all_meet(sides)
        assert not all_meet([*sides[:2], f"{float(sides[2]) + 0.01:.3f}"])
        assert not all_meet([sides[0] + " + 0.1", *sides[1:]])


def test_exact_zeros_are_left_out() -> None:
    cell, _, _ = step(0, 3, 2)
    (_, sides), _ = shown_equations(stage_text(explain(cell, [[0.0, 1.0, 0.0]])[1]))
    weight, bias = cell.weight[2, 3].item(), cell.bias[2].item()
    assert sides[0] == f"sigmoid({weight:.3f}*1 {'-' if bias < 0 else '+'} {abs(bias):.3f})"
    (_, sides), _ = shown_equations(stage_text(explain(cell, [[0.0, 0.0, 0.0]])[3]))
    assert sides[0].count("*") == 1


@pytest.mark.parametrize("sizes", [(1, 2), (2, 2), (6, 2), (30, 1200)])
@pytest.mark.parametrize("ascii", [False, True])
def test_a_stage_is_no_wider_than_a_terminal(sizes: tuple[int, int], ascii: bool) -> None:
    last = sizes[1] - 1
    for stage in explain(*step(1, *sizes), [0, last]):
        lines = stage_text(stage, ascii).splitlines()
        assert max(len(line.replace("\N{COMBINING TILDE}", "")) for line in lines) <= 80
        assert len(lines) <= 22
        assert not ascii or all(line.isascii() for line in lines)


def test_the_code_is_shown_as_it_is() -> None:
    for stage in explain(*step(0, 3, 2)):
        for line in stage.code:
            assert f"  {line.number:>5}  {line.text}\n" in stage_text(stage, ascii=True)


def test_long_vectors_are_cut() -> None:
    text = stage_text(explain(*step(0, 5, 40))[0])
    assert "… 40 in all]" in text and "… 45 in all]" in text and "x      = [" in text


def test_a_bar_shows_how_open_a_gate_is() -> None:
    cell = biased(i=0, f=30, o=-30)
    bars = [re.findall("[█░]+", stage_text(stage)) for stage in explain(cell, [[0.0]])]
    assert bars[1:5] == [["█" * 10], ["█" * 5 + "░" * 5], [], ["░" * 10]]
    cell = biased(i=math.nan, f=0, o=0)
    assert "σ(nan) = nan\n" in stage_text(explain(cell, [[0.0]])[2])


def test_which_terminals_need_ascii() -> None:
    assert [needs_ascii(encoding) for encoding in ("utf-8", "utf-16", "ascii", "cp437", "latin-1")] == [
        False,
        False,
        True,
        True,
        True,
    ]


# -- meaning ----------------------------------------------------------------------------------------------------------


def biased(i: float, f: float, o: float, g: float = 1.0) -> LSTMCell:
    """A cell of one unit that looks at nothing."""
    cell = LSTMCell(1, 1)
    cell.load_state_dict({"weight": np.zeros((4, 2), np.float32), "bias": np.array([i, f, g, o], np.float32)})
    return cell


def meanings(cell: LSTMCell, c: float) -> list[str]:
    stages: tuple[Stage, ...] = explain(cell, [[0.0]], ([[0.0]], [[c]]))
    return [stage.meaning[0] for stage in stages]


def test_the_meaning_follows_from_the_numbers() -> None:
    keeping = meanings(biased(i=-5, f=5, o=5), c=0.5)
    assert keeping[1:] == [
        "Unit 0: the forget gate is 0.993: keep the cell state, 0.500.",
        "Unit 0: the input gate is 0.007: do not write the candidate, 0.762.",
        "Unit 0: 0.497 of 0.500 is kept, 0.005 is written: the cell state is now 0.502.",
        "Unit 0: the output gate is 0.993: show the cell state, 0.502.",
        "Unit 0: of tanh(c') = 0.463, the hidden state shows 0.460.",
    ]
    writing = meanings(biased(i=5, f=-5, o=-5), c=0.5)
    assert writing[1:3] == [
        "Unit 0: the forget gate is 0.007: forget the cell state, 0.500.",
        "Unit 0: the input gate is 0.993: write the candidate, 0.762.",
    ]
    assert "hide the cell state, 0.760." in writing[4]
    between = meanings(biased(i=0, f=0, o=0), c=0.5)
    assert "0.500: keep 50% of the cell state" in between[1]
    assert "0.500: write 50% of the candidate" in between[2]
    assert "0.500: show 50% of the cell state" in between[4]


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [[0, 2], [-1]])
def test_a_unit_that_is_not_there(units: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"explain: expected units from 0 to 1, got {units[-1]}"):
        explain(*step(0, 3, 2), units)


def test_units_are_several_and_may_be_numpys() -> None:
    cell, x = LSTMCell(3, 2), tg.ones(1, 3)
    number: Any = 1
    with pytest.raises(TypeError, match=r"explain: expected several units, as in \[0, 1\], got 1"):
        explain(cell, x, units=number)
    with pytest.raises(ValueError, match="explain: expected units from 0 to 1, got f"):
        explain(cell, x, units="f")  # type: ignore[arg-type]
    units: Any = np.array([1])
    assert [calculation.unit for calculation in explain(cell, x, units=units)[1].calculations] == [1]
    once: Any = iter([1, 0])
    assert [calculation.unit for calculation in explain(cell, x, units=once)[1].calculations] == [1, 0]


@pytest.mark.parametrize("shape", [(2, 3), (3,), (4, 1, 3)])
def test_an_input_of_a_different_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"explain: expected one input, of shape \(1, input size\), got "):
        explain(LSTMCell(3, 2), tg.ones(*shape))


def test_inputs_and_states_of_invalid_shapes() -> None:
    with pytest.raises(ValueError, match=r"LSTMCell: expected an input of shape \(batch, 3\), got \(1, 4\)"):
        explain(LSTMCell(3, 2), tg.ones(1, 4))
    alone: Any = tg.ones(1, 2)
    with pytest.raises(ValueError, match=r"explain: expected a pair of states, \(h, c\), .* \(1, 2\), got Tensor"):
        explain(LSTMCell(3, 2), tg.ones(1, 3), alone)
    with pytest.raises(ValueError, match=r"LSTMCell: expected 2 states"):
        explain(LSTMCell(3, 2), tg.ones(1, 3), (tg.ones(1, 3), tg.ones(1, 2)))


def test_arguments_that_are_not_such_a_cell() -> None:
    other: Any = GRUCell(3, 2)
    with pytest.raises(ValueError, match=r"computes as LSTMCell does; the gates\(\) of GRUCell returns r, z, n, h"):
        explain(other, tg.ones(1, 3))
    network: Any = models.LSTM(3, 2)
    with pytest.raises(ValueError, match=r"explain: expected a cell, as LSTMCell is, got LSTM"):
        explain(network, tg.ones(1, 3))
