"""Convolutions, and padding.

Reference: https://onnx.ai/onnx/operators/
"""

from collections.abc import Sequence

from ..... import ops
from ....._tensor import Tensor
from ..rules import Ints, rule

__all__ = ["pad_dims", "widths_of"]

# -- padding -----------------------------------------------------------------------------------------------------------

MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def pad_dims(x: Tensor, widths: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pads the last dimensions, by the widths before and after each."""
    if all(before == after == 0 for before, after in widths):
        return x
    return ops.pad(x, [width for pair in reversed(widths) for width in pair], mode, value)


@rule("Pad", since=2)
def pad_by(x: Tensor, *, pads: list[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    return pad_dims(x, list(zip(pads[: x.ndim], pads[x.ndim :], strict=True)), MODES[mode], value)


@rule("Pad", since=11)
def pad(
    x: Tensor, pads: Ints, value: Tensor | None = None, axes: Ints | None = None, *, mode: str = "constant"
) -> Tensor:
    widths: list[tuple[int, int]] = [(0, 0)] * x.ndim
    for dim, before, after in zip(axes or range(x.ndim), pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        widths[dim] = (before, after)
    return pad_dims(x, widths, MODES[mode], 0 if value is None else value.item())


# -- windows -----------------------------------------------------------------------------------------------------------


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
    widths = []
    for length, size, stride, dilation in zip(lengths, kernel, strides, dilations, strict=True):
        needed = -(-length // stride) * stride - stride + dilation * (size - 1) + 1 - length
        total = max(needed, 0)
        widths.append(
            (total // 2, total - total // 2) if auto_pad == "SAME_UPPER" else (total - total // 2, total // 2)
        )
    return widths


# -- convolutions ------------------------------------------------------------------------------------------------------


@rule("Conv")
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
    kernel = weight.shape[2:]
    dilations, strides = dilations or [1] * len(kernel), strides or [1] * len(kernel)
    widths = widths_of(x.shape[2:], kernel, strides, dilations, pads, auto_pad)
    if len(kernel) == 3:
        return _conv3d(pad_dims(x, widths), weight, bias, strides, dilations, group)
    convolution = {1: ops.conv1d, 2: ops.conv2d}[len(kernel)]
    if all(before == after for before, after in widths):
        return convolution(x, weight, bias, strides, [before for before, _ in widths], dilations, group)
    return convolution(pad_dims(x, widths), weight, bias, strides, 0, dilations, group)


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
