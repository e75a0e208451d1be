"""The data of a fit: read, checked, and divided into a part to train on and a part to test on."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_string

from ..data import LabelledSequences
from ..data.labelled import Roles
from ..data.reading import is_table
from ..estimators.splitting import rows_of, rows_of_each_class, rows_of_groups
from .labelled import (
    check_features,
    check_groups,
    check_like_training,
    check_members,
    check_other_groups,
    columns_of,
    described,
    different_numbers_of,
    known_labels,
    labels_of,
    numbers_of,
    read,
)
from .shared import require

__all__ = ["Parts", "parts_of"]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of the data, with a target for each sequence."""

    path: Path
    """The file."""
    train: LabelledSequences
    targets: HostArray
    test: LabelledSequences | None
    """None if there is no test."""
    test_targets: HostArray
    columns: dict[str, Any]
    """The columns and their roles, for the model's file."""
    described: str
    """What was read, in a few lines."""


def parts_of(path: Path, roles: Roles, classifies: bool, test: str, validation: float, seed: int) -> Parts:
    """Reads a file, and the file of the test if it is one.

    Args:
        roles: the roles of its columns.
        classifies: whether the targets are classes, of which each has its share in the test.
        test: the share of the sequences for the test, or a file.
        validation: the share for the validation.
        seed: decides which sequences the test has.

    Raises:
        OSError, ValueError: a file cannot be read or has a fault, which is named with its row or column.
    """
    share = _share(test)
    is_long = is_table(path) and (roles.id is not None or roles.time is not None)
    data = read(path, roles)
    check_features(data, path, is_long)
    targets = labels_of(data, path) if classifies else different_numbers_of(data, path)
    needed = ["training", *["validation"] * (validation > 0), *["the test"] * bool(share)]
    if classifies:
        check_members(data, targets, path, needed)
    elif len(data) < len(needed):
        raise ValueError(f"{path}: it has {len(data)} sequences; expected one each for {', '.join(needed)}")
    check_groups(data, path, needed)
    rng = np.random.default_rng(seed)
    rows = np.sort(_drawn(path, data, targets, classifies, share, rng)) if share else np.zeros(0, np.int64)
    test_data: LabelledSequences | None = None
    test_targets = targets[rows]
    if share is None:
        test_roles = replace(roles, features=data.features if is_long else roles.features)
        test_roles = replace(test_roles, text_targets=is_string(targets.dtype))
        test_data, test_targets = _read_test(Path(test), test_roles, data, path, targets, classifies)
    elif share:
        test_data = data.taken(rows)
    rest = np.setdiff1d(np.arange(len(data)), rows)
    train = data.taken(rest)
    lines = [described(data, path), _classes(targets) if classifies else _range(targets)]
    if test_data is not None:
        lines += _divided(train, test_data)
        if classifies and (untested := np.setdiff1d(targets, test_targets).tolist()):
            lines.append(f"note: the test has no sequence of {_some(untested)}")
    columns = columns_of(roles, data, is_long)
    return Parts(path, train, targets[rest], test_data, test_targets, columns, "\n".join(lines))


def _share(test: str) -> float | None:
    """The share of --test; None if it is a file."""
    try:
        share = float(test)
    except ValueError:
        require("--test", bool(test), "a share or a file", "an empty string")
        return None
    require("--test", 0 <= share < 1, "a share from 0 to below 1, or a file", test)
    return share


def _drawn(
    path: Path,
    data: LabelledSequences,
    targets: HostArray,
    classifies: bool,
    share: float,
    rng: np.random.Generator,
) -> HostArray:
    """The rows of the test."""
    classes, codes = np.unique(targets, return_inverse=True)
    if data.groups is not None:
        return rows_of_groups(str(path), data.groups, codes if classifies else np.zeros_like(codes), share, rng)
    if classifies:
        return rows_of_each_class(str(path), codes, classes, share, rng)
    return rows_of(str(path), len(data), share, rng)


def _read_test(
    path: Path, roles: Roles, data: LabelledSequences, trained_path: Path, targets: HostArray, classifies: bool
) -> tuple[LabelledSequences, HostArray]:
    """The sequences of the file of --test, and their targets."""
    test = read(path, roles)
    check_like_training(test, path, len(data.features), data.rate)
    check_other_groups(test, path, data, trained_path)
    return test, known_labels(test, path, np.unique(targets)) if classifies else numbers_of(test, path)


def _divided(train: LabelledSequences, test: LabelledSequences) -> Iterator[str]:
    """The sizes of both parts, in words, and a note if they have equal sequences."""
    yield f"{len(train):,} sequences to train on, {len(test):,} to test on"
    if train.groups is not None and test.groups is not None:
        yield f"{len(np.unique(train.groups)):,} groups to train on, {len(np.unique(test.groups)):,} to test on"
    if same := _repeated(train, test):
        yield f"note: {len(same):,} of the test are equal to one to train on, such as {same[0]}: it is too easy"


def _repeated(train: LabelledSequences, test: LabelledSequences) -> list[str]:
    """The names of the sequences of the test that are equal to one to train on."""

    def digest(sequence: HostArray) -> bytes:
        return hashlib.sha256(sequence.tobytes()).digest()

    known = {digest(sequence) for sequence in train.sequences}
    return [name for name, sequence in zip(test.names, test.sequences, strict=True) if digest(sequence) in known]


def _classes(labels: HostArray) -> str:
    classes, counts = (each.tolist() for each in np.unique(labels, return_counts=True))
    return f"{len(classes)} classes: {_some([f'{label} {count:,}' for label, count in zip(classes, counts)])}"


def _some(labels: Sequence[object]) -> str:
    return ", ".join(map(str, labels[:20])) + ", ..." * (len(labels) > 20)


def _range(numbers: HostArray) -> str:
    return f"targets from {numbers.min():g} to {numbers.max():g}, mean {numbers.mean():g}"
