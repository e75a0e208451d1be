"""Rows for validation."""

import math

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..printable import printable

__all__ = ["Rows", "rows_of", "rows_of_each_class"]

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


def _number(rows: int, fraction: float) -> int:
    return min(max(1, math.floor(fraction * rows + 0.5)), rows - 1)
