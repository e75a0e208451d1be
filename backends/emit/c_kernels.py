"""Loops over rows and units, in C: what a step computes element by element, between its products."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .code import Code
from .program import Instruction, Value

__all__ = ["MOVES", "CCode", "CannotEmitError", "Place", "is_elementwise", "write_kernels"]


class CannotEmitError(Exception):
    """A program has parts for which there is no C code."""


_TERNARY = {"maximum": "OF_REAL(maximum)({0}, {1})", "minimum": "OF_REAL(minimum)({0}, {1})"}
_EXPRESSIONS = {
    **_TERNARY,
    "abs": "OF_REAL(abs)({0})", "add": "({0} + {1})", "clone": "{0}", "cos": "OF_REAL(cos)({0})", "detach": "{0}",
    "div": "({0} / {1})", "eq": "({0} == {1})", "erf": "OF_REAL(erf)({0})", "exp": "OF_REAL(exp)({0})",
    "expm1": "OF_REAL(expm1)({0})", "ge": "({0} >= {1})", "gt": "({0} > {1})", "isnan": "({0} != {0})",
    "le": "({0} <= {1})", "log": "OF_REAL(log)({0})", "log1p": "OF_REAL(log1p)({0})",
    "log1pexp": "OF_REAL(log1pexp)({0})", "logical_and": "({0} && {1})", "logical_not": "(!{0})",
    "logical_or": "({0} || {1})", "logical_xor": "(!{0} != !{1})", "lt": "({0} < {1})", "mul": "({0} * {1})",
    "ne": "({0} != {1})", "neg": "(-{0})", "ones_like": "(REAL)1", "reciprocal": "(1 / {0})",
    "relu": "({0} < 0 ? 0 : {0})", "rsqrt": "(1 / OF_REAL(sqrt)({0}))", "sigmoid": "OF_REAL(sigmoid)({0})",
    "sign": "OF_REAL(sign)({0})", "sin": "OF_REAL(sin)({0})", "sqrt": "OF_REAL(sqrt)({0})", "square": "({0} * {0})",
    "sub": "({0} - {1})", "tanh": "OF_REAL(tanh)({0})", "weigh": "({0} * {1})", "where": "({0} ? {1} : {2})",
    "zeros_like": "(REAL)0",
}  # fmt: skip
"""The expression of an op on elements."""

MOVES = frozenset({"split", "cat", "broadcast_to", "reshape", "getitem", "spread_at"})
"""Ops that are no arithmetic: an element of the result is an element of an input."""


@dataclass(frozen=True)
class Place:
    """The array of a value in C.

    Attributes:
        array: the pointer to its first row.
        row: the index of the row: "r" of all steps of a chunk, "b" of the batch; "0" if it has no rows.
        more: biases of products, which are added when an element is read.
    """

    array: str
    row: str
    more: tuple[str, ...] = ()


class CCode(Code):
    """Lines of C."""

    def __init__(self, reserved: Sequence[str]) -> None:
        super().__init__(reserved)
        self._depth = 0

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Adds a line, and in a `with` block the lines in braces after it."""
        self.add(f"{head} {{".lstrip())
        self._depth += 1
        yield
        self._depth -= 1
        self.add("}")


def is_elementwise(instruction: Instruction) -> bool:
    """Whether it can be a part of a kernel: arithmetic on elements, or a move of elements along the units."""
    name = instruction.op.name
    if not all(len(value.shape) <= 2 for value in (*instruction.inputs, *instruction.results)):
        return False
    if name in _EXPRESSIONS or name == "clamp":
        return True
    if name in ("split", "cat"):
        return bool(instruction.arguments[1 if name == "cat" else 2] == len(instruction.results[0].shape) - 1)
    if name in ("getitem", "spread_at"):
        return _columns_of(instruction) is not None
    if name == "reshape":
        return instruction.inputs[0].row_size == instruction.results[0].row_size and instruction.results[0].has_batch
    return name == "broadcast_to"


def _columns_of(instruction: Instruction) -> int | None:
    """The first column of a slice of columns; None if the index is anything else."""
    index = instruction.arguments[1]
    x = instruction.inputs[0] if instruction.op.name == "getitem" else instruction.results[0]
    parts = index if isinstance(index, tuple) else (index,)
    if len(x.shape) != 2 or len(parts) != 2 or not isinstance(parts[1], slice):
        return None
    if parts[0] is not Ellipsis and parts[0] != slice(None):
        return None
    start, _, step = parts[1].indices(x.row_size)
    return start if step == 1 else None


def write_kernels(
    code: CCode, outputs: Sequence[tuple[Value, Place]], known: Mapping[Value, Place], type_of: Callable[[Value], str]
) -> None:
    """Adds the loops that compute values of a row into places, from values that are known.

    Args:
        outputs: the values and their places.
        known: the values that have been computed.
        type_of: the C type of a value's elements.
    """
    by_width: dict[int, list[tuple[Value, Place]]] = {}
    for value, place in outputs:
        width = value.row_size if value in known else _width(value, known)
        by_width.setdefault(width, []).append((value, place))
    for width, pairs in by_width.items():
        _Kernel(code, known, type_of, width).write(pairs)


