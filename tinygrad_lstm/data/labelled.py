"""Labelled sequences, from the columns of a table."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_real, is_time

from ..io.errors import ContentError, shown
from ..io.tables import INTEGER
from ..printable import printable
from .checking import Place, check_finite
from .rounding import narrowed_if_kept

__all__ = ["LabelledSequences", "Roles", "sequences_of_table"]

CODE = re.compile(r"[-+]?(0\d+|\d{16,})")
"""A target that a number would change: 007, or one of more digits than a float has."""

Rows = npt.NDArray[np.int64]
RowName = Callable[[int], str]
"""How messages name a row, from its position."""


@dataclass(frozen=True, eq=False)
class LabelledSequences:
    """Sequences, with a target for each."""

    sequences: list[HostArray]
    """Arrays (T_b, F) of at least one step each: float32, or float64 if that would round away a feature's variation."""
    targets: HostArray | None
    """The target of each sequence, (N,): integers, floats or strings; None if there are none."""
    features: list[str]
    """The names of the F features."""
    names: list[str]
    """The names of the sequences: their ids, files or rows."""
    rate: int | None = None
    """Of sounds, the number of samples a second."""
    groups: HostArray | None = None
    """The group of each sequence, (N,), as strings; None if there are none. `SequenceClassifier.fit` and scikit-learn's
    splitters take them as `groups`."""

    def __len__(self) -> int:
        """The number of sequences."""
        return len(self.sequences)

    def taken(self, rows: Rows) -> "LabelledSequences":
        """The sequences at some positions."""
        return replace(
            self,
            sequences=[self.sequences[row] for row in rows.tolist()],
            targets=None if self.targets is None else self.targets[rows],
            names=[self.names[row] for row in rows.tolist()],
            groups=None if self.groups is None else self.groups[rows],
        )


@dataclass(frozen=True)
class Roles:
    """The columns of a table, as given to `read_sequences`."""

    target: str | None = None
    id: str | None = None
    time: str | None = None
    features: Sequence[str] | None = None
    drop: Sequence[str] = ()
    group: str | None = None
    drop_name: str = "drop"
    """How messages call the argument `drop`."""
    text_targets: bool = False
    """Whether targets are strings as they are written, also if all are numbers."""
    lenient: bool = False
    """Whether `target`, `group` and `drop` may name columns that are not there, which is as if they were not given.
    Groups are not read."""

    def among(self, names: Collection[str]) -> "Roles":
        """The roles of a table with these columns, if they are lenient without those that it does not have."""
        if not self.lenient:
            return self
        target, group = (name if name in names else None for name in (self.target, self.group))
        return replace(self, target=target, group=group, drop=[name for name in self.drop if name in names])

    def advice(self, what: str = "a column") -> str:
        """The end of messages about what cannot be used."""
        return "" if self.lenient else f"; {self.drop_name} can leave {what} out"

    @property
    def named(self) -> dict[str, str]:
        """The columns that are not features, by their roles."""
        roles = {"target": self.target, "id": self.id, "time": self.time, "group": self.group}
        return {role: name for role, name in roles.items() if name is not None}

    def features_of(self, names: Sequence[str]) -> list[str]:
        """The names of the features among those of a table's columns.

        Raises:
            ContentError: a column is missing, has two roles, or there is no feature.
        """
        asked = [*self.named.items(), *[("features", name) for name in self.features or ()]]
        for role, name in [*asked, *[("drop", name) for name in self.drop]]:
            if name not in names:
                among = ", ".join(shown(str(each)) for each in names)
                raise ContentError(f"there is no column {shown(str(name))} for {role}; its columns are {among}"[:1000])
        used = [name for _, name in asked]
        if len({*used}) < len(used):
            twice = next(name for name in used if used.count(name) > 1)
            roles = [role for role, name in asked if name == twice]
            if len({*roles}) == 1:
                raise ContentError(f"the column {shown(twice)} is given for {roles[0]} twice")
            raise ContentError(f"the column {shown(twice)} is given for {' and '.join(roles)}; expected one of them")
        features = [name for name in names if name not in used] if self.features is None else self.features
        features = [name for name in features if name not in self.drop]
        if not features:
            raise ContentError(
                "there are no columns of features; expected at least one beside target, id, time and group"
            )
        return features


