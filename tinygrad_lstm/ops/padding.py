"""Ops that repeat elements, add or remove them at the ends, or take overlapping windows of them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import check_bounds, is_integer, widened_dtype

from .._tensor import Tensor, as_tensor
from ..arguments import integer, integers
from .define import composite, op
from .elementwise import clone
from .indexing import getitem, getitem_op
from .reduction import dim_of
from .shape import broadcast_to_op, cat_op, flatten, flip, lengths_of, reshape_op, unsqueeze

__all__ = ["pad", "repeat", "repeat_interleave", "tile", "unfold"]


# -- repeated elements -------------------------------------------------------------------------------------------------


@composite
def repeat(x: Tensor, *times: int | Sequence[int]) -> Tensor:
    """Repeats x `times[d]` times along each dimension d, with leading dimensions added if needed.

    Raises:
        ValueError: `times` has fewer numbers than x has dimensions.
    """
    numbers = lengths_of("repeat", "times", times)
    if len(numbers) < x.ndim:
        raise ValueError(f"repeat: {numbers} has fewer numbers than shape {x.shape} has dimensions")
    lengths = (*(1,) * (len(numbers) - x.ndim), *x.shape)
    # Each dimension becomes two, (times, length), of which the first is broadcast.
    between = tuple(itertools.chain.from_iterable((1, length) for length in lengths))
    tiled = tuple(itertools.chain.from_iterable(zip(numbers, lengths, strict=True)))
    laid = clone(broadcast_to_op(reshape_op(x, between), tiled))
    return reshape_op(laid, tuple(number * length for number, length in zip(numbers, lengths, strict=True)))


@composite
def tile(x: Tensor, *times: int | Sequence[int]) -> Tensor:
    """`repeat`, where leading numbers that are missing are 1.

    Raises:
        ValueError: a number is negative.
    """
    numbers = lengths_of("tile", "times", times)
    return repeat(x, (*(1,) * (x.ndim - len(numbers)), *numbers))


@composite
def repeat_interleave(x: Tensor, repeats: Any, dim: int | None = None) -> Tensor:
    """Repeats each element along `dim`, next to itself; NumPy's `repeat`.

    Args:
        repeats: one number, or a number for each element of `dim`. If it is a tensor on a GPU, its values are copied
            to the host, because the shape of the result depends on them.
        dim: by default x is flattened.

    Raises:
        IndexError: the dimension is out of range.
        TypeError: the repeats are not integers.
        ValueError: a number is negative, or there is not one number for each element of `dim`.
    """
    if dim is None:
        x, dim = flatten(x), 0
    dim = dim_of("repeat_interleave", dim, x.shape)
    length = x.shape[dim]
    numbers = as_tensor(repeats, None if isinstance(repeats, Tensor) else "cpu")
    if (numbers.size and not is_integer(numbers.dtype)) or isinstance(repeats, bool):
        raise TypeError(f"repeat_interleave: repeats must be integers, got {numbers.dtype}")
    if numbers.ndim > 1 or numbers.size not in (1, length):
        raise ValueError(f"repeat_interleave: repeats of shape {numbers.shape} must be one number or {length} numbers")
    if numbers.size == 1:
        times = int(numbers.item())
        if times < 0:
            raise ValueError(f"repeat_interleave: repeats is {times}; expected 0 or more")
        wide = broadcast_to_op(unsqueeze(x, dim + 1), (*x.shape[: dim + 1], times, *x.shape[dim + 1 :]))
        return reshape_op(clone(wide), (*x.shape[:dim], length * times, *x.shape[dim + 1 :]))
    host = numbers.detach().cpu().numpy()
    if host.size and host.min() < 0:
        raise ValueError(f"repeat_interleave: repeats has {host.min()}; expected 0 or more")
    return getitem(x, (*(slice(None),) * dim, np.repeat(np.arange(length), host.astype(np.int64))))


# -- elements added or removed at the ends -----------------------------------------------------------------------------


@op(x=lambda g, widths, x_shape, F: F.getitem_op(g, _inside(widths, x_shape)), name="pad")
def pad_op(xp: Any, x: Array, widths: tuple[tuple[int, int], ...], value: float) -> Array:
    return xp.pad(x, widths, constant_values=value) if widths else x.copy()


def _inside(widths: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(before, before + length) for (before, _), length in zip(widths, shape, strict=True))


@composite
def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pads x: `pad` has (before, after) of the last dimension, then of the one before it, ...

    A negative width removes elements. Every mode pads any number of dimensions.

    Args:
        mode: "constant" adds `value`; "reflect" mirrors the elements, without the first or last; "replicate" repeats
            the first or last; "circular" continues with the elements from the opposite end.

    Raises:
        OverflowError: x is of integers, and `value` is outside their dtype's range.
        ValueError: the number of widths is odd or too large; widths remove more elements than there are; the mode is
            unknown, or needs more elements than there are; x is of integers, and `value` is NaN.
    """
    if mode not in ("constant", *_ENDS):
        raise ValueError(f"pad: mode is {mode!r}; expected 'constant', 'reflect', 'replicate' or 'circular'")
    pad = integers("pad", "pad", pad)
    widths = list(zip(pad[::2], pad[1::2], strict=False))
    if len(pad) % 2 or len(widths) > x.ndim:
        raise ValueError(f"pad: {pad} must hold two widths for some last dimensions of {x.shape}")
    of_dims = ((0, 0),) * (x.ndim - len(widths)) + tuple(reversed(widths))
    added = tuple([(max(before, 0), max(after, 0)) for before, after in of_dims])
    for dim, (length, (before, after)) in enumerate(zip(x.shape, of_dims, strict=True)):
        kept = length + min(before, 0) + min(after, 0)
        if min(length + before + after, 0 if mode in ("reflect", "replicate") else kept) < 0:
            raise ValueError(f"pad: widths {(before, after)} remove more than the {length} of dim {dim} of {x.shape}")
    if mode == "constant":
        check_bounds("pad", value, x.dtype)
    elif value:
        raise ValueError(f"pad: value is {value}; mode {mode!r} takes none")
    if not any(map(any, added)):
        mode = "constant"
    removes = any(width < 0 for width in pad)
    if removes and mode in ("constant", "circular"):  # what was removed does not come back
        x = getitem_op(x, _kept(x, of_dims))
    if mode == "constant":
        return pad_op(x, added, value)
    for dim, ends in enumerate(added):
        x = _continued(x, dim, *ends, mode) if any(ends) else x
    return getitem_op(x, _kept(x, of_dims)) if removes and mode != "circular" else x


