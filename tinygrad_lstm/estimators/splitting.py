"""Rows for validation and for a test."""

import math

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..printable import printable

__all__ = ["Rows", "rows_of", "rows_of_each_class", "rows_of_groups"]

Rows = np.ndarray[tuple[int], np.dtype[np.int64]]


def rows_of(caller: str, rows: int, fraction: float, rng: np.random.Generator) -> Rows:
    """A random part of the rows: at least one, and not all.

    Raises:
        ValueError: there is only one row.
    """
    if rows < 2:
        raise ValueError(f"{caller}: X has 1 sample, none for training and validation; give more, or validation=0")
    return rng.permutation(rows)[: _number(rows, fraction)]


def rows_of_each_class(
    caller: str, codes: HostArray, classes: HostArray, fraction: float, rng: np.random.Generator
) -> Rows:
    """A random part of the rows of each class: at least one, and not all.

    Raises:
        ValueError: a class has only one row.
    """
    parts = []
    for code, label in enumerate(classes.tolist()):
        members = np.flatnonzero(codes == code)
        if len(members) < 2:
            raise ValueError(
                f"{caller}: class {printable(repr(label))} has only one member, row {members[0]}; expected one for "
                "training and one for validation, or validation=0"
            )
        parts.append(rng.permutation(members)[: _number(len(members), fraction)])
    return np.concatenate(parts)


def rows_of_groups(caller: str, groups: HostArray, codes: HostArray, fraction: float, rng: np.random.Generator) -> Rows:
    """The rows of a random part of the groups: at least one group, and not all.

    Every class keeps rows in other groups: if too few groups can be taken without its last ones, the part has fewer.
    Groups with a class that the part lacks are taken first, so that it has as many classes as it can.

    Args:
        groups: the group of each row, (N,).
        codes: the number of the class of each row, (N,): zeros if there are no classes.

    Raises:
        ValueError: there is only one group, or each group has all rows of a class.
    """
    names, of_row = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"{caller}: there is 1 group, none for training and validation; give more, or validation=0")
    counts = np.zeros((len(names), codes.max() + 1), np.int64)
    np.add.at(counts, (of_row, codes), 1)
    whole, inside = counts.sum(0), np.zeros_like(counts[0])
    order, part, number = rng.permutation(len(names)).tolist(), set[int](), _number(len(names), fraction)
    for needed in (True, False):
        for group in order:
            is_new = bool(counts[group][inside == 0].any())
            keeps_classes = bool((inside + counts[group] < whole)[whole > 0].all())
            if len(part) < number and group not in part and keeps_classes and is_new >= needed:
                inside += counts[group]
                part.add(group)
    if not part:
        raise ValueError(
            f"{caller}: each group has a class that no other group has, so none can be put aside to validate or test "
            "with; expected groups that share classes"
        )
    return np.flatnonzero(np.isin(of_row, list(part)))


def _number(rows: int, fraction: float) -> int:
    return min(max(1, math.floor(fraction * rows + 0.5)), rows - 1)
