"""Convolutions. Their inputs are (B, ..., C), except with data_format="channels_first"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from .... import ops
from ...._tensor import Tensor
from ....nn import Conv1d, Conv2d, Module
from ..shared.windows import conv_transpose, same_padding
from .core import activated, parameter
from .functions import Function, activation_function
from .rules import Layer, PerDim, UnsupportedError, Weights, layer
from .shaping import padded

__all__ = ["kernel_outside_in", "padding_ends", "per_dim"]

_CONVS: dict[int, Callable[..., Module]] = {1: Conv1d, 2: Conv2d}


def per_dim(setting: PerDim, dims: int) -> tuple[int, ...]:
    """A setting for each dimension of time or space.

    Raises:
        ValueError: it is a list with a different number of integers.
    """
    sizes = (setting,) * dims if isinstance(setting, int) else tuple(setting)
    if len(sizes) != dims:
        raise ValueError(f"expected {'one integer' if dims == 1 else f'{dims} integers'}, got {sizes}")
    return sizes


def padding_ends(
    padding: str, lengths: Sequence[int], sizes: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """The numbers of zeros at the start and the end of each dimension; sizes are those of dilated windows.

    Raises:
        UnsupportedError: the padding is unknown.
    """
    ends = []
    for length, size, stride in zip(lengths, sizes, strides, strict=True):
        if padding == "same":
            ends.append(same_padding(length, size, stride))
        else:
            ends.append((size - 1, 0) if padding == "causal" else (0, 0))
    return ends


def _check(padding: str) -> None:
    if padding not in ("valid", "same", "causal"):
        raise UnsupportedError(f"the padding {padding!r}")


def _convolved(
    module: Module,
    x: Tensor,
    padding: str,
    sizes: tuple[int, ...],
    strides: tuple[int, ...],
    channels_first: bool,
    activation: Function,
) -> Tensor:
    """A convolution of a padded input, then the activation."""
    if not channels_first:
        x = x.movedim(-1, 1)
    ends = padding_ends(padding, x.shape[2:], sizes, strides)
    x = module(padded(x, ends, 2, always=padding == "same" and max(strides) > 1))
    return activation(x if channels_first else x.movedim(1, -1))


def _conv(weight: HostArray, bias: HostArray | None, groups: int, strides: PerDim = 1, dilation: PerDim = 1) -> Module:
    """The module of a weight (out, in / groups, *sizes)."""
    dims = weight.ndim - 2
    made = _CONVS[dims](
        weight.shape[1] * groups,
        weight.shape[0],
        weight.shape[2:],
        per_dim(strides, dims),
        0,
        per_dim(dilation, dims),
        groups,
        bias is not None,
    )
    made.weight = parameter(weight)
    if bias is not None:
        made.bias = parameter(bias)
    return made


def kernel_outside_in(kernel: HostArray) -> HostArray:
    """A kernel (*sizes, in, out) as (out, in, *sizes)."""
    return kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2))


def _of_depthwise(kernel: HostArray) -> HostArray:
    """A kernel (*sizes, in, multiplier) as (in · multiplier, 1, *sizes)."""
    *sizes, channels, multiplier = kernel.shape
    ordered = kernel.transpose(kernel.ndim - 2, kernel.ndim - 1, *range(kernel.ndim - 2))
    return ordered.reshape(channels * multiplier, 1, *sizes)


class Separable(Module):
    """A convolution of each channel, then one of single steps."""

    def __init__(self, depthwise: Module, pointwise: Module) -> None:
        self.depthwise = depthwise
        self.pointwise = pointwise

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


@layer("Conv1D", "Conv2D", "Convolution1D", "Convolution2D", weights=("kernel", "bias if use_bias"))
@layer("DepthwiseConv1D", "DepthwiseConv2D", weights=("depthwise_kernel|kernel", "bias if use_bias"))
@layer(
    *("SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D"),
    weights=("depthwise_kernel", "pointwise_kernel", "bias if use_bias"),
)
def conv(
    weights: Weights,
    *,
    kernel_size: PerDim,
    filters: int | None = None,
    strides: PerDim = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: PerDim = 1,
    groups: int = 1,
    depth_multiplier: int = 1,
    activation: Any = None,
    use_bias: bool = True,
    keras: int,
) -> Layer:
    _check(padding)
    kernel, bias = weights["kernel"] if "kernel" in weights else weights["depthwise_kernel"], weights.get("bias")
    dims, moves = kernel.ndim - 2, (strides, dilation_rate)
    if "kernel" in weights:
        module = _conv(kernel_outside_in(kernel), bias, groups, *moves)
    elif "pointwise_kernel" in weights:
        depthwise = _conv(_of_depthwise(kernel), None, kernel.shape[-2], *moves)
        module = Separable(depthwise, _conv(kernel_outside_in(weights["pointwise_kernel"]), bias, 1))
    else:
        module = _conv(_of_depthwise(kernel), bias, kernel.shape[-2], *moves)
    function = partial(
        _convolved,
        padding=padding,
        sizes=tuple(
            [(size - 1) * by + 1 for size, by in zip(kernel.shape, per_dim(dilation_rate, dims), strict=False)]
        ),
        strides=per_dim(strides, dims),
        channels_first=data_format == "channels_first",
        activation=activation_function(activation, keras),
    )
    return Layer(function, module)


class Transposed(Module):
    """A transposed convolution of inputs (B, C, ...), with the lengths that Keras has.

    Args:
        weight: (in, out, *sizes).
        bias: (out,); None for none.
        strides, dilation: for each dimension of time or space.
        padding: "valid" or "same".
        more: Keras's `output_padding`, for each dimension; None for the lengths that Keras has without it.
    """

    def __init__(
        self,
        weight: HostArray,
        bias: HostArray | None,
        strides: tuple[int, ...],
        dilation: tuple[int, ...],
        padding: str,
        more: tuple[int, ...] | None,
    ) -> None:
        self.weight = parameter(weight)
        self.bias = None if bias is None else parameter(bias)
        self.strides = strides
        self.dilation = dilation
        self.padding = padding
        self.more = more

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (B, out, ...)."""
        out = conv_transpose(x, self.weight, dilations=[*self.dilation], strides=[*self.strides])
        for dim in range(2, x.ndim):
            length = self._length(dim, x.shape[dim])
            beyond = out.shape[dim] - length
            if beyond > 0:
                out = out.narrow(dim, beyond // 2, length)
            elif beyond < 0:
                out = padded(out, [(0, -beyond)], dim)
        return out if self.bias is None else out + self.bias.reshape(-1, *[1] * (x.ndim - 2))

    def _length(self, dim: int, length: int) -> int:
        """The length of an output, given that of the input."""
        stride = self.strides[dim - 2]
        reach = (self.weight.shape[dim] - 1) * self.dilation[dim - 2] + 1
        if self.more is None:
            return length * stride + (0 if self.padding == "same" else max(reach - stride, 0))
        cut = 2 * (reach // 2) if self.padding == "same" else 0
        return (length - 1) * stride + reach - cut + self.more[dim - 2]


@layer(
    *("Conv1DTranspose", "Conv2DTranspose", "Convolution1DTranspose", "Convolution2DTranspose"),
    weights=("kernel", "bias if use_bias"),
)
def transposed(
    weights: Weights,
    *,
    filters: int,
    kernel_size: PerDim,
    strides: PerDim = 1,
    padding: str = "valid",
    output_padding: PerDim | None = None,
    data_format: str | None = None,
    dilation_rate: PerDim = 1,
    groups: int = 1,
    activation: Any = None,
    use_bias: bool = True,
    keras: int,
) -> Layer:
    if groups != 1 or padding not in ("valid", "same"):
        raise UnsupportedError(f"the padding {padding!r}, or groups")
    kernel = weights["kernel"]
    dims = kernel.ndim - 2
    module = Transposed(
        kernel_outside_in(kernel),
        weights.get("bias"),
        per_dim(strides, dims),
        per_dim(dilation_rate, dims),
        padding,
        None if output_padding is None else per_dim(output_padding, dims),
    )
    function = activation_function(activation, keras)
    return Layer(partial(_by_channels, channels_first=data_format == "channels_first", activation=function), module)


def _by_channels(module: Module, x: Tensor, channels_first: bool, activation: Function) -> Tensor:
    """A module of inputs (B, C, ...), then the activation."""
    x = module(x if channels_first else x.movedim(-1, 1))
    return activation(x if channels_first else x.movedim(1, -1))


class LocallyConnected(Module):
    """A convolution along time that has different weights for each output.

    Args:
        weight: (T', size · C, out).
        bias: (T', out); None for none.
        size: the number of steps in a window.
        stride: the number of steps from one window to the next.
    """

    def __init__(self, weight: HostArray, bias: HostArray | None, size: int, stride: int) -> None:
        self.weight = parameter(weight)
        self.bias = None if bias is None else parameter(bias)
        self.size = size
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (B, T', out) of inputs (B, T, C)."""
        number = self.weight.shape[0]
        windows = [x[:, k : k + (number - 1) * self.stride + 1 : self.stride] for k in range(self.size)]
        out = ops.einsum("btd,tdf->btf", ops.cat(windows, dim=-1), self.weight)
        return out if self.bias is None else out + self.bias


@layer("LocallyConnected1D", weights=("kernel", "bias if use_bias"))
def locally_connected(
    weights: Weights,
    *,
    filters: int,
    kernel_size: PerDim,
    strides: PerDim = 1,
    padding: str = "valid",
    data_format: str | None = None,
    activation: Any = None,
    use_bias: bool = True,
    implementation: int = 1,
    keras: int,
) -> Layer:
    if padding != "valid" or implementation != 1 or data_format == "channels_first":
        raise UnsupportedError("padding, implementation or data_format")
    (size,), (stride,) = per_dim(kernel_size, 1), per_dim(strides, 1)
    module = LocallyConnected(weights["kernel"], weights.get("bias"), size, stride)
    return Layer(partial(activated, activation=activation_function(activation, keras)), module)
