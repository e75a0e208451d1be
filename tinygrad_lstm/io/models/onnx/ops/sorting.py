"""Ops that order elements.

Reference: https://onnx.ai/onnx/operators/
"""

from typing import Any

import numpy as np

from ..... import ops
from ....._tensor import Tensor
from ...rules import Ints, rule

__all__: list[str] = []


@rule("TopK", since=10)
def top_k(x: Tensor, k: Ints, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> Any:
    return ops.topk(x, k[0], axis, bool(largest), bool(sorted))


@rule("TopK")
def top_k_of(x: Tensor, *, axis: int = -1, k: int) -> Any:
    return ops.topk(x, k, axis)


@rule("Unique")
def unique(x: Tensor, *, axis: int | None = None, sorted: int = 1) -> Any:
    x = x.reshape(-1) if axis is None else x
    dim = axis or 0
    _, first, inverse, counts = np.unique(
        x.detach().cpu().numpy(), return_index=True, return_inverse=True, return_counts=True, axis=dim
    )
    inverse = inverse.reshape(-1)
    if not sorted:  # in the order in which they appear
        order = np.argsort(first)
        first, counts, inverse = first[order], counts[order], np.argsort(order)[inverse]
    return np.take(x, first, dim), first, inverse, counts
