"""CUDA devices, through CuPy. Importing this module imports CuPy."""

import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from .base import Array, Backend, DeviceUnavailableError, HostArray
from .cuda.kernels import CudaKernels
from .cuda.launching import Kernel, Matrices, Multiply
from .cuda.precision import get_precision
from .dtypes import FLOAT32
from .installing import how_to_install

_SHARED_BYTES = 48 * 1024  # the shared memory of a block by default
_INSTALL = f"{how_to_install('cuda12')} (of CUDA 13, cuda13)"


def _check_installation() -> None:
    """Raises if several packages contain CuPy: Python would find parts of each."""
    found = {name for dist in importlib.metadata.distributions() if (name := dist.metadata["Name"] or "") and _is(name)}
    if len(found) > 1:
        names = " ".join(sorted(found))
        raise DeviceUnavailableError(
            f"several CuPy packages are installed ({names}), which overwrite each other: "
            f"pip uninstall {names}, then {_INSTALL}"
        )


def _is(name: str) -> bool:
    return name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm"))


def _is_there() -> bool:
    try:
        return importlib.util.find_spec("cupy") is not None
    except ValueError:  # a module without a spec
        return True


def _first_line(error: BaseException) -> str:
    """The first line of an error with words in it: CuPy draws frames around its errors."""
    lines = str(error.__cause__ or error).splitlines()
    return next((line.strip() for line in lines if any(map(str.isalpha, line))), type(error).__name__)


if _is_there():
    _check_installation()
try:
    import cupy  # type: ignore[import-not-found, import-untyped, unused-ignore]

    # A folder called `cupy` on the import path imports as an empty namespace package.
    if not hasattr(cupy, "ndarray"):
        raise ImportError("the module named cupy that Python found is not CuPy")
    # Older versions pass garbage to kernels for None, and wait for a sort.
    if int(cupy.__version__.partition(".")[0]) < 14:
        raise ImportError(f"{cupy.__version__} is installed, but it must be 14 or newer")
except ImportError as error:
    raise DeviceUnavailableError(f"CuPy, which CUDA devices need: {_first_line(error)}; {_INSTALL}") from error


def device_count() -> int:
    """The number of CUDA devices that CuPy can use; 0 without a driver."""
    return _count()[0]


def _count() -> tuple[int, str]:
    """The number of devices, and CUDA's error if it cannot count them."""
    try:
        return int(cupy.cuda.runtime.getDeviceCount()), ""
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return 0, f" ({_first_line(error)})"


def _why_none(said: str) -> str:
    """Why CuPy cannot use a CUDA device, and what to do."""
    driver, runtime = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    if not driver:
        return "there is no NVIDIA driver; install one, or use 'cpu'"
    if driver // 1000 < runtime // 1000:
        return (
            f"the NVIDIA driver is too old: it serves CUDA {_version(driver)}, but CuPy is built for "
            f"{_version(runtime)}; update the driver, or install a CuPy for an older CUDA: {_INSTALL}"
        )
    return f"the NVIDIA driver finds no device{said}; see nvidia-smi and CUDA_VISIBLE_DEVICES"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


@functools.cache
def _module(text: str, options: tuple[str, ...]) -> Any:
    """A source's kernels, compiled on first use. CuPy caches the machine code on disk."""
    return cupy.RawModule(code=text, options=options)


# For a dtype of arrays: its name in CuPy, cuBLAS's type of sums, and the dtype of its factors.
_BLAS = {
    "float16": ("CUDA_R_16F", "CUBLAS_COMPUTE_32F", np.float32),
    "float32": ("CUDA_R_32F", "CUBLAS_COMPUTE_32F", np.float32),
    "float64": ("CUDA_R_64F", "CUBLAS_COMPUTE_64F", np.float64),
}
_FASTER = {"tf32": "CUBLAS_COMPUTE_32F_FAST_TF32", "float16": "CUBLAS_COMPUTE_32F_FAST_16F"}


