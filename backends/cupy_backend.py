"""CUDA devices, through CuPy. Importing this module imports CuPy."""

from typing import Any

import numpy as np

from .base import Array, Backend, DeviceUnavailableError, HostArray
from .recurrent import RecurrentKernels
from .scatter import write_last
from .training import TrainingKernels

_INSTALL = "pip install 'tinygrad-lstm[cuda12]' (CUDA 12) or 'tinygrad-lstm[cuda13]' (CUDA 13)"

try:
    import cupy  # type: ignore[import-not-found, import-untyped, unused-ignore]

    # A folder called `cupy` on the import path imports as an empty namespace package.
    if not hasattr(cupy, "ndarray"):
        raise ImportError("the module named cupy that Python found is not CuPy")
except ImportError as error:
    raise DeviceUnavailableError(f"a CUDA device needs CuPy ({error}): {_INSTALL}") from error


def device_count() -> int:
    """The number of CUDA devices that CuPy can use; 0 where there is no driver."""
    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0


class CupyBackend(RecurrentKernels, TrainingKernels):
    """Arrays in the memory of CUDA device `index`.

    Raises:
        DeviceUnavailableError: there is no such device.
    """

    def __init__(self, index: int) -> None:
        count = device_count()
        if index >= count:
            raise DeviceUnavailableError(f"device 'cuda:{index}' was asked for, but CuPy finds {count} CUDA devices")
        if index > 0:
            raise DeviceUnavailableError(
                f"device 'cuda:{index}': this version computes on one CUDA device; "
                f"choose it by CUDA_VISIBLE_DEVICES={index} and ask for 'cuda'"
            )
        self.index = index
        self.xp = cupy
        self.array_type = cupy.ndarray

    def owns(self, array: Array) -> bool:
        return isinstance(array, cupy.ndarray) and array.device.id == self.index

    def from_host(self, array: HostArray) -> Array:
        with cupy.cuda.Device(self.index):
            return cupy.asarray(array)

    def to_host(self, array: Array) -> HostArray:
        result: HostArray = cupy.asnumpy(array)
        return result

    def from_device(self, array: Array, source: Backend) -> Array:
        with cupy.cuda.Device(self.index):
            if isinstance(source, CupyBackend):
                return cupy.array(array)
            return cupy.asarray(np.ascontiguousarray(source.to_host(array)))

    def as_array(self, value: Any) -> Array:
        with cupy.cuda.Device(self.index):
            return cupy.asarray(value)

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        cupy.add.at(target, index, values)

    def write(self, target: Array, index: Any, values: Array) -> None:
        write_last(cupy, target, index, values)

    def erf(self, x: Array) -> Array:
        from cupyx.scipy.special import erf  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return erf(x)

    def matmul(self, x: Array, y: Array) -> Array:
        return cupy.matmul(x, y)

    def synchronize(self) -> None:
        cupy.cuda.Device(self.index).synchronize()
