"""One step of an LSTM cell, taken apart: six stages, each with its equation, its lines of code, and its numbers."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .._tensor import Tensor, operand
from ..kinds import KINDS
from ..mode import no_grad
from .lines import CodeLine, lines_run

__all__ = ["Calculation", "Stage", "explain"]

OPEN, SHUT = 0.9, 0.1
"""A gate from the one on is called open, one up to the other shut."""

MOST_PRODUCTS = 3
"""A gate whose sum has more products than this, those with 0 not counted, is told by the shares of h and x in it."""


_LSTM = KINDS["LSTM"]
_GATES = {gate.name: gate for gate in _LSTM.gates}
_VARIABLES = ("hx", "net", *(f"net_{gate}" for gate in _GATES), *_LSTM.values)


class Cell(Protocol):
    """What can be explained: an `LSTMCell`, or a cell of yours whose `gates` sets variables of the same names."""

    hidden_size: int
    bias: Any

    def adapted(self, name: str, /) -> Any:
        """The parameter `weight` as the cell computes with it; see `Module.adapted`."""

    def gates(self, x: Any, state: Any = None, /) -> Any:
        """Computes a step from an input (1, I) and the states (h, c) before."""


@dataclass(frozen=True)
class Calculation:
    """One number of one unit: `result` is `function` of `argument`, which is the sum of products `terms`.

    Attributes:
        unit: whose number it is.
        symbol: what it is called in the equation.
        terms: the factors of each product.
        argument: the sum.
        function: "σ" or "tanh"; empty if the sum itself is the result.
        result: what the cell computed.
    """

    unit: int
    symbol: str
    terms: tuple[tuple[float, ...], ...]
    argument: float
    function: str
    result: float


@dataclass(frozen=True)
class Stage:
    """A part of a step.

    Attributes:
        title: what it is called.
        question: what it answers.
        equations: how it is computed, in the notation of `LSTMCell`.
        code: the lines that computed it.
        meaning: what the numbers say, in sentences.
        vectors: the whole vectors that it is about, by name.
        calculations: the numbers of each unit.
    """

    title: str
    question: str
    equations: tuple[str, ...]
    code: tuple[CodeLine, ...]
    meaning: tuple[str, ...]
    vectors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    calculations: tuple[Calculation, ...] = ()


def explain(
    cell: Cell, x: Any, state: tuple[Any, Any] | None = None, units: Sequence[int] | None = None
) -> tuple[Stage, ...]:
    """Runs one step of a cell, and tells it in six stages, in the order of its data path.

    The numbers are those of this very run, and so are the lines of code. `stage_text` makes a stage readable.

    Args:
        cell: an `LSTMCell`.
        x: one input (1, I).
        state: the states before, (h, c), each (1, H); zeros by default.
        units: the numbers of the units to tell of; the first two by default.

    Returns:
        Concatenation, forget gate, input gate and candidate, cell update, output gate, hidden state.

    Raises:
        ValueError: x or a state has another shape; a unit is not there; the cell computes otherwise than `LSTMCell`.
        TypeError: `units` is no sequence.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTMCell
    >>> stages = explain(LSTMCell(3, 5), tg.ones(1, 3), units=[4])
    >>> [stage.title for stage in stages[:3]]
    ['Concatenation', 'Forget gate', 'Input gate and candidate']
    >>> stages[3].equations[0], stages[3].code[0].text
    ("c' = f ⊙ c + i ⊙ c̃", 'c = f * c + i * g')
    """
    if not hasattr(cell, "gates"):
        raise ValueError(f"explain: expected a cell, as LSTMCell is, got {type(cell).__name__}")
    x = operand(x)
    if x.ndim != 2 or x.shape[0] != 1:
        raise ValueError(f"explain: expected one input, of shape (1, input size), got {x.shape}")
    H = cell.hidden_size
    told = range(min(2, H)) if units is None else _checked_units(units, H)
    with no_grad():
        step = _Step(cell, x, None if state is None else _pair(state, H), told)
        return (
            step.concatenation(),
            step.forget_gate(),
            step.input_gate_and_candidate(),
            step.cell_update(),
            step.output_gate(),
            step.hidden_state(),
        )


def _checked_units(units: Any, size: int) -> list[int]:
    if not isinstance(units, Iterable):
        raise TypeError(f"explain: expected several units, as in [0, 1], got {units}")
    for unit in units:
        if not (isinstance(unit, int | np.integer) and 0 <= unit < size):
            raise ValueError(f"explain: expected units from 0 to {size - 1}, got {unit}")
    return list(units)


def _pair(state: Any, size: int) -> tuple[Tensor, Tensor]:
    if not (isinstance(state, tuple | list) and len(state) == 2):
        raise ValueError(
            f"explain: expected a pair of states, (h, c), each of shape (1, {size}), got {type(state).__name__}"
        )
    return operand(state[0]), operand(state[1])


class _Step:
    """A step that was run: the values of its variables, and the lines that set them."""

    def __init__(self, cell: Cell, x: Tensor, state: tuple[Tensor, Tensor] | None, units: Sequence[int]) -> None:
        self._cell, self._units, self._size = cell, units, cell.hidden_size
        self._lines = {name: line for line in lines_run(cell.gates, x, state) for name in line.variables}
        missing = [name for name in _VARIABLES if name not in self._lines]
        if missing:
            raise ValueError(
                f"explain: expected a cell that computes as LSTMCell does; the gates() of {type(cell).__name__} "
                f"sets no {', '.join(missing)}"
            )
        self._values = {name: _row(self._lines[name].variables[name]) for name in _VARIABLES}
        self._c_before = [0.0] * self._size if state is None else _row(state[1])

    def concatenation(self) -> Stage:
        hx = tuple(self._values["hx"])
        h, x = hx[: self._size], hx[self._size :]
        return Stage(
            "Concatenation",
            "What do the gates see? The previous hidden state and the input, side by side.",
            ("[h, x] = (h_1, …, h_H, x_1, …, x_I)",),
            self._code("hx"),
            (f"{len(h)} numbers come from the step before, {len(x)} from the input.",),
            vectors={"h": h, "x": x, "[h, x]": hx},
        )

    def forget_gate(self) -> Stage:
        def meaning(unit: int) -> str:
            f, c = self._values["f"][unit], self._c_before[unit]
            done = _in_words(f, "keep", "keep {share} of", "forget")
            return f"the forget gate is {f:z.3f}: {done} the cell state, {c:z.3f}."

        return Stage(
            "Forget gate",
            "How much of the cell state is kept? One product gives all gates' W·[h, x] + b.",
            self._gate_equations("f"),
            self._code("net", "net_f", "f"),
            self._of_units(meaning),
            calculations=self._gate_calculations("f"),
        )

    def input_gate_and_candidate(self) -> Stage:
        def meaning(unit: int) -> str:
            i, g = self._values["i"][unit], self._values["g"][unit]
            done = _in_words(i, "write", "write {share} of", "do not write")
            return f"the input gate is {i:z.3f}: {done} the candidate, {g:z.3f}."

        return Stage(
            "Input gate and candidate",
            "What could be written to the cell state (c̃, g in the code)? How much of it is?",
            self._gate_equations("i", "g"),
            self._code("i", "g"),
            self._of_units(meaning),
            calculations=self._gate_calculations("i", "g"),
        )

    def cell_update(self) -> Stage:
        f, i, g, c = (self._values[name] for name in "figc")
        before = self._c_before

        def meaning(unit: int) -> str:
            kept, written = f[unit] * before[unit], i[unit] * g[unit]
            return (
                f"{kept:z.3f} of {before[unit]:z.3f} is kept, {written:z.3f} is written: "
                f"the cell state is now {c[unit]:z.3f}."
            )

        return Stage(
            "Cell update",
            "What does the cell remember now? What was kept, plus what is written.",
            ("c' = f ⊙ c + i ⊙ c̃",),
            self._code("c"),
            self._of_units(meaning),
            calculations=tuple(
                Calculation(unit, "c'", ((f[unit], before[unit]), (i[unit], g[unit])), c[unit], "", c[unit])
                for unit in self._units
            ),
        )

    def output_gate(self) -> Stage:
        def meaning(unit: int) -> str:
            o, c = self._values["o"][unit], self._values["c"][unit]
            done = _in_words(o, "show", "show {share} of", "hide")
            return f"the output gate is {o:z.3f}: {done} the cell state, {c:z.3f}."

        return Stage(
            "Output gate",
            "How much of the cell state is shown, to the next step and to what comes after?",
            self._gate_equations("o"),
            self._code("o"),
            self._of_units(meaning),
            calculations=self._gate_calculations("o"),
        )

    def hidden_state(self) -> Stage:
        o, c, h = (self._values[name] for name in "och")
        bounded = [math.tanh(state) for state in c]

        def meaning(unit: int) -> str:
            return f"of tanh(c') = {bounded[unit]:z.3f}, the hidden state shows {h[unit]:z.3f}."

        return Stage(
            "Hidden state",
            "What is shown? The cell state, squashed by tanh, as far as the gate is open.",
            ("h' = o ⊙ tanh(c')",),
            self._code("h"),
            self._of_units(meaning),
            calculations=tuple(
                calculation
                for unit in self._units
                for calculation in (
                    Calculation(unit, "tanh(c')", ((c[unit],),), c[unit], "tanh", bounded[unit]),
                    Calculation(unit, "h'", ((o[unit], bounded[unit]),), h[unit], "", h[unit]),
                )
            ),
        )

    def _code(self, *names: str) -> tuple[CodeLine, ...]:
        """The lines that last set these variables."""
        return tuple(dict.fromkeys(self._lines[name] for name in names))

    def _of_units(self, meaning: Callable[[int], str]) -> tuple[str, ...]:
        return tuple(f"Unit {unit}: {meaning(unit)}" for unit in self._units)

    @property
    def _in_shares(self) -> bool:
        return sum(map(bool, self._values["hx"])) > MOST_PRODUCTS

    def _gate_equations(self, *names: str) -> tuple[str, ...]:
        equations = []
        for gate in (_GATES[name] for name in names):
            symbol, at, function = gate.symbol, gate.subscript, gate.function
            shares = f" = {function}(W_{at}h·h + W_{at}x·x + b_{at})" if self._in_shares else ""
            equations.append(f"{symbol} = {function}(W_{at}·[h, x] + b_{at}){shares}")
        return tuple(equations)

    def _gate_calculations(self, *names: str) -> tuple[Calculation, ...]:
        return tuple(
            Calculation(
                unit,
                _GATES[name].symbol,
                self._terms(_LSTM.rows(name, self._size).start + unit),
                self._values[f"net_{name}"][unit],
                _GATES[name].function,
                self._values[name][unit],
            )
            for unit in self._units
            for name in names
        )

    def _terms(self, row: int) -> tuple[tuple[float, ...], ...]:
        """What W·[h, x] + b is the sum of, in a row of W."""
        products = list(zip(self._cell.adapted("weight")[row].tolist(), self._values["hx"]))
        bias = (float(self._cell.bias[row].item()),)
        if not self._in_shares:
            return (*products, bias)
        return (_sum(products[: self._size]),), (_sum(products[self._size :]),), bias


def _row(tensor: Tensor) -> list[float]:
    row: list[float] = tensor.tolist()[0]
    return row


def _sum(products: Iterable[tuple[float, float]]) -> float:
    return sum(one * other for one, other in products)


def _in_words(gate: float, open: str, between: str, shut: str) -> str:
    """What a gate does."""
    if gate >= OPEN:
        return open
    return shut if gate <= SHUT else between.format(share=f"{gate:.0%}")
