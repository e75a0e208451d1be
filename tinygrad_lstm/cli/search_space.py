"""The options that a search varies, and over which values: the syntax of --space."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..io.errors import shown

__all__ = ["Choice", "Range", "Space", "described", "space_of"]

SYNTAX = "LOW:HIGH, LOW:HIGH:log, LOW:HIGH:STEP or A,B,C"

BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[bool | int | float | str, ...]

    def __str__(self) -> str:
        return ",".join(json.dumps(value) if isinstance(value, bool) else str(value) for value in self.values)


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    """Whether its logarithm is distributed evenly."""
    step: float | None = None
    """Only `low`, `low + step`, ... are used."""

    @property
    def values(self) -> tuple[float, float]:
        """Its ends."""
        return self.low, self.high

    def __str__(self) -> str:
        last = ":log" if self.log else "" if self.step is None else f":{self.step:g}"
        return f"{self.low:g}:{self.high:g}{last}"

    def near(self, value: float) -> float:
        """A value of the range with four digits, so that it can be read and typed."""
        if isinstance(self.low, int):
            return int(value)
        return min(max(float(f"{value:.4g}"), self.low), self.high)


Space = Mapping[str, Choice | Range]


def described(space: Space) -> str:
    """A space as it is written on the command line.

    >>> described({"lr": Range(0.001, 0.1, log=True), "hidden": Choice((64, 128))})
    'lr=0.001:0.1:log hidden=64,128'
    """
    return " ".join(f"{name.replace('_', '-')}={values}" for name, values in space.items())


def space_of(given: Sequence[str], kinds: Mapping[str, type], spellings: Mapping[str, str]) -> Space:
    """The space that is written on the command line.

    Args:
        given: the arguments of --space, as in lr=1e-3:1e-1:log.
        kinds: the types of the options that can be searched, by name.
        spellings: their names, by how they are spelt on the command line.

    Raises:
        ValueError: one is invalid; the message says what was given and what was expected.

    >>> space_of(["hidden-size=32:128:32"], {"hidden": int}, {"--hidden": "hidden", "--hidden-size": "hidden"})
    {'hidden': Range(low=32, high=128, log=False, step=32)}
    """
    space: dict[str, Choice | Range] = {}
    for argument in given:
        written, equals, values = argument.partition("=")
        name = spellings.get("--" + written.strip().lstrip("-").replace("_", "-"))
        if not equals:
            raise ValueError(f"--space: expected NAME=VALUES, as in lr=1e-3:1e-1:log, got {argument!r}")
        if name is None:
            listed = ", ".join(each.replace("_", "-") for each in kinds)
            raise ValueError(f"--space: expected one of {listed}, got {shown(written)}")
        if name in space:
            raise ValueError(f"--space: expected {written.strip()} once, got it twice")
        try:
            space[name] = _values(values.strip(), kinds[name])
        except ValueError as error:
            raise ValueError(f"--space {argument}: {error}") from error
    return space


def _values(text: str, kind: type) -> Choice | Range:
    """What is written behind the name.

    Raises:
        ValueError: it is invalid.
    """
    if ":" in text:
        if kind not in (int, float):
            raise ValueError(f"expected values separated by commas, got the range {text!r}")
        return _range(text.split(":"), kind)
    values = tuple(_value(part.strip(), kind) for part in text.split(",")) if text else ()
    if len(values) < 2:
        raise ValueError(f"expected at least two values, as {SYNTAX}, got {text!r}; a fixed one is given as an option")
    if len(set(values)) < len(values):
        raise ValueError("expected different values, got one twice")
    return Choice(values)


def _range(parts: Sequence[str], kind: type) -> Range:
    if len(parts) > 3:
        raise ValueError(f"expected {SYNTAX}, got {':'.join(parts)!r}")
    low, high = (_value(part.strip(), kind) for part in parts[:2])
    if not low < high:
        raise ValueError(f"expected LOW below HIGH, got {low:g} and {high:g}: the range is empty")
    if len(parts) == 2:
        return Range(low, high)
    last = parts[2].strip()
    if last == "log":
        if low <= 0:
            raise ValueError(f"expected LOW above 0 with log, got {low:g}")
        return Range(low, high, log=True)
    step = _value(last, kind)
    if not 0 < step <= high - low:
        raise ValueError(f"expected STEP above 0 and at most {high - low:g}, got {step:g}")
    return Range(low, high, step=step)


def _value(text: str, kind: type) -> Any:
    """A value of an option.

    Raises:
        ValueError: it is not one.
    """
    if kind is bool:
        if text not in BOOLEANS:
            raise ValueError(f"expected true and false, got {text!r}")
        return BOOLEANS[text]
    if kind is str:
        if not text:
            raise ValueError("expected a value, got an empty string")
        return text
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected {'an integer' if kind is int else 'a number'}, got {text!r}")
    return value
