"""Pools: modules that call the ops of the same names."""

from collections.abc import Sequence
from typing import Any

from .. import ops
from .._tensor import Tensor
from .inputs import check_input
from .module import Module

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


class _Pool(Module):
    """Settings, and the op that takes them."""

    _op: Any

    def _set(self, **settings: Any) -> None:
        self._names = tuple(settings)
        for name, value in settings.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Any:
        check_input(type(self).__name__, "x", x, None)
        return type(self)._op(x, **{name: getattr(self, name) for name in self._names})

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self._names)


class MaxPool1d(_Pool):
    """`max_pool1d` with these settings; returns a pair with `return_indices`."""

    _op = staticmethod(ops.max_pool1d)

    def __init__(
        self,
        kernel_size: PerDim,
        stride: PerDim | None = None,
        padding: PerDim = 0,
        dilation: PerDim = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self._set(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            return_indices=return_indices,
            ceil_mode=ceil_mode,
        )


class MaxPool2d(MaxPool1d):
    """`max_pool2d` with these settings; returns a pair with `return_indices`."""

    _op = staticmethod(ops.max_pool2d)


class AvgPool1d(_Pool):
    """`avg_pool1d` with these settings."""

    _op = staticmethod(ops.avg_pool1d)

    def __init__(
        self,
        kernel_size: PerDim,
        stride: PerDim | None = None,
        padding: PerDim = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self._set(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )


class AvgPool2d(AvgPool1d):
    """`avg_pool2d` with these settings."""

    _op = staticmethod(ops.avg_pool2d)

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
        self._names = (*self._names, "divisor_override")


class AdaptiveAvgPool1d(_Pool):
    """`adaptive_avg_pool1d` with this length."""

    _op = staticmethod(ops.adaptive_avg_pool1d)

    def __init__(self, output_size: int | Sequence[int | None]) -> None:
        self._set(output_size=output_size)


class AdaptiveAvgPool2d(AdaptiveAvgPool1d):
    """`adaptive_avg_pool2d` with these lengths."""

    _op = staticmethod(ops.adaptive_avg_pool2d)


class AdaptiveMaxPool1d(_Pool):
    """`adaptive_max_pool1d` with this length; returns a pair with `return_indices`."""

    _op = staticmethod(ops.adaptive_max_pool1d)

    def __init__(self, output_size: int | Sequence[int | None], return_indices: bool = False) -> None:
        self._set(output_size=output_size, return_indices=return_indices)


class AdaptiveMaxPool2d(AdaptiveMaxPool1d):
    """`adaptive_max_pool2d` with these lengths; returns a pair with `return_indices`."""

    _op = staticmethod(ops.adaptive_max_pool2d)
