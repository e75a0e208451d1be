"""A stage of an explained step as text, 80 columns wide: its equations with numbers put in, a bar for each gate."""

import math
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple, TypeAlias

from ._explain import Calculation, Stage

__all__ = ["StageLine", "needs_ascii", "stage_lines", "stage_text"]

Symbols: TypeAlias = Callable[[str], str]
"""Converts symbols to ASCII, or leaves them unchanged."""

Kind: TypeAlias = Literal["title", "question", "equation", "code", "numbers", "meaning", "empty"]

WIDTH = 80
BAR = 10
"""The width of a gate's bar."""

MOST_SHOWN = 8
"""Of a longer vector, only the beginning is shown."""

_ASCII = {"c̃": "c~", "σ": "sigmoid", "·": "*", "⊙": "*", "█": "#", "░": ".", "─": "-", "…": "..."}


class StageLine(NamedTuple):
    """A line of text and its kind, by which it can be coloured."""

    kind: Kind
    text: str


def stage_text(stage: Stage, ascii: bool = False) -> str:
    """A stage as text: its equations, the code that ran, the equations with numbers put in, and their meaning.

    Numbers are rounded to three decimals; a number without decimals is exact. Products with an exact 0 are left out.

    Args:
        stage: a stage that `explain` returned.
        ascii: writes "sigmoid" for σ, and so on.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTMCell
    >>> cell = LSTMCell(1, 1)
    >>> for parameter in cell.parameters():
    ...     _ = tg.nn.init.constant_(parameter, 2)
    >>> text = stage_text(tg.inspect.explain(cell, [[1.0]])[1])
    >>> print(*(line for line in text.splitlines() if "unit" in line))
      unit 0  f = σ(2·1 + 2) = σ(4) = 0.982  ██████████
    """
    return "\n".join(line.text for line in stage_lines(stage, ascii))


def stage_lines(stage: Stage, ascii: bool = False) -> list[StageLine]:
    """The lines of `stage_text`, each with its kind."""
    return [StageLine(kind, line) for kind, line in _lines(stage, _in_ascii if ascii else str)]


def needs_ascii(encoding: str) -> bool:
    """Whether an encoding lacks a symbol of the text.

    >>> needs_ascii("utf-8"), needs_ascii("latin-1")
    (False, True)
    """
    try:
        "".join(_ASCII).encode(encoding)
    except UnicodeEncodeError:
        return True
    return False


def _in_ascii(text: str) -> str:
    for sign, plain in _ASCII.items():
        text = text.replace(sign, plain)
    return text


def _lines(stage: Stage, symbols: Symbols) -> Iterator[tuple[Kind, str]]:
    yield "title", symbols(f"── {stage.title} ".ljust(WIDTH, "─"))
    yield from (("question", line) for line in textwrap.wrap(symbols(stage.question), WIDTH))
    yield "empty", ""
    yield from (("equation", f"  {symbols(equation)}") for equation in stage.equations)
    yield "empty", ""
    for file, lines in groupby(stage.code, lambda line: line.file):
        yield "code", f"  {file}"
        yield from (("code", f"  {line.number:>5}  {line.text}") for line in lines)
    yield "empty", ""
    for name, values in stage.vectors.items():
        yield from (("numbers", line) for line in _vector(name, values, symbols))
    digits = max((len(str(calculation.unit)) for calculation in stage.calculations), default=0)
    for calculation in stage.calculations:
        yield from (("numbers", line) for line in _calculation(calculation, digits, symbols))
    yield "empty", ""
    for sentence in stage.meaning:
        yield from (("meaning", line) for line in textwrap.wrap(symbols(sentence), WIDTH))


def _vector(name: str, values: Sequence[float], symbols: Symbols) -> list[str]:
    shown = [_number(value) for value in values]
    if len(shown) > MOST_SHOWN:
        shown = [*shown[: MOST_SHOWN - 2], symbols(f"… {len(values)} in all")]
    return _wrapped(f"  {name:<6} = ", f"[{', '.join(shown)}]")


def _calculation(calculation: Calculation, digits: int, symbols: Symbols) -> list[str]:
    """The equation with the numbers put in, on one line, or on two if it is too long."""
    argument, result = _number(calculation.argument), _number(calculation.result)
    if calculation.function:
        around = f"{calculation.function}({{}})"
        sides = [around.format(_sum(calculation.terms)), around.format(argument), result]
    else:
        sides = [_sum(calculation.terms), result]
    first, *rest = dict.fromkeys(map(symbols, sides))
    before = symbols(f"  unit {calculation.unit:>{digits}}  {calculation.symbol} ")
    after = "".join(f" = {side}" for side in rest) + symbols(_bar(calculation))
    if _columns(before + "= " + first + after) <= WIDTH:
        return [f"{before}= {first}{after}"]
    return [*_wrapped(f"{before}= ", first), " " * (_columns(before) - 1) + after]


def _bar(calculation: Calculation) -> str:
    if calculation.function != "σ" or math.isnan(calculation.result):
        return ""
    full = round(BAR * calculation.result)
    return f"  {'█' * full}{'░' * (BAR - full)}"


def _sum(terms: Sequence[Sequence[float]]) -> str:
    text = " ".join(_term(factors) for factors in terms if 0 not in factors) or "+ 0"
    return text[2:] if text.startswith("+") else f"-{text[2:]}"


def _term(factors: Sequence[float]) -> str:
    """A product with its sign first; the other factors are in parentheses if they are negative."""
    first, *others = factors
    written = [_number(abs(first)), *map(_number, others)]
    return f"{'-' if first < 0 else '+'} {'·'.join(f'({text})' if text.startswith('-') else text for text in written)}"


def _number(value: float) -> str:
    return f"{value:z.0f}" if value.is_integer() else f"{value:z.3f}"


def _wrapped(before: str, text: str) -> list[str]:
    indent = " " * _columns(before)
    return textwrap.wrap(text, WIDTH, initial_indent=before, subsequent_indent=indent, break_on_hyphens=False)


def _columns(text: str) -> int:
    """The width of a string in a terminal."""
    return sum(not unicodedata.combining(character) for character in text)