class CupyBackend(CudaKernels):
    """Arrays in the memory of CUDA device `index`.

    Raises:
        DeviceUnavailableError: the device does not exist.
    """

    xp = cupy
    array_type = cupy.ndarray

    def __init__(self, index: int) -> None:
        count, said = _count()
        if index >= count:
            there = ", ".join(f"'cuda:{k}'" for k in range(count))
            why = f"there is only {there}" if count else _why_none(said)
            raise DeviceUnavailableError(f"device 'cuda:{index}' was asked for, but {why}")
        try:
            from cupy.cuda import cublas  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError as error:
            raise DeviceUnavailableError(
                f"device 'cuda:{index}' needs CUDA's libraries beside CuPy ({_first_line(error)}): {_INSTALL}"
            ) from error
        self.index = index
        self._cublas = cublas
        attributes = self._device().attributes
        # On older devices the blocks of a launch cannot wait for each other.
        together = attributes["CooperativeLaunch"] and attributes["ComputeCapabilityMajor"] >= 7
        self.multiprocessors = attributes["MultiProcessorCount"] if together else 0
        self.shared_bytes = attributes["MaxSharedMemoryPerBlockOptin"]
        self.current: Callable[[], AbstractContextManager[object]] | None = None
        if count > 1:
            self.current = self._device

    def _device(self) -> Any:
        return cupy.cuda.Device(self.index)

    # -- arrays --------------------------------------------------------------------------------------------------------

    def owns(self, array: Array) -> bool:
        return isinstance(array, cupy.ndarray) and array.device.id == self.index

    def from_host(self, array: HostArray) -> Array:
        with self._device():
            return cupy.asarray(array)  # through pinned memory, so that the copy is asynchronous

    def to_host(self, array: Array) -> HostArray:
        with self._device():
            result: HostArray = cupy.asnumpy(array)
        return result

    def from_device(self, array: Array, source: Backend) -> Array:
        if not isinstance(source, CupyBackend):
            return self.from_host(np.asarray(source.to_host(array), order="C"))
        with source._device():
            (array,) = self.contiguous(array)  # CuPy copies only contiguous arrays between devices
            made = cupy.cuda.get_current_stream().record()
        with self._device():
            stream = cupy.cuda.get_current_stream()
            stream.wait_event(made)
            copied = cupy.array(array)
            done = stream.record()
        with source._device():  # whose memory must not be reused before
            cupy.cuda.get_current_stream().wait_event(done)
        return copied

    def as_array(self, value: Any) -> Array:
        with self._device():
            return cupy.asarray(value)

    def erf(self, x: Array) -> Array:
        from cupyx.scipy.special import erf  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return erf(x)

    def synchronize(self) -> None:
        self._device().synchronize()

    # -- kernels and products ------------------------------------------------------------------------------------------

    def compiled(self, text: str, name: str, options: tuple[str, ...], cooperative: bool) -> Kernel:
        compiled = _module(text, options).get_function(name)
        function, allowed = compiled.kernel, _SHARED_BYTES

        def launch(blocks: Any, threads: Any, arguments: tuple[Any, ...], shared: int = 0) -> None:
            nonlocal allowed
            if shared > allowed:
                compiled.max_dynamic_shared_size_bytes = allowed = shared
            function(_numbers(blocks), _numbers(threads), arguments, shared, enable_cooperative_groups=cooperative)

        return launch

    def multiplier(self, matrices: Matrices, accumulate: bool) -> Multiply:
        m, n, k, transposed, leading, dtype = matrices
        kind, adding, wide = _BLAS[dtype.name]
        if dtype == FLOAT32:
            adding = _FASTER.get(get_precision(), adding)
        code, compute = getattr(cupy.cuda.runtime, kind), getattr(self._cublas, adding)
        gemm, algorithm = self._cublas.gemmEx, self._cublas.CUBLAS_GEMM_DEFAULT
        # cuBLAS has column-major matrices, so it computes the transpose of the product: yᵀ·xᵀ.
        handle = cupy.cuda.get_cublas_handle()
        factor, addend = np.array(1, wide), np.array(accumulate, wide)
        at_factor, at_addend = factor.ctypes.data, addend.ctypes.data
        (x_op, y_op), (x_ld, y_ld) = map(int, transposed), leading

        def multiply(x: int, y: int, out: int, _: tuple[HostArray, HostArray] = (factor, addend)) -> None:
            gemm(
                *(handle, y_op, x_op, n, m, k, at_factor, y, code, y_ld, x, code, x_ld),
                *(at_addend, out, code, n, compute, algorithm),
            )

        return multiply

    def queue(self) -> int:
        stream: int = cupy.cuda.get_current_stream().ptr
        return stream

    def address(self, array: Array) -> int:
        place: int = array.data.ptr
        return place


def _numbers(given: int | tuple[int, ...]) -> tuple[int, ...]:
    return (given,) if isinstance(given, int) else given
