"""Batches cut into parts, which several workers may share."""

from itertools import pairwise
from typing import Any

__all__ = ["split_rows"]


def bounds_of_parts(items: int, parts: int) -> list[slice]:
    """Slices that cut items into parts as equal as possible. If there are fewer items than parts, some are empty.

    The last item is always in the last part.

    >>> bounds_of_parts(3, 2)
    [slice(0, 1, None), slice(1, 3, None)]
    """
    if parts < 1:
        raise ValueError(f"split: expected the number of parts to be at least 1, got {parts}")
    bounds = [k * items // parts for k in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


class RowsBatch(tuple[Any, ...]):
    """Some rows of a batch."""

    @property
    def weight(self) -> int:
        """The number of rows."""
        return len(self[0])


def split_rows(batch: Any, number: int) -> list[RowsBatch | None]:
    """Cuts a batch, which is a tuple or list of arrays or tensors, along their first dimension, for `train.Trainer`.

    Args:
        batch: such as (x, y), each with one row for each example.
        number: the number of parts, which are as equal as possible. If there are fewer rows, some are None.

    Raises:
        TypeError: it is not a tuple or list of arrays or tensors.
        ValueError: they have different numbers of rows.

    >>> import numpy as np
    >>> [part.weight for part in split_rows((np.ones((5, 2)), np.ones(5)), 2)]
    [2, 3]
    """
    if not isinstance(batch, tuple | list) or not batch or not all(getattr(part, "ndim", 0) for part in batch):
        raise TypeError(f"split_rows: expected a tuple of arrays or tensors with rows, got a {type(batch).__name__}")
    lengths = [len(part) for part in batch]
    if len(set(lengths)) > 1:
        raise ValueError(f"split_rows: expected arrays of as many rows as each other, got {lengths}")
    return [
        RowsBatch(part[rows] for part in batch) if rows.start < rows.stop else None
        for rows in bounds_of_parts(lengths[0], number)
    ]
