"""Functions that create tensors: constants, ranges, random numbers, and other libraries' arrays."""

import math
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import (
    DEFAULT_FLOAT,
    FLOAT16,
    DType,
    check_bounds,
    check_integers,
    checked_dtype,
    dtype_of_numbers,
    float_dtype,
    is_integer,
)

from ._tensor import Tensor, as_tensor
from .arguments import integer, integers
from .device import Device, device_of, get_device
from .lengths import Length
from .random import drawing
from .tracer_hooks import shown_whole

__all__ = [
    "arange",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "zeros",
    "zeros_like",
]

Place = str | Device | None


def _shape(name: str, shape: tuple[Any, ...]) -> tuple[int, ...]:
    given = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    if all([length.__class__ is int and length >= 0 for length in given]):
        return tuple(given)
    numbers = all(isinstance(length, int | Length) or hasattr(length, "dtype") for length in given)
    lengths = integers(name, "shape", given) if numbers else ()
    if not numbers or any(length < 0 for length in lengths):
        raise ValueError(f"{name}: expected lengths of zero or more, got {given}")
    return lengths


def _made(array: Any, device: Device, requires_grad: bool) -> Tensor:
    made = Tensor._wrap(array, device)
    return made.requires_grad_() if requires_grad else made


def _filled(device: Device, requires_grad: bool, maker: str, *arguments: Any, **settings: Any) -> Tensor:
    """The result of a function of the device's array module, as a tensor."""
    with device.making(maker):
        return _made(getattr(device.xp, maker)(*arguments, **settings), device, requires_grad)


def _number(value: Any) -> Any:
    """A NumPy scalar as a Python number, which every device accepts."""
    return value.item() if isinstance(value, np.generic) else value


