"""Ops that create tensors.

Reference: https://onnx.ai/onnx/operators/
"""

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ....._tensor import Tensor
from .....creation import arange, full
from ..rules import MOST_ON_HOST, Ints, Value, host_ints, rule

__all__: list[str] = []


@rule("ConstantOfShape")
def constant_of_shape(shape: Ints, *, value: HostArray = np.zeros(1, np.float32)) -> Value:  # noqa: B008
    if not is_float(value.dtype) and len(shape) <= 1 and sum(shape) <= MOST_ON_HOST:
        return np.full(tuple(shape), value.item())
    return full(shape, value.item(), value.dtype)


@rule("Range")
def range_of(start: Value, limit: Value, delta: Value) -> Value:
    first, last, step = (each.item() for each in (start, limit, delta))
    if isinstance(start, Tensor):
        return arange(first, last, step, dtype=start.dtype, device=start.device)
    if isinstance(first, int) and len(range(first, last, step)) <= MOST_ON_HOST:
        return host_ints(list(range(first, last, step)))
    return arange(first, last, step)