def sequences_of_table(columns: Mapping[str, Any], roles: Roles, row_name: RowName) -> LabelledSequences:
    """The sequences of a table: a long one if `id` or `time` is given, otherwise a wide one.

    Args:
        columns: for each name, as many numbers or strings as there are rows; such as a DataFrame of pandas.
        roles: names of columns.
        row_name: how messages name a row.

    Raises:
        ContentError: the table has a fault. It says in which row or column.
    """
    roles = roles.among(columns)
    target, id, time, group = roles.target, roles.id, roles.time, None if roles.lenient else roles.group
    arrays = _arrays(columns)
    features = roles.features_of(list(columns))
    numbers = [_numbers(arrays[name], str(name), row_name, roles.advice()) for name in features]
    values = np.stack(numbers, axis=1)
    if not len(values):
        raise ContentError("it has no rows")
    targets = None if target is None else _targets(arrays[target], target, row_name, roles)
    groups = None if group is None else _strings("group", arrays[group], group, row_name)
    if id is None and time is None:
        return LabelledSequences(
            [_wide(row, features, row_name(number)) for number, row in enumerate(values)],
            targets,
            ["value"],
            [row_name(number) for number in range(len(values))],
            groups=groups,
        )
    check_finite(values, _in_table(row_name, features))
    ids, places = _places([""] * len(values) if id is None else _strings("id", arrays[id], id, row_name).tolist())
    times = None if time is None else _times(arrays[time])
    for name, rows in zip(ids, places):
        if times is not None:
            _check_order(times, rows, name, row_name)
        for role, found in (("target", targets), ("group", groups)):
            if found is not None and (wrong := np.flatnonzero(found[rows] != found[rows[0]])).size:
                row = rows[wrong[0]]
                here, before = printable(str(found[row])), printable(str(found[rows[0]]))
                raise ContentError(
                    f"{row_name(row)}: the {role} of {shown(name)} is {here}, and {before} in {row_name(rows[0])}; "
                    f"expected one {role} for each {'table' if id is None else 'id'}"
                )
    firsts = [rows[0] for rows in places]
    return LabelledSequences(
        [values[rows] for rows in places],
        None if targets is None else targets[firsts],
        [str(name) for name in features],
        ids,
        groups=None if groups is None else groups[firsts],
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


def _numbers(given: HostArray, name: str, row_name: RowName, advice: str) -> HostArray:
    """A column of floats, with NaN for what is missing."""
    _check_no_dates(given, name, advice)
    if is_real(given.dtype):
        wide = given.astype(np.float64)
    else:
        wide = np.empty(len(given))
        for row, value in enumerate(given.tolist()):
            try:
                wide[row] = np.nan if _is_missing(value) else float(value)
            except (TypeError, ValueError) as error:
                raise ContentError(
                    f"{row_name(row)}, column {shown(name)}: expected a number, got {shown(str(value))}{advice}"
                ) from error
    return narrowed_if_kept(wide[:, None])[:, 0]


def _check_no_dates(given: HostArray, name: str, advice: str) -> None:
    if is_time(given.dtype):
        raise ContentError(f"the column {shown(name)} has dates or times ({given.dtype}); expected numbers{advice}")


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


def _complete(role: str, given: HostArray, name: str, row_name: RowName) -> list[Any]:
    """The values of a column, none of which is missing."""
    values: list[Any] = given.tolist()
    if (row := next((row for row, value in enumerate(values) if _is_missing(value)), None)) is not None:
        raise ContentError(f"{row_name(row)}, column {shown(name)}: the {role} is missing; expected one in each row")
    return values


def _strings(role: str, given: HostArray, name: str, row_name: RowName) -> HostArray:
    return np.array([str(value) for value in _complete(role, given, name, row_name)], np.str_)


def _targets(given: HostArray, name: str, row_name: RowName, roles: Roles) -> HostArray:
    """The targets of all rows: integers or floats if they all are, or are written as, such; otherwise strings.

    If one is a code such as 007, all are strings.
    """
    _check_no_dates(given, name, roles.advice())
    as_list = _complete("target", given, name, row_name)
    if roles.text_targets:
        return np.array([str(value) for value in as_list])
    if is_real(given.dtype):
        return given
    if any(isinstance(value, str) and CODE.fullmatch(value) for value in as_list):
        return np.array([str(value) for value in as_list])
    if all(isinstance(value, int) or INTEGER.fullmatch(str(value)) for value in as_list):
        return np.array([int(value) for value in as_list], np.int64)
    try:
        floats = np.array([float(value) for value in as_list])
    except (TypeError, ValueError):
        return np.array([str(value) for value in as_list])
    return floats if np.isfinite(floats).all() else np.array([str(value) for value in as_list])


def _places(ids: Sequence[str]) -> tuple[list[str], list[Rows]]:
    """The ids in the order in which they first appear, and the rows of each."""
    index: dict[str, int] = {}
    numbers = np.array([index.setdefault(each, len(index)) for each in ids])
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
        raise ContentError(
            f"the times are neither numbers nor dates as 2024-12-31T23:59:59 ({shown(str(error))})"
        ) from error


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
