"""Convolutions in ONNX."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ....ops import convolution
from ....ops.convolution import PerDim, per_dim
from ..graph import Graph
from ..program import Operand
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
