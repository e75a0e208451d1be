"""Convolutions. Their inputs are (B, ..., C), except with data_format="channels_first"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from .... import ops
from ...._tensor import Tensor
from ....nn import Conv1d, Conv2d, ConvTranspose1d, Module
from ..padding import same_padding
from .core import parameter
from .functions import Function, activation_function
from .rules import Layer, UnsupportedError, Weights, layer
from .shaping import padded

__all__ = ["kernel_outside_in", "padding_ends", "per_dim"]

_CONVS: dict[int, Callable[..., Module]] = {1: Conv1d, 2: Conv2d}


def per_dim(setting: Any, dims: int) -> tuple[int, ...]:
    """A setting for each dimension of time or space."""
    return (setting,) * dims if isinstance(setting, int) else tuple(setting)


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
    x = module(padded(x, padding_ends(padding, x.shape[2:], sizes, strides), 2))
    return activation(x if channels_first else x.movedim(1, -1))


def _conv(weight: HostArray, bias: HostArray | None, groups: int, strides: Any = 1, dilation: Any = 1) -> Module:
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
    kernel_size: Any,
    filters: int | None = None,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
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


@layer("Conv1DTranspose", "Convolution1DTranspose", weights=("kernel", "bias if use_bias"))
def conv_transpose(
    weights: Weights,
    *,
    filters: int,
    kernel_size: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
    groups: int = 1,
    activation: Any = None,
    use_bias: bool = True,
    keras: int,
) -> Layer:
    if output_padding is not None or groups != 1 or padding not in ("valid", "same"):
        raise UnsupportedError(f"the padding {padding!r}, groups or output_padding")
    kernel, (stride,), (dilation,) = weights["kernel"], per_dim(strides, 1), per_dim(dilation_rate, 1)
    size, outputs, inputs = kernel.shape
    module = ConvTranspose1d(inputs, outputs, size, stride, bias=use_bias, dilation=dilation)
    module.weight = parameter(kernel.transpose(2, 1, 0))
    if use_bias:
        module.bias = parameter(weights["bias"])
    function = partial(
        _transposed,
        same=padding == "same",
        reach=(size - 1) * dilation + 1,
        channels_first=data_format == "channels_first",
        activation=activation_function(activation, keras),
    )
    return Layer(function, module)


def _transposed(
    module: ConvTranspose1d, x: Tensor, same: bool, reach: int, channels_first: bool, activation: Function
) -> Tensor:
    """A transposed convolution, cut or padded at the ends to the length that Keras has, then the activation."""
    if not channels_first:
        x = x.movedim(-1, 1)
    (stride,) = per_dim(module.stride, 1)
    length = x.shape[2] * stride + (0 if same else max(reach - stride, 0))
    out = ops.conv_transpose1d(x, module.weight, None, stride, dilation=module.dilation)
    beyond = out.shape[2] - length
    if beyond > 0:
        out = out[:, :, beyond // 2 : beyond // 2 + length]
    elif beyond < 0:
        out = padded(out, [(0, -beyond)], 2)
    if module.bias is not None:
        out = out + module.bias.unsqueeze(1)
    return activation(out if channels_first else out.movedim(1, -1))
