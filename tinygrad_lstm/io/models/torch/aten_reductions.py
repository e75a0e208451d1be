"""PyTorch's functions that reduce dimensions, or normalize along one.

Reference: PyTorch's `aten/src/ATen/native/native_functions.yaml`.
"""

from typing import Any

from .... import ops
from ...._tensor import Tensor
from .aten import aten, dims_of, dtype_of

__all__: list[str] = []


def _cast(x: Tensor, dtype: Any) -> Tensor:
    """x in a dtype, if one is given; a bool instead is the half_to_float of `_softmax`."""
    return x if dtype is None or isinstance(dtype, bool) else x.astype(dtype_of(dtype))


@aten("sum")
def sum_(x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    return ops.sum(_cast(x, dtype), dims_of(dim), keepdim)


@aten("mean")
def mean(x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    return ops.mean(_cast(x, dtype), dims_of(dim), keepdim)


@aten("amax")
def amax(x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    return ops.amax(x, dims_of(dim), keepdim)


@aten("amin")
def amin(x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    return ops.amin(x, dims_of(dim), keepdim)


def _spread(dim: Any, unbiased: Any, correction: Any) -> tuple[Any, Any]:
    """The dimensions and the correction of a variance. One overload has `unbiased` in place of the dimensions."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return dims_of(dim), int(bool(unbiased)) if correction is None else correction


@aten("var")
def var(x: Tensor, dim: Any = None, unbiased: Any = True, keepdim: bool = False, correction: Any = None) -> Tensor:
    return ops.var(x, *_spread(dim, unbiased, correction), keepdim)


@aten("std")
def std(x: Tensor, dim: Any = None, unbiased: Any = True, keepdim: bool = False, correction: Any = None) -> Tensor:
    return ops.std(x, *_spread(dim, unbiased, correction), keepdim)


@aten("var_mean")
def var_mean(
    x: Tensor, dim: Any = None, unbiased: Any = True, keepdim: bool = False, correction: Any = None
) -> tuple[Tensor, Tensor]:
    dims, freed = _spread(dim, unbiased, correction)
    return ops.var(x, dims, freed, keepdim), ops.mean(x, dims, keepdim)


@aten("std_mean")
def std_mean(
    x: Tensor, dim: Any = None, unbiased: Any = True, keepdim: bool = False, correction: Any = None
) -> tuple[Tensor, Tensor]:
    dims, freed = _spread(dim, unbiased, correction)
    return ops.std(x, dims, freed, keepdim), ops.mean(x, dims, keepdim)


@aten("prod")
def prod(x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    return ops.prod(_cast(x, dtype), dim, keepdim)


@aten("nansum")
def nansum(x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return sum_(ops.where(ops.isnan(x), 0.0, x), dim, keepdim, dtype)


@aten("nanmean")
def nanmean(x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return nansum(x, dim, keepdim, dtype) / sum_((~ops.isnan(x)).astype(x.dtype), dim, keepdim)


@aten("count_nonzero")
def count_nonzero(x: Tensor, dim: Any = None) -> Any:
    return sum_(x != 0, dim)


@aten("aminmax")
def aminmax(x: Tensor, dim: Any = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return ops.amin(x, dim, keepdim), ops.amax(x, dim, keepdim)


@aten("kthvalue")
def kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    found = ops.sort(x, dim)
    values, indices = (each.narrow(dim, k - 1, 1) for each in found)
    return (values, indices) if keepdim else (ops.squeeze(values, dim), ops.squeeze(indices, dim))


@aten("any")
def any_(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return ops.any(x, dims_of(dim), keepdim)


@aten("all")
def all_(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return ops.all(x, dims_of(dim), keepdim)


@aten("max")
def max_(x: Any, *others: Any) -> Any:
    return ops.max(x, *others) if isinstance(x, Tensor) else max(x, *others)


@aten("min")
def min_(x: Any, *others: Any) -> Any:
    return ops.min(x, *others) if isinstance(x, Tensor) else min(x, *others)


@aten("cumsum")
def cumsum(x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    return ops.cumsum(_cast(x, dtype), dim)


@aten("norm", "linalg_vector_norm")
def norm(x: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return ops.norm(_cast(x, dtype), 2 if p is None else p, dims_of(dim), keepdim)


@aten("frobenius_norm")
def frobenius_norm(x: Tensor, dim: Any = (), keepdim: bool = False) -> Any:
    return norm(x, 2, dim, keepdim)


@aten("linalg_norm")
def linalg_norm(x: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    dims = dims_of(dim)
    if ord is None or not (x.ndim == 2 if dims is None else isinstance(dims, tuple) and len(dims) == 2):
        return norm(x, ord, dims, keepdim, dtype)
    return matrix_norm(x, ord, (0, 1) if dims is None else dims, keepdim, dtype)


@aten("linalg_matrix_norm")
def matrix_norm(x: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, dtype: Any = None) -> Any:
    if ord != "fro":
        raise ValueError(f"linalg.norm: the norm {ord!r} of matrices is not supported; expected 'fro'")
    return norm(x, 2, dim, keepdim, dtype)


@aten("softmax", "_softmax")
def softmax(x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    return ops.softmax(_cast(x, dtype), dim)


@aten("log_softmax", "_log_softmax")
def log_softmax(x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    return ops.log_softmax(_cast(x, dtype), dim)
