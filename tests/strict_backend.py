"""A device of the tests' own, on which hidden copies and mixed devices fail though there is no GPU.

Its arrays wrap NumPy's and behave like them, but as arrays in the memory of another device: they never turn into NumPy
arrays or Python numbers, refuse to meet them, and have 0-d arrays where NumPy has scalars. As CuPy's, they wrap integer
indices that are out of range, and write to a place that is named twice in no order to rely on. As one of several CUDA
devices, it has to be the current one wherever its arrays are computed with. `STRICT.counts` says how often values
travelled to or from the host.
"""

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array, Backend, HostArray
from tinygrad_lstm.backends.numpy_backend import NumpyBackend
from tinygrad_lstm.backends.training import TrainingKernels


@dataclass
class Counts:
    """How often values travelled between host and device, and how often the host waited for the device."""

    host_to_device: int = 0
    device_to_host: int = 0
    synchronisations: int = 0

    def reset(self) -> None:
        self.host_to_device = self.device_to_host = self.synchronisations = 0


_CURRENT: ContextVar["StrictBackend | None"] = ContextVar("current", default=None)


def _refused(what: str) -> Callable[..., Any]:
    def refuse(self: "StrictArray", *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{what} of an array on the strict device: its values are not on the host")

    return refuse


def current_device() -> "StrictBackend":
    """The one of these devices that is current."""
    current = _CURRENT.get()
    assert current is not None
    return current


def _unwrapped(value: Any) -> Any:
    """The value with the NumPy arrays inside it bare, for NumPy to compute with."""
    if isinstance(value, StrictArray):
        if value._device is not _CURRENT.get():
            raise RuntimeError("an array was computed with while its device was not the current one")
        return value._host
    if isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"an array on the strict device meets {type(value).__name__} of NumPy's")
    if isinstance(value, tuple | list):
        return type(value)([_unwrapped(part) for part in value])
    if isinstance(value, dict):
        return {key: _unwrapped(part) for key, part in value.items()}
    return value


def _wrapped(value: Any) -> Any:
    """NumPy's results as arrays on the device."""
    if isinstance(value, np.ndarray | np.generic):
        return StrictArray(np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)([_wrapped(part) for part in value])
    return value


def _on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy's on arrays of the device."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return _wrapped(function(*_unwrapped(args), **_unwrapped(kwargs)))

    return call


def _index(index: Any, shape: tuple[int, ...]) -> Any:
    """An index for NumPy, its integer arrays wrapped into range."""
    parts = index if isinstance(index, tuple) else (index,)
    taken = [_dims_taken(part) for part in parts]
    at = 0
    ready = []
    for part, number in zip(parts, taken, strict=True):
        bare = _unwrapped(part)
        if isinstance(part, StrictArray) and bare.dtype.kind in "iu" and at < len(shape) and shape[at]:
            bare = bare % shape[at]
        ready.append(bare)
        at += len(shape) - sum(taken) if part is Ellipsis else number
    return tuple(ready) if isinstance(index, tuple) else ready[0]


def _dims_taken(part: Any) -> int:
    if part is None or part is Ellipsis or isinstance(part, bool):
        return 0
    return part.ndim if _is_mask(part) else 1


def _is_mask(part: Any) -> bool:
    return isinstance(part, StrictArray) and part.dtype == np.bool_


def _has_mask(index: Any) -> bool:
    return any(map(_is_mask, index if isinstance(index, tuple) else (index,)))


def _has_integers(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, StrictArray) and part.dtype.kind in "iu" for part in parts)


class StrictArray:
    """An array on a strict device: on the current one, if it is not said."""

    __slots__ = ("_device", "_host")
    __array_ufunc__ = None  # NumPy's operators leave mixed operands to those below, which refuse them
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: HostArray, device: "StrictBackend | None" = None) -> None:
        current = device or _CURRENT.get()
        if current is None:
            raise RuntimeError("an array was made while none of the strict devices was current")
        self._host, self._device = host, current

    def __repr__(self) -> str:
        return f"StrictArray(shape={self.shape}, dtype={self.dtype})"

    __array__ = _refused("np.asarray()")
    __float__ = _refused("float()")
    __int__ = _refused("int()")
    __bool__ = _refused("bool()")
    __index__ = _refused("__index__()")
    __iter__ = _refused("iter()")
    __contains__ = _refused("in")
    __dlpack__ = _refused("__dlpack__()")
    __dlpack_device__ = _refused("__dlpack_device__()")
    item = _refused("item()")
    tolist = _refused("tolist()")

    device = property(lambda self: self._device)
    data = property(lambda self: SimpleNamespace(ptr=self._host.ctypes.data))
    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: StrictArray(self._host.T, self._device))
    base = property(lambda self: None if self._host.base is None else StrictArray(self._host.base, self._device))

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, index: Any) -> "StrictArray":
        if _has_mask(index):  # how many elements there are is known on the device alone
            self._device.counts.synchronisations += 1
        return StrictArray(np.asarray(self._host[_index(index, self.shape)]), self._device)

    def __setitem__(self, index: Any, value: Any) -> None:
        if _has_mask(index) and isinstance(value, StrictArray) and value.ndim:
            self._device.counts.synchronisations += 1
        _unwrapped(self)
        ready, written = _index(index, self.shape), _unwrapped(value)
        if np.ndim(written) > np.ndim(self._host[ready]):
            raise ValueError(f"CuPy writes no array of shape {written.shape} to fewer dimensions")
        if not _has_integers(index):
            self._host[ready] = written
            return
        # In no order that a caller may rely on: here backwards, so that of several values for a place the first stays.
        places = np.arange(self.size).reshape(self.shape)[ready]
        values = np.broadcast_to(written, places.shape)
        self._host[np.unravel_index(places.reshape(-1)[::-1], self.shape)] = values.reshape(-1)[::-1]


