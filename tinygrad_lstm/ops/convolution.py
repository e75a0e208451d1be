"""Convolution in one and two dimensions: the weight times a matrix whose columns are windows of the input."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_float, widened_dtype

from .._tensor import Tensor, operand
from ..arguments import integer
from .define import composite, op, shown_whole
from .padding import pad
from .shape import reshape, squeeze, unsqueeze

__all__ = ["conv1d", "conv2d", "conv_transpose1d"]

Sizes = tuple[int, ...]
PerDim = int | Sequence[int]
_SHAPES = {1: "(N, C, L) or (C, L)", 2: "(N, C, H, W) or (C, H, W)"}

Moves = tuple[Sizes, Sizes, int]
"""How windows move: strides, dilations, and the number of groups of channels."""

_IN_CACHE, _ON_GPU = 2**19, 2**28
"""How many elements the windows of a part of the batch have, if those of a single input do not have more."""


def _parts(xp: Any, x: Array, sizes: Sizes, counts: Sizes) -> Iterator[slice]:
    """Slices of the batch x: the windows of a part are computed with at a time."""
    elements = math.prod((x.shape[1], *sizes, *counts))
    number = max((_IN_CACHE if xp is np else _ON_GPU) // max(elements, 1), 1)
    return (slice(first, first + number) for first in range(0, x.shape[0], number))


def _columns(xp: Any, x: Array, sizes: Sizes, counts: Sizes, moves: Moves) -> Array:
    """(N, C, *lengths) to (groups, C / groups · elements of a window, N · windows): the elements of each window."""
    strides, dilations, groups = moves
    apart, along = (
        [step * each for step, each in zip(steps, x.strides[2:], strict=True)] for steps in (dilations, strides)
    )
    shape = (x.shape[1], *sizes, x.shape[0], *counts)
    windows = xp.lib.stride_tricks.as_strided(x, shape, (x.strides[1], *apart, x.strides[0], *along))
    return windows.reshape(groups, x.shape[1] // groups * math.prod(sizes), x.shape[0] * math.prod(counts))


def _rows(x: Array, groups: int) -> Array:
    """(N, C, *lengths) to (groups, C / groups, N · positions)."""
    return x.swapaxes(0, 1).reshape(groups, x.shape[1] // groups, x.shape[0] * math.prod(x.shape[2:]))


def _filters(weight: Array, groups: int) -> Array:
    """(O, C / groups, *sizes) to (groups, O / groups, C / groups · elements of a window)."""
    return weight.reshape(groups, weight.shape[0] // groups, math.prod(weight.shape[1:]))


def _product(backend: Any, x: Array, y: Array) -> Array:
    """The products of two stacks of matrices, computed in the fastest way for one matrix, and for outer products."""
    if len(x) == 1:
        return backend.matmul(x[0], y[0])
    return x * y if x.shape[2] == 1 else backend.matmul(x, y)


def _places(sizes: Sizes, counts: Sizes, moves: Moves) -> Iterator[tuple[Sizes, tuple[slice, ...]]]:
    """For each element of a window, its place there, and the slices of the input that it covers as the window moves."""
    for place in itertools.product(*map(range, sizes)):
        firsts = [k * apart for k, apart in zip(place, moves[1], strict=True)]
        ends = [first + (count - 1) * step + 1 for first, count, step in zip(firsts, counts, moves[0], strict=True)]
        yield place, tuple(map(slice, firsts, ends, moves[0]))


@op(
    promotion="common",
    x=lambda g, weight, moves, x_shape, F: F.convolved_back(g, weight, x_shape[2:], moves),
    weight=lambda g, x, moves, weight_shape, F: F.correlated(x, g, weight_shape, moves),
)
def convolved(backend: Any, x: Array, weight: Array, counts: Sizes, moves: Moves) -> Array:
    """(N, C, *lengths) and (O, C / groups, *sizes) to (N, O, *counts): the products of filters and windows."""
    filters = _filters(weight, moves[2])
    out = backend.xp.empty((x.shape[0], weight.shape[0], *counts), x.dtype)
    for part in _parts(backend.xp, x, weight.shape[2:], counts):
        columns = _columns(backend.xp, x[part], weight.shape[2:], counts, moves)
        out[part] = _product(backend, filters, columns).reshape(weight.shape[0], -1, *counts).swapaxes(0, 1)
    return out


@op(
    promotion="common",
    x=lambda g, weight, moves, x_shape, F: F.convolved(g, weight, x_shape[2:], moves),
    weight=lambda g, x, moves, weight_shape, F: F.correlated(g, x, weight_shape, moves),
)
def convolved_back(backend: Any, x: Array, weight: Array, lengths: Sizes, moves: Moves) -> Array:
    """(N, O, *counts) and (O, C / groups, *sizes) to (N, C, *lengths): the gradient of `convolved` in its x."""
    channels, sizes, counts = moves[2] * weight.shape[1], weight.shape[2:], x.shape[2:]
    wide = widened_dtype(x.dtype) if is_float(x.dtype) else x.dtype
    filters = _filters(weight.astype(wide, copy=False), moves[2]).swapaxes(1, 2)
    out = backend.xp.zeros((x.shape[0], channels, *lengths), wide)
    for part in _parts(backend.xp, out, sizes, counts):
        columns = _product(backend, filters, _rows(x[part].astype(wide, copy=False), moves[2]))
        columns = columns.reshape(channels, *sizes, -1, *counts)
        for place, taken in _places(sizes, counts, moves):
            out[(part, slice(None), *taken)] += columns[(slice(None), *place)].swapaxes(0, 1)
    return out.astype(x.dtype, copy=False)


@op(
    promotion="common",
    x=lambda g, y, moves, x_shape, F: F.convolved_back(y, g, x_shape[2:], moves),
    y=lambda g, x, moves, y_shape, F: F.convolved(x, g, y_shape[2:], moves),
)
def correlated(backend: Any, x: Array, y: Array, shape: Sizes, moves: Moves) -> Array:
    """(N, C, *lengths) and (N, O, *counts) to (O, C / groups, *sizes): the gradient of `convolved` in its weight."""
    out = backend.xp.zeros((moves[2], shape[0] // moves[2], math.prod(shape[1:])), widened_dtype(x.dtype))
    for part in _parts(backend.xp, x, shape[2:], y.shape[2:]):
        columns = _columns(backend.xp, x[part].astype(out.dtype, copy=False), shape[2:], y.shape[2:], moves)
        out += _product(backend, _rows(y[part].astype(out.dtype, copy=False), moves[2]), columns.swapaxes(1, 2))
    return out.reshape(shape).astype(x.dtype, copy=False)


@composite
@shown_whole
def conv1d(
    x: Tensor,
    weight: Any,
    bias: Any = None,
    stride: PerDim = 1,
    padding: PerDim | str = 0,
    dilation: PerDim = 1,
    groups: int = 1,
) -> Tensor:
    """The cross-correlation of x with each filter: (N, O, L').

    L' = (L + 2·padding - dilation·(K - 1) - 1) // stride + 1.

    Args:
        x: (N, C, L), or (C, L) for an output without N.
        weight: (O, C / groups, K), one filter for each output channel.
        bias: (O,).
        stride: how far the window moves at each step.
        padding: the number of zeros at both ends; "valid" means 0, "same" keeps the length (stride 1 only).
        dilation: the distance between a window's elements.
        groups: the number of groups of channels; each group of outputs depends on one group of inputs.

    Raises:
        TypeError: a setting is a bool or a tensor.
        ValueError: the shapes do not match, a setting is not an integer or out of range, or the window is longer
            than the padded input.

    >>> import tinygrad_lstm as tg
    >>> tg.conv1d(tg.tensor([[1.0, 2.0, 4.0, 8.0]]), tg.tensor([[[-1.0, 1.0]]]))
    tensor([[1., 2., 4.]])
    """
    return _conv("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


@composite
@shown_whole
def conv2d(
    x: Tensor,
    weight: Any,
    bias: Any = None,
    stride: PerDim = 1,
    padding: PerDim | str = 0,
    dilation: PerDim = 1,
    groups: int = 1,
) -> Tensor:
    """The cross-correlation of images with each filter: (N, O, H', W').

    H' = (H + 2·padding - dilation·(K - 1) - 1) // stride + 1, and W' likewise.

    Args:
        x: (N, C, H, W), or (C, H, W) for an output without N.
        weight: (O, C / groups, K, K2), one filter for each output channel.
        bias: (O,).
        stride, padding, dilation: as for `conv1d`; one for both dimensions, or a pair.
        groups: the number of groups of channels.

    Raises:
        TypeError, ValueError: as for `conv1d`.
    """
    return _conv("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def _conv(
    name: str,
    dims: int,
    x: Tensor,
    weight: Any,
    bias: Any,
    stride: PerDim,
    padding: PerDim | str,
    dilation: PerDim,
    groups: int,
) -> Tensor:
    weight = operand(weight, x.device)
    bias = None if bias is None else operand(bias, x.device)
    strides, dilations = (
        per_dim(name, what, value, dims) for what, value in (("stride", stride), ("dilation", dilation))
    )
    _check(name, dims, x, weight, bias, groups)
    filters, _, *sizes = weight.shape
    reaches = [d * (size - 1) for d, size in zip(dilations, sizes, strict=True)]
    ends = padded_ends(name, padding, strides, reaches)
    lengths = [length + sum(end) for length, end in zip(x.shape[-dims:], ends, strict=True)]
    for size, apart, length, reach in zip(sizes, dilations, lengths, reaches, strict=True):
        if length <= reach:
            raise ValueError(
                f"{name}: a window of {size} elements {apart} apart does not fit into x of shape {x.shape} "
                f"with {ends} zeros at its ends"
            )
    if x.ndim == dims + 1:
        return squeeze(_conv(name, dims, unsqueeze(x, 0), weight, bias, stride, padding, dilation, groups), 0)
    if any(map(any, ends)):
        x = pad(x, [width for end in reversed(ends) for width in end])
    counts = tuple((n - reach - 1) // s + 1 for n, reach, s in zip(lengths, reaches, strides, strict=True))
    out = convolved(x, weight, counts, (strides, dilations, groups))
    return out if bias is None else out + reshape(bias, (filters, *[1] * dims))


@composite
@shown_whole
def conv_transpose1d(
    x: Tensor,
    weight: Any,
    bias: Any = None,
    stride: PerDim = 1,
    padding: PerDim = 0,
    output_padding: PerDim = 0,
    groups: int = 1,
    dilation: PerDim = 1,
) -> Tensor:
    """The transpose of `conv1d` as a linear map, which is its gradient in x: (N, O, L').

    L' = (L - 1)·stride - 2·padding + dilation·(K - 1) + output_padding + 1.

    Args:
        x: (N, C, L), or (C, L) for an output without N.
        weight: (C, O / groups, K).
        bias: (O,).
        stride: the distance between the windows in the output.
        padding: the number of elements that are cut off at both ends.
        output_padding: the number of elements added at the end, less than the stride or the dilation.
        groups: the number of groups of channels.
        dilation: the distance between a window's elements.

    Raises:
        TypeError: a setting is a bool or a tensor.
        ValueError: the shapes do not match, a setting is not an integer or out of range, or nothing is left.

    >>> import tinygrad_lstm as tg
    >>> tg.conv_transpose1d(tg.tensor([[1.0, 2.0]]), tg.tensor([[[1.0, 1.0]]]), stride=2)
    tensor([[1., 1., 2., 2.]])
    """
    name = "conv_transpose1d"
    weight = operand(weight, x.device)
    bias = None if bias is None else operand(bias, x.device)
    (step,), (apart,) = per_dim(name, "stride", stride, 1), per_dim(name, "dilation", dilation, 1)
    (cut,), (more,) = per_dim(name, "padding", padding, 1, 0), per_dim(name, "output_padding", output_padding, 1, 0)
    _check(name, 1, x, weight, bias, groups, transposed=True)
    _, depth, size = weight.shape
    length = (x.shape[-1] - 1) * step + apart * (size - 1) + 1 + more
    if more >= max(step, apart) or x.shape[-1] < 1 or length <= 2 * cut:
        raise ValueError(
            f"{name}: x of shape {x.shape}, padding {cut} and output_padding {more}; expected at least one element to "
            f"remain of {length}, and output_padding less than stride {step} or dilation {apart}"
        )
    if x.ndim == 2:
        whole = conv_transpose1d(unsqueeze(x, 0), weight, bias, stride, padding, output_padding, groups, dilation)
        return squeeze(whole, 0)
    out = convolved_back(x, weight, (length,), ((step,), (apart,), groups))[..., cut : length - cut]
    return out if bias is None else out + reshape(bias, (groups * depth, 1))


# -- arguments ---------------------------------------------------------------------------------------------------------


def per_dim(name: str, argument: str, value: Any, dims: int, least: int = 1) -> Sizes:
    """An integer for each dimension, of a setting that has one for all or for each."""
    values = value if isinstance(value, tuple | list) else (value,)
    expected = f"an integer of {least} or more"
    for each in values:
        if isinstance(each, str | float) or integer(name, argument, each, expected) < least:
            raise ValueError(f"{name}: {argument} is {value!r}; expected {expected}")
    if len(values) not in (1, dims):
        raise ValueError(f"{name}: {argument} is {value!r}; expected one integer, or one for each of {dims} dimensions")
    return tuple(values) * (dims // len(values))


def _check(
    name: str, dims: int, x: Tensor, weight: Tensor, bias: Tensor | None, groups: Any, transposed: bool = False
) -> None:
    per_dim(name, "groups", groups, 1)
    expected = "(C, O / groups, K)" if transposed else f"(O, C / groups, {', '.join('KJ'[:dims])})"
    if x.ndim not in (dims + 1, dims + 2) or weight.ndim != dims + 2 or not weight.size:
        raise ValueError(
            f"{name}: x of shape {x.shape} and weight of shape {weight.shape}; expected {_SHAPES[dims]}, "
            f"and {expected}, with nothing of length 0 in the weight"
        )
    channels, (first, second) = x.shape[-1 - dims], weight.shape[:2]
    taken, filters = (first, second * groups) if transposed else (second * groups, first)
    if channels != taken or first % groups:
        raise ValueError(
            f"{name}: x of shape {x.shape} and weight of shape {weight.shape} do not fit in {groups} groups; "
            f"the weight must have the shape {expected}, and groups must divide C and O"
        )
    if bias is not None and bias.shape != (filters,):
        raise ValueError(f"{name}: bias of shape {bias.shape} must have shape {(filters,)}, one for each filter")


def padded_ends(name: str, padding: PerDim | str, strides: Sizes, reaches: Sequence[int]) -> list[tuple[int, int]]:
    """The number of zeros before and after in each dimension, for a window that reaches so far beyond its first."""
    if padding == "valid":
        return [(0, 0)] * len(strides)
    if padding == "same":
        if any(stride != 1 for stride in strides):
            raise ValueError(f"{name}: padding 'same' needs stride 1, got stride {max(strides)}")
        return [(reach // 2, reach - reach // 2) for reach in reaches]
    if isinstance(padding, str):
        raise ValueError(f"{name}: padding is {padding!r}; expected an integer of 0 or more, 'valid' or 'same'")
    return [(width, width) for width in per_dim(name, "padding", padding, len(strides), 0)]
