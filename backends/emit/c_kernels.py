"""Loops over rows and units, in C: what a step computes element by element, between its products."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ..dtypes import is_bool
from .c_moves import (
    At,
    Breaks,
    Index,
    aligned,
    breaks,
    factors_of,
    flat,
    has_rows,
    is_move,
    pieces,
    same_elements,
    source_of,
)
from .code import Code
from .program import BATCH, Instruction, Value

__all__ = [
    "CCode", "CannotEmitError", "Kernel", "Place", "is_elementwise", "kernels_of", "reshaped_whole", "row_of",
]  # fmt: skip

AnyKernel = TypeVar("AnyKernel", bound="Kernel")


class CannotEmitError(Exception):
    """A program has parts for which there is no C code."""


_EXPRESSIONS = {
    "abs": "OF_REAL(abs)({0})", "acos": "OF_REAL(acos)({0})", "acosh": "OF_REAL(acosh)({0})", "add": "({0} + {1})",
    "asin": "OF_REAL(asin)({0})", "asinh": "OF_REAL(asinh)({0})", "atan": "OF_REAL(atan)({0})",
    "atan2": "OF_REAL(atan2)({0}, {1})", "atanh": "OF_REAL(atanh)({0})", "ceil": "OF_REAL(ceil)({0})", "clone": "{0}",
    "cos": "OF_REAL(cos)({0})", "cosh": "OF_REAL(cosh)({0})", "detach": "{0}", "div": "({0} / {1})",
    "direction": "OF_REAL(direction)({0}, {1})",
    "elu": "({2} * ({0} > 0 ? {0} : {1} * OF_REAL(expm1)({0})))", "eq": "({0} == {1})",
    "erf": "OF_REAL(erf)({0})", "exp": "OF_REAL(exp)({0})", "expm1": "OF_REAL(expm1)({0})",
    "floor": "OF_REAL(floor)({0})", "floor_divide": "OF_REAL(floor_divide)({0}, {1})", "ge": "({0} >= {1})",
    "gt": "({0} > {1})", "hypot": "OF_REAL(hypot)({0}, {1})",
    "isfinite": "(OF_REAL(abs)({0}) < INFINITY)", "isinf": "(OF_REAL(abs)({0}) == INFINITY)", "isnan": "({0} != {0})",
    "le": "({0} <= {1})", "log": "OF_REAL(log)({0})", "log10": "OF_REAL(log10)({0})", "log1p": "OF_REAL(log1p)({0})",
    "log1pexp": "OF_REAL(log1pexp)({0})", "log2": "OF_REAL(log2)({0})",
    "logaddexp": "(OF_REAL(maximum)({0}, {1}) + OF_REAL(log1pexp)({0} == {1} ? 0 : -OF_REAL(abs)({0} - {1})))",
    "logical_and": "({0} && {1})", "logical_not": "(!{0})", "logical_or": "({0} || {1})",
    "logical_xor": "(!{0} != !{1})", "lt": "({0} < {1})", "maximum": "OF_REAL(maximum)({0}, {1})",
    "minimum": "OF_REAL(minimum)({0}, {1})", "mul": "({0} * {1})",
    "nan_to_num": "({0} != {0} ? {1} : {0} == INFINITY ? {2} : {0} == -INFINITY ? {3} : {0})",
    "ne": "({0} != {1})", "neg": "(-{0})",
    "ones_like": "(REAL)1", "pow": "OF_REAL(pow)({0}, {1})", "reciprocal": "(1 / {0})", "relu": "({0} < 0 ? 0 : {0})",
    "remainder": "OF_REAL(remainder)({0}, {1})", "rsqrt": "(1 / OF_REAL(sqrt)({0}))",
    "sigmoid": "OF_REAL(sigmoid)({0})", "sign": "OF_REAL(sign)({0})", "sin": "OF_REAL(sin)({0})",
    "sinh": "OF_REAL(sinh)({0})",
    "softsign": "(OF_REAL(abs)({0}) < INFINITY ? {0} / (1 + OF_REAL(abs)({0})) : OF_REAL(sign)({0}))",
    "sqrt": "OF_REAL(sqrt)({0})", "square": "({0} * {0})", "sub": "({0} - {1})", "tan": "OF_REAL(tan)({0})",
    "tanh": "OF_REAL(tanh)({0})", "trunc": "OF_REAL(trunc)({0})",
    "weigh": "({0} * ({0} == 0 && OF_REAL(abs)({1}) == INFINITY ? 0 : {1}))", "where": "({0} ? {1} : {2})",
    "zeros_like": "(REAL)0",
}  # fmt: skip
"""The expression of an op on elements."""

_LIMITS = frozenset({"clamp", "hardtanh", "outside"})
"""Ops on elements and two bounds."""


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


_KEYWORDS = (
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern",
    "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed",
    "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while",
)  # fmt: skip

_VARIABLES = ("j", "k", "l", "m", "q", "u", "v", "w")
"""Loop variables, from that of the last dimension on."""


class CCode(Code):
    """Lines of C.

    Args:
        reserved: names that the functions use for other things, apart from loop variables.
    """

    def __init__(self, reserved: Sequence[str]) -> None:
        super().__init__([*_KEYWORDS, *_VARIABLES, "REAL", *reserved])
        self._depth = 0

    def _named(self, key: Any, stem: str) -> str:
        """A name that is not one of the variables v0, v1, ... of a kernel."""
        return super()._named(key, f"{stem}_" if re.fullmatch(r"v\d+", stem) else stem)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Adds a line, and in a `with` block the lines in braces after it; nothing, if there are none."""
        begin = len(self.lines)
        self.add(f"{head} {{".lstrip())
        self._depth += 1
        inside = len(self.lines)
        yield
        self._depth -= 1
        if len(self.lines) == inside and head:
            del self.lines[begin:]
        else:
            self.add("}")