def _kept(x: Tensor, widths: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    """What negative widths leave of each dimension.

    The ends are counted from the start, since one of -n means nothing if n is a length that is 0 in a later run.
    """
    return tuple(
        slice(max(-before, 0), length + after if after < 0 else None)
        for length, (before, after) in zip(x.shape, widths, strict=True)
    )


_ENDS: dict[str, Callable[[int, int, int], tuple[slice, slice]]] = {
    "reflect": lambda n, before, after: (slice(1, before + 1), slice(n - 1 - after, n - 1)),
    "replicate": lambda n, before, after: (slice(0, 1), slice(n - 1, n)),
    "circular": lambda n, before, after: (slice(n - before, n), slice(0, after)),
}
"""By mode, which elements of a dimension of length n are taken for the start, and for the end."""


def _continued(x: Tensor, dim: int, before: int, after: int, mode: str) -> Tensor:
    """x with elements added to one dimension."""
    lead, length = (slice(None),) * dim, x.shape[dim]
    longest = {"reflect": length - 1, "replicate": None if length else 0, "circular": length}[mode]
    if longest is not None and max(before, after) > max(longest, 0):
        raise ValueError(f"pad: mode {mode!r} adds at most {max(longest, 0)} to dim {dim}, not {(before, after)}")
    parts = [x]
    for width, taken, at in zip((before, after), _ENDS[mode](length, before, after), (0, 2), strict=True):
        if width > 0:
            end = getitem_op(x, (*lead, taken))
            if mode == "reflect":
                end = flip(end, dim)
            elif mode == "replicate":
                end = broadcast_to_op(end, (*end.shape[:dim], width, *end.shape[dim + 1 :]))
            parts.insert(at, end)
    return cat_op(parts, dim)


# -- windows -----------------------------------------------------------------------------------------------------------


def _windows(xp: Any, x: Array, dim: int, size: int, step: int) -> Array:
    """A view of the windows along `dim`; writing into it writes into x."""
    number = (x.shape[dim] - size) // step + 1
    shape = (*x.shape[:dim], number, *x.shape[dim + 1 :], size)
    strides = (*x.strides[:dim], x.strides[dim] * step, *x.strides[dim + 1 :], x.strides[dim])
    return xp.lib.stride_tricks.as_strided(x, shape, strides)


def _add_windows(xp: Any, buffer: Array, g: Array, dim: int, size: int, step: int) -> Array:
    """Adds the windows into the buffer, in place: at a time those of which no two overlap."""
    apart, lead = max(-(-size // step), 1), (slice(None),) * dim
    for first in range(min(apart, g.shape[dim])):
        values = g[(*lead, slice(first, None, apart))]
        places = _windows(xp, buffer[(*lead, slice(first * step, None))], dim, size, apart * step)
        places[(*lead, slice(values.shape[dim]))] += values
    return buffer


@op(x=lambda g, dim, size, step, F: F.unfold_op(g, dim, size, step))
def overlapped(xp: Any, x: Array, dim: int, size: int, step: int, length: int) -> Array:
    """Zeros of this length along `dim`, with each window (the last dimension) added at its place."""
    shape = (*x.shape[:dim], length, *x.shape[dim + 1 : -1])
    buffer = xp.zeros(shape, widened_dtype(x.dtype))
    return _add_windows(xp, buffer, x, dim, size, step).astype(x.dtype, copy=False)


@op(
    x=lambda g, dim, size, step, x_shape, F: F.overlapped(g, dim, size, step, x_shape[dim]),
    view=True,
    name="unfold",
)
def unfold_op(xp: Any, x: Array, dim: int, size: int, step: int) -> Array:
    return _windows(xp, x, dim, size, step)


@composite
def unfold(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    """A view of windows of `size` elements along `dim`, each `step` after the one before: (..., number, ..., size).

    `dim` then counts the windows, and their elements are the last dimension.

    Raises:
        IndexError: the dimension is out of range.
        ValueError: `size` is negative or longer than the dimension, or `step` is not positive.

    >>> import tinygrad_lstm as tg
    >>> tg.arange(5).unfold(0, 3, 2)
    tensor([[0, 1, 2],
            [2, 3, 4]])
    """
    dim = dim_of("unfold", dim, x.shape, zero_d=True)
    if not x.ndim:  # the one window, as torch returns
        return unfold(x.reshape(1), dim, size, step)[0]
    size, step = integer("unfold", "size", size), integer("unfold", "step", step)
    if not 0 <= size <= x.shape[dim] or step < 1:
        raise ValueError(
            f"unfold: size {size} and step {step}; expected a size of 0 to {x.shape[dim]}, the length of dim {dim}, "
            "and a step of 1 or more"
        )
    return unfold_op(x, dim, size, step)
