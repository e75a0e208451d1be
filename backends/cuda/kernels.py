"""The kernels of a CUDA device.

`CudaKernels` uses only the methods of a device in `launching.LaunchedKernels`: it compiles and launches a kernel,
multiplies matrices, and returns an array's address. CuPy's device implements them, and so does the tests' own device,
which compiles the kernels for the host. Steps over sequences have generated kernels (`generated.py`), except the plain
LSTM (`lstm.py`).
"""

from ..emit.schedule import Backward, Forward
from .generated import CudaSequence
from .lstm import PersistentLSTM, is_plain_lstm
from .training import CudaTrainingKernels

__all__ = ["CudaKernels"]


class CudaKernels(CudaTrainingKernels):
    """The kernels of a CUDA device; see `Backend`."""

    def sequence(self, forward: Forward, backward: Backward | None) -> CudaSequence:
        return (PersistentLSTM if is_plain_lstm(forward.program) else CudaSequence)(forward, backward)
