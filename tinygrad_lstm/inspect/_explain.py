"""One step of an LSTM cell, taken apart: six stages, each with its equation, its lines of code, and its numbers."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .._tensor import Tensor, operand
from ..creation import zeros_like
from ..kinds import KINDS, Gate
from ..mode import no_grad
from .lines import AppliedOp, CodeLine, OpsRun, lines_of

__all__ = ["Calculation", "Stage", "explain"]

OPEN, SHUT = 0.9, 0.1
"""A gate is called open from the first value up, and shut from the second value down."""

MOST_PRODUCTS = 3
"""If a gate's sum has more nonzero products than this, only the two sums over h and over x are shown."""

_TOLERANCE = 0.01  # of the parts of a sum, as far as float16 may round

_LSTM = KINDS["LSTM"]
_GATES = {gate.name: gate for gate in _LSTM.gates}
_OPS = {"σ": "sigmoid", "tanh": "tanh"}


class Cell(Protocol):
    """What can be explained: an `LSTMCell`, or a user-defined cell with the same equations."""

    def gates(self, x: Any, state: Any = None, /) -> Any:
        """A step from an input (1, I) and the states (h, c) before, each (1, H).

        Returns:
            A NamedTuple with the fields i, f, g, o, c and h, each (1, H), as `show_step` takes it.
        """

    def layer_parameters(self) -> Mapping[str, Tensor]:
        """The parameters weight_ih (4H, I), weight_hh (4H, H) and bias (4H,), rows in gate order i, f, g, o."""


@dataclass(frozen=True)
class Calculation:
    """One number of one unit: `result` is `function` of `argument`, which is the sum of the products in `terms`.

    Attributes:
        unit: the index of the unit.
        symbol: the name in the equation.
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
        title: its name.
        question: the question that it answers.
        equations: how it is computed, in the notation of `LSTMCell`.
        code: the lines that computed it.
        meaning: what the numbers mean, in sentences.
        vectors: whole vectors, by name.
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
    """Runs one step of a cell and explains it in six stages, in the order in which data flows.

    The numbers and the lines of code are those of this run. `stage_text` formats a stage as text.

    A user-defined cell is explained if its `gates` returns a NamedTuple with the fields i, f, g, o, c and h, and its
    `layer_parameters` returns weight_ih (4H, I), weight_hh (4H, H) and bias (4H,), rows in gate order i, f, g, o.

    Args:
        cell: an `LSTMCell`, or a user-defined cell with the same equations.
        x: one input (1, I).
        state: the states before, (h, c), each (1, H); zeros by default.
        units: the indices of the units to show; the first two by default.

    Returns:
        Concatenation, forget gate, input gate and candidate, cell update, output gate, hidden state.

    Raises:
        ValueError: x or a state has an invalid shape; a unit is out of range; the cell's `gates` or `layer_parameters`
            is missing or incomplete, or a gate differs from what `LSTMCell` computes from these parameters.
        TypeError: `units` is not a sequence.

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
    with no_grad():
        step = _Step(cell, x, _states(cell, x, state), units)
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
    chosen = list(units)
    for unit in chosen:
        if not (isinstance(unit, int | np.integer) and 0 <= unit < size):
            raise ValueError(f"explain: expected units from 0 to {size - 1}, got {unit}")
    return chosen


def _states(cell: Cell, x: Tensor, state: Any) -> tuple[Tensor, Tensor]:
    """The states before the step, zeros by default."""
    if state is None:
        after = _declared(cell, cell.gates(x))
        return zeros_like(after["h"]), zeros_like(after["c"])
    if not (isinstance(state, tuple | list) and len(state) == 2):
        H = _parameters(cell)["weight_hh"].shape[1]
        raise ValueError(
            f"explain: expected a pair of states, (h, c), each of shape (1, {H}), got {type(state).__name__}"
        )
    return operand(state[0]), operand(state[1])


def _declared(cell: Cell, gates: Any) -> dict[str, Tensor]:
    """The gates and states that the step of a cell returned, by name."""
    names = getattr(gates, "_fields", ())
    missing = [name for name in _LSTM.values if name not in names]
    if missing:
        given = ", ".join(names) or f"a {type(gates).__name__}"
        raise ValueError(
            f"explain: expected a cell that computes as LSTMCell does; the gates() of {type(cell).__name__} returns "
            f"{given}; return a NamedTuple with the fields {', '.join(_LSTM.values)}"
        )
    return {name: getattr(gates, name) for name in _LSTM.values}


def _parameters(cell: Cell) -> dict[str, Tensor]:
    """The parameters of a plain layer that the cell computes with, by name."""
    given = cell.layer_parameters() if callable(getattr(cell, "layer_parameters", None)) else {}
    names = [weight.name for weight in _LSTM.weights_with({})]
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(
            f"explain: {type(cell).__name__} has no layer_parameters() with {', '.join(missing)}; define it to return "
            "weight_ih (4H, I), weight_hh (4H, H) and bias (4H,), rows in gate order i, f, g, o"
        )
    return {name: given[name] for name in names}


