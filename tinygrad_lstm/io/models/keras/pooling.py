"""Pools. Their inputs are (B, ..., C), except with data_format="channels_first"."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .... import ops
from ...._tensor import Tensor
from ....creation import ones
from .convolution import padding_ends, per_dim
from .rules import Layer, PerDim, UnsupportedError, layer
from .shaping import padded

__all__: list[str] = []

_POOLS: dict[tuple[str, int], Callable[..., Any]] = {
    ("max", 1): ops.max_pool1d,
    ("max", 2): ops.max_pool2d,
    ("mean", 1): ops.avg_pool1d,
    ("mean", 2): ops.avg_pool2d,
}


def _register(kind: str, dims: int, *names: str) -> None:
    """Registers the rule of pools of a kind."""

    @layer(*names)
    def pool(
        *, pool_size: PerDim = 2, strides: PerDim | None = None, padding: str = "valid", data_format: str | None = None
    ) -> Layer:
        if padding not in ("valid", "same"):
            raise UnsupportedError(f"the padding {padding!r}")
        sizes = per_dim(pool_size, dims)
        function = partial(
            _pooled,
            kind=kind,
            sizes=sizes,
            strides=sizes if strides is None else per_dim(strides, dims),
            padding=padding,
            channels_first=data_format == "channels_first",
        )
        return Layer(function)


for _dims in (1, 2):
    _register("max", _dims, f"MaxPooling{_dims}D", f"MaxPool{_dims}D")
    _register("mean", _dims, f"AveragePooling{_dims}D", f"AvgPool{_dims}D")


def _pooled(
    x: Tensor, kind: str, sizes: tuple[int, ...], strides: tuple[int, ...], padding: str, channels_first: bool
) -> Tensor:
    """The largest numbers or the means of windows. Padding counts for neither."""
    if not channels_first:
        x = x.movedim(-1, 1)
    ends, pool, same = padding_ends(padding, x.shape[2:], sizes, strides), _POOLS[kind, len(sizes)], padding == "same"
    out: Tensor = pool(padded(x, ends, 2, float("-inf") if kind == "max" else 0.0, always=same), sizes, strides)
    if kind == "mean" and same:
        inside = ones(1, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
        out = out / pool(padded(inside, ends, 2, always=True), sizes, strides)
    return out if channels_first else out.movedim(1, -1)


@layer("GlobalMaxPooling1D", "GlobalMaxPool1D", "GlobalMaxPooling2D", "GlobalMaxPool2D")
def global_max_pooling(*, data_format: str | None = None, keepdims: bool = False) -> Layer:
    return Layer(partial(_largest, channels_first=data_format == "channels_first", keepdim=keepdims))


def _within(x: Tensor, channels_first: bool) -> tuple[int, ...]:
    """The dimensions of time or space."""
    return tuple(range(2, x.ndim) if channels_first else range(1, x.ndim - 1))


def _largest(x: Tensor, channels_first: bool, keepdim: bool) -> Tensor:
    return ops.amax(x, dim=_within(x, channels_first), keepdim=keepdim)


@layer("GlobalAveragePooling1D", "GlobalAvgPool1D")
def global_average_pooling_1d(*, data_format: str | None = None, keepdims: bool = False) -> Layer:
    function = partial(_mean, channels_first=data_format == "channels_first", keepdim=keepdims)
    return Layer(function, takes_mask=True)


@layer("GlobalAveragePooling2D", "GlobalAvgPool2D")
def global_average_pooling_2d(*, data_format: str | None = None, keepdims: bool = False) -> Layer:
    return Layer(partial(_mean, channels_first=data_format == "channels_first", keepdim=keepdims))


def _mean(x: Tensor, channels_first: bool, keepdim: bool, mask: Tensor | None = None) -> Tensor:
    dims = _within(x, channels_first)
    if mask is None:
        return ops.mean(x, dim=dims, keepdim=keepdim)
    counts = mask.astype(x.dtype).unsqueeze(1 if channels_first else -1)
    total, number = (ops.sum(each, dim=dims, keepdim=keepdim) for each in (x * counts, counts))
    return total / number


@layer("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D")
def adaptive_average_pooling(*, output_size: PerDim, data_format: str | None = None) -> Layer:
    function = partial(_adapted, kind="mean", size=output_size, channels_first=data_format == "channels_first")
    return Layer(function)


@layer("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D")
def adaptive_max_pooling(*, output_size: PerDim, data_format: str | None = None) -> Layer:
    function = partial(_adapted, kind="max", size=output_size, channels_first=data_format == "channels_first")
    return Layer(function)


_ADAPTIVE: dict[tuple[str, int], Callable[..., Any]] = {
    ("max", 1): ops.adaptive_max_pool1d,
    ("max", 2): ops.adaptive_max_pool2d,
    ("mean", 1): ops.adaptive_avg_pool1d,
    ("mean", 2): ops.adaptive_avg_pool2d,
}


def _adapted(x: Tensor, kind: str, size: PerDim, channels_first: bool) -> Tensor:
    if not channels_first:
        x = x.movedim(-1, 1)
    dims = x.ndim - 2
    sizes = per_dim(size, dims)
    out: Tensor = _ADAPTIVE[kind, dims](x, sizes if dims > 1 else sizes[0])
    return out if channels_first else out.movedim(1, -1)