def is_elementwise(instruction: Instruction) -> bool:
    """Whether it can be a part of a kernel: arithmetic on elements of a row, or a move of them."""
    name, (result, *_) = instruction.op.name, instruction.results
    if not all(map(has_rows, (*instruction.inputs, *instruction.results))):
        return False
    if name in ("einsum", "matmul"):
        found = factors_of(instruction)
        return found is not None and {t[0] for v, t in zip(*found[:2]) if v.has_batch} == {found[2][0]}
    if name in ("tril", "triu"):
        return len(result.shape) > 2
    if is_move(instruction) and name != "broadcast_to":
        return True
    known = name in _EXPRESSIONS or name in _LIMITS or name in ("astype", "broadcast_to")
    known |= name == "round" and not instruction.arguments[1]
    batch = _from_the_end(result)
    return known and all(not value.has_batch or _from_the_end(value) == batch for value in instruction.inputs)


def _from_the_end(value: Value) -> int:
    """The number of dimensions from that of the batch on; 0 if there is none."""
    return len(value.shape) - value.shape.index(BATCH) if value.has_batch else 0


def reshaped_whole(instruction: Instruction) -> bool:
    """Whether it is a reshape whose input must be in memory, since its elements have different indices."""
    return instruction.op.name == "reshape" and not same_elements(
        instruction.inputs[0].shape, instruction.results[0].shape
    )


def row_of(place: Place, value: Value) -> str:
    """The pointer to the row of a value."""
    if place.row == "0":
        return place.array
    return f"{place.array} + {place.row}{f' * {value.row_size}' if value.row_size > 1 else ''}"


def kernels_of(
    outputs: Sequence[tuple[Value, Place]],
    known: Mapping[Value, Place],
    type_of: Callable[[Value], str],
    make: Callable[..., AnyKernel],
) -> list[AnyKernel]:
    """The kernels, of different lengths, that compute values of a row into places, from values that are known.

    Args:
        outputs: the values and their places.
        known: the values that have been computed.
        type_of: the C type of a value's elements.
        make: the class of the kernels.
    """
    places = dict(known)
    found: dict[Value, Breaks] = {}

    def is_leaf(value: Value) -> bool:
        return value in places or value.constant is not None

    loops: dict[tuple[int, ...], list[tuple[Value, Place, Index]]] = {}
    for value, place in outputs:
        for piece in pieces(breaks(value, is_leaf, found)):
            lengths = tuple(length for _, length in piece if length > 1)
            names = iter(_VARIABLES[len(lengths) - 1 :: -1] if lengths else ())
            index = tuple(At(begin, next(names)) if length > 1 else At(begin) for begin, length in piece)
            loops.setdefault(lengths, []).append((value, place, index))
    return [make(places, type_of, lengths, elements) for lengths, elements in loops.items()]


