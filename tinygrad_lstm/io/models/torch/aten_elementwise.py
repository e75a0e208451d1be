"""PyTorch's functions of elements, and products of matrices, that are made of several ops here.

Reference: PyTorch's `aten/src/ATen/native/native_functions.yaml`.
"""

import math
from collections.abc import Sequence
from typing import Any

from .... import creation, ops
from ...._tensor import Tensor
from ..shared.noise import alpha_dropout, kept
from .aten import aten

__all__: list[str] = []


# -- elements ----------------------------------------------------------------------------------------------------------


@aten("addcmul")
def addcmul(x: Tensor, a: Tensor, b: Tensor, value: float = 1) -> Tensor:
    return x + value * a * b


@aten("addcdiv")
def addcdiv(x: Tensor, a: Tensor, b: Tensor, value: float = 1) -> Tensor:
    return x + value * a / b


@aten("exp2")
def exp2(x: Tensor) -> Tensor:
    return ops.exp(x * math.log(2))


@aten("erfc")
def erfc(x: Tensor) -> Tensor:
    return 1 - ops.erf(x)


@aten("frac")
def frac(x: Tensor) -> Tensor:
    return x - ops.trunc(x)


@aten("logit")
def logit(x: Tensor, eps: float | None = None) -> Tensor:
    x = x if eps is None else ops.clamp(x, eps, 1 - eps)
    return ops.log(x / (1 - x))


@aten("xlogy")
def xlogy(x: Any, y: Tensor) -> Tensor:
    return ops.where(x == 0, 0.0, x * ops.log(ops.where(x == 0, 1.0, y)))


@aten("sinc")
def sinc(x: Tensor) -> Tensor:
    turns = ops.where(x == 0, 1.0, x) * math.pi
    return ops.where(x == 0, 1.0, ops.sin(turns) / turns)


@aten("deg2rad")
def deg2rad(x: Tensor) -> Tensor:
    return x * (math.pi / 180)


@aten("rad2deg")
def rad2deg(x: Tensor) -> Tensor:
    return x * (180 / math.pi)


@aten("float_power")
def float_power(x: Any, exponent: Any) -> Tensor:
    wide, power = (each.astype("float64") if isinstance(each, Tensor) else each for each in (x, exponent))
    return wide**power


@aten("copysign")
def copysign(x: Tensor, y: Any) -> Tensor:
    return ops.where(y < 0, -ops.abs(x), ops.abs(x))


@aten("heaviside")
def heaviside(x: Tensor, values: Tensor) -> Tensor:
    return ops.where(x == 0, values, (x > 0).astype(x.dtype))


# -- random in training ------------------------------------------------------------------------------------------------


@aten("rrelu")
def rrelu(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *others: Any) -> Tensor:
    if not training:
        return ops.leaky_relu(x, (lower + upper) / 2)
    slopes = lower + (upper - lower) * creation.rand(*x.shape, dtype=x.dtype, device=x.device)
    return ops.where(x < 0, x * slopes, x)


@aten("feature_dropout")
def channel_dropout(x: Tensor, p: float, train: bool, batched: int = 2) -> Tensor:
    """Drops whole channels: of (N, C, ...), or of (C, ...) if x has fewer than `batched` dimensions."""
    return x * kept(x, p, _of_channels(x, batched)) if train and p else x


@aten("alpha_dropout")
def elements_alpha_dropout(x: Tensor, p: float, train: bool) -> Tensor:
    return alpha_dropout(x, p, x.shape) if train and p else x


@aten("feature_alpha_dropout")
def channel_alpha_dropout(x: Tensor, p: float, train: bool) -> Tensor:
    return alpha_dropout(x, p, _of_channels(x)) if train and p else x


def _of_channels(x: Tensor, batched: int = 2) -> tuple[int, ...]:
    """The shape of one number for each channel of x."""
    channel = 1 if x.ndim >= batched else 0
    return (*x.shape[: channel + 1], *(1,) * (x.ndim - channel - 1))


