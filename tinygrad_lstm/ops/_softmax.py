"""Softmax and its logarithm."""

from typing import Any

from tinygrad_lstm.backends.base import Array

from .define import op
from .elementwise import in_dtype
from .reduction import Dim, count, dims_of

__all__ = ["log_softmax", "softmax"]


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
def log_softmax(backend: Any, x: Array, dim: Dim = -1) -> Array:
    """x - log Σ eˣ over `dim`, without overflow; accurate where the softmax itself is 0.

    A slice with an element of inf is NaN. With `dtype=`, x is cast to this dtype first, which the result has.
    """
    dims = dims_of("log_softmax", dim, x.shape)
    return backend.softmax(x, dims, logarithm=True) if count(x.shape, dims) else x.copy()
