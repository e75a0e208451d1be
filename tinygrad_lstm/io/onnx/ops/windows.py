"""Convolutions and pools in ONNX."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import FLOAT64, is_float, widened_dtype

from ....lengths import Length
from ....ops import convolution, pooling
from ....ops.convolution import PerDim, per_dim
from ....programs.program import Operand
from ..graph import Graph, Input
from .entries import Entry, fixed, writes


def _each(g: Graph, argument: str, value: Any, dims: int, least: int = 1) -> list[int]:
    return [fixed(g, number) for number in per_dim(g.call.name, argument, value, dims, least)]


def _batched(g: Graph, dims: int, x: Operand, given: list[Any], write: Callable[[list[Any]], str]) -> str:
    """What `write` writes of the operands, of which the first, x, gets a batch dimension if it has none."""
    given = [None if each is None else g.cast(each, g.call.result.dtype) for each in (x, *given)]
    if len(x.shape) == dims + 2:
        return write(given)
    given[0] = g.node("Unsqueeze", given[0], np.array([0]))
    return g.node("Squeeze", write(given), np.array([0]))


def _convolution(dims: int) -> Entry:
    def entry(
        g: Graph,
        x: Operand,
        weight: Operand,
        bias: Operand | None,
        stride: PerDim,
        padding: PerDim | str,
        dilation: PerDim,
        groups: int,
    ) -> str:
        sizes = [fixed(g, size) for size in weight.shape[2:]]
        strides, dilations = _each(g, "stride", stride, dims), _each(g, "dilation", dilation, dims)
        reaches = [d * (size - 1) for d, size in zip(dilations, sizes, strict=True)]
        ends = convolution.padded_ends(g.call.name, padding, tuple(strides), reaches)
        pads = [fixed(g, width) for side in zip(*ends, strict=True) for width in side]
        settings = {"strides": strides, "pads": pads, "dilations": dilations, "group": groups}
        return _batched(g, dims, x, [weight, bias], lambda given: g.node("Conv", *given, **settings))

    return entry


writes(convolution.conv1d)(_convolution(1))
writes(convolution.conv2d)(_convolution(2))


@writes(convolution.conv_transpose1d)
def _conv_transpose(
    g: Graph,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    stride: PerDim,
    padding: PerDim,
    output_padding: PerDim,
    groups: int,
    dilation: PerDim,
) -> str:
    settings = {
        "strides": _each(g, "stride", stride, 1),
        "pads": _each(g, "padding", padding, 1, 0) * 2,
        "output_padding": _each(g, "output_padding", output_padding, 1, 0),
        "dilations": _each(g, "dilation", dilation, 1),
        "group": groups,
    }
    return _batched(g, 1, x, [weight, bias], lambda given: g.node("ConvTranspose", *given, **settings))


# -- pools -------------------------------------------------------------------------------------------------------------


def _with_batch(g: Graph, dims: int, x: Operand, dtype: Any) -> Input:
    """x in a dtype, with a batch dimension."""
    cast = g.cast(x, dtype)
    return cast if len(x.shape) == dims + 2 else g.node("Unsqueeze", cast, np.array([0]))


def _as_given(g: Graph, dims: int, x: Operand, pooled: Input, given: Any, dtype: Any) -> str:
    """The result in its dtype, with a batch dimension only if x has one."""
    out = pooled if len(x.shape) == dims + 2 else g.node("Squeeze", pooled, np.array([0]))
    return g.name(g.cast(g.name(out), dtype, given))


def _max_of_windows(g: Graph, dims: int, x: Operand, return_indices: bool, **settings: Any) -> Any:
    """ONNX's MaxPool, which passes over NaNs. Its indices are places in the whole of x."""
    dtype = x.dtype if is_float(x.dtype) else FLOAT64
    given = _with_batch(g, dims, x, dtype)
    if not return_indices:
        return _as_given(g, dims, x, g.node("MaxPool", given, **settings), dtype, x.dtype)
    out, places = g.several(2, "MaxPool", given, **settings)
    sizes = g.node("Shape", given, start=2)
    places = g.node("Mod", places, g.node("ReduceProd", sizes, axes=[0], keepdims=0))
    return [_as_given(g, dims, x, out, dtype, x.dtype), _as_given(g, dims, x, places, np.int64, np.int64)]


def _max_pool(dims: int) -> Entry:
    def entry(
        g: Graph,
        x: Operand,
        kernel_size: PerDim,
        stride: PerDim | None,
        padding: PerDim,
        dilation: PerDim,
        ceil_mode: bool,
        return_indices: bool,
    ) -> Any:
        sizes, widths = _each(g, "kernel_size", kernel_size, dims), _each(g, "padding", padding, dims, 0)
        strides = _each(g, "stride", sizes if stride is None else stride, dims)
        dilations, ends = _each(g, "dilation", dilation, dims), widths
        if ceil_mode and _are_known(x, dims):
            ends = _ends(g, x, [d * (size - 1) + 1 for d, size in zip(dilations, sizes, strict=True)], strides, widths)
            ceil_mode = False
        pads = [*widths, *ends]
        settings = {"kernel_shape": sizes, "strides": strides, "pads": pads, "dilations": dilations}
        return _max_of_windows(g, dims, x, return_indices, **settings, ceil_mode=int(ceil_mode))

    return entry


def _are_known(x: Operand, dims: int) -> bool:
    return not any(isinstance(length, Length) for length in x.shape[-dims:])


