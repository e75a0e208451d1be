"""Labelled sequences for `fit` and `predict`: which columns are what, and the checks before a training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import typer

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_real, is_string

from ..data import LabelledSequences
from ..data.labelled import Roles
from ..data.reading import is_table, read_roles
from ..data.rounding import check_variation
from ..io.errors import naming_file, shown

__all__ = [
    "DataFile",
    "check_features",
    "check_groups",
    "check_like_training",
    "check_members",
    "check_other_groups",
    "columns_of",
    "described",
    "different_numbers_of",
    "known_labels",
    "labels_of",
    "numbers_of",
    "read",
    "roles_to_fit",
    "roles_to_predict",
]

DataFile: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="A table, .csv or .parquet: long (a row a step, with --id) or wide (a row a sequence, its numbers in "
        "order). Or an .npz file; or a folder of .wav files in a folder each class.",
        metavar="DATA",
    ),
]


def read(path: Path, roles: Roles) -> LabelledSequences:
    """The sequences of a file."""
    try:
        return read_roles(path, roles)
    except ImportError as error:
        raise ValueError(str(error)) from error


def roles_to_fit(
    path: Path,
    target: str | None,
    id: str | None,
    time: str | None,
    features: str | None,
    drop: Sequence[str],
    group: str | None,
) -> Roles:
    """The roles of columns, as the options say.

    Raises:
        ValueError: there is no target, and the file is a table; or there is a group, and it is a folder.
    """
    if group is not None and path.is_dir():
        raise ValueError(
            f"{path}: --group is for tables and .npz files, not for folders; put the .wav files of some groups into "
            "a different folder, for --test"
        )
    if target is None and is_table(path):
        raise ValueError(f"{path}: which column is to be predicted? give --target")
    names = None if features is None else [name.strip() for name in features.split(",")]
    return Roles(target, id, time, names, tuple(drop), group, drop_name="--drop")


def columns_of(roles: Roles, data: LabelledSequences, is_long: bool) -> dict[str, Any]:
    """The columns and their roles, for a model's file."""
    features = data.features if is_long else roles.features
    return {**roles.named, "features": features, "drop": list(roles.drop)}


def roles_to_predict(path: Path, about: Mapping[str, Any], text_targets: bool) -> Roles:
    """The roles of columns when a model was fitted, for a table that may lack the target.

    Args:
        path: the model's file.
        about: what it says of the data.
        text_targets: whether the model's classes are strings.

    Raises:
        ValueError: it does not say what the columns are.
    """
    found = about.get("columns")
    if not isinstance(found, dict):
        raise ValueError(f"{path}: it does not say which columns it was fitted on; expected a file that fit wrote")
    features, drop = found.get("features"), found.get("drop", [])
    target, id, time, group = (found.get(role) for role in ("target", "id", "time", "group"))
    lists = [drop, *([] if features is None else [features])]
    good = all(isinstance(each, list) and all(isinstance(name, str) for name in each) for each in lists)
    if not good or not all(name is None or isinstance(name, str) for name in (target, id, time, group)):
        raise ValueError(f"{path}: its contents are invalid (the columns are not names)")
    return Roles(target, id, time, features, drop, group, text_targets=text_targets, lenient=True)


def check_features(data: LabelledSequences, path: Path, is_long: bool) -> None:
    """Raises ValueError if nothing can be learnt from a feature, also in float32, or from the order of steps."""
    if len(data) < 2:
        raise ValueError(f"{path}: it has 1 sequence; expected several, told apart by --id")
    if is_long and all(len(each) == 1 for each in data.sequences):
        raise ValueError(
            f"{path}: every sequence has one row; if each row is a sequence, leave out --id and --time, and "
            "--drop such columns"
        )
    lowest = np.min([each.min(0) for each in data.sequences], axis=0)
    highest = np.max([each.max(0) for each in data.sequences], axis=0)
    if (constant := np.flatnonzero(lowest == highest)).size:
        column = int(constant[0])
        what = f"the column {shown(data.features[column])} is" if is_long else f"the {data.features[column]} is"
        raise ValueError(
            f"{path}: {what} {lowest[column]:g} in all rows, so nothing can be learnt from it; leave it out"
            + (f" with --drop {data.features[column]}" if is_long else "")
        )
    with naming_file(path):
        check_variation(
            data.sequences,
            lambda column: f"the column {shown(data.features[column])}" if is_long else f"the {data.features[column]}",
        )


def labels_of(data: LabelledSequences, path: Path) -> HostArray:
    """The classes of sequences.

    Raises:
        ValueError: there are none, or only one, or they are numbers with fractions.
    """
    labels = _targets(data, path)
    if is_real(labels.dtype) and (odd := np.flatnonzero(labels != np.floor(labels))).size:
        raise ValueError(
            f"{path}: the target of {shown(data.names[odd[0]])} is {labels[odd[0]]}; expected classes; fit regress "
            "learns numbers"
        )
    if len(known := np.unique(labels)) < 2:
        raise ValueError(f"{path}: all targets are {shown(str(known[0]))}; expected at least two classes")
    return labels