def _width(value: Value, places: Mapping[Value, Place]) -> int:
    """The largest number of units for which a value is one expression: parts and joins end at multiples of it."""
    instruction, found = value.instruction, value.row_size
    if instruction is None:
        return found
    unknown = [part for part in instruction.inputs if part not in places and part.constant is None]
    for part in unknown:
        if part.row_size > 1:
            found = math.gcd(found, _width(part, places))
    if instruction.op.name == "cat":
        start = 0
        for part in instruction.arguments[0]:
            start += part.row_size
            found = math.gcd(found, start)
    if instruction.op.name in ("split", "getitem") and unknown:
        found = math.gcd(found, _start(value))
    if instruction.op.name == "spread_at":
        found = math.gcd(math.gcd(found, _columns_of(instruction) or 0), instruction.inputs[0].row_size)
    return found


def _start(part: Value) -> int:
    """The first column of a part in the value that it is a part of."""
    instruction = part.instruction
    assert instruction is not None
    if instruction.op.name == "getitem":
        return _columns_of(instruction) or 0
    return sum(each.row_size for each in instruction.results[: instruction.results.index(part)])


class _Kernel:
    """A loop over `width` units."""

    def __init__(self, code: CCode, places: Mapping[Value, Place], type_of: Callable[[Value], str], width: int) -> None:
        self._code, self._places, self._type, self._width = code, places, type_of, width
        self._lines: list[str] = []
        self._found: dict[tuple[Value, int], str] = {}

    def write(self, outputs: Sequence[tuple[Value, Place]]) -> None:
        """Adds the loop."""
        for value, place in outputs:
            for start in range(0, value.row_size, self._width):
                element = self._at(value, start)
                self._lines.append(f"{self._element(value, place, start)} = {element};")
        if self._width > 1:
            self._code.add("INDEPENDENT")
        with self._code.block(f"for (Index j = 0; j < {self._width}; j++)"):
            self._code.add(*self._lines)

    def _at(self, value: Value, start: int) -> str:
        """The expression of the element j of a value, from column `start` on."""
        if value.row_size == 1:
            start = 0
        key = (value, start)
        if key not in self._found:
            if value.constant is not None:
                self._found[key] = self._number(value.constant)
            elif value in self._places:
                self._found[key] = self._local(value, self._load(value, start))
            else:
                self._found[key] = self._computed(value, start)
        return self._found[key]

    def _load(self, value: Value, start: int) -> str:
        place = self._places[value]
        at = "0" if value.row_size == 1 else f"{start} + j" if start else "j"
        return " + ".join([self._element(value, place, start), *(f"{bias}[{at}]" for bias in place.more)])

    def _element(self, value: Value, place: Place, start: int) -> str:
        size = value.row_size
        row = [] if place.row == "0" else [place.row if size == 1 else f"{place.row} * {size}"]
        column = (
            [] if size == 1 else [*([str(start)] if start else []), *(["j"] if self._width > 1 or size > 1 else [])]
        )
        return f"{place.array}[{' + '.join([*row, *column]) or '0'}]"

    def _computed(self, value: Value, start: int) -> str:
        instruction = value.instruction
        if instruction is None or not is_elementwise(instruction):
            raise CannotEmitError(f"there is no C code for {instruction.op.name if instruction else value.name!r}")
        name, arguments = instruction.op.name, instruction.arguments
        if name == "cat":
            return self._part_of_join(arguments[0], start)
        if name in ("split", "getitem"):
            return self._at(arguments[0], start + _start(value))
        if name in ("broadcast_to", "reshape"):
            return self._at(arguments[0], start)
        if name == "spread_at":
            first = start - (_columns_of(instruction) or 0)
            inside = 0 <= first < arguments[0].row_size
            return self._at(arguments[0], first) if inside else "(REAL)0"
        given = [self._at(part, start) if isinstance(part, Value) else self._number(part) for part in arguments]
        if name == "clamp":
            x, low, high = given
            low_or_x = x if arguments[1] is None else f"({x} < {low} ? {low} : {x})"
            if arguments[2] is None:
                return self._local(value, low_or_x)
            held = self._local(value, low_or_x)
            return self._local(value, f"({held} > {high} ? {high} : {held})")
        if name in ("add", "sub", "mul", "div") and not any(isinstance(part, Value) for part in arguments):
            raise CannotEmitError("arithmetic on numbers only")
        return self._local(value, _EXPRESSIONS[name].format(*given))

    def _part_of_join(self, parts: Sequence[Value], start: int) -> str:
        for part in parts:
            if start < part.row_size:
                return self._at(part, start)
            start -= part.row_size
        raise AssertionError("a column beyond the join")

    def _local(self, value: Value, expression: str) -> str:
        """A variable with the value of an expression."""
        name = f"v{len(self._lines)}"
        self._lines.append(f"const {self._type(value)} {name} = {expression};")
        return name

    def _number(self, number: Any) -> str:
        if number is None:
            return ""
        if not isinstance(number, bool | int | float):
            raise CannotEmitError(f"there is no C code for the setting {number!r}")
        if isinstance(number, bool):
            return str(int(number))
        number = float(number)
        if math.isinf(number):
            return f"({'-' if number < 0 else ''}(REAL)INFINITY)"
        return "((REAL)NAN)" if math.isnan(number) else f"((REAL){number!r})"
