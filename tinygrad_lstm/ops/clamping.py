"""Clamping: elements limited to a range, whose bounds are numbers or tensors."""

from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import DEFAULT_FLOAT, check_bounds, is_float

from .._tensor import Tensor
from .define import composite, op
from .operation import is_number

__all__ = ["clamp", "clamp_max", "clamp_min", "clip"]


@op(x=lambda g, x, min, max, F: F.where(F.outside(x, min, max), 0, g), one_pass=True, name="clamp")
def clamp_op(xp: Any, x: Array, min: float | None = None, max: float | None = None) -> Array:
    if not is_float(x.dtype) and (isinstance(min, float) or isinstance(max, float)):
        x = x.astype(DEFAULT_FLOAT)
    for bound in (min, max):
        if bound is not None:
            check_bounds("clamp", bound, x.dtype)
    return xp.clip(x, min, max) if min is not None or max is not None else x.copy()


def _within(g: Any, x: Any, min: Any, max: Any, F: Any) -> Any:
    inside = g if min is None else F.where(F.lt(x, min), 0, g)
    return inside if max is None else F.where(F.gt(x, max), 0, inside)


def _at_min(g: Any, x: Any, min: Any, max: Any, F: Any) -> Any:
    below = F.lt(x, min)
    return F.where(below if max is None else F.logical_and(below, F.lt(min, max)), g, 0)


def _at_max(g: Any, x: Any, min: Any, max: Any, F: Any) -> Any:
    above = F.gt(x, max)
    return F.where(above if min is None else F.logical_or(above, F.lt(max, min)), g, 0)


@op(promotion="common", broadcasts=True, x=_within, min=_at_min, max=_at_max)
def clamp_between(xp: Any, x: Array, min: Array | None, max: Array | None) -> Array:
    """`clamp` by tensors."""
    limited = x if min is None else xp.maximum(x, min)
    return limited if max is None else xp.minimum(limited, max)


@composite
def clamp(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """x limited to [min, max]; None means no bound. The derivative is 0 outside, and 1 inside, at bounds and at NaN.

    If `min` is larger than `max`, the result is `max`. A bound may be a tensor that broadcasts; its derivative is 1
    where x is outside. If x is of integers and a bound is a float, the result is float32.

    Raises:
        OverflowError: a bound is out of bounds for x's integer dtype.
        ValueError: the shapes do not broadcast.
    """
    low, high = (bound.item() if isinstance(bound, np.generic) else bound for bound in (min, max))
    by_numbers = all([bound is None or is_number(bound) for bound in (low, high)])
    return clamp_op(x, low, high) if by_numbers else clamp_between(x, low, high)


@composite
def clamp_min(x: Tensor, min: Any) -> Tensor:
    """x or `min`, if that is larger: `clamp(x, min)`."""
    return clamp(x, min)


@composite
def clamp_max(x: Tensor, max: Any) -> Tensor:
    """x or `max`, if that is smaller: `clamp(x, None, max)`."""
    return clamp(x, None, max)


@composite
def clip(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """NumPy's name of `clamp`."""
    return clamp(x, min, max)


@op()
def outside(xp: Any, x: Array, min: float | None, max: float | None) -> Array:
    """Whether x < min or x > max; None means no bound. NaN is not outside."""
    below = False if min is None else x < min
    above = False if max is None else x > max
    return xp.logical_or(below, above) if min is not None or max is not None else xp.zeros_like(x, dtype=bool)
