"""The data path of a step: what a drawing of its program shows, with ops that belong together as one part."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tinygrad_lstm.backends.emit.program import Instruction, Program, Value

from .equations import index_text, is_unnamed

__all__ = ["DataPath", "Input", "Output", "Part", "with_numbers"]


@dataclass(frozen=True, eq=False)
class Output:
    """Where a wire begins.

    Attributes:
        name: the name of the value; empty if its author gave it none.
        value: its name in a trace; empty if a trace does not have it.
    """

    name: str
    value: str


@dataclass(frozen=True)
class Input:
    """Where a wire ends.

    Attributes:
        source: where it begins.
        mark: how the value is used: "−" if it is subtracted, "÷" if it divides, "1−" if 1 minus the value is used, and
            "²" if its square is.
        number: tells apart the wires of a value that is used twice in the same way.
    """

    source: Output
    mark: str = ""
    number: int = 0


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a drawing.

    Attributes:
        shape: a port is where a value comes in or goes out; a box has parameters, a function or a name; a circle is an
            operator.
        title: what is written in it, first.
        lines: the sum that a box computes, or that its function is applied to.
        inputs, outputs: its wires.
        stage: the number of its equation; None of a port.
        place: the side of a port.
        ordered: whether the order of its inputs matters.
    """

    shape: Literal["port", "box", "circle"]
    title: str
    lines: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    stage: int | None = None
    place: Literal["", "left", "right", "below"] = ""
    ordered: bool = False


def with_numbers(parts: Iterable[Part], values: Collection[str]) -> tuple[Part, ...]:
    """The parts without the names of other values than these, of which there are numbers."""
    outputs: dict[Output, Output] = {}
    made = []
    for part in parts:
        for output in part.outputs:
            outputs[output] = Output(output.name, output.value if output.value in values else "")
        inputs = tuple(replace(each, source=outputs[each.source]) for each in part.inputs)
        made.append(replace(part, inputs=inputs, outputs=tuple(outputs[output] for output in part.outputs)))
    return tuple(made)


_ALIASES = {"reshape", "permute", "broadcast_to", "clone", "detach", "astype"}
"""Ops that move elements or copy them. A drawing does not show them."""
_SPLITS = {"split", "unbind"}
_SYMBOLS = {"sigmoid": "σ", "matmul": "@", "cat": "[,]", "stack": "[,]", "maximum": "max", "minimum": "min", "sum": "Σ"}
_SYMBOLS |= {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "eq": "=", "ne": "≠"}
_INFIX = {"@", ">", "≥", "<", "≤", "=", "≠"}
_FUNCTIONS = {"abs": "|·|", "square": "·²", "sqrt": "√·", "reciprocal": "1 ÷ ·"}
"""How functions of one value are written, if not as name(·)."""
_POWERS = {"1": "", "2": "²", "3": "³"}
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class _Term:
    """A term of a sum, or a factor of a product.

    Attributes:
        source: the value, or None if the term is only the factor.
        negative: whether it is subtracted.
        factor: what it is multiplied by, a parameter or a number; of a factor of a product, its mark.
        sign: "·" if the factor is a number or a matrix, "⊙" if it has a number for each unit.
        is_number: whether the factor is a number.
    """

    source: Value | None
    negative: bool = False
    factor: str = ""
    sign: str = ""
    is_number: bool = False


@dataclass(eq=False)
class _Node:
    """One or several instructions that become a part.

    Attributes:
        kind: a sum of terms; a product of factors; a function of a sum; or a different op of several values.
        outs: the values that it computes.
        stage: the number of the equation.
        terms: the sum's terms, or the product's factors, or the op's values.
        text: the function, as a string in which "·" is its argument, or the op's name.
        given: the parameters of the function.
        is_divided: whether it computes parts of a value.
    """

    kind: Literal["sum", "product", "function", "op"]
    outs: list[Value]
    stage: int
    terms: list[_Term]
    text: str = ""
    given: tuple[str, ...] = ()
    is_divided: bool = False


