"""Devices, the default device, and the number of threads. Only this module imports implementations of backends."""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from tinygrad_lstm.backends import threads
from tinygrad_lstm.backends.base import Array, Backend, DeviceUnavailableError
from tinygrad_lstm.backends.compiled import compiled_kernels
from tinygrad_lstm.backends.cuda.precision import get_precision, set_precision
from tinygrad_lstm.backends.numpy_backend import NumpyBackend
from tinygrad_lstm.backends.scoped import Scoped

__all__ = [
    "Device",
    "DeviceUnavailableError",
    "compiled_kernels",
    "default_device",
    "get_num_threads",
    "get_precision",
    "register_backend",
    "set_default_device",
    "set_num_threads",
    "set_precision",
]


class _ExplainedError(MemoryError):
    """Its message already names the operation and the device, and says what to do."""


class Device:
    """A device that stores arrays and computes: `"cpu"`, `"cuda:0"`, or the name of a registered backend.

    There is one object per device, so devices can be compared with `is`. A device also equals its name, and has the
    same hash. The name of a CUDA device contains its index: "cuda" is short for "cuda:0", but does not equal it. The
    kind of a device is its `type`.

    >>> import tinygrad_lstm as tg
    >>> device = tg.zeros(2).device
    >>> device == "cpu", device.type == "cuda", {"cpu": 1}[device]
    (True, False, 1)
    """

    __slots__ = ("array_type", "backend", "functions", "name", "switch", "xp")

    functions: Any  # the forward rules of ops on its arrays, by name; see `ops.rules.on_arrays`

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self.backend = backend
        self.xp = backend.xp
        self.array_type = backend.array_type
        self.switch = backend.current
        self.functions = None

    @property
    def type(self) -> str:
        """The kind of device: its name without a number, such as "cpu" or "cuda"."""
        return self.name.partition(":")[0]

    def current(self) -> AbstractContextManager[object]:
        """A context in which arrays are created, and computations run, on this device. Ops enter it themselves."""
        return nullcontext() if self.switch is None else self.switch()

    def out_of_memory(self, doing: str, error: MemoryError) -> MemoryError:
        """The error to raise if this device has no memory left; it says what to do.

        An error of this kind is returned unchanged; otherwise the given error becomes the cause.
        """
        if isinstance(error, _ExplainedError):
            return error
        explained = _ExplainedError(
            f"{doing}: {self.name!r} has no memory left ({error}); make the batch, the sequences or the model smaller, "
            "delete tensors that are not needed, or save less for the backward pass with tg.checkpoint"
        )
        explained.__cause__ = error
        return explained

    @contextmanager
    def making(self, name: str) -> Iterator[None]:
        """As `current`; in addition, a MemoryError in it is explained as an error of the function `name`."""
        try:
            with self.current():
                yield
        except MemoryError as error:
            raise self.out_of_memory(name, error)  # noqa: B904 (it has a cause)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            if self.name != other and self.name == _canonical(other):
                warnings.warn(
                    f"a device is compared with {other!r}, but its name is {self.name!r}, so they are not equal; "
                    f"compare with {self.name!r}, or device.type with {self.type!r}",
                    stacklevel=2,
                )
            return self.name == other
        return self is other

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[Callable[..., "Device"], tuple[str]]:
        """For copy and pickle: the device of the same name."""
        return get_device, (self.name,)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"device({self.name!r})"


def _cuda_backend(index: int) -> Backend:
    from tinygrad_lstm.backends.cupy_backend import CupyBackend

    return CupyBackend(index)


def cuda_device_count() -> int:
    """The number of CUDA devices that can be used; 0 without CuPy or without a driver."""
    try:
        from tinygrad_lstm.backends import cupy_backend
    except DeviceUnavailableError:
        return 0
    return cupy_backend.device_count()


_factories: dict[str, Callable[[], Backend]] = {"cpu": NumpyBackend}
_devices: dict[str, Device] = {}
_registering = threading.RLock()
_override = Scoped[Device | None]("default_device", None)
_default: Device | None = None


