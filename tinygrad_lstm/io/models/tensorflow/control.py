"""Loops and branches: steps that run the bodies of functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..body import Body
from ..rules import Value

__all__ = ["If", "While"]


@dataclass(frozen=True)
class While:
    """Runs a body again and again, as long as a condition is true.

    Attributes:
        cond, body: take the values that are carried from one run to the next.
        captured: the names of the values that they take from outside.
    """

    cond: Body
    body: Body
    captured: tuple[str, ...]

    def __call__(self, *given: Any) -> Any:
        number = len(self.body.inputs)
        carried: Sequence[Any] = given[:number]
        outside = dict(zip(self.captured, given[number:], strict=True))
        while _number(*self.cond.run({**outside, **dict(zip(self.cond.inputs, carried, strict=True))})):
            carried = self.body.run({**outside, **dict(zip(self.body.inputs, carried, strict=True))})
        return _results(carried)


@dataclass(frozen=True)
class If:
    """Runs one of several bodies.

    Attributes:
        branches: their order is that of true and false, or of the numbers from 0.
        captured: the names of the values that they take from outside.
        by_number: whether a number selects the branch; the last one runs if there is none of this number.
    """

    branches: tuple[Body, ...]
    captured: tuple[str, ...]
    by_number: bool

    def __call__(self, index: Value, *outside: Any) -> Any:
        number = _number(index)
        if not self.by_number:
            number = 0 if number else 1
        body = self.branches[number if 0 <= number < len(self.branches) else -1]
        return _results(body.run(dict(zip(self.captured, outside, strict=True))))


def _number(value: Value) -> Any:
    """The number, or truth, of a value of one element."""
    return value.item()


def _results(results: Sequence[Any]) -> Any:
    return results[0] if len(results) == 1 else tuple(results)
