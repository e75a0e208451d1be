"""Convolution in one dimension: the weight times a matrix whose columns are windows of the input."""

from typing import Any

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import widened_dtype

from .._tensor import Tensor, operand
from ..arguments import integer
from .define import composite, op, shown_whole
from .linalg import matmul_op
from .shape import pad, reshape, squeeze, swapaxes, unsqueeze

__all__ = ["conv1d"]


def _taps(length: int, size: int, stride: int, dilation: int) -> list[slice]:
    """For each of the `size` elements of a window, the slice of the input that it covers as the window moves."""
    last = length - dilation * (size - 1)
    return [slice(k * dilation, k * dilation + last, stride) for k in range(size)]


@op(x=lambda g, stride, dilation, x_shape, F: F.overlap_add(g, x_shape[-1], stride, dilation))
def windows(xp: Any, x: Array, size: int, stride: int, dilation: int) -> Array:
    """(C, N, L) to (C, size, N, L'): the elements of each of the L' windows."""
    return xp.stack([x[..., tap] for tap in _taps(x.shape[-1], size, stride, dilation)], axis=1)


@op(x=lambda g, stride, dilation, x_shape, F: F.windows(g, x_shape[1], stride, dilation))
def overlap_add(xp: Any, x: Array, length: int, stride: int, dilation: int) -> Array:
    """(C, size, N, L') to (C, N, length): adds each window at the place that `windows` took it from."""
    channels, size, batch, _ = x.shape
    out = xp.zeros((channels, batch, length), widened_dtype(x.dtype))
    for k, tap in enumerate(_taps(length, size, stride, dilation)):
        out[..., tap] += x[:, k]
    return out.astype(x.dtype, copy=False)


@composite
@shown_whole
def conv1d(
    x: Tensor,
    weight: Any,
    bias: Any = None,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
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
    weight = operand(weight, x.device)
    bias = None if bias is None else operand(bias, x.device)
    _check(x, weight, bias, stride, dilation, groups)
    filters, depth, size = weight.shape
    ends = padded_ends(padding, stride, dilation * (size - 1))
    if x.shape[-1] + sum(ends) <= dilation * (size - 1):
        raise ValueError(
            f"conv1d: a window of {size} elements {dilation} apart does not fit into x of shape {x.shape} "
            f"with {ends} zeros at its ends"
        )
    if x.ndim == 2:
        return squeeze(conv1d(unsqueeze(x, 0), weight, bias, stride, padding, dilation, groups), 0)
    if any(ends):
        x = pad(x, ends)
    batch = x.shape[0]
    taken = windows(swapaxes(x, 0, 1), size, stride, dilation)  # (C, K, N, L')
    steps = taken.shape[-1]
    columns = reshape(taken, (groups, depth * size, batch * steps))
    rows = reshape(weight, (groups, filters // groups, depth * size))
    out = reshape(matmul_op(rows, columns), (filters, batch, steps))
    if bias is not None:
        out = out + reshape(bias, (filters, 1, 1))
    return swapaxes(out, 0, 1)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, dilation: Any, groups: Any) -> None:
    for name, value in (("stride", stride), ("dilation", dilation), ("groups", groups)):
        if isinstance(value, float) or integer("conv1d", name, value) < 1:
            raise ValueError(f"conv1d: {name} is {value!r}; expected an integer of 1 or more")
    if x.ndim not in (2, 3) or weight.ndim != 3 or not weight.size:
        raise ValueError(
            f"conv1d: x of shape {x.shape} and weight of shape {weight.shape}; expected (N, C, L) or (C, L), "
            "and (O, C / groups, K), with nothing of length 0 in the weight"
        )
    channels, (filters, depth, _) = x.shape[-2], weight.shape
    if channels != depth * groups or filters % groups:
        raise ValueError(
            f"conv1d: x of shape {x.shape} and weight of shape {weight.shape} do not fit in {groups} groups; "
            "the weight takes x's channels divided by the groups, and has a multiple of the groups as filters"
        )
    if bias is not None and bias.shape != (filters,):
        raise ValueError(f"conv1d: bias of shape {bias.shape} must have shape {(filters,)}, one for each filter")


def padded_ends(padding: int | str, stride: int, overhang: int) -> tuple[int, int]:
    """The number of zeros before and after, for a window that reaches `overhang` elements beyond its first."""
    if padding == "valid":
        return 0, 0
    if padding == "same":
        if stride != 1:
            raise ValueError(f"conv1d: padding 'same' needs stride 1, got stride {stride}")
        return overhang // 2, overhang - overhang // 2
    expected = "an integer of 0 or more, 'valid' or 'same'"
    if isinstance(padding, str | float) or integer("conv1d", "padding", padding, expected) < 0:
        raise ValueError(f"conv1d: padding is {padding!r}; expected {expected}")
    return padding, padding