def numbers_of(data: LabelledSequences, path: Path) -> HostArray:
    """The numbers to predict.

    Raises:
        ValueError: there are none, or one is not a finite number.
    """
    numbers = _targets(data, path)
    if is_string(numbers.dtype):
        numbers = np.array([_number(path, *each) for each in zip(data.names, numbers.tolist(), strict=True)])
    if (odd := np.flatnonzero(~np.isfinite(numbers))).size:
        raise ValueError(f"{path}: the target of {shown(data.names[odd[0]])} is {numbers[odd[0]]}; expected a number")
    return numbers.astype(np.float64)


def different_numbers_of(data: LabelledSequences, path: Path) -> HostArray:
    """The numbers to predict, from which something can be learnt.

    Raises:
        ValueError: as `numbers_of`; or all are the same.
    """
    numbers = numbers_of(data, path)
    if (numbers == numbers[0]).all():
        raise ValueError(f"{path}: all targets are {numbers[0]:g}; expected different numbers")
    return numbers


def _number(path: Path, name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(
            f"{path}: the target of {shown(name)} is {shown(value)}; expected a number; fit classify learns classes"
        ) from error


def _targets(data: LabelledSequences, path: Path) -> HostArray:
    if data.targets is None:
        raise ValueError(f"{path}: it has no targets; expected an array 'y', or a folder for each class")
    return data.targets


def check_members(data: LabelledSequences, labels: HostArray, path: Path, parts: Sequence[str]) -> None:
    """Raises ValueError if a class has fewer sequences than there are parts, each of which needs one."""
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        if len(members) < len(parts):
            names = ", ".join(shown(data.names[row]) for row in members)
            raise ValueError(
                f"{path}: the class {shown(str(label))} has only {len(members)} sequence"
                f"{'s' * (len(members) > 1)}, {names}; expected one each for {', '.join(parts)}"
                + ("" if len(parts) < 2 else "; or give --validation 0 or --test 0")
            )


def check_groups(data: LabelledSequences, path: Path, parts: Sequence[str]) -> None:
    """Raises ValueError if there are fewer groups than parts, each of which needs one."""
    if data.groups is not None and len(names := np.unique(data.groups).tolist()) < len(parts):
        raise ValueError(
            f"{path}: there {'is' if len(names) == 1 else 'are'} only {len(names)} group{'s' * (len(names) > 1)}, "
            f"{', '.join(map(shown, names))}; expected one each for {', '.join(parts)}; or give --validation 0 or "
            "--test 0"
        )


def check_other_groups(data: LabelledSequences, path: Path, trained: LabelledSequences, trained_path: Path) -> None:
    """Raises ValueError if sequences to test on are of a group that the training has."""
    if data.groups is None or trained.groups is None:
        return
    for name, group in zip(data.names, data.groups.tolist(), strict=True):
        if group in trained.groups:
            raise ValueError(
                f"{path}: the group of {shown(name)} is {shown(group)}, which {trained_path} has, too; expected groups "
                "that were not trained on"
            )


def check_like_training(data: LabelledSequences, path: Path, features: int | None, rate: object) -> None:
    """Raises ValueError if sequences have a different number of features, or a different rate, than the training."""
    if len(data.features) != features:
        number = len(data.features)
        raise ValueError(
            f"{path}: {number} feature{'s' * (number > 1)} in a step; expected {features}, as in the training"
        )
    if data.rate is not None and isinstance(rate, int) and data.rate != rate:
        raise ValueError(f"{path}: {data.rate} samples a second; expected {rate}, as in the training")


def known_labels(data: LabelledSequences, path: Path, classes: HostArray) -> HostArray:
    """The labels of further sequences, of the classes' type.

    Raises:
        ValueError: there are none, or one is not among the classes.
    """
    labels = _targets(data, path)
    names, values = classes.tolist(), labels.tolist()
    if is_string(classes.dtype) or is_string(labels.dtype):
        names, values = list(map(str, names)), list(map(str, values))
    known = dict(zip(names, classes, strict=True))
    for name, label in zip(data.names, values, strict=True):
        if label not in known:
            listed = ", ".join(shown(str(each)) for each in classes[:20].tolist())
            raise ValueError(
                f"{path}: the target of {shown(name)} is {shown(str(label))}, which the training did not have; "
                f"expected one of {listed}"
            )
    return np.array([known[label] for label in values], classes.dtype)


def described(data: LabelledSequences, path: Path) -> str:
    """What was read, in words."""
    lengths = sorted(map(len, data.sequences))
    steps = f"{lengths[0]:,}" if lengths[0] == lengths[-1] else f"{lengths[0]:,} to {lengths[-1]:,}"
    features = ", ".join(shown(name)[1:-1] for name in data.features[:8]) + ", ..." * (len(data.features) > 8)
    number = len(data.features)
    return f"read {path}: {len(data):,} sequences of {steps} steps, {number} feature{'s' * (number > 1)} ({features})"
