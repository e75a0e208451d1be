"""Ops that read, compute and change shapes.

Reference: https://onnx.ai/onnx/operators/
"""

from ....ops import permute
from .rules import Ints, Value, host_ints, rule

__all__: list[str] = []


@rule("Shape")
def shape(data: Value, *, start: int = 0, end: int | None = None) -> Value:
    return host_ints(list(data.shape)[start:end])


@rule("Transpose")
def transpose(data: Value, *, perm: list[int] | None = None) -> Value:
    order = list(perm) if perm is not None else list(range(data.ndim))[::-1]
    return data.transpose(order) if not hasattr(data, "requires_grad") else permute(data, order)


@rule("Identity")
def identity(data: Value) -> Value:
    return data


@rule("Reshape", since=5)
def reshape(data: Value, shape: Ints, *, allowzero: int = 0) -> Value:
    if not allowzero:
        shape = [length if length != 0 else data.shape[dim] for dim, length in enumerate(shape)]
    return data.reshape(tuple(shape))