class DataPath:
    """Reads a program.

    Args:
        program: the program of a step.
        stages: for each instruction the number of its equation.
        values: the names of the values in a trace, states among them.
    """

    def __init__(self, program: Program, stages: Mapping[Instruction, int], values: Collection[str]) -> None:
        self._program, self._stages = program, stages
        self._ops = {instruction.op.name for instruction in program.instructions}
        self._traced = {name: name for name in values}
        self._traced |= {state.name: f"{state.name}_before" for state in program.states if state.name in values}
        self._traced |= {f"next_{state.name}": state.name for state in program.states if state.name in values}
        self._moving: set[Value] = {*program.inputs, *program.states}
        self._roots: dict[Value, Value] = {}  # of what a drawing does not tell apart from its source
        for instruction in program.instructions:
            self._find_moving(instruction)
        self._after = [self._root(value) for value in program.after]
        shown = [each for each in program.instructions if self._is_shown(each)]
        self._uses = Counter(self._after)
        self._uses.update(root for each in shown for root in self._moving_inputs(each))
        slices = Counter(self._moving_inputs(each)[0] for each in shown if each.op.name == "getitem")
        self._sliced = {value for value, number in slices.items() if number == self._uses[value] > 1}
        self._nodes: dict[Value, _Node] = {}
        self._divided: dict[Value, _Node] = {}
        for instruction in shown:
            self._read(instruction)

    # -- values --------------------------------------------------------------------------------------------------------

    def _find_moving(self, instruction: Instruction) -> None:
        """Notes whether its results depend on inputs and states, and if they are only its input's elements."""
        moving = [value for value in instruction.inputs if value in self._moving]
        if moving:
            self._moving.update(instruction.results)
            is_alias = instruction.op.name in _ALIASES or (
                instruction.op.name == "split" and len(instruction.results) == 1
            )
            if is_alias:
                self._roots[instruction.results[0]] = self._root(moving[0])

    def _root(self, value: Value) -> Value:
        return self._roots.get(value, value)

    def _is_shown(self, instruction: Instruction) -> bool:
        result = instruction.results[0]
        return result in self._moving and result not in self._roots

    def _moving_inputs(self, instruction: Instruction) -> list[Value]:
        return [self._root(value) for value in instruction.inputs if value in self._moving]

    def _name(self, value: Value) -> str:
        return "" if is_unnamed(value, self._ops) else value.name

    def _fixed(self, part: Any) -> str:
        """What does not depend on inputs or states: a number, or a parameter with its name."""
        if not isinstance(part, Value):
            return f"{part:g}" if isinstance(part, int | float) else str(part)
        instruction = part.instruction
        if instruction is None:
            return part.name if part.constant is None or hasattr(part.constant, "shape") else f"{part.constant:g}"
        name, (first, *_) = instruction.op.name, instruction.inputs
        if name in _ALIASES:
            return self._fixed(first)
        if name in _SPLITS:
            return f"{self._fixed(first)}[{self._name(part) or instruction.results.index(part)}]"
        if name == "getitem":
            return f"{self._fixed(first)}[{index_text(instruction.arguments[1])}]"
        return f"{_SYMBOLS.get(name, name)}({', '.join(map(self._fixed, instruction.inputs))})"

    @staticmethod
    def _is_number(part: Any) -> bool:
        return isinstance(part.constant if isinstance(part, Value) else part, int | float)

    # -- merging -------------------------------------------------------------------------------------------------------

    def _absorbed(self, value: Value, *kinds: str) -> _Node | None:
        """The node of a value that becomes a part of its only user's node, if it is of one of these kinds."""
        node = self._nodes.get(value)
        if node is None or node.kind not in kinds or node.is_divided:
            return None
        return None if self._uses[value] > 1 or self._is_kept(value) else self._nodes.pop(value)

    def _is_kept(self, value: Value) -> bool:
        """Whether a drawing shows the value."""
        return value in self._after or value.name in self._traced

    def _sum_of(self, part: Any, negative: bool = False) -> list[_Term]:
        """The terms of an argument of a sum."""
        if not self._moves(part):
            return [_Term(None, negative, self._fixed(part), is_number=self._is_number(part))]
        value = self._root(part)
        node = self._absorbed(value, "sum")
        if node is None:
            return [_Term(value, negative)]
        return [replace(term, negative=term.negative != negative) for term in node.terms]

    def _factors_of(self, part: Any, divides: bool = False) -> list[_Term]:
        """The factors of an argument of a product."""
        value = self._root(part)
        node = self._nodes.get(value)
        if not divides and node is not None and node.kind == "sum" and _is_rest(node.terms):
            node = self._absorbed(value, "sum")
            if node is not None:
                return [_Term(node.terms[1].source, factor="1−")]
            return [_Term(value)]
        node = None if divides else self._absorbed(value, "product")
        return [_Term(value, factor="÷" if divides else "")] if node is None else node.terms

    def _moves(self, part: Any) -> bool:
        return isinstance(part, Value) and part in self._moving

    def _read(self, instruction: Instruction) -> None:
        """Makes a node of an instruction, with those before it that belong to it."""
        name, arguments, stage = instruction.op.name, instruction.arguments, self._stages[instruction]
        inputs = self._moving_inputs(instruction)
        if name in _SPLITS or (name == "getitem" and inputs[0] in self._sliced):
            self._divide(inputs[0], instruction.results, stage)
            return
        node = _Node("op", list(instruction.results), stage, [_Term(value) for value in inputs])
        node.text = self._written(instruction)
        if name in ("add", "sub"):
            node.kind, node.terms = "sum", self._sum_of(arguments[0]) + self._sum_of(arguments[1], name == "sub")
        elif name == "neg":
            node.kind, node.terms = "sum", self._sum_of(arguments[0], negative=True)
        elif name in ("linear", "matmul") and len(inputs) == 1 and self._moves(arguments[0]):
            x, weight, *bias = arguments
            node.kind, node.terms = "sum", [_Term(self._root(x), False, self._fixed(weight), "·")]
            node.terms += [_Term(None, False, self._fixed(each)) for each in bias if each is not None]
        elif name == "mul" and len(inputs) == 1:
            self._scale(node, *sorted(arguments, key=self._moves))
        elif name in ("mul", "div") and len(inputs) == 2:
            node.kind = "product"
            node.terms = self._factors_of(arguments[0]) + self._factors_of(arguments[1], name == "div")
        elif len(inputs) == 1 and len(instruction.results) == 1:
            function = self._function(instruction)
            if function.endswith("(·)"):
                node.given = tuple(self._fixed(value) for value in instruction.inputs if value not in self._moving)
            self._apply(node, function, inputs[0])
        for value in instruction.results:
            self._nodes[value] = node

    def _divide(self, value: Value, results: Sequence[Value], stage: int) -> None:
        """Makes the parts of a value outputs of its node, if they are its only use."""
        node = self._divided.get(value)
        if node is None:
            node = self._nodes.get(value)
            is_only_use = self._uses[value] == 1 or value in self._sliced
            if node is None or node.is_divided or not is_only_use or self._is_kept(value):
                node = _Node("op", [], stage, [_Term(value)], "split")
            else:
                del self._nodes[value]
                node.outs, node.stage = [], stage
            node.is_divided, self._divided[value] = True, node
        node.outs.extend(results)
        self._nodes |= dict.fromkeys(results, node)

    def _scale(self, node: _Node, factor: Any, part: Any) -> None:
        """A product with a number or a parameter: of a function, the number is written before it."""
        value, is_number = self._root(part), self._is_number(factor)
        function = self._absorbed(value, "function") if is_number else None
        if function is None:
            node.kind = "sum"
            node.terms = [_Term(value, False, self._fixed(factor), "·" if is_number else "⊙", is_number)]
        else:
            times = self._fixed(factor)
            node.kind, node.terms, node.given = "function", function.terms, function.given
            node.text = function.text if times == "1" else f"{times} {_within(function.text)}"

    def _apply(self, node: _Node, function: str, value: Value) -> None:
        """A function of one value: of a sum, or of another function's result."""
        before = self._nodes.get(value)
        inner = None if before is not None and before.given else self._absorbed(value, "sum", "function")
        node.kind, node.text, node.terms = "function", function, [_Term(value)]
        if inner is not None:
            node.terms = inner.terms
            if inner.kind == "function":
                node.text = function.replace("·", _within(inner.text) if _BARE.search(function) else inner.text)

    def _function(self, instruction: Instruction) -> str:
        """A function of one value."""
        name, arguments = instruction.op.name, instruction.arguments
        if name == "getitem":
            return f"·[{index_text(arguments[1])}]"
        if name == "pow" and self._moves(arguments[0]):
            power = self._fixed(arguments[1])
            return f"·{_POWERS.get(power, f'^{power}')}"
        if name == "div":
            return " ÷ ".join(map(self._argument, arguments))
        written = self._written(instruction)
        is_short = name in _SYMBOLS or any(map(self._is_number, self._given(instruction)))
        return written if "·" in written and is_short else _FUNCTIONS.get(name, f"{_SYMBOLS.get(name, name)}(·)")

    @staticmethod
    def _given(instruction: Instruction) -> list[Any]:
        """The tensors and numbers that an op computes with, without its settings."""
        op = instruction.op
        given = [each for name, each in zip(op.names, instruction.arguments) if name in getattr(op, "inputs", op.names)]
        parts = (part for each in given for part in (each if isinstance(each, list | tuple) else [each]))
        return [part for part in parts if part is not None]

    def _argument(self, part: Any) -> str:
        return "·" if self._moves(part) else self._fixed(part)

    def _written(self, instruction: Instruction) -> str:
        """The symbol of an op; with what it is given, if some of this does not depend on inputs or states."""
        symbol, given = _SYMBOLS.get(instruction.op.name, instruction.op.name), self._given(instruction)
        written = [*map(self._argument, given)]
        if all(map(self._moves, given)):
            return symbol
        if symbol in _INFIX:
            return f" {symbol} ".join(written)
        return f"[{', '.join(written)}]" if symbol == "[,]" else f"{symbol}({', '.join(written)})"

    # -- parts ---------------------------------------------------------------------------------------------------------

    def parts(self) -> tuple[Part, ...]:
        """The parts of the drawing, in the order of computation."""
        program = self._program
        self._outputs = {value: self._output(value) for value in (*program.inputs, *program.states, *self._nodes)}
        made = [Part("port", state.name, outputs=(self._outputs[state],), place="left") for state in program.states]
        made += [Part("port", value.name, outputs=(self._outputs[value],), place="below") for value in program.inputs]
        made += [self._part(node) for node in dict.fromkeys(self._nodes.values())]
        for state, value in zip(program.states, self._after):
            inputs = (Input(self._outputs[value]),) if value in self._outputs else ()
            after = Output("", self._traced.get(f"next_{state.name}", ""))
            made.append(Part("port", f"next_{state.name}", (), inputs, (after,), place="right"))
        return tuple(made)

    def _output(self, value: Value) -> Output:
        name = self._name(value)
        is_part = value in self._nodes and self._nodes[value].is_divided
        if not name and is_part and value.instruction is not None and value.instruction.op.name == "getitem":
            name = f"[{index_text(value.instruction.arguments[1])}]"
        return Output(name, self._traced.get(value.name, ""))

    def _wires(self, terms: Iterable[_Term], mark: Callable[[_Term], str] = lambda term: "") -> tuple[Input, ...]:
        """A wire for each term that has a source."""
        wires, numbers = [], Counter[Input]()
        for term in terms:
            if term.source is not None:
                wire = Input(self._outputs[term.source], mark(term))
                wires.append(replace(wire, number=numbers[wire]))
                numbers[wire] += 1
        return tuple(wires)

    def _inputs(self, terms: Iterable[_Term], mark: Callable[[_Term], str] = lambda term: "") -> tuple[Input, ...]:
        """The wires of terms; one that is there twice only once, if its mark is the same."""
        return tuple(wire for wire in self._wires(terms, mark) if wire.number == 0)

    def _part(self, node: _Node) -> Part:
        outputs, moving = (
            tuple(self._outputs[value] for value in node.outs),
            [term for term in node.terms if term.source],
        )
        if node.kind == "op":
            ordered = node.text not in ("max", "min")
            return Part("circle", node.text, (), self._wires(moving), outputs, node.stage, ordered=ordered)
        if node.kind == "product":
            text = "÷" if [term.factor for term in moving] == ["", "÷"] else "×"
            powers = Counter(moving)
            inputs = self._inputs(
                moving, lambda term: term.factor + str(powers[term]).translate(_RAISED) * (powers[term] > 1)
            )
            return Part("circle", text, (), inputs, outputs, node.stage)
        if node.kind == "sum" and len(moving) == len(node.terms) > 1 and not any(term.factor for term in moving):
            inputs = self._wires(moving, lambda term: "−" if term.negative else "")
            return Part("circle", "+", (), inputs, outputs, node.stage)
        has_numbers = len(moving) == 1 == len(outputs) and all(term.is_number or not term.factor for term in node.terms)
        if node.kind == "sum" and has_numbers:
            return Part("circle", _with_numbers(node.terms), (), self._inputs(moving), outputs, node.stage)
        return self._box(node, self._inputs(moving), outputs)

    def _box(self, node: _Node, inputs: tuple[Input, ...], outputs: tuple[Output, ...]) -> Part:
        """A sum with parameters, or a function."""
        is_alone = node.kind == "function" and len(node.terms) == 1 and node.terms[0] == _Term(node.terms[0].source)
        lines = [*([] if is_alone else self._lines(node.terms)), *([", ".join(node.given)] if node.given else [])]
        name = outputs[0].name if len(outputs) == 1 else ""
        function = node.text.removesuffix("(·)") if node.kind == "function" else ""
        if not lines and not name and len(outputs) == 1:
            return Part("circle", function, (), inputs, outputs, node.stage)
        return Part("box", ": ".join(filter(None, (name, function))), tuple(lines), inputs, outputs, node.stage)

    def _lines(self, terms: Sequence[_Term]) -> list[str]:
        """A sum, on a single line if it is short."""
        written = []
        for k, term in enumerate(terms):
            source = "" if term.source is None else self._name(term.source) or "…"
            sign = ("− " if term.negative else "+ ") if k or term.negative else ""
            written.append(sign + f" {term.sign} ".join(filter(None, (term.factor, source))))
        if len(written) > 1 and (len(" ".join(written)) <= _SHORT or written[0] == "…"):
            written[:2] = [" ".join(written[:2])]
        return [" ".join(written)] if len(" ".join(written)) <= _SHORT else written


