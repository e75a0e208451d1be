"""Tables in .csv files: columns of numbers, and of strings."""

import csv
import io
import re
from array import array as numbers_of
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import ContentError, shown

__all__ = ["INTEGER", "Table", "parse_table"]

INTEGER = re.compile(r"\s*[-+]?\d{1,15}\s*")  # a float has these exactly
_LONGEST_CELL = 100


@dataclass(frozen=True)
class Table:
    """The rows of a .csv file."""

    columns: tuple[str, ...]
    """The names in the first line; empty if it has numbers."""
    numbers: npt.NDArray[np.float64]
    """The columns of numbers, (rows, columns)."""
    strings: dict[str, list[str]]
    """The columns that are read as strings, by name."""
    lines: npt.NDArray[np.int64]
    """The number of the line of each row, from 1."""
    integers: npt.NDArray[np.bool_]
    """Whether all numbers of a row are written as integers, for each row."""


def parse_table(
    content: bytes,
    strings: Callable[[tuple[str, ...]], Collection[str]] = lambda columns: (),
    blank: float | None = None,
    by_spaces: bool = False,
    advice: str = "",
) -> Table:
    """The table of a .csv file in UTF-8.

    The first of tab, semicolon and comma that the first line has separates columns. Blank lines are skipped. The first
    line has the names of the columns if one of its cells is not a number.

    Args:
        content: the file's bytes.
        strings: called with the names of the columns, returns those of the columns that are read as strings; it may
            raise a ContentError. The other columns are of numbers.
        blank: the number in an empty cell; None refuses such cells.
        by_spaces: whether white space separates columns if the first line has none of these characters, and lines that
            begin with # are skipped, as `numpy.savetxt` writes them.
        advice: the end of the message about a cell that is not a number.

    Raises:
        ContentError: the rows differ in length, a cell is not a number, or there are no rows.
        UnicodeDecodeError: the content is not UTF-8.
    """
    columns: tuple[str, ...] = ()
    as_numbers: list[int] = []
    as_strings: dict[int, list[str]] = {}
    numbers, lines, integers, width = numbers_of("d"), numbers_of("q"), bytearray(), 0
    for line, cells in _rows(content, by_spaces):
        if not any(cell.strip() for cell in cells) and (blank is None or len(cells) < 2):
            continue
        if not width:
            width = len(cells)
            has_names = any(_number(cell, blank) is None for cell in cells)
            columns = tuple(cell.strip() for cell in cells) if has_names else ()
            of_strings = strings(columns)
            as_strings = {place: [] for place, name in enumerate(columns) if name in of_strings}
            as_numbers = [place for place in range(width) if place not in as_strings]
            if has_names:
                continue
        if len(cells) != width:
            raise ContentError(f"line {line} has {len(cells)} columns, and the first has {width}")
        for place, column in as_strings.items():
            column.append(cells[place].strip())
        for place in as_numbers:
            if (number := _number(cells[place], blank)) is None:
                name = shown(columns[place]) if columns else str(place + 1)
                raise ContentError(f"line {line}, column {name}: expected a number, got {shown(cells[place])}{advice}")
            numbers.append(number)
        integers.append(all(INTEGER.fullmatch(cells[place]) for place in as_numbers))
        lines.append(line)
    if not lines:
        raise ContentError("it has no numbers")
    return Table(
        columns,
        np.frombuffer(numbers, np.float64).reshape(len(lines), len(as_numbers)),
        {columns[place]: column for place, column in as_strings.items()},
        np.frombuffer(lines, np.int64),
        np.frombuffer(integers, np.bool_),
    )


def _rows(content: bytes, by_spaces: bool) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row, and the number of its line."""
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    lines = _without_comments(text) if by_spaces else text
    first = re.sub('"[^"]*"', "", next((line for line in lines if line.strip()), ""))
    text.seek(0)
    delimiter = next((each for each in "\t;," if each in first), " " if by_spaces else ",")
    lines = _without_comments(text) if by_spaces else text
    if delimiter == " ":
        yield from enumerate(map(str.split, lines), 1)
        return
    rows = csv.reader(lines, delimiter=delimiter)
    try:
        for cells in rows:
            yield rows.line_num, cells
    except csv.Error as error:
        raise ContentError(f"line {rows.line_num}: {error}") from error


def _without_comments(lines: Iterable[str]) -> Iterator[str]:
    """The lines, with blank ones in place of those that begin with #."""
    return ("\n" if line.lstrip().startswith("#") else line for line in lines)


def _number(cell: str, blank: float | None) -> float | None:
    if len(cell) > _LONGEST_CELL or "_" in cell:  # Python reads 1_000 as a number; files have names like it
        return None
    try:
        return float(cell)
    except ValueError:
        return None if cell.strip() else blank
