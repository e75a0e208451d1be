"""Matrix products.

Reference: https://onnx.ai/onnx/operators/
"""

from ..... import ops
from ....._tensor import Tensor
from ...rules import rule

__all__ = ["gemm"]


@rule("MatMul")
def matmul(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


@rule("Gemm", since=7)
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    a = a.mT if transA else a
    if transB and alpha == beta == 1 and (c is None or c.ndim == 1):
        return ops.linear(a, b, c)
    product = a @ (b.mT if transB else b)
    product = product if alpha == 1 else alpha * product
    return product if c is None else product + (c if beta == 1 else beta * c)


@rule("Einsum")
def einsum(*values: Tensor, equation: str) -> Tensor:
    return ops.einsum(equation, *values)