# -- shapes ------------------------------------------------------------------------------------------------------------


@aten("broadcast_to")
def broadcast_to(x: Tensor, size: Sequence[int]) -> Tensor:
    return x.expand(*size)


@aten("broadcast_tensors")
def broadcast_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    zeros = [creation.zeros_like(x) for x in tensors]
    return [x + sum(zeros) for x in tensors]


@aten("meshgrid")
def meshgrid(tensors: Sequence[Tensor], indexing: str = "ij") -> list[Tensor]:
    lengths, n = [x.size for x in tensors], len(tensors)
    made = [x.reshape((-1, *(1,) * (n - 1 - k))).expand(*lengths) for k, x in enumerate(tensors)]
    return made if indexing == "ij" else [x.swapaxes(0, 1) for x in made]


@aten("hstack")
def hstack(tensors: Sequence[Tensor]) -> Tensor:
    return ops.cat(tensors, min(tensors[0].ndim - 1, 1))


@aten("vstack")
def vstack(tensors: Sequence[Tensor]) -> Tensor:
    return ops.cat([x.reshape((1, -1)) if x.ndim < 2 else x for x in tensors], 0)


@aten("column_stack")
def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    return ops.cat([x.reshape((-1, 1)) if x.ndim < 2 else x for x in tensors], 1)


@aten("diag_embed")
def diag_embed(x: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    n = x.shape[-1] + abs(offset)
    rows = creation.eye(n, dtype=x.dtype, device=x.device)[max(-offset, 0) : n - max(offset, 0)]
    columns = creation.eye(n, dtype=x.dtype, device=x.device)[max(offset, 0) : n - max(-offset, 0)]
    return ops.movedim(ops.einsum("...k,kr,kc->...rc", x, rows, columns), (-2, -1), (dim1, dim2))


# -- products and distances --------------------------------------------------------------------------------------------


@aten("addmv")
def addmv(x: Tensor, matrix: Tensor, vector: Tensor, beta: float = 1, alpha: float = 1) -> Tensor:
    return beta * x + alpha * (matrix @ vector)


@aten("vdot")
def vdot(x: Tensor, y: Tensor) -> Tensor:
    return ops.dot(x, y)


@aten("inner")
def inner(x: Tensor, y: Tensor) -> Tensor:
    return ops.tensordot(x, y, ((-1,), (-1,)))


@aten("tensordot")
def tensordot(x: Tensor, y: Tensor, dims_self: Sequence[int], dims_other: Sequence[int]) -> Tensor:
    return ops.tensordot(x, y, (tuple(dims_self), tuple(dims_other)))


@aten("linalg_vecdot")
def vecdot(x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    return ops.sum(x * y, dim)


@aten("linalg_multi_dot", "chain_matmul")
def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    first, *others = tensors
    for each in others:
        first = first @ each
    return first


@aten("cross", "linalg_cross")
def cross(x: Tensor, y: Tensor, dim: int | None = -1) -> Tensor:
    dim = x.shape.index(3) if dim is None else dim
    (a, b), (c, d) = ((ops.roll(each, -1, dim), ops.roll(each, 1, dim)) for each in (x, y))
    return a * d - b * c


@aten("bilinear")
def bilinear(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out = ops.einsum("...i,oij,...j->...o", x, weight, y)
    return out if bias is None else out + bias


@aten("cdist")
def cdist(x: Tensor, y: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    return ops.norm(ops.unsqueeze(x, -2) - ops.unsqueeze(y, -3), p, -1)


@aten("dist")
def dist(x: Tensor, y: Tensor, p: float = 2.0) -> Tensor:
    return ops.norm(x - y, p)


@aten("pairwise_distance")
def pairwise_distance(x: Tensor, y: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    return ops.norm(x - y + eps, p, -1, keepdim)