@shown_whole
def full(
    shape: Any,
    fill_value: Any,
    dtype: DType = None,
    device: Place = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of the given shape, filled with one value; by default with the dtype of `tg.tensor(fill_value)`.

    Raises:
        OverflowError, ValueError: an integer dtype cannot hold the value; or as for `zeros`.
    """
    place = get_device(device)
    if dtype is None and type(fill_value) is not float:
        array = np.asarray(fill_value)
        check_integers("full", fill_value, array)
        dtype = dtype_of_numbers(array.dtype) if type(fill_value) is int else array.dtype
    kind = checked_dtype(DEFAULT_FLOAT if dtype is None else dtype)
    check_bounds("full", fill_value, kind)
    return _filled(place, requires_grad, "full", _shape("full", (shape,)), _number(fill_value), kind)


def zeros(*shape: Any, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """Zeros: `zeros(2, 3)` or `zeros((2, 3))`; float32 by default.

    Raises:
        TypeError: a length is a bool or a tensor.
        ValueError: a length is negative or not an integer.

    >>> import tinygrad_lstm as tg
    >>> tg.zeros(2, 3).shape
    (2, 3)
    """
    return full(_shape("zeros", shape), 0.0, dtype, device, requires_grad)


def ones(*shape: Any, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """Ones: `ones(2, 3)` or `ones((2, 3))`; float32 by default."""
    return full(_shape("ones", shape), 1.0, dtype, device, requires_grad)


def zeros_like(x: Tensor, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape of x; by default with its dtype, on its device."""
    return full(x.shape, 0.0, dtype or x.dtype, device or x.device, requires_grad)


def ones_like(x: Tensor, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape of x; by default with its dtype, on its device."""
    return full(x.shape, 1.0, dtype or x.dtype, device or x.device, requires_grad)


def full_like(
    x: Tensor, fill_value: Any, dtype: DType = None, device: Place = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of the shape of x, filled with one value; by default with its dtype, on its device.

    Raises:
        OverflowError, ValueError: an integer dtype cannot hold the value.
    """
    return full(x.shape, fill_value, dtype or x.dtype, device or x.device, requires_grad)


def empty_like(x: Tensor, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """A tensor of the shape of x, to be filled; otherwise as `empty`. By default with x's dtype, on its device."""
    return full(x.shape, 0.0, dtype or x.dtype, device or x.device, requires_grad)


def empty(*shape: Any, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """A tensor to be filled: its values are zeros, where PyTorch's are undefined. Otherwise as `zeros`."""
    return full(_shape("empty", shape), 0.0, dtype, device, requires_grad)


def eye(n: int, m: int | None = None, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """An (n, m) matrix with ones on its diagonal; square by default."""
    rows, columns = _shape("eye", (n, n if m is None else m))
    return _filled(get_device(device), requires_grad, "eye", rows, columns, dtype=checked_dtype(dtype or DEFAULT_FLOAT))


@shown_whole
def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    dtype: DType = None,
    device: Place = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers from `start` up to `stop`, which is excluded: int64, or float32 if an argument is a float.

    With one number, that is `stop`, and `start` is 0.

    Raises:
        OverflowError: a number is out of the range of an integer dtype.
        ValueError: `step` is 0, or an argument is not finite.
    """
    start, stop, step = map(_number, (0, start, step) if stop is None else (start, stop, step))
    if dtype is None:
        dtype = DEFAULT_FLOAT if any(isinstance(number, float) for number in (start, stop, step)) else np.int64
    kind = checked_dtype(dtype)
    if is_integer(kind) and step and math.isfinite(stop - start):
        steps = math.ceil((stop - start) / step)
        check_bounds("arange", [start, start + (steps - 1) * step] if steps > 0 else [], kind)
    return _filled(get_device(device), requires_grad, "arange", start, stop, step, dtype=kind)


def linspace(
    start: float, stop: float, steps: int, dtype: DType = None, device: Place = None, requires_grad: bool = False
) -> Tensor:
    """`steps` evenly spaced values from `start` to `stop`, both included; float32 by default.

    Raises:
        OverflowError, ValueError: an integer dtype cannot hold `start` or `stop`.
        TypeError: `steps` is not an integer.
    """
    kind, steps = checked_dtype(dtype or DEFAULT_FLOAT), integer("linspace", "steps", steps)
    check_bounds("linspace", [start, stop], kind)
    return _filled(get_device(device), requires_grad, "linspace", start, stop, steps, dtype=kind)


def _drawn(values: HostArray, device: Place, requires_grad: bool) -> Tensor:
    place = get_device(device)
    with place.making("tensor"):
        return _made(place.backend.from_host(np.asarray(values)), place, requires_grad)


def rand(*shape: Any, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """Random numbers, uniform in [0, 1); float32 by default. After `manual_seed` they are the same on every device.

    Raises:
        TypeError: the dtype is not a float, or a length is a bool or a tensor.
        ValueError: a length is negative or not an integer.
    """
    lengths, kind = _shape("rand", shape), float_dtype("rand", dtype)
    if kind == FLOAT16:  # multiples of 2⁻¹¹, as float32 numbers would round up to 1
        with drawing() as rng:
            values = (rng.integers(2**11, size=lengths) / 2**11).astype(kind)
    else:
        with drawing() as rng:
            values = rng.random(lengths, kind)
    return _drawn(values, device, requires_grad)


def randn(*shape: Any, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """Random numbers of the normal distribution with mean 0 and variance 1; otherwise as `rand`."""
    lengths, kind = _shape("randn", shape), float_dtype("randn", dtype)
    with drawing() as rng:
        values = rng.standard_normal(lengths).astype(kind)
    return _drawn(values, device, requires_grad)


def rand_like(x: Tensor, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """Random numbers as of `rand`, of the shape of x; by default with its dtype, on its device."""
    return rand(x.shape, dtype=dtype or x.dtype, device=device or x.device, requires_grad=requires_grad)


def randn_like(x: Tensor, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """Random numbers as of `randn`, of the shape of x; by default with its dtype, on its device."""
    return randn(x.shape, dtype=dtype or x.dtype, device=device or x.device, requires_grad=requires_grad)


def randint(
    low: int = 0,
    high: Any = None,
    size: Any = None,
    dtype: DType = None,
    device: Place = None,
    requires_grad: bool = False,
) -> Tensor:
    """Random integers from `low` up to `high`, which is excluded: `randint(10, (2, 3))` or `randint(-5, 10, (2, 3))`.

    int64 by default. After `manual_seed` they are the same on every device.

    Raises:
        OverflowError: a number is out of the range of an integer dtype.
        TypeError: `low` or `high` is not an integer, or `size` is missing.
        ValueError: `high` is not above `low`; a length is negative or not an integer.

    >>> import tinygrad_lstm as tg
    >>> tg.randint(10, (2, 3)).shape
    (2, 3)
    """
    if size is None:
        if not isinstance(high, tuple | list):
            raise TypeError("randint: size is missing; expected randint(high, size) or randint(low, high, size)")
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    low, high = integer("randint", "low", low), integer("randint", "high", high)
    if low >= high:
        raise ValueError(f"randint: no integers from low, {low}, up to high, {high}, which is excluded")
    lengths, kind = _shape("randint", (size,)), checked_dtype(dtype or np.int64)
    check_bounds("randint", [low, high - 1], kind)
    with drawing() as rng:
        values = rng.integers(low, high, lengths, kind if is_integer(kind) else np.int64)
    return _drawn(values.astype(kind), device, requires_grad)


def randint_like(
    x: Tensor,
    low: int,
    high: int | None = None,
    dtype: DType = None,
    device: Place = None,
    requires_grad: bool = False,
) -> Tensor:
    """Random integers as of `randint`, of the shape of x; by default with its dtype, on its device."""
    return randint(low, high, x.shape, dtype or x.dtype, device or x.device, requires_grad)


def randperm(n: int, dtype: DType = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """The integers from 0 to n - 1 in random order; int64 by default. The same on every device after `manual_seed`.

    Raises:
        OverflowError: n - 1 is out of the range of an integer dtype.
        TypeError: n is not an integer.
        ValueError: n is negative.
    """
    (n,) = _shape("randperm", (integer("randperm", "n", n),))
    kind = checked_dtype(dtype or np.int64)
    check_bounds("randperm", max(n - 1, 0), kind)
    with drawing() as rng:
        values = rng.permutation(n)
    return _drawn(values.astype(kind), device, requires_grad)


def from_numpy(array: HostArray) -> Tensor:
    """A tensor on the CPU that shares memory with a NumPy array.

    Raises:
        TypeError: it is not a NumPy array, or tensors cannot have its dtype.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a NumPy array, got {type(array).__name__}; use tg.tensor to copy it")
    if checked_dtype(array.dtype) != array.dtype:
        raise TypeError(f"from_numpy: dtype {array.dtype.str!r} has a different byte order; use tg.tensor to copy it")
    return as_tensor(array, "cpu")


def from_dlpack(array: Any) -> Tensor:
    """A tensor that shares memory with an array of a different library, such as NumPy, CuPy, PyTorch or JAX.

    Raises:
        TypeError: it does not support DLPack, or tensors cannot have its dtype.
    """
    if not hasattr(array, "__dlpack__"):
        raise TypeError(f"from_dlpack: {type(array).__name__} does not support DLPack; use tg.tensor to copy it")
    cpu_kinds = (1, 3)  # kDLCPU, kDLCUDAHost
    kind, index = array.__dlpack_device__()
    place = get_device("cpu" if kind in cpu_kinds else f"cuda:{index}")
    with place.current():
        shared = place.xp.from_dlpack(array)
    checked_dtype(shared.dtype)
    return Tensor._wrap(shared, device_of(shared) or place)
