"""Products, and the layers made of them, in ONNX."""

from collections.abc import Sequence

import numpy as np

from ....ops import convolution, linalg, normalization
from ....tracing.lengths import Size
from ..graph import Graph, Input
from ..program import Operand
from .entries import fixed, writes


@writes(linalg.matmul_op)
def _matmul(g: Graph, x: Input, y: Input) -> str:
    return g.node("MatMul", x, y)


@writes(linalg.linear_op)
def _affine(g: Graph, x: Input, weight: Input, bias: Input) -> str:
    """The weight is unchanged, under its name: a runtime transposes it once when it loads the graph."""
    product = g.node("MatMul", x, g.node("Transpose", weight, perm=[1, 0]))
    return product if bias is None else g.node("Add", product, bias)


@writes(linalg.einsum_op)
def _contraction(g: Graph, operands: Sequence[Operand], terms: Sequence[str], out_term: str) -> str:
    return g.node("Einsum", *operands, equation=f"{','.join(terms)}->{out_term}")


@writes(convolution.conv1d)
def _conv1d(
    g: Graph,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    stride: int,
    padding: int | str,
    dilation: int,
    groups: int,
) -> str:
    size, stride, padding, dilation = (fixed(g, each) for each in (weight.shape[2], stride, padding, dilation))
    ends = convolution.padded_ends(padding, stride, dilation * (size - 1))
    dtype, is_unbatched = g.call.result.dtype, len(x.shape) == 2
    given = [g.cast(each, dtype) if each is not None else None for each in (x, weight, bias)]
    if is_unbatched:
        given[0] = g.node("Unsqueeze", given[0], np.array([0]))
    out = g.node("Conv", *given, strides=[stride], pads=list(ends), dilations=[dilation], group=groups)
    return g.node("Squeeze", out, np.array([0])) if is_unbatched else out


@writes(normalization.layer_norm_op)
def _layer_norm(g: Graph, inputs: Sequence[Operand | None], lengths: Sequence[Size], eps: float) -> str:
    x, weight, bias = inputs
    scale = g.filled(np.ones(1, g.call.result.dtype), lengths) if weight is None else weight
    return g.node("LayerNormalization", x, scale, bias, axis=-len(lengths), epsilon=eps)
