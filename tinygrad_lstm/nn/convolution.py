"""Convolutions: modules that own the weights of the ops of the same names."""

import math
from collections.abc import Sequence

from .. import ops
from .._tensor import Tensor
from ..ops.convolution import padded_ends, per_dim
from .inputs import check_input
from .layers import check_positive, uniform_by_fan_in
from .module import Module

__all__ = ["Conv1d", "Conv2d", "ConvTranspose1d"]

PerDim = int | Sequence[int]


class _Conv(Module):
    """The settings and parameters of a convolution in `_dims` dimensions."""

    _dims = 1
    _transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerDim,
        stride: PerDim = 1,
        padding: PerDim | str = 0,
        dilation: PerDim = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        name = type(self).__name__
        check_positive(name, in_channels=in_channels, out_channels=out_channels, groups=groups)
        sizes, strides, _ = (
            per_dim(name, what, value, self._dims)
            for what, value in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation))
        )
        padded_ends(name, padding, strides, [0] * self._dims)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        first, second = (in_channels, out_channels) if self._transposed else (out_channels, in_channels)
        fan_in = second // groups * math.prod(sizes)
        self.weight = uniform_by_fan_in(first, second // groups, *sizes, fan_in=fan_in)
        self.bias = uniform_by_fan_in(out_channels, fan_in=fan_in) if bias else None

    def extra_repr(self) -> str:
        settings = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}
        changed = [
            f"{name}={getattr(self, name)}" for name, usual in settings.items() if getattr(self, name, usual) != usual
        ]
        changed += [] if self.bias is not None else ["bias=False"]
        return ", ".join([f"{self.in_channels}, {self.out_channels}, {self.kernel_size}", *changed])


class Conv1d(_Conv):
    """A convolution over the last dimension: (B, in_channels, L) to (B, out_channels, L').

    L' = (L + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1. Padding "valid" is 0, "same" keeps L.
    Parameters: `weight` (out_channels, in_channels / groups, kernel_size) and `bias` (out_channels,), uniform within
    ±1/√(in_channels / groups · kernel_size).

    Raises:
        TypeError: a setting is not an integer.
        ValueError: a length is below 1 (padding: 0); `padding` is a different string, or "same" with a stride above 1;
            `groups` does not divide both numbers of channels.
    """

    def forward(self, x: Tensor) -> Tensor:
        check_input("Conv1d", "x", x, self.weight)
        return ops.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv2d(_Conv):
    """A convolution over the last two dimensions: (B, in_channels, H, W) to (B, out_channels, H', W').

    Settings are an integer for both dimensions or a pair. Parameters: `weight` (out_channels, in_channels / groups,
    *kernel_size) and `bias` (out_channels,), initialized as those of `Conv1d`.

    Raises:
        TypeError, ValueError: as for `Conv1d`.
    """

    _dims = 2

    def forward(self, x: Tensor) -> Tensor:
        check_input("Conv2d", "x", x, self.weight)
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose1d(_Conv):
    """The transpose of a convolution over the last dimension: (B, in_channels, L) to (B, out_channels, L').

    L' = (L - 1) stride - 2 padding + dilation (kernel_size - 1) + output_padding + 1. Parameters: `weight`
    (in_channels, out_channels / groups, kernel_size) and `bias` (out_channels,), uniform within
    ±1/√(out_channels / groups · kernel_size), as in PyTorch.

    Raises:
        TypeError, ValueError: as for `Conv1d`; `padding` is a string.
    """

    _transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerDim,
        stride: PerDim = 1,
        padding: PerDim = 0,
        output_padding: PerDim = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: PerDim = 1,
    ) -> None:
        per_dim("ConvTranspose1d", "padding", padding, 1, 0)
        per_dim("ConvTranspose1d", "output_padding", output_padding, 1, 0)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.output_padding = output_padding

    def forward(self, x: Tensor) -> Tensor:
        check_input("ConvTranspose1d", "x", x, self.weight)
        assert not isinstance(self.padding, str)
        settings = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return ops.conv_transpose1d(x, self.weight, self.bias, *settings)
