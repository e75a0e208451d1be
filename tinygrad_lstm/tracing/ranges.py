"""Between which numbers the elements of a value are, as far as its instruction shows."""

import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from tinygrad_lstm.backends.dtypes import is_bool
from tinygrad_lstm.backends.emit.program import Instruction, Value

__all__ = ["ANY", "Range", "range_of"]

Range: TypeAlias = tuple[float, float]
"""The least and the largest number. NaN may be among the elements in any case."""

ANY: Final[Range] = (-math.inf, math.inf)
_FUNCTIONS: dict[str, Range] = {
    "sigmoid": (0, 1), "softmax": (0, 1), "tanh": (-1, 1), "sin": (-1, 1), "cos": (-1, 1), "erf": (-1, 1),
    "sign": (-1, 1),
}  # fmt: skip
_MOVES = frozenset(
    {"broadcast_to", "cat", "clone", "detach", "getitem", "permute", "reshape", "split", "stack", "unbind"}
)


def range_of(instruction: Instruction, known: Mapping[Value, Range]) -> Range:
    """The range of an instruction's results, given those of values before it."""
    name, arguments = instruction.op.name, instruction.arguments
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    if is_bool(instruction.results[0].dtype):
        return 0, 1
    if name in _MOVES:
        return _united([_of(value, known) for value in instruction.inputs])
    if name == "where":
        return _united([_of(part, known) for part in arguments[1:]])
    if name not in ("add", "mul", "neg", "sub"):
        return ANY
    (a, b), (c, d) = _of(arguments[0], known), _of(arguments[-1], known)
    if not all(map(math.isfinite, (a, b, c, d))):
        return ANY
    if name == "add":
        return a + c, b + d
    if name == "sub":
        return a - d, b - c
    if name == "neg":
        return -b, -a
    ends = (a * c, a * d, b * c, b * d)
    return (0 if arguments[0] is arguments[1] else min(ends)), max(ends)


def _of(part: Any, known: Mapping[Value, Range]) -> Range:
    """The range of a value or a number."""
    if isinstance(part, Value):
        if part.constant is None or hasattr(part.constant, "shape"):
            return known.get(part, ANY)
        part = part.constant
    return (float(part), float(part)) if isinstance(part, int | float) else ANY


def _united(ranges: list[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)
