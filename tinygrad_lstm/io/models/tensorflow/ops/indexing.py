"""Ops that take elements at indices, and sort."""

from typing import Any

import numpy as np

from ..... import ops
from ....._tensor import Tensor
from .....creation import arange, zeros
from ...rules import Ints, Value, tensors
from ...shared.indexing import gather
from ..rules import rule

__all__: list[str] = []


@rule("GatherV2")
def gather_along(params: Any, indices: Any, axis: Ints, *, batch_dims: int = 0) -> Any:
    if not batch_dims:
        return _taken(params, indices, axis[0])
    params, indices = tensors(params, indices)
    dim = axis[0] % params.ndim
    shape = params.shape
    batch = shape[:batch_dims]
    flat = indices.reshape((*batch, *(1,) * (dim - batch_dims), -1, *(1,) * (params.ndim - dim - 1)))
    number = flat.shape[dim]
    index = ops.broadcast_to(flat, (*shape[:dim], number, *shape[dim + 1 :]))
    taken = ops.take_along_dim(params, index, dim)
    return taken.reshape((*shape[:dim], *indices.shape[batch_dims:], *shape[dim + 1 :]))


@rule("Gather")
def gather_rows(params: Any, indices: Any) -> Any:
    return _taken(params, indices, 0)


def _taken(params: Any, indices: Any, axis: int) -> Any:
    if not isinstance(indices, Tensor):
        return gather(params, indices, axis=axis)
    params, indices = tensors(params, indices)
    dim = axis % params.ndim
    if params.ndim == 2 and dim == 0:
        return ops.embedding(indices, params)
    rows = ops.index_select(params, dim, indices.reshape(-1))
    return rows.reshape((*params.shape[:dim], *indices.shape, *params.shape[dim + 1 :]))


@rule("ResourceGather")
def gather_of_variable(params: Tensor, indices: Any, *, batch_dims: int = 0, dtype: Any = None) -> Any:
    return _taken(params, indices, 0)


@rule("GatherNd")
def gather_nd(params: Tensor, indices: Tensor) -> Tensor:
    return params[tuple(ops.unbind(indices, -1))]


@rule("ScatterNd")
def scatter_nd(indices: Tensor, updates: Tensor, shape: Ints) -> Tensor:
    target = zeros(*shape, dtype=updates.dtype, device=updates.device)
    return ops.index_put(target, tuple(ops.unbind(indices, -1)), updates, accumulate=True)


@rule("TensorScatterUpdate")
def tensor_scatter_update(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    return ops.index_put(x, tuple(ops.unbind(indices, -1)), updates)


@rule("TensorScatterAdd")
def tensor_scatter_add(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    return ops.index_put(x, tuple(ops.unbind(indices, -1)), updates, accumulate=True)


@rule("OneHot")
def one_hot(indices: Tensor, depth: Ints, on: Tensor, off: Tensor, *, axis: int = -1) -> Tensor:
    hot = ops.unsqueeze(indices, -1) == arange(depth[0], dtype=indices.dtype, device=indices.device)
    result = ops.where(hot, on, off)
    return result if axis == -1 else ops.movedim(result, -1, axis)


@rule("MatrixBandPart")
def matrix_band_part(x: Tensor, num_lower: Ints, num_upper: Ints) -> Tensor:
    """The elements near the diagonal; a negative number is for all on that side."""
    rows, columns = (arange(length, device=x.device) for length in x.shape[-2:])
    below = ops.unsqueeze(rows, 1) - columns
    for number, distance in ((num_lower[0], below), (num_upper[0], -below)):
        if number >= 0:
            x = ops.where(distance <= number, x, zeros(1, dtype=x.dtype, device=x.device))
    return x


@rule("TopKV2")
def top_k(x: Tensor, k: Ints) -> Any:
    values, indices = ops.topk(x, k[0], -1)
    return values, indices


@rule("ArgMax")
def arg_max(x: Tensor, dim: Ints, *, output_type: Any = None) -> Tensor:
    return ops.argmax(x, dim[0]) if output_type is None else ops.argmax(x, dim[0]).astype(output_type)


@rule("ArgMin")
def arg_min(x: Tensor, dim: Ints, *, output_type: Any = None) -> Tensor:
    return ops.argmin(x, dim[0]) if output_type is None else ops.argmin(x, dim[0]).astype(output_type)


@rule("Where")
def where(condition: Value) -> Any:
    if isinstance(condition, Tensor):
        return ops.nonzero(condition)
    return np.argwhere(condition)
