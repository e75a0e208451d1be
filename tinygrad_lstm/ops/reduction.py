"""Reductions: `dim` is an int, a tuple of ints or None for all; `keepdim` keeps reduced dimensions with length 1.

A 0-d tensor takes a `dim` of 0 or -1, as in torch, and is reduced to itself. A dimension that is out of range raises
numpy.exceptions.AxisError, an IndexError and a ValueError. A dimension that is given twice raises ValueError, and a
bool or a tensor raises TypeError.
"""

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import INT64, DType, float_dtype, is_float, summed_dtype, widened_dtype
from tinygrad_lstm.backends.ordering import put, taken
from tinygrad_lstm.backends.sums import total, total_to

from .._tensor import Tensor
from ..arguments import integer, integers
from .define import composite, op, shown_whole
from .elementwise import abs, in_dtype, maximum, minimum, sqrt, where

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "std",
    "sum",
    "var",
]

Dim: TypeAlias = int | tuple[int, ...] | None


def dims_of(name: str, dim: Dim, shape: tuple[int, ...]) -> tuple[int, ...]:
    """`dim` as a tuple of non-negative dimensions. A 0-d tensor takes 0 and -1 too, and has none.

    Raises:
        numpy.exceptions.AxisError: a dimension is out of range (an IndexError and a ValueError).
        TypeError: a dimension is not an integer, or is a bool or a tensor.
        ValueError: a dimension is given twice.
    """
    ndim = len(shape)
    if dim.__class__ is int and -ndim <= dim < ndim:
        return (dim % ndim,)
    listed = range(ndim) if dim is None else dim if isinstance(dim, tuple | list) else (dim,)
    given = integers(name, "dim", listed, "an integer, a tuple of integers or None")
    stop = ndim or 1
    for d in given:
        if not -stop <= d < stop:
            raise _no_dim(name, d, shape)
    found = tuple(d % stop for d in given)
    if len(set(found)) != len(found):
        raise ValueError(f"{name}: dim {dim} names a dimension of shape {shape} twice")
    return found if ndim else ()


def _no_dim(name: str, dim: int, shape: tuple[int, ...]) -> Exception:
    return np.exceptions.AxisError(f"{name}: dim {dim} is not there in shape {shape}; it has {len(shape)} dimensions")


def dim_of(name: str, dim: Any, shape: tuple[int, ...], zero_d: bool = False) -> int:
    """The `dim` of an op along one dimension, as a non-negative integer.

    Args:
        zero_d: whether the op takes a 0-d tensor, as one of shape (1,), with a `dim` of 0 or -1.

    Raises:
        numpy.exceptions.AxisError: it is out of range (an IndexError and a ValueError).
        TypeError: it is not an integer, or it is a bool or a tensor.
    """
    if dim.__class__ is int and -len(shape) <= dim < len(shape):
        return dim % len(shape)
    dims = dims_of(name, integer(name, "dim", dim, "one integer"), shape)
    if not shape and not zero_d:
        raise _no_dim(name, dim, shape)
    return dims[0] if dims else 0


def count(shape: tuple[int, ...], dims: tuple[int, ...]) -> int:
    """The number of elements that a reduction over `dims` reduces to one."""
    return math.prod(shape[d] for d in dims)


def _kept(shape: tuple[int, ...], dim: Dim) -> tuple[int, ...]:
    """The shape of a reduction over `dim`, with the reduced dimensions kept."""
    dims = dims_of("reduction", dim, shape)
    return tuple(1 if d in dims else length for d, length in enumerate(shape))


def _spread(g: Any, shape: tuple[int, ...], dim: Dim, F: Any) -> Any:
    """The gradient of a sum: each element has the gradient of its sum."""
    return F.broadcast_to_op(g.reshape(_kept(shape, dim)), shape)


@op(x=lambda g, x_shape, dim, F: _spread(g, x_shape, dim, F), method=True, also={"dtype": in_dtype})
def sum(xp: Any, x: Array, dim: Dim = None, keepdim: bool = False) -> Array:
    """The sum over `dim`; 0 if there are no elements. Integers and bool are summed in 64 bits.

    Floats are added up in blocks, so that the rounding error of n terms grows like log n, along any dimension. float16
    is added up in float32 and rounded once. With `dtype=`, x is cast to this dtype first, which the result has.

    Raises:
        IndexError: `dim` is out of range.
    """
    return total(xp, x, dim if dim is None else dims_of("sum", dim, x.shape), keepdim)


