"""Products, and the layers made of them, in ONNX."""

from collections.abc import Sequence

import numpy as np

from tinygrad_lstm.backends.dtypes import widened_dtype

from ....lengths import Size
from ....ops import linalg, normalization
from ....programs.program import Operand
from ..graph import Graph, Input
from .entries import writes


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


@writes(normalization.layer_norm_op)
def _layer_norm(g: Graph, inputs: Sequence[Operand | None], lengths: Sequence[Size], eps: float) -> str:
    x, weight, bias = inputs
    scale = g.filled(np.ones(1, g.call.result.dtype), lengths) if weight is None else weight
    return g.node("LayerNormalization", x, scale, bias, axis=-len(lengths), epsilon=eps)


@writes(normalization.affine_norm)
def _affine_norm(g: Graph, inputs: Sequence[Operand | None], dims: Sequence[int], eps: float) -> list[str]:
    x, weight, bias = inputs
    assert x is not None
    dtype = widened_dtype(x.dtype)
    x_wide = g.cast(x, dtype)
    means = g.node("ReduceMean", x_wide, axes=list(dims), keepdims=1)
    centred = g.node("Sub", x_wide, means)
    variances = g.node("ReduceMean", g.node("Mul", centred, centred), axes=list(dims), keepdims=1)
    out = g.node("Div", centred, g.node("Sqrt", g.node("Add", variances, g.number(eps, dtype))))
    out = out if weight is None else g.node("Mul", out, g.cast(weight, dtype))
    out = out if bias is None else g.node("Add", out, g.cast(bias, dtype))
    return [g.name(g.cast(out, x.dtype, dtype)), means, variances]


@writes(normalization.group_norm_op)
def _group_norm(g: Graph, inputs: Sequence[Operand | None], eps: float) -> str:
    x = inputs[0]
    assert x is not None
    out: str = _affine_norm(g, inputs, range(2, len(x.shape)), eps)[0]
    return out


@writes(normalization.with_statistics)
def _with_statistics(
    g: Graph,
    x: Operand,
    means: Operand,
    variances: Operand,
    weight: Operand | None,
    bias: Operand | None,
    eps: float,
) -> str:
    dtype = g.call.result.dtype
    affine = [
        g.filled(np.array([value], dtype), means.shape) if each is None else g.cast(each, dtype)
        for each, value in ((weight, 1), (bias, 0))
    ]
    given = (g.cast(x, dtype), *affine, g.cast(means, dtype), g.cast(variances, dtype))
    return g.node("BatchNormalization", *given, epsilon=eps)
