"""Labelled sequences, from the columns of a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_real, is_time

from ..io.errors import ContentError, shown
from ..io.tables import INTEGER
from .checking import Place, check_finite, narrowed

__all__ = ["LabelledSequences", "sequences_of_table"]

Rows = npt.NDArray[np.int64]
RowName = Callable[[int], str]
"""How messages name a row, from its position."""


@dataclass(frozen=True, eq=False)
class LabelledSequences:
    """Sequences, with a target for each."""

    sequences: list[HostArray]
    """Arrays (T_b, F), float32, of at least one step each."""
    targets: HostArray | None
    """The target of each sequence, (N,): integers, floats or strings; None if there are none."""
    features: list[str]
    """The names of the F features."""
    names: list[str]
    """The names of the sequences: their ids, files or rows."""
    rate: int | None = None
    """Of sounds, the number of samples a second."""

    def __len__(self) -> int:
        """The number of sequences."""
        return len(self.sequences)


def sequences_of_table(
    columns: Mapping[str, Any], target: str | None, id: str | None, time: str | None, row_name: RowName
) -> LabelledSequences:
    """The sequences of a table: a long one if `id` or `time` is given, otherwise a wide one.

    Args:
        columns: for each name, as many numbers or strings as there are rows; such as a DataFrame of pandas.
        target, id, time: names of columns, as for `read_sequences`.
        row_name: how messages name a row.

    Raises:
        ContentError: the table has a fault. It says in which row or column.
    """
    names, arrays = list(columns), _arrays(columns)
    roles = [("target", target), ("id", id), ("time", time)]
    for role, name in roles:
        if name is not None and name not in names:
            among = ", ".join(shown(str(each)) for each in names)
            raise ContentError(f"there is no column {shown(str(name))} for {role}; its columns are {among}"[:1000])
    used = [name for _, name in roles if name is not None]
    if len({*used}) < len(used):
        raise ContentError(f"one column is given for two of target, id and time: {', '.join(map(shown, used))}")
    features = [name for name in names if name not in used]
    if not features:
        raise ContentError("there are no columns of features; expected at least one beside target, id and time")
    numbers = [_numbers(arrays[name], str(name), row_name) for name in features]
    values = np.stack(numbers, axis=1)
    if not len(values):
        raise ContentError("it has no rows")
    targets = None if target is None else _targets(arrays[target], target, row_name)
    if id is None and time is None:
        return LabelledSequences(
            [_wide(row, features, row_name(number)) for number, row in enumerate(values)],
            targets,
            ["value"],
            [row_name(number) for number in range(len(values))],
        )
    check_finite(values, _in_table(row_name, features))
    ids, groups = _groups(None if id is None else arrays[id], len(values), row_name)
    times = None if time is None else _times(arrays[time])
    for name, rows in zip(ids, groups):
        if times is not None:
            _check_order(times, rows, name, row_name)
        if targets is not None and (wrong := np.flatnonzero(targets[rows] != targets[rows[0]])).size:
            row = rows[wrong[0]]
            raise ContentError(
                f"{row_name(row)}: the target of {shown(name)} is {targets[row]}, and {targets[rows[0]]} in "
                f"{row_name(rows[0])}; expected one target for each {'table' if id is None else 'id'}"
            )
    return LabelledSequences(
        [values[rows] for rows in groups],
        None if targets is None else targets[[rows[0] for rows in groups]],
        [str(name) for name in features],
        ids,
    )


def _arrays(columns: Mapping[str, Any]) -> dict[str, HostArray]:
    """The columns as arrays of one length."""
    arrays: dict[str, HostArray] = {}
    for name in columns:
        try:
            array = np.asarray(columns[name])
        except ValueError as error:  # lists of different lengths
            raise ContentError(f"the column {shown(str(name))} is not a list of numbers or strings") from error
        first = next(iter(arrays), name)
        rows = len(arrays[first]) if arrays else array.size
        if array.shape != (rows,):
            raise ContentError(
                f"the column {shown(str(name))} has shape {array.shape}; expected ({rows},)"
                + (f", as {shown(str(first))} has" if arrays else "")
            )
        arrays[name] = array
    return arrays


def _numbers(given: HostArray, name: str, row_name: RowName) -> HostArray:
    """A column as float32, with NaN for what is missing."""
    if is_real(given.dtype):
        wide = given.astype(np.float64)
    else:
        wide = np.empty(len(given))
        for row, value in enumerate(given.tolist()):
            try:
                wide[row] = np.nan if _is_missing(value) else float(value)
            except (TypeError, ValueError) as error:
                raise ContentError(
                    f"{row_name(row)}, column {shown(name)}: expected a number, got {shown(str(value))}"
                ) from error
    return narrowed(wide)


def _is_missing(value: Any) -> bool:
    if isinstance(value, float):
        return value != value
    # pandas has objects for what is missing.
    return value is None or (isinstance(value, str) and not value) or type(value).__name__ in ("NAType", "NaTType")


def _in_table(row_name: RowName, features: Sequence[str]) -> Place:
    return lambda row, column: f"{row_name(row)}, column {shown(str(features[column]))}"


def _wide(row: HostArray, features: Sequence[str], name: str) -> HostArray:
    """The sequence of a row, whose end may be empty."""
    steps = np.flatnonzero(~np.isnan(row))
    if not steps.size:
        raise ContentError(f"{name}: the sequence is empty; expected at least one number")
    sequence = row[: steps[-1] + 1, None]
    check_finite(sequence.T, _in_table(lambda _: name, features))
    return sequence


def _targets(given: HostArray, name: str, row_name: RowName) -> HostArray:
    """The targets of all rows: integers or floats if they all are, or are written as, such; otherwise strings."""
    as_list = given.tolist()
    if (row := next((row for row, value in enumerate(as_list) if _is_missing(value)), None)) is not None:
        raise ContentError(f"{row_name(row)}, column {shown(name)}: the target is missing; expected one in each row")
    if is_real(given.dtype):
        return given
    if all(isinstance(value, int) or INTEGER.fullmatch(str(value)) for value in as_list):
        return np.array([int(value) for value in as_list], np.int64)
    try:
        floats = np.array([float(value) for value in as_list])
    except (TypeError, ValueError):
        return np.array([str(value) for value in as_list])
    return floats if np.isfinite(floats).all() else np.array([str(value) for value in as_list])


def _groups(ids: HostArray | None, number: int, row_name: RowName) -> tuple[list[str], list[Rows]]:
    """The ids in the order in which they first appear, and the rows of each."""
    if ids is None:
        return [""], [np.arange(number)]
    given = ids.tolist()
    if (row := next((row for row, value in enumerate(given) if _is_missing(value)), None)) is not None:
        raise ContentError(f"{row_name(row)}: the id is missing; expected one in each row")
    index: dict[str, int] = {}
    numbers = np.array([index.setdefault(str(each), len(index)) for each in given])
    order = np.argsort(numbers, kind="stable")
    return list(index), np.split(order, np.cumsum(np.bincount(numbers))[:-1])


def _times(given: HostArray) -> HostArray:
    """Times that can be compared: numbers, or dates."""
    if is_real(given.dtype) or is_time(given.dtype):
        return given
    try:
        return given.astype(np.float64)
    except (TypeError, ValueError):
        pass
    try:
        return given.astype("datetime64[us]")
    except (TypeError, ValueError) as error:
        raise ContentError(f"the times are neither numbers nor dates as 2024-12-31T23:59:59 ({error})") from error


def _check_order(times: HostArray, rows: Rows, name: str, row_name: RowName) -> None:
    of_sequence = times[rows]
    if (missing := np.flatnonzero(of_sequence != of_sequence)).size:
        raise ContentError(f"{row_name(rows[missing[0]])}: the time is missing; expected one in each row")
    if (unsorted := np.flatnonzero(of_sequence[1:] <= of_sequence[:-1])).size:
        before, after = rows[unsorted[0]], rows[unsorted[0] + 1]
        raise ContentError(
            f"{row_name(after)}: the time {times[after]} of {shown(name)} is not after {times[before]} in "
            f"{row_name(before)}; expected the rows of a sequence in the order of time"
        )
