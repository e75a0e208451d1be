"""A program's ops as lines that read like equations."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from tinygrad_lstm.backends.emit.program import Instruction, Value, values_in

__all__ = ["Equations", "index_text", "is_unnamed"]

_INFIX = {
    "add": ("+", 2), "sub": ("-", 2), "mul": ("*", 3), "div": ("/", 3), "matmul": ("@", 3),
    "eq": ("==", 1), "ne": ("!=", 1), "lt": ("<", 1), "le": ("<=", 1), "gt": (">", 1), "ge": (">=", 1),
}  # fmt: skip
"""The operators of ops of two arguments, and how tightly they bind."""
_UNARY, _ATOM = 4, 5
_LONG = 60  # characters


class Equations:
    """Writes instructions as equations.

    A value that only one instruction uses becomes a part of its equation, if it has no name of its own.

    Args:
        instructions: all instructions that will be written.
        kept: the values that need an equation of their own.
    """

    def __init__(self, instructions: Sequence[Instruction], kept: Collection[Value]) -> None:
        self._uses = Counter(value for instruction in instructions for value in instruction.inputs)
        self._ops = {instruction.op.name for instruction in instructions}
        self._kept = set(kept)
        self._parts: dict[Value, tuple[str, int]] = {}

    def lines(self, instructions: Sequence[Instruction]) -> list[str]:
        """The equations of instructions that are computed together."""
        return self.numbered(instructions)[0]

    def numbered(self, instructions: Sequence[Instruction]) -> tuple[list[str], dict[Instruction, int]]:
        """The same, and for each instruction the number of the equation that it is part of."""
        read = {value for instruction in instructions for value in instruction.inputs}
        self._parts, lines, numbers = {}, list[str](), dict[Instruction, int]()
        waiting: dict[Value, list[Instruction]] = {}
        for instruction in instructions:
            text, level = self._expression(instruction)
            together = [instruction, *(each for value in instruction.inputs for each in waiting.pop(value, ()))]
            if read.issuperset(instruction.results) and self._is_part(instruction) and len(text) < _LONG:
                self._parts[instruction.results[0]] = text, level
                waiting[instruction.results[0]] = together
            else:
                numbers |= dict.fromkeys(together, len(lines))
                names = ", ".join(value.name for value in instruction.results)
                lines.append(f"{f'({names},)' if self._is_tuple_of_one(instruction) else names} = {text}")
        return lines, numbers

    def _is_part(self, instruction: Instruction) -> bool:
        value = instruction.results[0]
        single = len(instruction.results) == 1 and not self._is_tuple_of_one(instruction)
        return single and value not in self._kept and self._uses[value] == 1 and is_unnamed(value, self._ops)

    @staticmethod
    def _is_tuple_of_one(instruction: Instruction) -> bool:
        return instruction.op.name in ("split", "unbind") and len(instruction.results) == 1

    def _expression(self, instruction: Instruction) -> tuple[str, int]:
        """The expression of an instruction, and how tightly its operator binds."""
        name, arguments = instruction.op.name, instruction.arguments
        if name in _INFIX:
            sign, level = _INFIX[name]
            numbers = [self._number(part) if name != "matmul" else part for part in arguments]
            first, second = self._within(numbers[0], level), self._within(numbers[1], level + 1)
            return f"{first} {sign} {second}", level
        if name == "linear":
            x, weight, bias = arguments
            product = f"{self._within(x, 3)} @ {self._within(weight, _ATOM)}.T"
            return (product, 3) if bias is None else (f"{product} + {self._within(bias, 3)}", 2)
        if name == "neg":
            return f"-{self._within(arguments[0], _UNARY)}", _UNARY
        if name == "square":
            return f"{self._within(arguments[0], _ATOM)}**2", _UNARY
        if name == "permute" and arguments[1] == (1, 0):
            return f"{self._within(arguments[0], _ATOM)}.T", _ATOM
        if name == "getitem":
            return f"{self._within(arguments[0], _ATOM)}[{index_text(arguments[1])}]", _ATOM
        last = max((k for k, part in enumerate(arguments) if any(values_in(part))), default=0)
        given = [self._text(part) for part in arguments[: last + 1]]
        settings = zip(instruction.op.names[last + 1 :], arguments[last + 1 :])
        given += [f"{setting}={self._text(part)}" for setting, part in settings]
        return f"{name}({', '.join(given)})", _ATOM

    @staticmethod
    def _number(argument: Any) -> Any:
        """A number in place of a constant all of whose elements are equal."""
        is_number = isinstance(argument, Value) and isinstance(argument.constant, bool | int | float)
        return argument.constant if is_number else argument

    def _within(self, argument: Any, level: int) -> str:
        """An argument, in parentheses if its operator binds less tightly than `level`."""
        text, binds = self._parts.get(argument, ("", _ATOM)) if isinstance(argument, Value) else ("", _ATOM)
        return f"({text})" if binds < level else text or self._text(argument)

    def _text(self, argument: Any) -> str:
        if isinstance(argument, Value):
            if argument in self._parts:
                return self._parts[argument][0]
            if argument.constant is None or hasattr(argument.constant, "shape"):
                return argument.name
            return f"full({argument.shape!r}, {argument.constant!r})"
        if isinstance(argument, list | tuple):
            inner = ", ".join(map(self._text, argument))
            return f"[{inner}]" if isinstance(argument, list) else f"({inner}{',' * (len(argument) == 1)})"
        return repr(str(argument) if hasattr(argument, "itemsize") else argument)  # a dtype


def is_unnamed(value: Value, ops: Collection[str]) -> bool:
    """Whether a value's name says no more than which of these ops computes it, or whose gradient it is."""
    name = value.name.rstrip("0123456789").rstrip("_").removesuffix("_factor")
    while name.startswith("g_"):
        name = name.removeprefix("g_").rstrip("0123456789").rstrip("_")
    return name in ops


def index_text(index: Any) -> str:
    """An index as Python code, without brackets."""
    if isinstance(index, tuple):
        return ", ".join(map(index_text, index))
    if isinstance(index, slice):
        ends = ["" if end is None else str(end) for end in (index.start, index.stop, index.step)]
        return ":".join(ends if ends[2] else ends[:2])
    return "..." if index is Ellipsis else str(index)
