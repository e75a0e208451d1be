"""Writing to places in an order, for array modules whose own writes have none."""

from typing import Any

from .base import Array


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
