"""Softmax and its logarithm."""

from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import widened_dtype
from tinygrad_lstm.backends.sums import total

from .define import op
from .elementwise import in_dtype
from .reduction import Dim, count, dims_of

__all__ = ["log_softmax", "softmax"]


def _below_largest(xp: Any, x: Array, dims: tuple[int, ...]) -> Array:
    """x minus its largest element over `dims`, so that no exponential overflows; at least in float32, for their sum."""
    x = x.astype(widened_dtype(x.dtype), copy=False)
    with np.errstate(over="ignore"):  # the exponential of such differences is 0
        return x - xp.max(x, axis=dims, keepdims=True) if count(x.shape, dims) else x.copy()


@op(
    promotion="float",
    x=lambda g, out, dim, F: out * (g - F.sum(g * out, dim, True)),
    method=True,
    also={"dtype": in_dtype},
)
def softmax(backend: Any, x: Array, dim: Dim = -1) -> Array:
    """eˣ / Σ eˣ over `dim`, without overflow. A slice with an element of inf is NaN.

    With `dtype=`, x is cast to this dtype first, which the result has.
    """
    dims = dims_of("softmax", dim, x.shape)
    return backend.softmax(x, dims) if count(x.shape, dims) else x.copy()


@op(
    promotion="float",
    x=lambda g, out, dim, F: g - F.exp(out) * F.sum(g, dim, True),
    method=True,
    also={"dtype": in_dtype},
)
def log_softmax(xp: Any, x: Array, dim: Dim = -1) -> Array:
    """x - log Σ eˣ over `dim`, without overflow; accurate where the softmax itself is 0.

    A slice with an element of inf is NaN. With `dtype=`, x is cast to this dtype first, which the result has.
    """
    dims = dims_of("log_softmax", dim, x.shape)
    out = _below_largest(xp, x, dims)
    if count(x.shape, dims):
        out -= xp.log(total(xp, xp.exp(out), dims, True))
    with np.errstate(over="ignore"):  # float16 overflows to -inf
        return out.astype(x.dtype, copy=False)