_SHORT = 24  # characters


_BARE = re.compile(r"(?<![(|[])·|·(?![)|\],])")
"""An argument that is not in parentheses or the like."""


def _within(function: str) -> str:
    """A function as a part of another one, in parentheses if operators could be misread."""
    return function if re.fullmatch(r"\w*\(.*\)|\|.*\||\[.*\]|·(\[.*\])?", function) else f"({function})"


def _is_rest(terms: Sequence[_Term]) -> bool:
    """Whether a sum is 1 minus a value."""
    one, rest = _Term(None, False, "1", is_number=True), terms[-1]
    return len(terms) == 2 and terms[0] == one and rest == _Term(rest.source, negative=True)


def _with_numbers(terms: Sequence[_Term]) -> str:
    """A value and numbers as an operator: "1 −", "× 2"."""
    (place,) = (k for k, term in enumerate(terms) if term.source is not None)
    value, numbers = terms[place], [term for term in terms if term.source is None]
    sign = "−" if value.negative else "+"
    if value.factor:
        times = f"× {'−' * value.negative}{value.factor}"
        return " ".join([times, *(f"{'−' if term.negative else '+'} {term.factor}" for term in numbers)])
    before = " + ".join(f"{'−' * term.negative}{term.factor}" for term in numbers)
    if value.negative or not numbers:
        return f"{before} {sign}".strip()
    return " ".join(f"{'−' if term.negative else '+'} {term.factor}" for term in numbers)
