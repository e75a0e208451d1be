"""Kernels in CUDA C++, one `.cu` file per family, and the Python code that launches them, which does not import CuPy.

`CudaKernels` uses only the methods of a device in `launching.LaunchedKernels`: it compiles and launches a kernel,
multiplies matrices, and returns an array's address. CuPy's device implements them, and so does the tests' own device,
which compiles the kernels for the host. Other steps over sequences have generated kernels (`generated.py`).
"""

from ..emit.schedule import Backward, Forward
from .generated import CudaSequence
from .gru import CudaGRUKernels
from .lstm import CudaLSTMKernels
from .rnn import CudaRNNKernels
from .training import CudaTrainingKernels

__all__ = ["CudaKernels"]


class CudaKernels(CudaLSTMKernels, CudaGRUKernels, CudaRNNKernels, CudaTrainingKernels):
    """The kernels of a CUDA device; see `Backend`."""

    def sequence(self, forward: Forward, backward: Backward | None) -> CudaSequence:
        return CudaSequence(forward, backward)