def _canonical(name: str) -> str:
    kind, _, index = name.partition(":")
    if kind == "cuda" and (not index or index.isdecimal()) and not name.endswith(":"):
        return f"cuda:{int(index or 0)}"
    return name


def get_device(device: "str | Device | None" = None) -> Device:
    """The device of this name, created on first use; the default device for None.

    Raises:
        ValueError: no backend has this name.
        DeviceUnavailableError: the name is valid, but the device, its driver or its Python package is missing.
    """
    if isinstance(device, Device):
        return device
    if device is None:
        return _override.value or _default or get_device(os.environ.get("TINYGRAD_LSTM_DEVICE") or "cpu")
    name = _canonical(device)
    return _devices.get(name) or _made(name, device)


def _made(name: str, asked: str) -> Device:
    """The device of this name, created unless a different thread has just created it."""
    with _registering:
        if (found := _devices.get(name)) is not None:
            return found
        kind, _, index = name.partition(":")
        if kind == "cuda" and index.isdecimal():
            backend = _cuda_backend(int(index))
        elif name in _factories:
            backend = _factories[name]()
        else:
            known = ", ".join(map(repr, [*_factories, "cuda", "cuda:1"]))
            raise ValueError(f"unknown device {asked!r}: expected one of {known}, or a name given to register_backend")
        _devices[name] = Device(name, backend)
        return _devices[name]


def device_of(array: Array) -> Device | None:
    """The device of an array of any backend; None for any other object."""
    cpu = get_device("cpu")
    if cpu.backend.owns(array):
        return cpu
    for device in tuple(_devices.values()):  # other threads may add some
        if device.backend.owns(array):
            return device
    # An array of a CUDA device that was not requested by name yet.
    if type(array).__module__.partition(".")[0] == "cupy":
        return get_device(f"cuda:{array.device.id}")
    return None


def register_backend(name: str, backend: Backend) -> Device:
    """Registers a backend's device under a name, and returns the device.

    Args:
        name: the name of the device, for `.to(name)` and `device=name`.
        backend: an object that implements `tinygrad_lstm.backends.base.Backend`.

    Raises:
        TypeError: `backend` lacks a part of the protocol.
        ValueError: the name is already taken, or is a built-in one.
    """
    missing = [part for part in dir(Backend) if not part.startswith("_") and not hasattr(backend, part)]
    if missing:
        raise TypeError(
            f"register_backend: {type(backend).__name__} lacks {', '.join(missing)} of the Backend protocol"
        )
    with _registering:
        if name in _factories or name in _devices or name.partition(":")[0] == "cuda":
            raise ValueError(f"register_backend: the device name {name!r} is taken; choose another")
        _factories[name] = lambda: backend
        return get_device(name)


def set_default_device(device: str | Device) -> None:
    """Sets the device of tensors that are created without `device=`. Initially TINYGRAD_LSTM_DEVICE names it."""
    global _default
    _default = get_device(device)


@contextmanager
def default_device(device: str | Device) -> Iterator[Device]:
    """Sets the default device in a `with` block, for the current thread or asyncio task.

    >>> import tinygrad_lstm as tg
    >>> with tg.default_device("cpu"):
    ...     print(tg.zeros(2).device)
    cpu
    """
    found = get_device(device)
    with _override.set_to(found):
        yield found


def get_num_threads() -> int:
    """The number of threads that compute on the CPU; by default that of NumPy's BLAS."""
    return threads.number_of_threads()


def set_num_threads(number: int) -> None:
    """Sets the number of threads that compute on the CPU, in matrix products and in recurrent kernels.

    Compiled recurrent kernels have their own threads. If these are more than one, this library's products in NumPy use
    one BLAS thread, because OpenBLAS's threads spin on the same cores when they wait. NumPy products in user code use
    the given number.

    Raises:
        ValueError: the number is below 1.
    """
    threads.set_number_of_threads(number)
