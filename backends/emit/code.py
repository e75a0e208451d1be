"""Lines of Python code that compute a program's instructions with an array module."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..dtypes import FLOAT16, is_bool, is_float
from ..products import matmul
from ..sums import SHORT
from .program import BATCH, Group, Instruction, Value, values_in

__all__ = ["IN_PLACE", "UFUNCS", "VIEWS", "Code", "Scope", "is_join", "is_view", "shares_memory"]

UFUNCS = {
    "abs": "absolute", "acos": "arccos", "acosh": "arccosh", "add": "add", "asin": "arcsin", "asinh": "arcsinh",
    "atan": "arctan", "atan2": "arctan2", "atanh": "arctanh", "cos": "cos", "cosh": "cosh", "div": "true_divide",
    "eq": "equal", "exp": "exp", "expm1": "expm1", "floor_divide": "floor_divide", "ge": "greater_equal",
    "gt": "greater", "hypot": "hypot", "isfinite": "isfinite", "isinf": "isinf", "isnan": "isnan", "le": "less_equal",
    "log": "log", "log10": "log10", "log1p": "log1p", "log2": "log2", "logaddexp": "logaddexp",
    "logical_and": "logical_and", "logical_not": "logical_not", "logical_or": "logical_or",
    "logical_xor": "logical_xor", "lt": "less", "maximum": "maximum", "minimum": "minimum", "mul": "multiply",
    "ne": "not_equal", "neg": "negative", "pow": "power", "reciprocal": "reciprocal", "remainder": "remainder",
    "sign": "sign", "sin": "sin", "sinh": "sinh", "sqrt": "sqrt", "square": "square", "sub": "subtract", "tan": "tan",
    "tanh": "tanh", "weigh": "multiply",
}  # fmt: skip
"""The functions of the array module that compute an op in one call, into an existing array."""

IN_PLACE = frozenset({*UFUNCS, "sigmoid", "relu", "clamp"})
"""Ops of one result that are computed element by element into an existing array."""

VIEWS = frozenset({"split", "unbind", "reshape", "permute", "detach"})
"""Ops whose results share memory with their input, for any arguments."""


def is_view(instruction: Instruction) -> bool:
    """Whether the results share memory with the input."""
    name, arguments = instruction.op.name, instruction.arguments
    return name in VIEWS or (name == "getitem" and not any(hasattr(part, "dtype") for part in _parts(arguments[1])))


def shares_memory(value: Value) -> bool:
    """Whether a value may share memory with a different one, or its elements with each other."""
    instruction = value.instruction
    return instruction is None or is_view(instruction) or instruction.op.name in ("broadcast_to", "flip")


def _parts(index: Any) -> Sequence[Any]:
    return index if isinstance(index, tuple) else (index,)


def is_join(instruction: Instruction) -> bool:
    """Whether it joins arrays along their last dimension."""
    return instruction.op.name == "cat" and bool(instruction.arguments[1] == len(instruction.results[0].shape) - 1)


class Code:
    """The lines of a function, and the objects that they name.

    Args:
        reserved: names that the function uses for other things.
    """

    def __init__(self, reserved: Sequence[str]) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self._taken = set(reserved)
        self._known: dict[tuple[Any, str], str] = {}
        self._alive: list[Any] = []
        self._depth = 1

    def add(self, *lines: str) -> None:
        """Adds lines."""
        self.lines += ["    " * self._depth + line for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Adds a line, and in a `with` block the indented lines after it."""
        self.add(head)
        self._depth += 1
        number = len(self.lines)
        yield
        if len(self.lines) == number:
            self.add("pass")
        self._depth -= 1

    def name(self, value: Value, form: str = "{}") -> str:
        """A name for a value in one of its forms, such as `all_{}`; always the same."""
        return self._named((value, form), form.format(value.name))

    @property
    def matmul(self) -> str:
        """The function of matrix products, which has an argument `out`."""
        return "xp.matmul" if matmul is np.matmul else self.object(matmul, "matmul")

    def object(self, thing: Any, stem: str) -> str:
        """A name for an object that has no literal."""
        self._alive.append(thing)
        name = self._named((id(thing), ""), stem)
        self.names[name] = thing
        return name

    def _named(self, key: tuple[Any, str], stem: str) -> str:
        found = self._known.get(key)
        if found is None:
            found, number = stem, 1
            while found in self._taken:
                number += 1
                found = f"{stem}_{number}"
            self._taken.add(found)
            self._known[key] = found
        return found

    def source(self, head: str) -> str:
        """The source of the function, given its first line."""
        return "\n".join([head, *self.lines, ""])