def _ends(g: Graph, x: Operand, reaches: list[int], strides: list[int], widths: list[int]) -> list[int]:
    """The padding at the ends up to the last windows of `ceil_mode`, whose number ONNX's shape inference has wrong."""
    dims = len(strides)
    spans = [
        (fixed(g, number) - 1) * step + reach
        for number, step, reach in zip(g.call.results[0].shape[-dims:], strides, reaches, strict=True)
    ]
    lengths = [fixed(g, length) + width for length, width in zip(x.shape[-dims:], widths, strict=True)]
    return [max(span - length, width) for span, length, width in zip(spans, lengths, widths, strict=True)]


def _avg_pool(dims: int) -> Entry:
    def entry(
        g: Graph,
        x: Operand,
        kernel_size: PerDim,
        stride: PerDim | None,
        padding: PerDim,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None = None,
    ) -> str:
        sizes, widths = _each(g, "kernel_size", kernel_size, dims), _each(g, "padding", padding, dims, 0)
        dtype = x.dtype if is_float(x.dtype) else widened_dtype(x.dtype)
        given = _with_batch(g, dims, x, dtype)
        strides = _each(g, "stride", sizes if stride is None else stride, dims)
        settings: dict[str, Any] = {"kernel_shape": sizes, "strides": strides, "count_include_pad": 1}
        pads, factor = widths * 2, np.array(math.prod(sizes) / (divisor_override or math.prod(sizes)))
        if ceil_mode and (divisor_override is not None or _are_known(x, dims)):
            # AveragePool divides by fewer elements where a window reaches beyond the padding.
            ends = _ends(g, x, sizes, strides, widths)
            given = g.node("Pad", given, np.array([0, 0, *widths, 0, 0, *ends]))
            if divisor_override is None:
                windows = zip(x.shape[-dims:], g.call.result.shape[-dims:], sizes, strides, widths, strict=True)
                for length, number, size, step, width in windows:
                    window = pooling.Windows(size, step, width, 1, fixed(g, number))
                    factor = np.multiply.outer(
                        factor, size / window.elements_counted(fixed(g, length), count_include_pad)
                    )
            pads = [0] * len(pads)
        elif divisor_override is None:
            settings |= {"count_include_pad": int(count_include_pad), "ceil_mode": int(ceil_mode)}
        means = g.node("AveragePool", given, **settings, pads=pads)
        if not (factor == 1).all():
            means = g.node("Mul", means, factor.astype(dtype))
        return _as_given(g, dims, x, means, dtype, g.call.result.dtype)

    return entry


def _adaptive(g: Graph, dims: int, x: Operand, output_size: Any) -> tuple[list[int], list[int]] | None:
    """The number of windows along each dimension and the lengths; None if there is one window over all."""
    given = output_size if isinstance(output_size, list | tuple) else [output_size] * dims
    if all(size == 1 for size in given):
        return None
    lengths = [fixed(g, length) for length in x.shape[-dims:]]
    return [length if size is None else fixed(g, size) for size, length in zip(given, lengths, strict=True)], lengths


def _of_slices(g: Graph, kind: str, x: Input, lengths: list[int], sizes: list[int]) -> Input:
    """The reductions of slices, in one dimension after the other."""
    for dim, (length, size) in enumerate(zip(lengths, sizes, strict=True), 2):
        ends = [(np.array([part.start]), np.array([part.stop])) for part in pooling.adaptive_slices(length, size)]
        parts = [g.node("Slice", x, first, end, np.array([dim])) for first, end in ends]
        x = g.joined([g.node(kind, part, axes=[dim], keepdims=1) for part in parts], dim)
    return x


def _adaptive_avg(dims: int) -> Entry:
    def entry(g: Graph, x: Operand, output_size: Any) -> str:
        dtype, known = g.call.result.dtype, _adaptive(g, dims, x, output_size)
        given = _with_batch(g, dims, x, dtype)
        if known is None:
            return _as_given(g, dims, x, g.node("ReduceMean", given, axes=[*range(2, dims + 2)]), dtype, dtype)
        sizes, lengths = known
        return _as_given(g, dims, x, _of_slices(g, "ReduceMean", given, lengths, sizes), dtype, dtype)

    return entry


def _adaptive_max(dims: int) -> Entry:
    def entry(g: Graph, x: Operand, output_size: Any, return_indices: bool) -> Any:
        dtype, known = x.dtype if is_float(x.dtype) else FLOAT64, _adaptive(g, dims, x, output_size)
        if known is None and not return_indices:
            largest = g.node("ReduceMax", _with_batch(g, dims, x, dtype), axes=[*range(2, dims + 2)])
            return _as_given(g, dims, x, largest, dtype, x.dtype)
        sizes, lengths = known or ([1] * dims, [fixed(g, length) for length in x.shape[-dims:]])
        steps = [length // size for length, size in zip(lengths, sizes, strict=True)]
        if [step * size for step, size in zip(steps, sizes, strict=True)] == lengths:
            return _max_of_windows(g, dims, x, return_indices, kernel_shape=steps, strides=steps)
        if return_indices:
            raise ValueError(
                f"export_onnx: op {g.call.name!r} returns indices of windows of different lengths, and ONNX's MaxPool "
                f"does not; choose an output_size that divides the lengths {lengths}"
            )
        slices = _of_slices(g, "ReduceMax", _with_batch(g, dims, x, dtype), lengths, sizes)
        return _as_given(g, dims, x, slices, dtype, x.dtype)

    return entry


writes(pooling.max_pool1d)(_max_pool(1))
writes(pooling.max_pool2d)(_max_pool(2))
writes(pooling.avg_pool1d)(_avg_pool(1))
writes(pooling.avg_pool2d)(_avg_pool(2))
writes(pooling.adaptive_avg_pool1d)(_adaptive_avg(1))
writes(pooling.adaptive_avg_pool2d)(_adaptive_avg(2))
writes(pooling.adaptive_max_pool1d)(_adaptive_max(1))
writes(pooling.adaptive_max_pool2d)(_adaptive_max(2))
