"""Device names, the default device, and the one door down to the backends."""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

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
    """Says already what had no room where, and what to do."""


class Device:
    """A place where arrays lie: `"cpu"`, `"cuda:0"`, or a registered backend's name.

    One object a device, so that `is` compares. A device also equals its name, and finds what a dict has under it. Its
    name says which of several CUDA devices it is: "cuda:0", which "cuda" is short for, but not equal to. Whether it is
    any of them says `type`.

    >>> import tinygrad_lstm as tg
    >>> device = tg.zeros(2).device
    >>> device == "cpu", device.type == "cuda", {"cpu": 1}[device]
    (True, False, 1)
    """

    __slots__ = ("array_type", "backend", "name", "switch", "xp")

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self.backend = backend
        self.xp = backend.xp
        self.array_type = backend.array_type
        self.switch = backend.current

    @property
    def type(self) -> str:
        """The kind of device: its name without a number, such as "cpu" or "cuda"."""
        return self.name.partition(":")[0]

    def current(self) -> AbstractContextManager[object]:
        """A context within which arrays are made, and computed with, on this device; ops see to it themselves."""
        return nullcontext() if self.switch is None else self.switch()

    def out_of_memory(self, doing: str, error: MemoryError) -> MemoryError:
        """The error to raise where there was no room for something on this device, saying what to do.

        An error that says so already is given back; of others, the given one is the cause.
        """
        if isinstance(error, _ExplainedError):
            return error
        explained = _ExplainedError(
            f"{doing}: {self.name!r} has no memory left ({error}); make the batch, the sequences or the model smaller, "
            "let go of tensors that are not needed, or keep less for the way back with tg.checkpoint"
        )
        explained.__cause__ = error
        return explained

    @contextmanager
    def making(self, name: str) -> Iterator[None]:
        """As `current`; a MemoryError within it is explained, as one of the function of that name."""
        try:
            with self.current():
                yield
        except MemoryError as error:
            raise self.out_of_memory(name, error)  # noqa: B904 (it has its cause)

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
        """For copy and pickle: the device of that name."""
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
    """The device of that name, made on first use; the default device for None.

    Raises:
        ValueError: no backend has that name.
        DeviceUnavailableError: the name is right, but the device, its driver or its Python package is not there.
    """
    if isinstance(device, Device):
        return device
    if device is None:
        return _override.value or _default or get_device(os.environ.get("TINYGRAD_LSTM_DEVICE") or "cpu")
    name = _canonical(device)
    return _devices.get(name) or _made(name, device)


def _made(name: str, asked: str) -> Device:
    """The device of that name, made unless another thread just did."""
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
    """The device on which an array of some backend lies; None for anything that is no such array."""
    cpu = get_device("cpu")
    if cpu.backend.owns(array):
        return cpu
    for device in tuple(_devices.values()):  # other threads may add some
        if device.backend.owns(array):
            return device
    # An array of a CUDA device that was not asked for by name yet.
    if type(array).__module__.partition(".")[0] == "cupy":
        return get_device(f"cuda:{array.device.id}")
    return None


def register_backend(name: str, backend: Backend) -> Device:
    """Makes a backend's device known under a name, and returns that device.

    Args:
        name: the device's name from now on, in `.to(name)` and `device=name`.
        backend: an object that fulfils `tinygrad_lstm.backends.base.Backend`.

    Raises:
        TypeError: `backend` lacks some of the protocol.
        ValueError: the name is taken, or is one of the built-in ones.
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
    """Sets the device on which tensors are made where none is named; the environment's TINYGRAD_LSTM_DEVICE before."""
    global _default
    _default = get_device(device)


@contextmanager
def default_device(device: str | Device) -> Iterator[Device]:
    """Sets the default device within a `with` block, for the thread or asyncio task that runs it.

    >>> import tinygrad_lstm as tg
    >>> with tg.default_device("cpu"):
    ...     print(tg.zeros(2).device)
    cpu
    """
    found = get_device(device)
    with _override.set_to(found):
        yield found


def get_num_threads() -> int:
    """How many threads compute on the CPU; at first as many as the BLAS below NumPy uses."""
    return threads.number_of_threads()


def set_num_threads(number: int) -> None:
    """Sets how many threads compute on the CPU, in products and in recurrent kernels.

    Compiled recurrent kernels have threads of their own. Where they use more than one, the library's products in NumPy
    keep to one while they run, as OpenBLAS's threads spin on the same cores when they wait. Those of the program itself
    use this many.

    Raises:
        ValueError: the number is below 1.
    """
    threads.set_number_of_threads(number)
