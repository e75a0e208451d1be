"""Padding and convolutions; settings have ONNX's names and meaning."""

import itertools
from collections.abc import Sequence

from .... import ops
from ...._tensor import Tensor
from ..rules import Ints

__all__ = ["col2im", "conv", "conv_transpose", "pad_dims", "same_padding", "spaced", "varies", "widths_of"]


def pad_dims(
    x: Tensor, widths: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0, always: bool = False
) -> Tensor:
    """Pads the last dimensions, by the widths before and after each.

    Args:
        mode, value: as for `tg.pad`.
        always: whether there is an op for it even if all widths are 0. If they depend on the lengths of the inputs, a
            model must apply the same ops for all lengths to be recorded.
    """
    if not always and all(before == after == 0 for before, after in widths):
        return x
    return ops.pad(x, [width for pair in reversed(widths) for width in pair], mode, value)


def varies(auto_pad: str, strides: Sequence[int]) -> bool:
    """Whether the padding depends on the lengths of the inputs."""
    return auto_pad.startswith("SAME") and max(strides) > 1


def same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """The zeros before and after a dimension with which windows of this size return length / stride, rounded up.

    Of an odd number of zeros there is one more after it.
    """
    total = (-(-length // stride) - 1) * stride + size - length
    if size < stride:  # it may be negative; this is max(total, 0) without a branch that depends on the length
        total = total * (1 + total // stride)
    return total // 2, total - total // 2


def widths_of(
    lengths: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int] | None,
    auto_pad: str,
) -> list[tuple[int, int]]:
    """The widths by which the inputs of windows are padded before and after each dimension."""
    if auto_pad == "NOTSET":
        pads = pads or [0] * 2 * len(kernel)
        return list(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True))
    if auto_pad == "VALID":
        return [(0, 0)] * len(kernel)
    widths = [
        same_padding(length, dilation * (size - 1) + 1, stride)
        for length, size, stride, dilation in zip(lengths, kernel, strides, dilations, strict=True)
    ]
    return widths if auto_pad == "SAME_UPPER" else [(before, after) for after, before in widths]


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """The convolution of x (N, C, ...), of one to three dimensions, with a weight (out, C / group, ...)."""
    kernel = weight.shape[2:]
    dilations, strides = dilations or [1] * len(kernel), strides or [1] * len(kernel)
    widths = widths_of(x.shape[2:], kernel, strides, dilations, pads, auto_pad)
    always = varies(auto_pad, strides)
    if len(kernel) == 3:
        return _conv3d(pad_dims(x, widths, always=always), weight, bias, strides, dilations, group)
    convolution = {1: ops.conv1d, 2: ops.conv2d}[len(kernel)]
    if not always and all(before == after for before, after in widths):
        return convolution(x, weight, bias, strides, [before for before, _ in widths], dilations, group)
    return convolution(pad_dims(x, widths, always=always), weight, bias, strides, 0, dilations, group)


def _conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, strides: list[int], dilations: list[int], group: int
) -> Tensor:
    """The sum of two-dimensional convolutions, one for each position in the first dimension of the kernel."""
    stride, dilation, size = strides[0], dilations[0], weight.shape[2]
    count = (x.shape[2] - dilation * (size - 1) - 1) // stride + 1
    total = None
    for k in range(size):
        planes = x[:, :, k * dilation : k * dilation + (count - 1) * stride + 1 : stride]
        flat = planes.swapaxes(1, 2).reshape((-1, x.shape[1], *x.shape[3:]))
        part = ops.conv2d(flat, weight[:, :, k], None, strides[1:], 0, dilations[1:], group)
        total = part if total is None else total + part
    assert total is not None
    y = total.reshape((x.shape[0], count, *total.shape[1:])).swapaxes(1, 2)
    return y if bias is None else y + bias.reshape((-1, 1, 1, 1))


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    output_padding: list[int] | None = None,
    output_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """The convolution of x, with zeros between its elements, with the kernel reversed."""
    lengths, kernel = x.shape[2:], weight.shape[2:]
    n = len(kernel)
    dilations, strides, more = dilations or [1] * n, strides or [1] * n, output_padding or [0] * n
    reach = [dilation * (size - 1) for dilation, size in zip(dilations, kernel, strict=True)]
    whole = [(length - 1) * stride + 1 + r for length, stride, r in zip(lengths, strides, reach, strict=True)]
    if output_shape is None and auto_pad.startswith("SAME"):
        output_shape = [length * stride for length, stride in zip(lengths, strides, strict=True)]
    if output_shape is not None:
        surplus = [w + m - length for w, m, length in zip(whole, more, output_shape[-n:], strict=True)]
        cuts = [(s - s // 2, s // 2) if auto_pad != "SAME_UPPER" else (s // 2, s - s // 2) for s in surplus]
    else:
        cuts = widths_of(lengths, kernel, strides, dilations, pads, auto_pad)
    if n == 1 and cuts[0][0] == cuts[0][1] >= 0:
        return ops.conv_transpose1d(x, weight, bias, strides, cuts[0][0], more, group, dilations)
    reversed_weight = ops.flip(weight, tuple(range(2, n + 2)))
    by_group = reversed_weight.reshape((group, -1, *reversed_weight.shape[1:])).swapaxes(1, 2)
    widths = [(r - before, r - after + m) for r, m, (before, after) in zip(reach, more, cuts, strict=True)]
    return conv(
        pad_dims(spaced(x, strides), widths),
        by_group.reshape((-1, *by_group.shape[2:])),
        bias,
        dilations=dilations,
        group=group,
    )


def spaced(x: Tensor, strides: Sequence[int]) -> Tensor:
    """x with zeros between its elements, along the last dimensions."""
    for dim, stride in enumerate(strides, x.ndim - len(strides)):
        if stride > 1:
            apart = ops.pad(ops.unsqueeze(x, dim + 1), [0, 0] * (x.ndim - 1 - dim) + [0, stride - 1])
            spaced = apart.reshape((*x.shape[:dim], x.shape[dim] * stride, *x.shape[dim + 1 :]))
            x = spaced[(*(slice(None),) * dim, slice(0, (x.shape[dim] - 1) * stride + 1))]
    return x


def col2im(
    x: Tensor,
    image_shape: Ints,
    block_shape: Ints,
    *,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Adds blocks at the places of their windows."""
    n = len(block_shape)
    dilations, strides, pads = dilations or [1] * n, strides or [1] * n, pads or [0] * 2 * n
    sizes = [length + pads[d] + pads[n + d] for d, length in enumerate(image_shape)]
    counts = [
        (size - dilation * (block - 1) - 1) // stride + 1
        for size, dilation, block, stride in zip(sizes, dilations, block_shape, strides, strict=True)
    ]
    blocks = x.reshape((x.shape[0], -1, *block_shape, *counts))
    image: Tensor | None = None
    for place in itertools.product(*map(range, block_shape)):
        spread = spaced(blocks[(slice(None), slice(None), *place)], strides)
        first = [k * dilation for k, dilation in zip(place, dilations, strict=True)]
        widths = [
            (start - pads[d], sizes[d] - start - spread.shape[2 + d] - pads[n + d]) for d, start in enumerate(first)
        ]
        part = pad_dims(spread, widths)
        image = part if image is None else image + part
    assert image is not None
    return image
