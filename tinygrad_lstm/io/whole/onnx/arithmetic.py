"""Elementwise ops.

Reference: https://onnx.ai/onnx/operators/
"""

from .... import ops
from ...._tensor import Tensor
from .rules import Value, rule, tensors

__all__: list[str] = []


@rule("Add", since=7)
def add(a: Value, b: Value) -> Value:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        a, b = tensors(a, b)
    return a + b


@rule("MatMul")
def matmul(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


@rule("Tanh")
def tanh(x: Tensor) -> Tensor:
    return ops.tanh(x)