class Scope:
    """A part of a function: the expressions of the values that are known in it.

    Args:
        code: the function.
        rows: the expression of the number of rows of values with a batch dimension.
        places: the expressions.
        turned: the expressions of weights that were transposed beforehand.
    """

    def __init__(
        self, code: Code, rows: str, places: Mapping[Value, str], turned: Mapping[Value, str] | None = None
    ) -> None:
        self.code, self.rows, self.places, self.turned = code, rows, dict(places), dict(turned or {})

    def text(self, argument: Any) -> str:
        """The expression of an argument."""
        if isinstance(argument, Value):
            return self._value(argument)
        if argument is BATCH:
            return self.rows
        if isinstance(argument, list):
            return f"[{', '.join(map(self.text, argument))}]"
        if isinstance(argument, tuple):
            return f"({', '.join(map(self.text, argument))}{',' * (len(argument) == 1)})"
        if isinstance(argument, slice):
            return f"slice({', '.join(map(self.text, (argument.start, argument.stop, argument.step)))})"
        if argument is Ellipsis:
            return "..."
        if argument is None or isinstance(argument, bool | int | str):
            return repr(argument)
        if isinstance(argument, float) and math.isfinite(argument):
            return repr(argument)
        return self.code.object(argument, "constant")

    def _value(self, value: Value) -> str:
        if value in self.places:
            return self.places[value]
        if hasattr(value.constant, "shape"):
            return self.code.object(value.constant, value.name)
        return f"xp.full({self.shape(value)}, {self.text(value.constant)}, {self.dtype(value)})"

    def shape(self, value: Value, *before: str) -> str:
        """The expression of a value's shape, after some dimensions."""
        sizes = [*before, *map(self.text, value.shape)]
        return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"

    def dtype(self, value: Value) -> str:
        """The expression of a value's dtype."""
        return self.code.object(value.dtype, str(value.dtype))

    def compute(self, instruction: Instruction, out: str | None = None) -> None:
        """Adds the lines that compute the results; into the array `out`, if it is given."""
        if isinstance(instruction.op, Group):
            self.launch(instruction, {} if out is None else {instruction.results[0]: out})
            return
        (first, *_), lines = instruction.results, None if out is None else self._in_place(instruction, str(out))
        if lines is None and out is None:
            names = [self.code.name(value) for value in instruction.results]
            several = instruction.op.name in ("split", "unbind")
            lines = [f"{', '.join(names)}{',' * (several and len(names) == 1)} = {self._call(instruction)}"]
            self.places.update(zip(instruction.results, names))
        elif lines is None and len(instruction.results) > 1:
            names = [self.code.name(value, "made_{}") for value in instruction.results]
            lines = [f"{', '.join(names)} = {self._call(instruction)}", f"{out}[...] = {names[0]}"]
            self.places.update(zip(instruction.results, names))
        elif lines is None:
            lines = [f"{out}[...] = {self._call(instruction)}"]
        self.code.add(*lines)
        if out is not None:
            self.places[first] = out

    def launch(self, instruction: Instruction, places: Mapping[Value, str], prepared: str | None = None) -> None:
        """Adds the call of the kernel of a group, into the places of its results; a new array if one has no place.

        Args:
            prepared: the expression of a launch that was prepared beforehand.
        """
        for value in instruction.results:
            self.places[value] = places.get(value) or self.code.name(value)
            if value not in places:
                self.code.add(f"{self.places[value]} = empty({self.shape(value)}, {self.dtype(value)})")
        inputs, results = (", ".join(map(self.text, values)) for values in (instruction.inputs, instruction.results))
        self.code.add(f"{prepared or self.prepared(instruction)}([{inputs}], [{results}])")

    def prepared(self, instruction: Instruction) -> str:
        """The expression of a group's launch, for the rows of this part."""
        return f"{self.code.object(instruction.op.forward, instruction.op.name)}(backend, {self.rows})"

    def _call(self, instruction: Instruction) -> str:
        """A call of the op's forward rule."""
        op = instruction.op
        given = ["backend" if op.wants_backend else "xp", *map(self.text, instruction.arguments)]
        rule = self.code.object(op.forward, op.name + "_rule")
        return f"{rule}({', '.join(given)})" if op.composed is None else f"{rule}({', '.join([*given, 'False'])})[0]"

    def _in_place(self, instruction: Instruction, out: str) -> list[str] | None:
        """The lines that compute an instruction into an array, if they are better than a copy of the result."""
        name, result = instruction.op.name, instruction.results[0]
        product = name in ("linear", "matmul")
        arguments = list(map(self.text if product else self._number_or_text, instruction.arguments))
        narrow = result.dtype == FLOAT16  # rules compute float16 in float32
        if name in UFUNCS:
            return [f"xp.{UFUNCS[name]}({', '.join(arguments)}, out={out})"]
        if name == "relu":
            return [f"xp.maximum({arguments[0]}, 0, out={out})"]
        if name == "clamp" and instruction.arguments[1:] != (None, None):
            return [f"xp.clip({', '.join(arguments)}, out={out})"]
        if name == "sigmoid" and not narrow:
            return [
                f"xp.negative({arguments[0]}, out={out})",
                f"xp.exp({out}, out={out})",
                f"xp.add({out}, 1, out={out})",
                f"xp.reciprocal({out}, out={out})",
            ]
        if name == "where" and out not in arguments:
            condition, *chosen = instruction.arguments
            if is_bool(condition.dtype) and all(v.dtype == result.dtype for v in values_in(tuple(chosen))):
                return [f"xp.copyto({out}, {arguments[2]})", f"xp.copyto({out}, {arguments[1]}, where={arguments[0]})"]
        if name == "matmul" and not narrow and all(len(value.shape) == 2 for value in instruction.inputs):
            return [f"{self.code.matmul}({', '.join(arguments)}, out={out})"]
        if name == "sum" and not narrow and is_float(result.dtype) and _is_short(instruction):
            return [f"xp.add.reduce({arguments[0]}, {arguments[1]}, None, {out}, {arguments[2]})"]
        if name == "linear" and not narrow:
            _, weight, bias = instruction.arguments
            lines = [f"{self.code.matmul}({arguments[0]}, {self.turned.get(weight, f'{arguments[1]}.T')}, out={out})"]
            return lines if bias is None else [*lines, f"xp.add({out}, {arguments[2]}, out={out})"]
        return None

    def _number_or_text(self, argument: Any) -> str:
        """An argument of an elementwise function, in which a constant of equal elements is a number."""
        if isinstance(argument, Value) and argument.constant is not None and not hasattr(argument.constant, "shape"):
            return self.text(argument.constant)
        return self.text(argument)


def _is_short(total: Instruction) -> bool:
    """Whether a sum has so few terms that it is not split; see `sums.py`."""
    x, dims, _ = total.arguments
    sizes = x.shape if dims is None else [x.shape[d] for d in (dims if isinstance(dims, list | tuple) else (dims,))]
    return BATCH not in sizes and math.prod(sizes) <= SHORT
