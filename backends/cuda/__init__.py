"""Kernels in CUDA C++, a `.cu` file a family, and what launches them; none of it imports CuPy.

`CudaKernels` is written against two things that a device does for it: `kernel`, which compiles a kernel and gives a
function that launches it, and `gemm`, a matrix product. CuPy's device has both; so has the tests', whose kernels are
built for the host.
"""

from .recurrent import CudaRecurrentKernels

__all__ = ["CudaKernels"]


class CudaKernels(CudaRecurrentKernels):
    """The kernels of a CUDA device: what `Backend` says of them."""
