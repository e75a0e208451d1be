"""Writing and adding to elements with an index that contains duplicates."""

from typing import Any, NamedTuple

import numpy as np

from .base import Array, HostArray
from .sums import BLOCK, SHORT

__all__ = ["Blocks", "blocks_of_values", "have_few_values", "write_last"]


class Blocks(NamedTuple):
    """How values for rows are summed in blocks: the block of each value, and the row of each block."""

    of_values: HostArray
    rows: HostArray


def have_few_values(rows: HostArray, length: int) -> bool:
    """Whether each of the rows, which are below `length`, occurs at most SHORT times."""
    if len(rows) <= SHORT:
        return True
    if length <= 8 * len(rows):
        return bool(np.bincount(rows.astype(np.intp, copy=False), minlength=1).max() <= SHORT)  # intp may have 32 bits
    ranked = np.sort(rows)
    return not (ranked[SHORT:] == ranked[:-SHORT]).any()


def blocks_of_values(rows: HostArray) -> Blocks:
    """The blocks of values to add to `rows`."""
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
    """`target[index] = values` in place; of several values for one element, the last one stays.

    All values for an element are replaced by the last one, so the order of writing does not matter.
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
