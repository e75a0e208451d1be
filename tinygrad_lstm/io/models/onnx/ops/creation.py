"""Ops that create tensors.

Reference: https://onnx.ai/onnx/operators/
"""

import math
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import BOOL, is_float

from ..... import ops
from ....._tensor import Tensor
from .....creation import arange, full, ones_like, rand, rand_like, randn, randn_like
from ...rules import MOST_ON_HOST, Value, is_known, rule

__all__: list[str] = []


@rule("ConstantOfShape")
def constant_of_shape(shape: Value, *, value: HostArray = np.zeros(1, np.float32)) -> Value:  # noqa: B008
    """A vector of integers whose length does not depend on the inputs is on the host."""
    lengths = shape.tolist()
    if is_known(shape) and not is_float(value.dtype) and len(lengths) <= 1 and sum(lengths) <= MOST_ON_HOST:
        return np.full(lengths, value.item(), value.dtype)
    return full(lengths, value.item(), value.dtype, shape.device if isinstance(shape, Tensor) else None)


@rule("Range")
def range_of(start: Value, limit: Value, delta: Value, *, stash_type: int = 1) -> Value:
    first, last, step = numbers = [each.item() for each in (start, limit, delta)]
    if isinstance(start, Tensor):
        if any(isinstance(each, Tensor) and each.requires_grad for each in (start, limit, delta)):
            count = max(math.ceil((last - first) / step), 0)
            return start + delta * arange(count, dtype=start.dtype, device=start.device)
        return arange(first, last, step, dtype=start.dtype, device=start.device)
    if not is_known(start, limit, delta):
        return arange(first, last, step)
    if all(type(each) is int for each in numbers) and len(range(*numbers)) <= MOST_ON_HOST:
        return np.arange(*numbers).astype(start.dtype)
    return arange(first, last, step, dtype=start.dtype)


@rule("EyeLike")
def eye_like(x: Tensor, *, dtype: np.dtype[Any] | None = None, k: int = 0) -> Tensor:
    rows, columns = (arange(length, device=x.device) for length in x.shape)
    return (ops.unsqueeze(rows, 1) + k == columns).astype(dtype or x.dtype)


# -- random numbers ----------------------------------------------------------------------------------------------------
# They come from the generator of `manual_seed`: a `seed` of the file is that of a different generator.


@rule("RandomNormal")
def random_normal(
    *,
    shape: list[int],
    dtype: np.dtype[Any] | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    return mean + scale * randn(*shape, dtype=dtype)


@rule("RandomUniform")
def random_uniform(
    *,
    shape: list[int],
    dtype: np.dtype[Any] | None = None,
    low: float = 0.0,
    high: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    return low + (high - low) * rand(*shape, dtype=dtype)


@rule("RandomNormalLike")
def random_normal_like(
    x: Tensor,
    *,
    dtype: np.dtype[Any] | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    return mean + scale * randn_like(x, dtype or x.dtype)


@rule("RandomUniformLike")
def random_uniform_like(
    x: Tensor,
    *,
    dtype: np.dtype[Any] | None = None,
    low: float = 0.0,
    high: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    return low + (high - low) * rand_like(x, dtype or x.dtype)


@rule("Bernoulli")
def bernoulli(x: Tensor, *, dtype: np.dtype[Any] | None = None, seed: float | None = None) -> Tensor:
    return ops.bernoulli(x).astype(dtype or x.dtype)


@rule("Multinomial", since=7)
def multinomial(
    x: Tensor, *, dtype: np.dtype[Any] | None = None, sample_size: int = 1, seed: float | None = None
) -> Tensor:
    return ops.multinomial(ops.softmax(x, -1), sample_size, replacement=True).astype(dtype or np.int32)


@rule("Dropout", since=7)
def dropout_of_training(x: Tensor, *, ratio: float = 0.5) -> Any:
    return dropout(x)


@rule("Dropout", since=12)
def dropout(x: Tensor, ratio: Any = None, training_mode: Any = None, *, seed: int | None = None) -> Any:
    if training_mode is None or not training_mode.item():
        return x, ones_like(x, BOOL)
    dropped = 0.5 if ratio is None else ratio.item()
    kept = rand_like(x) >= dropped
    return ops.where(kept, x / (1 - dropped), 0.0), kept