def _operator(function: Callable[[Any, Any], Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(self: StrictArray, other: Any) -> Any:
        return _wrapped(function(_unwrapped(self), _unwrapped(other)))

    def reflected(self: StrictArray, other: Any) -> Any:
        return _wrapped(function(_unwrapped(other), _unwrapped(self)))

    return forward, reflected


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def call(self: StrictArray, other: Any) -> StrictArray:
        self._host = function(_unwrapped(self), _unwrapped(other))
        return self

    return call


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor"):
    _plain = _name.rstrip("_")
    _forward, _reflected = _operator(getattr(operator, _name))
    setattr(StrictArray, f"__{_plain}__", _forward)
    setattr(StrictArray, f"__r{_plain}__", _reflected)
    setattr(StrictArray, f"__i{_plain}__", _in_place(getattr(operator, f"i{_plain}")))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(StrictArray, f"__{_name}__", _operator(getattr(operator, _name))[0])
for _name in ("neg", "pos", "abs", "invert"):
    setattr(StrictArray, f"__{_name}__", _on_device(getattr(operator, _name)))
for _name in (
    *("reshape", "swapaxes", "transpose", "astype", "copy", "ravel", "flatten", "squeeze", "view", "fill", "repeat"),
    *("sum", "prod", "mean", "std", "var", "max", "min", "argmax", "argmin", "any", "all", "cumsum", "cumprod"),
    *("clip", "round", "dot", "diagonal", "trace"),
):
    setattr(StrictArray, _name, _on_device(getattr(np.ndarray, _name)))


class _Ufunc:
    """A ufunc of NumPy's on arrays of the device, with its methods."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self.__name__ = ufunc.__name__
        self._ufunc = ufunc
        self._call = _on_device(ufunc)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = kwargs.get("out")
        result = self._call(*args, **kwargs)
        return result if out is None else out

    def __getattr__(self, name: str) -> Any:
        return _on_device(getattr(self._ufunc, name))

    def at(self, target: StrictArray, index: Any, *values: Any) -> None:
        if target.dtype.name not in ("int32", "uint32", "uint64", "float16", "float32", "float64"):
            raise TypeError(f"{self.__name__}.at of {target.dtype}, which CuPy does not take")
        self._ufunc.at(_unwrapped(target), _index(index, target.shape), *_unwrapped(values))


class StrictModule:
    """NumPy's functions, or those of one of its submodules, on arrays of the device."""

    # Those that make arrays of Python's numbers: the numbers travel.
    _MAKERS = frozenset({"array", "asarray", "ascontiguousarray", "asanyarray"})
    # Those whose result's size, or whose result itself, the host has to wait for.
    _WAITING = frozenset({"nonzero", "flatnonzero", "argwhere", "unique", "extract", "compress"})
    # Those that answer with a bool of Python's in NumPy, with a 0-d array on a device.
    _TRUTHS = frozenset({"allclose", "array_equal", "array_equiv"})

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if isinstance(found, np.ufunc):
            made: Any = _Ufunc(found)
        elif isinstance(found, ModuleType):
            made = StrictModule(found)
        elif isinstance(found, type) or not callable(found):
            made = found  # dtypes, constants, errstate
        else:
            made = self._function(name, _on_device(found))
        setattr(self, name, made)
        return made

    def _function(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name in self._MAKERS and not isinstance(args[0], StrictArray):
                current_device().counts.host_to_device += 1
            if name in self._WAITING:
                current_device().counts.synchronisations += 1
            if name == "take":
                kwargs.setdefault("mode", "wrap")
            out = kwargs.get("out")
            result = function(*args, **kwargs)
            if name in self._TRUTHS:
                return StrictArray(np.asarray(result))
            return result if out is None else out

        return call


class StrictBackend(TrainingKernels):
    """The strict device, as `tinygrad_lstm.backends.base.Backend` asks."""

    xp = StrictModule(np)
    array_type = StrictArray
    _numpy = NumpyBackend()

    def __init__(self) -> None:
        self.counts = Counts()

    @contextmanager
    def current(self) -> Iterator[None]:
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def owns(self, array: Array) -> bool:
        return isinstance(array, StrictArray) and array._device is self

    def from_host(self, array: HostArray) -> Array:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"from_host: expected an array of NumPy's, got {type(array).__name__}")
        self.counts.host_to_device += 1
        return StrictArray(array.copy(order="K"), self)

    def to_host(self, array: Array) -> HostArray:
        self.counts.device_to_host += 1
        host: HostArray = array._host.copy()
        return host

    def from_device(self, array: Array, source: Backend) -> Array:
        return StrictArray(array._host.copy(), self) if source is self else self.from_host(source.to_host(array))

    def as_array(self, value: Any) -> Array:
        return value if isinstance(value, StrictArray) else StrictArray(np.asarray(_unwrapped(value)), self)

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        self._numpy.scatter_add(target._host, _index(index, target.shape), _unwrapped(values))

    def erf(self, x: Array) -> Array:
        return StrictArray(self._numpy.erf(x._host))

    def synchronize(self) -> None:
        self.counts.synchronisations += 1


STRICT = StrictBackend()
