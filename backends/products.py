"""Matrix products of NumPy arrays, also if NumPy was built without a BLAS, as for WebAssembly."""

from collections.abc import Callable

import numpy as np

from .base import HostArray
from .threads import blas_library

__all__ = ["matmul"]


def _without_blas(x: HostArray, y: HostArray, out: HostArray | None = None) -> HostArray:
    """`np.matmul` of arrays of two or more dimensions. Without a BLAS, it takes up to 20 times as long as this."""
    result: HostArray = np.einsum("...ij,...jk->...ik", x, y, out=out)
    return result


matmul: Callable[..., HostArray] = np.matmul if blas_library() != "none" else _without_blas
