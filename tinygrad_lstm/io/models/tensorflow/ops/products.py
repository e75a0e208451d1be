"""Matrix products."""

from collections.abc import Callable
from typing import Any

from ..... import ops
from ....._tensor import Tensor
from ..rules import rule
from . import activations

__all__ = ["FUSED", "fused"]


@rule("MatMul")
def matmul(a: Tensor, b: Tensor, *, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    return (a.mT if transpose_a else a) @ (b.mT if transpose_b else b)


def _batch_matmul(x: Tensor, y: Tensor, *, adj_x: bool = False, adj_y: bool = False) -> Tensor:
    return (x.mT if adj_x else x) @ (y.mT if adj_y else y)


for _op in ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
    rule(_op)(_batch_matmul)


@rule("Einsum")
def einsum(*values: Tensor, equation: str) -> Tensor:
    return ops.einsum(equation, *values)


# -- products with what follows them, as optimizers of graphs join them ------------------------------------------------

FUSED: dict[str, Callable[..., Any]] = {
    "Relu": activations.relu,
    "Relu6": activations.relu6,
    "Elu": activations.elu,
    "Tanh": activations.tanh,
    "Sigmoid": activations.sigmoid,
    "LeakyRelu": activations.leaky_relu,
    "Prelu": activations.prelu,
}


def fused(x: Tensor, args: tuple[Tensor, ...], names: list[str], alpha: float) -> Tensor:
    """What follows a product: a bias, and an activation."""
    rest = list(args)
    for name in names:
        match name:
            case "BiasAdd":
                x = x + rest.pop(0)
            case "LeakyRelu":
                x = ops.leaky_relu(x, alpha)
            case "Prelu":
                x = activations.prelu(x, rest.pop(0))
            case _ if name in FUSED:
                x = FUSED[name](x)
            case _:
                raise ValueError(f"a fused op with {name}, which is not supported")
    return x


@rule("_FusedMatMul")
def fused_matmul(
    a: Tensor,
    b: Tensor,
    *args: Tensor,
    transpose_a: bool = False,
    transpose_b: bool = False,
    fused_ops: list[str],
    epsilon: float = 0.0,
    leakyrelu_alpha: float = 0.2,
) -> Tensor:
    return fused(matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b), args, fused_ops, leakyrelu_alpha)
