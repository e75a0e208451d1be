"""Ops that draw random numbers, which are the same on every device."""

from typing import Any

from tinygrad_lstm.backends.base import Array

from .._tensor import Tensor
from ..mode import mode
from ..random import draw_key
from .define import composite, op
from .elementwise import where

__all__ = ["dropout"]


@op(promotion="float", x=lambda g, p, key, F: F.dropout_op(g, p, key), name="dropout")
def dropout_op(backend: Any, x: Array, p: float, key: int) -> Array:
    """x with elements dropped, as `key` determines, and the others divided by 1 - p."""
    return backend.dropout(x, p, key)


@composite
def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Sets each element to 0 with probability p, and divides the others by 1 - p (Srivastava et al. 2014).

    Returns x if `training` is False.

    Raises:
        ValueError: p is not within [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is {p}; expected a probability from 0 to 1")
    if not training or p == 0:
        return x
    if p == 1:
        return where(False, x, 0)
    tracer = mode().value.tracer
    kept = None if tracer is None else tracer.see_dropout(x, p)
    if kept is not None:
        return where(kept, x * (1 / (1 - p)), 0)
    return dropout_op(x, float(p), draw_key())