@op(x=lambda g, x_shape, F: F.broadcast_to_op(g, x_shape))
def sum_to(xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
    """The sum over the dimensions that broadcasting `shape` to x's shape expanded."""
    return total_to(xp, x, shape)


@composite
@shown_whole
def mean(x: Tensor, dim: Dim = None, keepdim: bool = False, dtype: DType = None) -> Tensor:
    """The mean over `dim`, which is float32 for integers. With `dtype`, x is cast to it first.

    It is infinite if the sum overflows: float16 is added up in float32, float32 and float64 in their own dtype.

    Raises:
        IndexError: `dim` is out of range.
        TypeError: `dtype` is not a float.
        ValueError: there are no elements.
    """
    if dtype is not None:
        x = x.to(dtype=float_dtype("mean", dtype))
    number = _checked_count("mean", x, dim)
    return narrowed(widened(x).sum(dim, keepdim) * (1.0 / number), x)


@composite
@shown_whole
def var(
    x: Tensor, dim: Dim = None, correction: float = 1, keepdim: bool = False, unbiased: bool | None = None
) -> Tensor:
    """The variance over `dim`, divided by the number of elements minus `correction` (1: unbiased, 0: biased).

    `unbiased=False` is torch's older name of `correction=0`.

    It is infinite if the sum of the squared deviations overflows, as for float32 numbers 1e20 apart, and NaN if the sum
    of the elements overflows.

    Raises:
        IndexError: `dim` is out of range.
        TypeError: `dim` is a bool, or `unbiased` and `correction` are both given.
        ValueError: the number of elements is at most `correction`.
    """
    return narrowed(_variance("var", x, dim, correction, keepdim, unbiased), x)


@composite
@shown_whole
def std(
    x: Tensor, dim: Dim = None, correction: float = 1, keepdim: bool = False, unbiased: bool | None = None
) -> Tensor:
    """The standard deviation over `dim`: the square root of `var`. The derivative is 0 if all elements are equal.

    It is infinite or NaN if `var` is.

    Raises:
        IndexError: `dim` is out of range.
        TypeError: `dim` is a bool, or `unbiased` and `correction` are both given.
        ValueError: the number of elements is at most `correction`.
    """
    return narrowed(_power(_variance("std", x, dim, correction, keepdim, unbiased), 0.5), x)


def _variance(name: str, x: Tensor, dim: Dim, correction: float, keepdim: bool, unbiased: bool | None) -> Tensor:
    if isinstance(dim, bool):
        raise TypeError(f"{name}: dim is {dim}; for torch's unbiased={dim} give correction={int(dim)}")
    if unbiased is not None:
        if correction != 1:
            raise TypeError(f"{name}: unbiased={unbiased} means correction={int(unbiased)}; give one of them")
        correction = int(unbiased)
    number = _checked_count(name, x, dim)
    if number <= correction:
        raise ValueError(
            f"{name}: {number} elements (shape {x.shape}, dim {dim}) need a correction below that: {correction}"
        )
    wide = widened(x)
    difference = wide - mean(wide, dim, keepdim=True)
    difference = difference - mean(difference, dim, keepdim=True)  # corrects the rounding of a large mean
    return (difference * difference).sum(dim, keepdim) * (1.0 / (number - correction))


def _checked_count(name: str, x: Tensor, dim: Dim) -> int:
    number = count(x.shape, dims_of(name, dim, x.shape))
    if number == 0:
        raise ValueError(f"{name}: nothing to reduce in shape {x.shape} over dim {dim}; give at least one element")
    return number


def widened(x: Tensor) -> Tensor:
    """x in a dtype for sums of many elements or their squares: float16 and integers become float32."""
    wide = widened_dtype(x.dtype)
    return x if x.dtype == wide else x.to(dtype=wide)


def narrowed(result: Tensor, x: Tensor) -> Tensor:
    """The result in x's dtype, if that is a float."""
    return result.to(dtype=x.dtype) if is_float(x.dtype) else result


def _prod_of_others(g: Any, x: Any, dim: Dim, F: Any) -> Any:
    """The gradient of a product: the product of all other elements, without dividing by elements that may be 0."""
    dims = dims_of("prod", dim, x.shape)
    kept = [d for d in range(len(x.shape)) if d not in dims]
    order = (*kept, *dims)
    lead = tuple(x.shape[d] for d in kept)
    flat = F.permute_op(x, order).reshape((*lead, count(x.shape, dims)))
    before = F.cumprod_before(flat, len(lead))
    after = F.flip(F.cumprod_before(F.flip(flat, -1), len(lead)), -1)
    others = (before * after).reshape(tuple(x.shape[d] for d in order))
    back = tuple(order.index(d) for d in range(len(order)))
    return g.reshape(_kept(x.shape, dim)) * F.permute_op(others, back)


@op(x=_prod_of_others, method=True, also={"dtype": in_dtype})
def prod(xp: Any, x: Array, dim: Dim = None, keepdim: bool = False) -> Array:
    """The product over `dim`; 1 if there are no elements. The derivative is right at zeros too.

    With `dtype=`, x is cast to this dtype first, which the result has.

    Raises:
        IndexError: `dim` is out of range.
    """
    dims = None if dim is None else dims_of("prod", dim, x.shape)
    if not is_float(x.dtype):
        return xp.prod(x, axis=dims, keepdims=keepdim, dtype=summed_dtype(x.dtype))
    return xp.prod(x, axis=dims, keepdims=keepdim, dtype=widened_dtype(x.dtype)).astype(x.dtype, copy=False)


def share_of_equal(g: Any, x: Any, out: Any, dim: Dim, F: Any) -> Any:
    """The gradient of an element of x over `dim`: the elements equal to it share it. If it is NaN, the NaNs do."""
    kept = _kept(x.shape, dim)
    chosen = out.reshape(kept)
    ties = F.logical_or(F.eq(x, chosen), F.logical_and(F.isnan(x), F.isnan(chosen)))
    wide = widened_dtype(g.dtype)  # float16 cannot count beyond 65504
    number = F.sum(F.astype_op(ties, wide, ties.dtype), dim, True)
    shares = F.where(ties, g.reshape(kept) / number, 0)
    return shares if wide == g.dtype else F.astype_op(shares, g.dtype, wide)


def _extreme(xp: Any, name: str, x: Array, dim: Dim, keepdim: bool) -> Array:
    dims = dims_of(name, dim, x.shape)
    if count(x.shape, dims) == 0:
        raise ValueError(f"nothing to reduce in shape {x.shape} over dim {dim}; give at least one element")
    return getattr(xp, name)(x, axis=dims, keepdims=keepdim)


@op(x=share_of_equal, name="max")
def max_op(xp: Any, x: Array, dim: Dim, keepdim: bool) -> Array:
    return _extreme(xp, "max", x, dim, keepdim)


@op(x=share_of_equal, name="min")
def min_op(xp: Any, x: Array, dim: Dim, keepdim: bool) -> Array:
    return _extreme(xp, "min", x, dim, keepdim)


@composite
def amax(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The largest element over `dim`, without its index. Ties share the gradient equally.

    Raises:
        IndexError: `dim` is out of range.
        ValueError: there are no elements.
    """
    return max_op(x, dim, keepdim)


@composite
def amin(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The smallest element over `dim`, without its index. Ties share the gradient equally.

    Raises:
        IndexError: `dim` is out of range.
        ValueError: there are no elements.
    """
    return min_op(x, dim, keepdim)


class ValuesIndices(NamedTuple):
    """Elements along a dimension, and their indices there (int64)."""

    values: Tensor
    indices: Tensor


@op(x=lambda g, index, x_shape, dim, F: F.put_along(g, index, x_shape, dim))
def taken_along(xp: Any, x: Array, index: Array, dim: int) -> Array:
    """The elements of x at indices along `dim` (not negative); each is selected at most once."""
    return taken(xp, x, index, dim)


@op(values=lambda g, index, dim, F: F.taken_along(g, index, dim))
def put_along(xp: Any, values: Array, index: Array, shape: tuple[int, ...], dim: int) -> Array:
    """Zeros of this shape, with the values at indices along `dim`."""
    return put(xp, values, index, shape, dim)


def _max_or_min(name: str, x: Tensor, dim: Any, keepdim: bool, axis: Any) -> Any:
    reduce, search, elementwise = (max_op, argmax, maximum) if name == "max" else (min_op, argmin, minimum)
    if axis is not ...:
        if dim is not None:
            raise TypeError(f"{name}: axis= is NumPy's name for dim=; give one")
        return reduce(x, axis, keepdim)
    if isinstance(dim, Tensor):
        if keepdim:
            raise TypeError(f"{name}: keepdim=True, but two tensors are given, of which no dim is reduced")
        return elementwise(x, dim)
    if dim is None:
        return reduce(x, None, keepdim)
    if isinstance(dim, tuple | list):
        raise TypeError(f"{name}: dim is {dim}, and indices exist along one dimension only; use tg.a{name}(x, dim)")
    dim = dim_of(name, dim, x.shape, zero_d=True)
    indices = search(x, dim, True)
    if not x.ndim:
        return ValuesIndices(x.clone(), indices)
    values = taken_along(x, indices, dim)
    return ValuesIndices(values, indices) if keepdim else ValuesIndices(values.squeeze(dim), indices.squeeze(dim))


@composite
def max(x: Tensor, dim: int | Tensor | None = None, keepdim: bool = False, axis: Any = ...) -> Any:
    """The largest element; over one `dim` a named pair (values, indices), as in torch.

    With `dim`, the gradient goes to the element at the returned index, the first of equal elements. Without `dim`, and
    with NumPy's `axis` (an integer, a tuple or None), only the values are returned, and ties share the gradient
    equally, as in `amax`. For two tensors, it is their `maximum`. NaN is larger than all numbers.

    Raises:
        IndexError: `dim` is out of range.
        TypeError: `dim` is a tuple (use `amax`); `keepdim` with two tensors; `dim` and `axis` are both given.
        ValueError: there are no elements.

    >>> import tinygrad_lstm as tg
    >>> values, indices = tg.tensor([[1.0, 3.0], [5.0, 4.0]]).max(dim=1)
    >>> values
    tensor([3., 5.])
    """
    return _max_or_min("max", x, dim, keepdim, axis)


@composite
def min(x: Tensor, dim: int | Tensor | None = None, keepdim: bool = False, axis: Any = ...) -> Any:
    """The smallest element; over one `dim` a named pair (values, indices), as in torch. See `max`.

    Raises:
        IndexError: `dim` is out of range.
        TypeError: `dim` is a tuple (use `amin`); `keepdim` with two tensors; `dim` and `axis` are both given.
        ValueError: there are no elements.
    """
    return _max_or_min("min", x, dim, keepdim, axis)


def _arg(name: str, find: Any, x: Array, dim: int | None, keepdim: bool) -> Array:
    if dim is not None:
        dim = dim_of(name, dim, x.shape, zero_d=True)
    if (x.size if dim is None or not x.shape else x.shape[dim]) == 0:
        raise ValueError(f"nothing to search in shape {x.shape} over dim {dim}; give at least one element")
    found = find(x, axis=dim).astype(INT64, copy=False)  # NumPy's indices have 32 bits in WebAssembly
    if not keepdim:
        return found
    return found.reshape(tuple(1 if dim is None or d == dim else length for d, length in enumerate(x.shape)))


@op(method=True)
def argmax(xp: Any, x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """The index of the largest element over one dimension, or in the flattened tensor; the first of equal elements.

    Raises:
        IndexError: `dim` is out of range.
        ValueError: there are no elements.
    """
    return _arg("argmax", xp.argmax, x, dim, keepdim)


@op(method=True)
def argmin(xp: Any, x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """The index of the smallest element over one dimension, or in the flattened tensor; the first of equal elements.

    Raises:
        IndexError: `dim` is out of range.
        ValueError: there are no elements.
    """
    return _arg("argmin", xp.argmin, x, dim, keepdim)


@op(method=True)
def any(xp: Any, x: Array, dim: Dim = None, keepdim: bool = False) -> Array:
    """Whether any element over `dim` is non-zero.

    Raises:
        IndexError: `dim` is out of range.
    """
    return xp.any(x, axis=dims_of("any", dim, x.shape), keepdims=keepdim)


@op(method=True)
def all(xp: Any, x: Array, dim: Dim = None, keepdim: bool = False) -> Array:
    """Whether all elements over `dim` are non-zero.

    Raises:
        IndexError: `dim` is out of range.
    """
    return xp.all(x, axis=dims_of("all", dim, x.shape), keepdims=keepdim)


def _logsumexp_rule(g: Any, x: Any, out: Any, dim: Dim, F: Any) -> Any:
    """g times the softmax: not e^(x - out), since out may be rounded. It is 0 if all elements are -inf."""
    kept = _kept(x.shape, dim)
    known = F.ne(out.reshape(kept), -math.inf)
    return F.where(known, g.reshape(kept), 0) * F.softmax(F.where(known, x, 0), dim)


@op(promotion="float", x=_logsumexp_rule, method=True)
def logsumexp(xp: Any, x: Array, dim: Dim = None, keepdim: bool = False) -> Array:
    """log Σ eˣ over `dim`, without overflow; -inf if there are no elements.

    Raises:
        IndexError: `dim` is out of range.
    """
    dims = dims_of("logsumexp", dim, x.shape)
    if count(x.shape, dims) == 0:
        return xp.full_like(total(xp, x, dims, keepdim), -math.inf)
    largest = xp.max(x, axis=dims, keepdims=True)
    largest = xp.where(xp.isfinite(largest), largest, 0)
    with np.errstate(over="ignore"):  # the exponential of such differences is 0
        below = (x - largest).astype(widened_dtype(x.dtype), copy=False)
    powers = total(xp, xp.exp(below), dims, True)
    nothing = powers == 0  # all are -inf; the logarithm of 0 would warn
    out = xp.where(nothing, -math.inf, xp.log(xp.where(nothing, 1, powers)) + largest).astype(x.dtype, copy=False)
    return out if keepdim else out.reshape(tuple([length for d, length in enumerate(x.shape) if d not in dims]))


@op()
def magnitude(xp: Any, x: Array, dims: tuple[int, ...]) -> Array:
    """The largest |x| over `dims`, which are kept; 1 instead of 0, infinity or NaN, so that one can divide by it."""
    largest_of_all = xp.max(xp.abs(x), axis=dims, keepdims=True)
    return xp.where((largest_of_all > 0) & xp.isfinite(largest_of_all), largest_of_all, 1)


@composite
def norm(x: Tensor, p: float = 2, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The p-norm (Σ |x|ᵖ)^(1/p) over `dim`; p = inf means the largest |x|. It is float32 for integers.

    The derivative at elements of 0 is 0; at infinite elements it is NaN unless p is 1 or inf. Intermediate powers do
    not overflow or vanish: [1e30, 1e30] has a norm in float32.

    Raises:
        IndexError: `dim` is out of range.
        TypeError: p is not a number.
        ValueError: p is not positive; with p = inf, there are no elements.
    """
    if not isinstance(p, int | float | np.number):
        raise TypeError(f"norm: p is {p!r}; expected a positive number or inf")
    if not p > 0:
        raise ValueError(f"norm: p is {p}; expected a positive number or inf")
    p, dim, wide = float(p), dims_of("norm", dim, x.shape), widened(x)
    if p == math.inf:
        return narrowed(max_op(abs(wide), dim, keepdim), x)
    if p == 1:
        return narrowed(abs(wide).sum(dim, keepdim), x)
    if not count(x.shape, dim):
        return narrowed(wide.sum(dim, keepdim), x)
    # |x| = |x / s| · s for every s, so s may be a constant of the derivative too.
    scale = magnitude(wide, dim)
    scaled = wide / scale
    powers = (scaled * scaled if p == 2 else _power(abs(scaled), p)).sum(dim, True)
    result = _power(powers, 1 / p) * scale
    return narrowed(result if keepdim else result.squeeze(dim), x)


def _power(x: Tensor, p: float) -> Tensor:
    """x to the power p, for x >= 0. The derivative at 0 is 0."""
    zero = x == 0
    positive = where(zero, 1, x)
    return where(zero, 0, sqrt(positive) if p == 0.5 else positive**p)