class _Step:
    """A step that was run: its values by name, and the ops that computed them."""

    def __init__(self, cell: Cell, x: Tensor, before: tuple[Tensor, Tensor], units: Sequence[int] | None) -> None:
        self._name = type(cell).__name__
        self._run = OpsRun(cell.gates, x, before)
        self._made = _declared(cell, self._run.result)
        self._parameters = _parameters(cell)
        self._size = self._made["h"].shape[1]
        self._units = range(min(2, self._size)) if units is None else _checked_units(units, self._size)
        self._values = {name: _row(tensor) for name, tensor in self._made.items()}
        self._x, self._h_before, self._c_before = _row(x), *map(_row, before)
        self._code = self._lines(x, before[0])

    def _lines(self, x: Tensor, h: Tensor) -> dict[str, tuple[CodeLine, ...]]:
        """The lines of each stage. An op is shown in the first stage that needs it."""
        behind = {name: self._run.behind(tensor, self._made.values()) for name, tensor in self._made.items()}
        uses = Counter(op for gate in _GATES for op in behind[gate])
        stages = {
            "hx": self._joining(x, h),
            "f": {op for op, number in uses.items() if number > 1} | behind["f"],
            "ig": behind["i"] | behind["g"],
            "c": behind["c"],
            "o": behind["o"],
            "h": behind["h"],
        }
        shown: set[AppliedOp] = set()
        lines = {}
        for stage, ops in stages.items():
            lines[stage] = lines_of(ops - shown, self._run)
            shown |= ops
        return lines

    def _joining(self, x: Tensor, h: Tensor) -> set[AppliedOp]:
        """The ops up to the first that depends on both the previous hidden state and the input."""
        seen: dict[int, set[str]] = {id(x): {"x"}, id(h): {"h"}}
        for op in self._run.ops:
            sees = set[str]().union(*(seen.get(id(value), ()) for value in op.inputs))
            seen |= dict.fromkeys(map(id, op.outputs), sees)
            if len(sees) > 1:
                return self._run.behind(op.outputs[0])
        return set()

    def concatenation(self) -> Stage:
        h, x = tuple(self._h_before), tuple(self._x)
        return Stage(
            "Concatenation",
            "What do the gates see? The previous hidden state and the input, side by side.",
            ("[h, x] = (h_1, …, h_H, x_1, …, x_I)",),
            self._code["hx"],
            (f"{len(h)} numbers come from the step before, {len(x)} from the input.",),
            vectors={"h": h, "x": x, "[h, x]": h + x},
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
            self._code["f"],
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
            self._code["ig"],
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
            self._code["c"],
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
            self._code["o"],
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
            self._code["h"],
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

    def _of_units(self, meaning: Callable[[int], str]) -> tuple[str, ...]:
        return tuple(f"Unit {unit}: {meaning(unit)}" for unit in self._units)

    @property
    def _shows_sums(self) -> bool:
        return sum(map(bool, (*self._h_before, *self._x))) > MOST_PRODUCTS

    def _gate_equations(self, *names: str) -> tuple[str, ...]:
        equations = []
        for gate in (_GATES[name] for name in names):
            symbol, at, function = gate.symbol, gate.subscript, gate.function
            sums = f" = {function}(W_{at}h·h + W_{at}x·x + b_{at})" if self._shows_sums else ""
            equations.append(f"{symbol} = {function}(W_{at}·[h, x] + b_{at}){sums}")
        return tuple(equations)

    def _gate_calculations(self, *names: str) -> tuple[Calculation, ...]:
        return tuple(self._gate_calculation(_GATES[name], unit) for unit in self._units for name in names)

    def _gate_calculation(self, gate: Gate, unit: int) -> Calculation:
        """A unit's gate.

        Raises:
            ValueError: the argument of the gate's function is not W·[h, x] + b.
        """
        terms = self._terms(_LSTM.rows(gate.name, self._size).start + unit)
        total = argument = sum(map(math.prod, terms))
        made_by = self._run.maker(self._made[gate.name])
        if made_by is not None and made_by.name == _OPS[gate.function]:
            argument = _row(made_by.inputs[0])[unit]
            if abs(argument - total) > _TOLERANCE * (1 + sum(abs(math.prod(term)) for term in terms)):
                raise ValueError(
                    f"explain: the {gate.meaning} of {self._name}, unit {unit}, is {gate.function} of {argument:.3f}, "
                    f"but W·[h, x] + b is {total:.3f}; return from layer_parameters() what gates() computes with"
                )
        return Calculation(unit, gate.symbol, terms, argument, gate.function, self._values[gate.name][unit])

    def _terms(self, row: int) -> tuple[tuple[float, ...], ...]:
        """The terms of the sum W·[h, x] + b, for a row of W."""
        W, U, b = (self._parameters[name][row].tolist() for name in ("weight_ih", "weight_hh", "bias"))
        products_h, products_x = list(zip(U, self._h_before)), list(zip(W, self._x))
        if self._shows_sums:
            return (_sum(products_h),), (_sum(products_x),), (b,)
        return *products_h, *products_x, (b,)


def _row(tensor: Tensor) -> list[float]:
    row: list[float] = tensor.tolist()[0]
    return row


def _sum(products: Iterable[tuple[float, float]]) -> float:
    return sum(one * other for one, other in products)


def _in_words(gate: float, open: str, between: str, shut: str) -> str:
    """What a gate does, in words."""
    if gate >= OPEN:
        return open
    return shut if gate <= SHUT else between.format(share=f"{gate:.0%}")
