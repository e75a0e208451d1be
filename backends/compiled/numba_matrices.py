"""Products of two matrices by numba, with the kernel and the threads of the recurrent layers."""

from typing import Any

from .. import memory
from ..base import HostArray
from .atomics import outlined
from .jit import contiguous, jit
from .product import empty_edge, pack, pack_transposed, panels_shape, product
from .team import share, team, worthwhile_threads

__all__ = ["matmul"]

_DEEP = 1024  # terms that are summed at a time: this part of a panel stays in a core's second-level cache


@jit
def _product_rows(first: int, last: int, x: Any, panels: Any, out: Any) -> None:
    """The rows [first, last) of the result of `_matmul`."""
    depth, edge = x.shape[2], empty_edge(out)
    for begin in range(0, depth, _DEEP):
        end = min(begin + _DEEP, depth)
        product(out[:, first:last], x[:, first:last, begin:end], panels[:, begin:end], edge, begin > 0)


_product_part = outlined(_product_rows)


@jit
def _matmul(members: Any, x: Any, y: Any, panels: Any, transposed: bool, out: Any) -> None:
    """out (1, M, N) = x·y, or x·yᵀ if transposed, for x (1, M, K); the panels are a buffer for the second factor."""
    if transposed:
        pack_transposed(members, y, panels)
    else:
        pack(members, y, panels)
    share(members, x.shape[1], _product_part((x, panels, out)))


def matmul(x: HostArray, y: HostArray) -> HostArray:
    """The product of non-empty matrices (M, K) and (K, N) of one dtype."""
    (M, K), N = x.shape, y.shape[1]
    x = x if all(stride % x.itemsize == 0 for stride in x.strides) else x.copy()  # a field of a record may differ
    transposed = not y.flags.c_contiguous and y.T.flags.c_contiguous
    second = contiguous(y.T if transposed else y)
    out = memory.empty((M, N), x.dtype)
    panels = memory.empty(panels_shape(K, N, x.itemsize), x.dtype)
    with team(worthwhile_threads(2.0 * M * K * N)) as members:
        _matmul(members, x[None], second, panels, transposed, out[None])
    return out
