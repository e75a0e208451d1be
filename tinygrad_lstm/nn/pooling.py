"""Pools: modules that call the ops of the same names."""

from collections.abc import Sequence
from typing import ClassVar

from .. import ops
from .op_module import OpModule

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "MaxPool1d",
    "MaxPool2d",
]

PerDim = int | Sequence[int]


class MaxPool1d(OpModule):
    """`max_pool1d` with these settings; returns a pair with `return_indices`."""

    function = staticmethod(ops.max_pool1d)
    settings = ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode")

    def __init__(
        self,
        kernel_size: PerDim,
        stride: PerDim | None = None,
        padding: PerDim = 0,
        dilation: PerDim = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode


class MaxPool2d(MaxPool1d):
    """`max_pool2d` with these settings; returns a pair with `return_indices`."""

    function = staticmethod(ops.max_pool2d)


class AvgPool1d(OpModule):
    """`avg_pool1d` with these settings."""

    function = staticmethod(ops.avg_pool1d)
    settings: ClassVar[tuple[str, ...]] = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

    def __init__(
        self,
        kernel_size: PerDim,
        stride: PerDim | None = None,
        padding: PerDim = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad


class AvgPool2d(AvgPool1d):
    """`avg_pool2d` with these settings."""

    function = staticmethod(ops.avg_pool2d)
    settings = (*AvgPool1d.settings, "divisor_override")

    def __init__(
        self,
        kernel_size: PerDim,
        stride: PerDim | None = None,
        padding: PerDim = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override


class AdaptiveAvgPool1d(OpModule):
    """`adaptive_avg_pool1d` with this length."""

    function = staticmethod(ops.adaptive_avg_pool1d)
    settings = ("output_size",)

    def __init__(self, output_size: int | Sequence[int | None]) -> None:
        self.output_size = output_size


class AdaptiveAvgPool2d(AdaptiveAvgPool1d):
    """`adaptive_avg_pool2d` with these lengths."""

    function = staticmethod(ops.adaptive_avg_pool2d)


class AdaptiveMaxPool1d(OpModule):
    """`adaptive_max_pool1d` with this length; returns a pair with `return_indices`."""

    function = staticmethod(ops.adaptive_max_pool1d)
    settings = ("output_size", "return_indices")

    def __init__(self, output_size: int | Sequence[int | None], return_indices: bool = False) -> None:
        self.output_size = output_size
        self.return_indices = return_indices


class AdaptiveMaxPool2d(AdaptiveMaxPool1d):
    """`adaptive_max_pool2d` with these lengths; returns a pair with `return_indices`."""

    function = staticmethod(ops.adaptive_max_pool2d)