_BLOCK = 16  # elements, which compilers compute with vectors and without a remainder


class Kernel:
    """Loops over the elements of values, or of parts of these lengths.

    Args:
        places: the places of values that are known.
        type_of: the C type of a value's elements.
        lengths: of the loops, from the outermost on.
        elements: the values that are computed, their places, and what elements of them.

    Attributes:
        lengths: of the loops.
        variables: those of the loops.
        reads: the values that are read, with the numbers of their elements in a row as `flat` has them.
        writes: the same of what is written.
    """

    def __init__(
        self,
        places: Mapping[Value, Place],
        type_of: Callable[[Value], str],
        lengths: Sequence[int],
        elements: Sequence[tuple[Value, Place, Index]],
    ) -> None:
        self.lengths, self._places, self._type, self._elements = lengths, places, type_of, elements
        self.variables = _VARIABLES[len(lengths) - 1 :: -1] if lengths else ()
        self._lines: list[list[str]] = [[] for _ in range(len(lengths) + 1)]  # before the loops, and inside each
        self._found: dict[Any, str] = {}
        self._depths: dict[str, int] = {}
        self.reads: list[tuple[Value, dict[str, int]]] = []
        self.writes = [(value, flat(index, value)) for value, _, index in elements]
        stores = [
            f"{self._element(place, value, flat(index, value))[0]} = {self._at(value, index)};"
            for value, place, index in elements
        ]
        self._lines[-1] += stores
        read = {places[value].array for value, _ in self.reads}
        self._overlaps = not read.isdisjoint(place.array for _, place, _ in elements)

    @property
    def lines(self) -> list[str]:
        """The lines inside all loops. All elements are read before the first is written."""
        return [line for lines in self._lines for line in lines]

    @property
    def _is_contiguous(self) -> bool:
        """Whether the elements of the innermost loop are next to each other in memory, or the same."""
        return all(at.get("j", 0) in (0, 1) for _, at in (*self.reads, *self.writes))

    def write(self, code: CCode) -> None:
        """Adds the loops."""
        with ExitStack() as stack:
            if not self.lengths or self._lines[0]:
                stack.enter_context(code.block(""))
            code.add(*self._lines[0])
            for variable, length, lines in zip(self.variables, self.lengths, self._lines[1:], strict=True):
                begin, end = "0", str(length)
                vectorized = variable == "j" and self._is_contiguous
                if vectorized:
                    if not self._overlaps and length > _BLOCK and length % _BLOCK:
                        # The last block begins earlier, so that no elements are left over.
                        stack.enter_context(code.block(f"for (Index from = 0; from < {length}; from += {_BLOCK})"))
                        last = length - _BLOCK
                        code.add(f"const Index begin = from < {last} ? from : {last}, end = begin + {_BLOCK};")
                        begin, end = "begin", "end"
                    code.add("INDEPENDENT")
                stack.enter_context(code.block(f"for (Index {variable} = {begin}; {variable} < {end}; {variable}++)"))
                code.add(*["ONE_BY_ONE"] * (not vectorized), *lines)

    # -- expressions ---------------------------------------------------------------------------------------------------

    def _at(self, value: Value, index: Index) -> str:
        """The expression of an element of a value."""
        if value in self._places:
            return self._load(value, flat(index, value))
        if value.constant is not None:
            return self._number(value.constant)
        key = (value, index)
        if key not in self._found:
            self._found[key] = self._computed(value, index)
        return self._found[key]

    def _load(self, value: Value, at: Mapping[str, int]) -> str:
        place = self._places[value]
        element, column = self._element(place, value, at)
        if element not in self._found:
            sum_of_parts = " + ".join([element, *(f"{bias}[{column}]" for bias in place.more)])
            depth = max((1 + self.variables.index(name) for name, step in at.items() if name and step), default=0)
            self._found[element] = self._local(value, sum_of_parts, depth)
            self.reads.append((value, dict(at)))
        return self._found[element]

    def _element(self, place: Place, value: Value, at: Mapping[str, int]) -> tuple[str, str]:
        """An element in its array, and its column."""
        terms = [(name, step) for name, step in at.items() if name and step]
        column = " + ".join(name if step == 1 else f"{name} * {step}" for name, step in terms)
        constant = at[""]
        if constant and column:
            column = f"{constant} + {column}" if constant > 0 else f"{column} - {-constant}"
        column = column or str(constant)
        if constant and len(terms) == 1 and terms[0][1] < 0:
            name, step = terms[0]
            column = f"{constant} - {name if step == -1 else f'{name} * {-step}'}"
        size = value.row_size
        row = [] if place.row == "0" else [place.row if size == 1 else f"{place.row} * {size}"]
        return f"{place.array}[{' + '.join([*row, *([] if column == '0' and row else [column])])}]", column

    def _computed(self, value: Value, index: Index) -> str:
        instruction = value.instruction
        if instruction is None or not is_elementwise(instruction):
            raise CannotEmitError(f"there is no C code for {instruction.op.name if instruction else value.name!r}")
        name, arguments = instruction.op.name, instruction.arguments
        if reshaped_whole(instruction):
            return self._reshaped(instruction, flat(index, value))
        if is_move(instruction):
            source = source_of(value, index)
            return self._at(*source) if isinstance(source, tuple) else self._number(source)
        found = factors_of(instruction)
        if found is not None:
            of_letter = {**dict(zip(found[2], index, strict=True)), ".": At()}
            factors = [
                self._at(part, tuple(of_letter[letter] for letter in term))
                for part, term in zip(*found[:2], strict=True)
            ]
            return self._local_of(value, " * ".join(factors), factors)
        if name in ("tril", "triu"):
            row, column = (self._offset(at) for at in index[-2:])
            x, sign = self._at(arguments[0], index), "<=" if name == "tril" else ">="
            return self._local(value, f"{column} {sign} {row} + {arguments[1]} ? {x} : 0", len(self.lengths))
        if name in ("ones_like", "zeros_like"):
            return _EXPRESSIONS[name]
        given = [self._at(part, aligned(index, value, part)) if isinstance(part, Value) else part for part in arguments]
        if name == "astype":
            to = arguments[1]
            return self._local_of(value, f"({given[0]} != 0)" if is_bool(to) else given[0], given[:1])
        given = [
            part if isinstance(argument, Value) else self._number(part) for part, argument in zip(given, arguments)
        ]
        if name in _LIMITS:
            return self._bounded(value, name, given, arguments)
        if name in ("add", "sub", "mul", "div") and not any(isinstance(part, Value) for part in arguments):
            raise CannotEmitError("arithmetic on numbers only")
        if is_bool(value.dtype) and name in ("add", "mul"):
            name = "logical_or" if name == "add" else "logical_and"
        expression = "OF_REAL(round)({0})" if name == "round" else _EXPRESSIONS[name]
        return self._local_of(value, expression.format(*given), given)

    def _bounded(self, value: Value, name: str, given: Sequence[str], arguments: Sequence[Any]) -> str:
        x, low, high = given
        if any(isinstance(bound, float) and math.isnan(bound) for bound in arguments[1:]):
            raise CannotEmitError("a bound is NaN")
        if name == "outside":
            tests = [f"{x} {sign} {bound}" for sign, bound in (("<", low), (">", high)) if bound]
            return self._local_of(value, " || ".join(tests) or "0", given)
        result = x if arguments[1] is None else self._local_of(value, f"({x} < {low} ? {low} : {x})", given)
        if arguments[2] is None:
            return result
        return self._local_of(value, f"({result} > {high} ? {high} : {result})", given)

    def _reshaped(self, instruction: Instruction, at: Mapping[str, int]) -> str:
        """An element of a reshape, whose input is in memory."""
        x = instruction.inputs[0]
        if x in self._places:
            return self._load(x, at)
        if x.constant is not None:
            return self._number(x.constant)
        if x.instruction is None or x.instruction.op.name != "reshape":
            raise CannotEmitError("a reshape of what is not in memory")
        return self._reshaped(x.instruction, at)

    @staticmethod
    def _offset(at: At) -> str:
        return str(at.start) if not at.variable else f"({at.start} + {at.step} * {at.variable})"

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _local_of(self, value: Value, expression: str, parts: Sequence[str]) -> str:
        """A variable with the value of an expression of these parts."""
        return self._local(value, expression, max((self._depths.get(part, 0) for part in parts), default=0))

    def _local(self, value: Value, expression: str, depth: int) -> str:
        """A variable with the value of an expression, inside this many loops."""
        name = f"v{len(self._depths)}"
        self._depths[name] = depth
        self._lines[depth].append(f"const {self._type(value)} {name} = {expression};")
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
