"""A module that stands in for CuPy, so that what is written against CuPy runs without it: no GPU, no driver.

Its arrays are the strict device's; its devices, as CUDA's, must be current where their arrays are computed with, the
first one at the start. Kernels are built for the host, and cuBLAS's product is NumPy's on the memory it is given.
Functions take what CuPy's take, under the same names.
"""

import contextlib
import ctypes
import math
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_nccl import FakeNccl, NcclStream
from kernels_on_host import HostKernels, matrix_at
from strict_backend import StrictArray, StrictBackend, StrictModule, current_device

import tinygrad_lstm as tg
from tinygrad_lstm import device

REAL, HALF, DOUBLE = 0, 2, 1  # cudaDataType
COMPUTE_32F, COMPUTE_FAST_16F, COMPUTE_FAST_TF32, COMPUTE_64F = 68, 74, 77, 70  # cublasComputeType


class CUDARuntimeError(RuntimeError):
    """As CuPy's."""


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


class Device(StrictBackend):
    """`cupy.cuda.Device(id)`: one object for each, which remembers what was done on it."""

    def __init__(self, id: int) -> None:
        super().__init__()
        self.id = id
        self.attributes = {
            "MultiProcessorCount": 6,
            "CooperativeLaunch": 1,
            "ComputeCapabilityMajor": 9,
            "MaxSharedMemoryPerBlockOptin": 64 * 1024,
        }
        self.products: list[int] = []  # the compute types of cuBLAS's products
        self._thread = threading.local()

    def __enter__(self) -> "Device":
        context = self.current()
        context.__enter__()
        self._entered().append(context)
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered().pop().__exit__(*error)

    def _entered(self) -> list[Any]:
        entered: list[Any] = vars(self._thread).setdefault("entered", [])
        return entered


class Stream:
    """The current stream of the current device, which logs what it records and waits for."""

    ptr = 0

    def __init__(self, log: list[tuple[str, str]]) -> None:
        self._log = log
        self._device = current_device()

    def record(self) -> int:
        event = sum(entry.startswith("record") for _, entry in self._log)
        self._note(f"record {event}")
        return event

    def wait_event(self, event: int) -> None:
        self._note(f"wait {event}")

    def _note(self, entry: str) -> None:
        assert current_device() is self._device
        self._log.append((f"cuda:{self._device.id}", entry))


class RawModule:
    """Kernels built for the host."""

    def __init__(self, *, code: str, options: tuple[str, ...]) -> None:
        self._launcher = HostKernels(code, options)

    def get_function(self, name: str) -> "RawKernel":
        return RawKernel(self._launcher, name)


class RawKernel:
    """A kernel of a `RawModule`."""

    max_dynamic_shared_size_bytes = 48 * 1024

    def __init__(self, launcher: HostKernels, name: str) -> None:
        self._launcher, self._name = launcher, name

    @property
    def kernel(self) -> Any:
        return self._launch

    def _launch(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: tuple[Any, ...],
        shared_mem: int = 0,
        stream: Any = None,
        enable_cooperative_groups: bool = False,
    ) -> None:
        assert isinstance(grid, tuple) and isinstance(block, tuple)
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: more shared memory than the kernel may have")
        room = current_device().attributes["MultiProcessorCount"]  # as if a block filled one
        if enable_cooperative_groups and math.prod(grid) > room:
            if grid[1:] in ((), (1,), (1, 1)):
                grid = (room,)  # which CuPy does, with no more than a warning
            else:
                raise ValueError(f"The specified grid size ({grid}) exceeds the limit ({room}).")
        for arg in args:
            if isinstance(arg, StrictArray) and arg._device is not current_device():
                raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: memory of another device")
        self._launcher.launch(self._name, grid, block, args, shared_mem, enable_cooperative_groups)


