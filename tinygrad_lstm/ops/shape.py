"""Ops that move elements: shapes, orders, joins and splits."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array

from .._tensor import Tensor, as_tensor
from ..arguments import integer, integers
from .define import composite, op
from .reduction import dim_of, dims_of

__all__ = [
    "broadcast_to",
    "cat",
    "chunk",
    "concat",
    "concatenate",
    "expand",
    "flatten",
    "flip",
    "movedim",
    "permute",
    "reshape",
    "roll",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "transpose",
    "tril",
    "triu",
    "unbind",
    "unsqueeze",
]


def lengths_of(name: str, argument: str, given: tuple[Any, ...]) -> tuple[int, ...]:
    """The integers of a call `f(2, 3)` or `f((2, 3))`."""
    return integers(name, argument, given[0] if len(given) == 1 and isinstance(given[0], Sequence) else given)


# -- the same elements in a different shape ----------------------------------------------------------------------------


@op(x=lambda g, x_shape: g.reshape(x_shape), view=True, name="reshape")
def reshape_op(xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
    return x.reshape(shape)


@composite
def reshape(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """The elements, in order, in a different shape; one length may be -1 and is computed.

    Raises:
        ValueError: the shape has a different number of elements.
    """
    return reshape_op(x, lengths_of("reshape", "shape", shape))


@composite
def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Flattens the dimensions from `start_dim` to `end_dim`.

    Raises:
        IndexError: a dimension is out of range.
        ValueError: `start_dim` comes after `end_dim`.
    """
    first, last = (dim_of("flatten", dim, x.shape, zero_d=True) for dim in (start_dim, end_dim))
    if first > last:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} in shape {x.shape}")
    return reshape(x, (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


@composite
def squeeze(x: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Removes dimensions of length 1: all of them, or only those of `dim`.

    Raises:
        IndexError: a dimension is out of range.
    """
    dims = dims_of("squeeze", dim, x.shape)
    return reshape_op(x, tuple([length for d, length in enumerate(x.shape) if length != 1 or d not in dims]))


@composite
def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """Inserts a dimension of length 1 at `dim`.

    Raises:
        IndexError: a dimension is out of range.
    """
    dim = dim_of("unsqueeze", dim, (*x.shape, 1))
    return reshape_op(x, (*x.shape[:dim], 1, *x.shape[dim:]))


# -- the same elements in a different order ----------------------------------------------------------------------------


@op(x=lambda g, order, F: F.permute_op(g, tuple(int(k) for k in np.argsort(order))), view=True, name="permute")
def permute_op(xp: Any, x: Array, order: tuple[int, ...]) -> Array:
    return x.transpose(order)


@composite
def permute(x: Tensor, *order: int | Sequence[int], dims: Sequence[int] | None = None) -> Tensor:
    """Permutes the dimensions; `dims=` is torch's name for the order.

    Raises:
        IndexError: a dimension is out of range.
        ValueError: `order` does not have each dimension once.
    """
    given = lengths_of("permute", "order", order if dims is None else (*order, dims))
    found = dims_of("permute", given, x.shape)
    if len(given) != x.ndim:
        raise ValueError(f"permute: {given} does not name each dimension of shape {x.shape} once")
    return permute_op(x, found)


@composite
def swapaxes(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Exchanges two dimensions.

    Raises:
        IndexError: a dimension is out of range.
    """
    order = list(range(x.ndim))
    a, b = (dim_of("swapaxes", dim, x.shape, zero_d=True) for dim in (dim0, dim1))
    if a != b:
        order[a], order[b] = b, a
    return permute_op(x, tuple(order))


@composite
def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Exchanges two dimensions; torch's name for `swapaxes`.

    Raises:
        IndexError: a dimension is out of range.
    """
    return swapaxes(x, dim0, dim1)


@composite
def movedim(x: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Moves dimensions to new positions; the others keep their order. NumPy's `moveaxis`.

    Raises:
        IndexError: a dimension is out of range.
        ValueError: a dimension is given twice, or `source` and `destination` have different lengths.
    """
    moved, places = dims_of("movedim", _as_dims(source), x.shape), dims_of("movedim", _as_dims(destination), x.shape)
    if len(moved) != len(places):
        raise ValueError(f"movedim: source {source} and destination {destination} must have the same length")
    order = [d for d in range(x.ndim) if d not in moved]
    for place, d in sorted(zip(places, moved, strict=True)):
        order.insert(place, d)
    return permute_op(x, tuple(order))


def _as_dims(dim: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(dim) if isinstance(dim, Sequence) else (dim,)


@op(x=lambda g, dim, F: F.flip(g, dim), view=True, method=True)
def flip(xp: Any, x: Array, dim: int | tuple[int, ...] | None = None) -> Array:
    """Reverses the order along `dim`, or along all dimensions if it is None.

    Raises:
        IndexError: a dimension is out of range.
    """
    return xp.flip(x, dims_of("flip", dim, x.shape))


@op(x=lambda g, shifts, dim, F: F.roll(g, _negated(shifts), dim), method=True)
def roll(xp: Any, x: Array, shifts: int | tuple[int, ...], dim: int | tuple[int, ...] | None = None) -> Array:
    """Moves the elements by `shifts` along `dim`, from its end to its start; None rolls the flattened tensor.

    Raises:
        IndexError: a dimension is out of range.
    """
    shifts = _one_or_several("shifts", shifts)
    if dim is None:
        return xp.roll(x, shifts)
    dims = _one_or_several("dim", dim)
    for d in dims if isinstance(dims, tuple) else (dims,):  # one may be given twice here
        dim_of("roll", d, x.shape)
    return xp.roll(x, shifts, dims)


def _one_or_several(argument: str, given: int | Sequence[int]) -> int | tuple[int, ...]:
    if isinstance(given, Sequence):
        return integers("roll", argument, given)
    return integer("roll", argument, given, "an integer or a tuple of integers")


def _negated(shifts: int | Sequence[int]) -> int | tuple[int, ...]:
    return tuple([-shift for shift in shifts]) if isinstance(shifts, Sequence) else -shifts


# -- elements broadcast or set to zero ------------------------------------------------------------------------------


@op(x=lambda g, x_shape, F: F.sum_to(g, x_shape), view=True, name="broadcast_to")
def broadcast_to_op(xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
    return xp.broadcast_to(x, shape)


@composite
def broadcast_to(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """Broadcasts x to a shape, without a copy.

    Raises:
        ValueError: x's shape does not broadcast to it.
    """
    return broadcast_to_op(x, lengths_of("broadcast_to", "shape", shape))


@composite
def expand(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """`broadcast_to`, where -1 keeps a dimension's length.

    Raises:
        ValueError: x's shape does not broadcast to it.
    """
    lengths = lengths_of("expand", "shape", shape)
    extra = len(lengths) - x.ndim
    if extra < 0:
        raise ValueError(f"expand: shape {x.shape} has more dimensions than {lengths}")
    kept = [x.shape[d - extra] if length == -1 and d >= extra else length for d, length in enumerate(lengths)]
    return broadcast_to_op(x, tuple(kept))


@op(x=lambda g, diagonal, F: F.tril(g, diagonal), method=True)
def tril(xp: Any, x: Array, diagonal: int = 0) -> Array:
    """The lower triangle of the last two dimensions, up to a diagonal (0: the main one; 1: the one above); zero above.

    Raises:
        ValueError: x has fewer than two dimensions.
    """
    return xp.tril(_with_two_dims(x), integer("tril", "diagonal", diagonal))


@op(x=lambda g, diagonal, F: F.triu(g, diagonal), method=True)
def triu(xp: Any, x: Array, diagonal: int = 0) -> Array:
    """The upper triangle of the last two dimensions, from a diagonal (0: the main one; 1: the one above); zero below.

    Raises:
        ValueError: x has fewer than two dimensions.
    """
    return xp.triu(_with_two_dims(x), integer("triu", "diagonal", diagonal))


def _with_two_dims(x: Array) -> Array:
    if len(x.shape) < 2:
        raise ValueError(f"shape {x.shape} must have two dimensions at least")
    return x


# -- joins and splits --------------------------------------------------------------------------------------------------


@op(
    promotion="common",
    tensors=lambda g, tensors_shape, dim, F: F.split_op(g, [s[dim] for s in tensors_shape], dim),
    name="cat",
)
def cat_op(xp: Any, tensors: Sequence[Array], dim: int) -> Array:
    return xp.concatenate(tensors, axis=dim)


def _dim_or_axis(name: str, dim: int | None, axis: int | None) -> int:
    """`dim` or `axis`, whichever was given, or the first dimension."""
    if dim is not None and axis is not None:
        raise TypeError(f"{name}: axis= is another name for dim=; give one")
    if axis is not None:
        return axis
    return 0 if dim is None else dim


def cat(tensors: Sequence[Any], dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """Joins tensors along an existing dimension, by default the first; also `concat` and `concatenate`.

    Raises:
        IndexError: a dimension is out of range.
        TypeError: both `dim` and `axis` are given.
        ValueError: there are no tensors, or their other dimensions differ.
    """
    if dim is None or axis is not None:
        dim = _dim_or_axis("cat", dim, axis)
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: no tensors given; give at least one")
    return cat_op(tensors, dim_of("cat", dim, as_tensor(tensors[0]).shape))


concat = concatenate = cat


def stack(tensors: Sequence[Any], dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """Joins tensors of the same shape along a new dimension, by default the first.

    Raises:
        IndexError: a dimension is out of range.
        TypeError: both `dim` and `axis` are given.
        ValueError: there are no tensors, or their shapes differ.
    """
    if dim is None or axis is not None:
        dim = _dim_or_axis("stack", dim, axis)
    tensors = [as_tensor(tensor) for tensor in tensors]
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) != 1:
        raise ValueError(f"stack: expected tensors of one shape, got {sorted(shapes) or 'none'}")
    return stack_op(tensors, dim_of("stack", dim, (*shapes.pop(), 1)))


@op(x=lambda g, dim, F: F.cat_op(list(g), dim), view=True, name="split")
def split_op(xp: Any, x: Array, sizes: Sequence[int], dim: int) -> tuple[Array, ...]:
    lead = (slice(None),) * dim
    ends = list(itertools.accumulate(sizes))
    return tuple([x[(*lead, slice(end - size, end))] for size, end in zip(sizes, ends, strict=True)])


@composite
def split(x: Tensor, size_or_sizes: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Splits a dimension into parts of one size, except for a smaller last one, or of the given sizes.

    Raises:
        IndexError: a dimension is out of range.
        ValueError: the sizes do not add up to the dimension's length.
    """
    dim = dim_of("split", dim, x.shape)
    length = x.shape[dim]
    if isinstance(size_or_sizes, Sequence | np.ndarray):
        sizes = list(integers("split", "size", size_or_sizes))
    else:
        size = integer("split", "size", size_or_sizes, "an integer or several")
        if size <= 0:
            raise ValueError(f"split: size {size} must be positive")
        sizes = [min(size, length - start) for start in range(0, max(length, 1), size)]
    if sum(sizes) != length or any(size < 0 for size in sizes):
        raise ValueError(f"split: sizes {sizes} do not add up to the {length} of dim {dim} in shape {x.shape}")
    return split_op(x, sizes, dim)  # type: ignore[return-value]


@composite
def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Splits a dimension into `chunks` parts of one size; otherwise the last is smaller or parts are fewer.

    Raises:
        IndexError: a dimension is out of range.
        ValueError: `chunks` is not positive.
    """
    chunks = integer("chunk", "chunks", chunks)
    if chunks <= 0:
        raise ValueError(f"chunk: chunks is {chunks}; expected a positive number")
    dim = dim_of("chunk", dim, x.shape)
    length = x.shape[dim]
    size = max(-(-length // chunks), 1)
    full, rest = divmod(length, size)
    return split_op(x, [size] * full + [rest] * (rest > 0 or not length), dim)  # type: ignore[return-value]


@op(x=lambda g, dim, F: F.stack_op(list(g), dim), view=True, name="unbind")
def unbind_op(xp: Any, x: Array, dim: int) -> tuple[Array, ...]:
    lead = (slice(None),) * dim
    return tuple([x[(*lead, k, ...)] for k in range(x.shape[dim])])


@op(promotion="common", tensors=lambda g, dim, F: F.unbind_op(g, dim), name="stack")
def stack_op(xp: Any, tensors: Sequence[Array], dim: int) -> Array:
    if len(tensors) == 1:  # a copy takes a fifth of the time
        return tensors[0][(*(slice(None),) * dim, None)].copy()
    return xp.stack(tensors, axis=dim)


@composite
def unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along a dimension, which is removed.

    Raises:
        IndexError: a dimension is out of range.
        TypeError: the tensor is 0-d.
    """
    if not x.ndim:
        raise TypeError("unbind: a 0-d tensor has no dimension to take apart")
    dim = dim_of("unbind", dim, x.shape)
    if not x.shape[dim]:
        return ()
    return unbind_op(x, dim)  # type: ignore[return-value]
