"""Cumulative ops: each element of a result is computed from all elements up to its place along one dimension."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import FLOAT64, DType, is_bool, limits, resolution, widened_dtype
from tinygrad_lstm.backends.ordering import taken
from tinygrad_lstm.backends.scans import scanned

from .._tensor import Tensor, operand
from ..arguments import integer
from .define import composite, op
from .elementwise import in_dtype
from .indexing import getitem_op
from .reduction import ValuesIndices, dim_of
from .shape import cat

__all__ = ["cummax", "cummin", "cumprod", "cumsum", "diff", "logcumsumexp"]

_FEW = 4096  # elements


def _from(dim: int, *part: int | None) -> tuple[slice, ...]:
    """The index of a slice of one dimension."""
    return (*(slice(None),) * dim, slice(*part))


@op(x=lambda g, dim, F: F.cumsum_from_end(g, dim), method=True, also={"dtype": in_dtype})
def cumsum(backend: Any, x: Array, dim: int) -> Array:
    """The cumulative sum along one dimension.

    Floats are added up in float64, and each result is rounded once to x's dtype. With `dtype=`, x is cast to this dtype
    first, which the result has.

    Raises:
        IndexError: `dim` is out of range.
    """
    dim = dim_of("cumsum", dim, x.shape, zero_d=True)
    return backend.running_sum([x if x.ndim else x.reshape(1)], dim, False).reshape(x.shape)


@op(x=lambda g, dim, F: F.cumsum(g, dim))
def cumsum_from_end(backend: Any, x: Array, dim: int) -> Array:
    """The sum of all elements from each place on."""
    dim = dim_of("cumsum", dim, x.shape, zero_d=True)
    return backend.running_sum([x if x.ndim else x.reshape(1)], dim, True).reshape(x.shape)


def _along(name: str, function: Callable[[Tensor, int], Tensor], x: Tensor, dim: int) -> Tensor:
    """A function along a dimension, of a 0-d tensor as if it had one of length 1."""
    dim = dim_of(name, dim, x.shape, zero_d=True)
    return function(x, dim) if x.ndim else function(x.reshape(1), dim).reshape(())


def _one_later(z: Any, dim: int, F: Any, first: float = 0.0) -> Any:
    """Each element moved to the next place along `dim`, with a number at the first place."""
    return F.pad_op(F.getitem_op(z, _from(dim, None, -1)), _one_before(dim, len(z.shape)), first)


def _one_before(dim: int, ndim: int) -> tuple[tuple[int, int], ...]:
    """The widths of a pad that adds one element at the beginning of a dimension."""
    return tuple((int(d == dim), 0) for d in range(ndim))


def _factors_rule(g: Any, factors: Any, out: Any, dim: int, reverse: bool, F: Any) -> Any:
    through = F.recurrence(factors, g, dim, not reverse)
    return _one_later(through, dim, F) * out if reverse else through * _one_later(out, dim, F)


@op(factors=_factors_rule, terms=lambda g, factors, dim, reverse, F: F.recurrence(factors, g, dim, not reverse))
def recurrence(backend: Any, factors: Array, terms: Array, dim: int, reverse: bool) -> Array:
    """y[k] = terms[k] + factors[k] · y[k - 1] along `dim`; reversed, y[k] = terms[k] + factors[k + 1] · y[k + 1].

    Each is the derivative of the other. The derivatives of `cumprod` and `logcumsumexp` are recurrences.
    """
    return backend.linear_recurrence([factors, terms], dim, reverse)


@op(x=lambda g, x, dim, F: F.cumprod_before(x, dim) * F.recurrence(x, g, dim, True), name="cumprod")
def cumprod_op(backend: Any, x: Array, dim: int) -> Array:
    return backend.running_product([x], dim, False)


def _cumprod_before_rule(g: Any, x: Any, dim: int, F: Any) -> Any:
    return F.cumprod_before(x, dim) * F.recurrence(x, F.flip(_one_later(F.flip(g, dim), dim, F), dim), dim, True)


@op(x=_cumprod_before_rule)
def cumprod_before(backend: Any, x: Array, dim: int) -> Array:
    """At each place along `dim` (not negative), the product of all elements before it."""
    return backend.running_product([x], dim, True)


@composite
def cumprod(x: Tensor, dim: int, *, dtype: DType = None) -> Tensor:
    """The cumulative product along one dimension. The derivative is right at zeros too.

    Floats are multiplied in float64, and each result is rounded once to x's dtype. With `dtype=`, x is cast to this
    dtype first, which the result has.

    Raises:
        IndexError: `dim` is out of range.
    """
    result = _along("cumprod", cumprod_op, x if dtype is None else x.to(dtype=dtype), dim)
    return result if dtype is None else result.to(dtype=dtype)


@op()
def shift_of(xp: Any, x: Array, dim: int) -> Array:
    """The largest element along `dim`, which is kept; 0 if x minus it might overflow. It has no derivative."""
    largest = xp.max(x, axis=dim, keepdims=True, initial=-math.inf)
    return xp.where(xp.abs(largest) < limits(x.dtype)[1] * resolution(x.dtype) / 4, largest, 0)


def _logcumsumexp_rule(g: Any, x: Any, dim: int, F: Any) -> Any:
    """The sum of g[k] · e^(x[j] - out[k]) over k >= j, from factors of at most 1. It is 0 as long as all are -inf.

    The output of a shifted x is rounded less: e^(x - out) does not depend on the shift.
    """
    x = x - F.shift_of(x, dim)
    out = F.logcumsumexp_op(x, dim)
    before = _one_later(out, dim, F, -math.inf)
    same = F.eq(before, out)  # maybe of infinities
    known = F.ne(out, -math.inf)
    with np.errstate(over="ignore"):  # the exponential of such differences is 0
        factors = F.exp(F.where(same, 0, before) - F.where(same, 0, out))
        shares = F.where(known, F.exp(F.where(known, x, 0) - F.where(known, out, 0)), 0)
    return shares * F.recurrence(factors, g, dim, True)


@op(promotion="float", x=_logcumsumexp_rule, name="logcumsumexp")
def logcumsumexp_op(backend: Any, x: Array, dim: int) -> Array:
    few = x.size < _FEW  # one after the other is quicker, and NumPy can do it in float64
    add = backend.xp.logaddexp if few else backend.functions.logaddexp
    wide = x.astype(FLOAT64 if few else widened_dtype(x.dtype), copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # differences of which the exponential is 0, and of infinities
        return scanned(add, wide, dim).astype(x.dtype, copy=False)


@composite
def logcumsumexp(x: Tensor, dim: int) -> Tensor:
    """log Σ eˣ of all elements up to each place along one dimension, without overflow.

    Raises:
        IndexError: `dim` is out of range.
    """
    return _along("logcumsumexp", logcumsumexp_op, x, dim)


@op()
def cummax_index(backend: Any, x: Array, dim: int, smallest: bool) -> Array:
    """The index of the largest (or smallest) element up to each place along `dim`; of equal ones or NaNs the last."""
    return backend.running_extreme([x], dim, smallest)


def _taken_so_far_rule(g: Any, index: Any, dim: int, F: Any) -> Any:
    """The gradient of an element is the sum of those at all places at which it is chosen, which are adjacent."""
    changed = F.ne(F.getitem_op(index, _from(dim, 1, None)), F.getitem_op(index, _from(dim, None, -1)))
    chosen = F.pad_op(changed, _one_before(dim, len(index.shape)), 1)
    return F.where(chosen, F.recurrence(F.astype_op(F.logical_not(chosen), g.dtype, chosen.dtype), g, dim, True), 0)


@op(x=_taken_so_far_rule)
def taken_so_far(xp: Any, x: Array, index: Array, dim: int) -> Array:
    """The elements of x at the indices that `cummax_index` returns."""
    return taken(xp, x, index, dim)


def _with_index(name: str, x: Tensor, dim: int) -> ValuesIndices:
    wide, dim = x if x.ndim else x.reshape(1), dim_of(name, dim, x.shape, zero_d=True)
    indices = cummax_index(wide, dim, name == "cummin")
    return ValuesIndices(taken_so_far(wide, indices, dim).reshape(x.shape), indices.reshape(x.shape))


@composite
def cummax(x: Tensor, dim: int) -> ValuesIndices:
    """The largest element up to each place along `dim`: a named pair (values, indices).

    The index, and the gradient, is that of the last of equal elements, or of NaNs, which are larger than all numbers.

    Raises:
        IndexError: `dim` is out of range.
    """
    return _with_index("cummax", x, dim)


@composite
def cummin(x: Tensor, dim: int) -> ValuesIndices:
    """The smallest element up to each place along `dim`: a named pair (values, indices). See `cummax`.

    Raises:
        IndexError: `dim` is out of range.
    """
    return _with_index("cummin", x, dim)


@composite
def diff(x: Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """The difference between neighbours along `dim`, taken n times. Of bool, whether neighbours differ.

    Args:
        prepend, append: elements before and after x, if n > 0; they have x's shape, except along `dim`.

    Raises:
        IndexError: `dim` is out of range.
        TypeError: n is not an integer.
        ValueError: n is negative; `prepend` or `append` has a different shape.
    """
    dim, n = dim_of("diff", dim, x.shape), integer("diff", "n", n)
    if n < 0:
        raise ValueError(f"diff: n is {n}; expected 0 or more")
    parts = [operand(part) for part in (prepend, x, append) if part is not None] if n else [x]
    for part in parts:
        if part.ndim != x.ndim or any(part.shape[d] != x.shape[d] for d in range(x.ndim) if d != dim):
            raise ValueError(f"diff: elements of shape {part.shape} beside x of shape {x.shape} along dim {dim}")
    x = cat(parts, dim) if len(parts) > 1 else x
    for _ in range(n):
        later, earlier = getitem_op(x, _from(dim, 1, None)), getitem_op(x, _from(dim, None, -1))
        x = later != earlier if is_bool(x.dtype) else later - earlier
    return x
