"""Kernels in CUDA C++, a `.cu` file a family, and what launches them; none of it imports CuPy.

`CudaKernels` is written against what a device does for it (`launching.LaunchedKernels`): it compiles and launches a
kernel, multiplies matrices, and says where an array lies. CuPy's device does; so does one of the tests' own, which
builds the kernels for the host.
"""

from .gru import CudaGRUKernels
from .lstm import CudaLSTMKernels
from .rnn import CudaRNNKernels
from .training import CudaTrainingKernels

__all__ = ["CudaKernels"]


class CudaKernels(CudaLSTMKernels, CudaGRUKernels, CudaRNNKernels, CudaTrainingKernels):
    """The kernels of a CUDA device: what `Backend` says of them."""
