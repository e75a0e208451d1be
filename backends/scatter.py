"""Writing and adding to places that are named several times."""

from typing import Any, NamedTuple

import numpy as np

from .base import Array, HostArray
from .sums import BLOCK, SHORT

__all__ = ["Blocks", "blocks_of_values", "write_last"]


class Blocks(NamedTuple):
    """How values for some rows are added up by blocks: the block of each value, and the row that each block is for."""

    of_values: HostArray
    rows: HostArray


def blocks_of_values(rows: HostArray, length: int) -> Blocks | None:
    """Blocks of the values that are to be added to `rows`, numbers below `length`; None where each row gets few."""
    if len(rows) <= SHORT:
        return None
    if length <= 8 * len(rows):
        most = int(np.bincount(rows, minlength=1).max())
    else:
        ranked = np.sort(rows)
        most = SHORT + 1 if (ranked[SHORT:] == ranked[:-SHORT]).any() else 0
    if most <= SHORT:
        return None
    order = np.argsort(rows, kind="stable")
    ranked = rows[order]
    numbers = np.arange(len(rows))
    first = np.concatenate(([True], ranked[1:] != ranked[:-1]))
    since_first = numbers - np.maximum.accumulate(np.where(first, numbers, 0))
    begins = since_first % BLOCK == 0
    of_values = np.empty_like(order)
    of_values[order] = np.cumsum(begins) - 1
    return Blocks(of_values, ranked[begins])


def write_last(xp: Any, target: Array, index: Any, values: Array) -> None:
    """`target[index] = values` in place, where of several values for one place the last stays.

    All values for a place are replaced by the last of them, so that it does not matter in which order they are written.
    """
    places = xp.arange(target.size).reshape(target.shape)[index]
    order = xp.argsort(places.reshape(-1), kind="stable")
    ranked = places.reshape(-1)[order]
    last = order[xp.searchsorted(ranked, ranked, side="right") - 1]
    chosen = xp.empty_like(order)
    chosen[order] = last
    if values.ndim > places.ndim:
        values = values.reshape(values.shape[values.ndim - places.ndim :])
    spread = xp.broadcast_to(values, places.shape).reshape(-1)
    target[index] = spread[chosen].reshape(places.shape)
