"""A CUDA device without a GPU: the kernels of `backends/cuda` built for the host, over the strict device's arrays.

With `EMULATED.multiprocessors` blocks can wait for each other, and so stay for a whole sequence. `EMULATED.order` is
the order in which a block's threads run between barriers, as `HostKernels.launch` has it; results may not depend on it.
"""

from typing import Any

import numpy as np
from kernels_on_host import HostKernels, matrix_at
from strict_backend import StrictBackend

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.cuda.kernels import CudaKernels
from tinygrad_lstm.backends.cuda.launching import Kernel, Matrices, Multiply
from tinygrad_lstm.backends.cuda.precision import get_precision


def _rounded(matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A factor as a product takes it: float16 in float32, float32 in the precision that is set."""
    if matrix.dtype == np.float16:
        return matrix.astype(np.float32)
    if matrix.dtype == np.float32 and get_precision() == "float16":
        return matrix.astype(np.float16).astype(np.float32)
    if matrix.dtype == np.float32 and get_precision() == "tf32":  # to the nearest of those with 10 bits after the point
        return ((matrix.view(np.uint32) + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)
    return matrix


class EmulatedBackend(CudaKernels, StrictBackend):
    """The device.

    Attributes:
        launches: the names of the kernels that were launched.
        products: the number of products of matrices.
    """

    order = 0
    multiprocessors = 0
    shared_bytes = 64 * 1024

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[str] = []
        self.products = 0

    def compiled(self, text: str, name: str, options: tuple[str, ...], cooperative: bool) -> Kernel:
        kernels = HostKernels(text, options)

        def launch(blocks: Any, threads: Any, arguments: tuple[Any, ...], shared: int = 0) -> None:
            self.launches.append(name)
            kernels.launch(name, blocks, threads, arguments, shared, cooperative, self.order)

        return launch

    def multiplier(self, matrices: Matrices, accumulate: bool) -> Multiply:
        m, n, k, transposed, leading, dtype = matrices
        shapes = ((m, k), (k, n))

        def multiply(*addresses: int) -> None:
            self.products += 1
            x, y = (
                _rounded(matrix_at(address, shape, by_columns, lead, dtype))
                for address, shape, by_columns, lead in zip(addresses[:2], shapes, transposed, leading, strict=True)
            )
            out = matrix_at(addresses[2], (m, n), False, n, dtype)
            out[...] = out + x @ y if accumulate else x @ y

        return multiply

    def address(self, array: Array) -> int:
        place: int = array._host.ctypes.data
        return place


EMULATED = EmulatedBackend()