def gemm_ex(
    handle: int, transa: int, transb: int, m: int, n: int, k: int,
    alpha: int, A: int, Atype: int, lda: int, B: int, Btype: int, ldb: int,
    beta: int, C: int, Ctype: int, ldc: int, computeType: int, algo: int,
) -> None:  # fmt: skip
    """C = alpha · op(A)·op(B) + beta · C, of matrices whose columns are contiguous."""
    device = current_device()
    assert isinstance(device, Device) and handle == _handle() and algo == -1
    device.products.append(computeType)
    kind, wide = {REAL: ("f4", "f4"), HALF: ("f2", "f4"), DOUBLE: ("f8", "f8")}[Atype]
    assert Atype == Btype == Ctype and (computeType == COMPUTE_64F) == (Atype == DOUBLE)
    dtype = np.dtype(kind)
    factor, addend = (ctypes.cast(at, ctypes.POINTER(ctypes.c_double if wide == "f8" else ctypes.c_float))[0]
                      for at in (alpha, beta))  # fmt: skip
    a = matrix_at(A, (k, m) if transa else (m, k), True, lda, dtype).astype(wide)
    b = matrix_at(B, (n, k) if transb else (k, n), True, ldb, dtype).astype(wide)
    c = matrix_at(C, (m, n), True, ldc, dtype)
    product = factor * (a.T if transa else a) @ (b.T if transb else b)
    c[...] = product + addend * c if addend else product


def _handle() -> int:
    return 1000 + current_device().id


@contextlib.contextmanager
def replacing_cupy(patch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """A function that puts a module in the place of CuPy, until the end of the `with` block."""
    users = ("tinygrad_lstm.backends.cupy_backend", "tinygrad_lstm.distributed.nccl")

    def forget(name: str) -> None:
        parent, _, own = name.rpartition(".")
        sys.modules.pop(name, None)
        if parent in sys.modules:  # tg.distributed is imported when it is used
            vars(sys.modules[parent]).pop(own, None)

    patch.setattr(device, "_devices", {"cpu": tg.zeros(0).device})
    with contextlib.ExitStack() as entered:

        def put(module: Any) -> None:
            patch.setitem(sys.modules, "cupy", module)
            patch.setitem(sys.modules, "cupy.cuda", getattr(module, "cuda", None))
            for name in users:
                forget(name)
            if isinstance(module, FakeCupy):
                entered.enter_context(module.default_device())

        yield put
    for name in users:
        forget(name)


class FakeCupy(StrictModule):
    """The module, with this number of devices; `trouble` is raised where devices are counted.

    Attributes:
        events: which events devices' streams recorded and waited for.
    """

    def __init__(self, devices: int = 1, driver: int = 13000, trouble: str = "", version: str = "14.2.0") -> None:
        super().__init__(np)
        self.__version__ = version
        self.events: list[tuple[str, str]] = []
        self._devices = [Device(k) for k in range(devices)]
        self.ndarray = StrictArray
        self.RawModule = RawModule
        cublas = SimpleNamespace(
            gemmEx=gemm_ex,
            CUBLAS_GEMM_DEFAULT=-1,
            CUBLAS_COMPUTE_32F=COMPUTE_32F,
            CUBLAS_COMPUTE_64F=COMPUTE_64F,
            CUBLAS_COMPUTE_32F_FAST_TF32=COMPUTE_FAST_TF32,
            CUBLAS_COMPUTE_32F_FAST_16F=COMPUTE_FAST_16F,
        )

        def count() -> int:
            if trouble:
                raise CUDARuntimeError(trouble)
            return devices

        runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=count,
            driverGetVersion=lambda: driver,
            runtimeGetVersion=lambda: 13000,
            CUDA_R_32F=REAL,
            CUDA_R_16F=HALF,
            CUDA_R_64F=DOUBLE,
            deviceGetPCIBusId=lambda k: f"0000:{k:02}:00.0",
        )
        self.cuda = ModuleType("cupy.cuda")
        vars(self.cuda).update(
            Device=self._devices.__getitem__,
            cublas=cublas,
            runtime=runtime,
            get_cublas_handle=_handle,
            get_current_stream=lambda: Stream(self.events),
            Stream=NcclStream,
            nccl=FakeNccl(),
        )

    def asarray(self, value: Any) -> StrictArray:
        if isinstance(value, StrictArray):
            return value
        device = current_device()
        if isinstance(value, np.ndarray):
            device.counts.host_to_device += 1
        return StrictArray(np.array(value), device)

    def array(self, value: StrictArray) -> StrictArray:
        if value._device is not current_device() and not value.flags.c_contiguous:
            raise NotImplementedError("CuPy cannot copy non-contiguous array between devices.")
        return StrictArray(value._host.copy(), current_device())

    def asnumpy(self, array: StrictArray) -> Any:
        assert current_device() is array._device
        return current_device().to_host(array)

    @contextlib.contextmanager
    def default_device(self) -> Iterator[None]:
        """Within it, the first device is current, as in a new CUDA program."""
        with self._devices[0] if self._devices else contextlib.nullcontext():
            yield
