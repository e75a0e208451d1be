"""Dtypes: those that tensors may have, their dtypes of computation, their promotion, and their ranges.

Only this module makes decisions by dtype; the rest of the library calls it. dtypes are NumPy's, on every device.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from .base import HostArray

__all__ = [
    "BOOL",
    "DEFAULT_FLOAT",
    "FLOAT16",
    "FLOAT32",
    "FLOAT64",
    "INT64",
    "DType",
    "can_store",
    "check_bounds",
    "check_differentiable",
    "check_integers",
    "checked_dtype",
    "count_dtype",
    "dtype_of_numbers",
    "exact_integers",
    "fits",
    "float_dtype",
    "is_bool",
    "is_dtype",
    "is_float",
    "is_integer",
    "is_real",
    "is_string",
    "is_time",
    "limits",
    "promoted_dtype",
    "resolution",
    "smallest_dtype",
    "smallest_normal",
    "summed_dtype",
    "widened_dtype",
]

DType: TypeAlias = Any
"""A dtype, or a name or type that `numpy.dtype` accepts."""

FLOAT16, FLOAT32, FLOAT64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
INT64, BOOL = np.dtype(np.int64), np.dtype(np.bool_)

DEFAULT_FLOAT = FLOAT32
"""The dtype of Python floats, and of integers in ops that need floats."""


# -- Kinds of dtypes ---------------------------------------------------------------------------------------------------


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether it is a floating-point dtype: only tensors of such a dtype have gradients."""
    return dtype.kind == "f"


def is_integer(dtype: np.dtype[Any]) -> bool:
    """Whether it is an integer dtype, signed or unsigned; not bool."""
    return dtype.kind in "iu"


def is_bool(dtype: np.dtype[Any]) -> bool:
    """Whether it is bool."""
    return dtype.kind == "b"


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether it is a dtype of real numbers: bool, integers and floats."""
    return dtype.kind in "biuf"


def is_time(dtype: np.dtype[Any]) -> bool:
    """Whether it is NumPy's dtype of dates or of differences of times."""
    return dtype.kind in "mM"


def is_string(dtype: np.dtype[Any]) -> bool:
    """Whether it is NumPy's dtype of strings, or of Python objects, which strings may be."""
    return dtype.kind in "UO"


def is_dtype(value: Any) -> bool:
    """Whether a value is a dtype, a type or a dtype's name, rather than a device or its name."""
    if isinstance(value, np.dtype | type):
        return True
    return isinstance(value, str) and value in np.sctypeDict


def checked_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype, in the machine's byte order, if tensors can have it.

    Raises:
        TypeError: it is not float16, float32, float64, an integer dtype or bool.
    """
    checked: np.dtype[Any] = np.dtype(dtype)
    if checked.kind not in "fiub" or checked.itemsize > 8:
        raise TypeError(f"dtype {checked} is not supported; use float16, float32, float64, an integer type or bool")
    return np.dtype(checked.type)


def float_dtype(name: str, dtype: DType) -> np.dtype[Any]:
    """The dtype of an argument that must be a float, by default DEFAULT_FLOAT; `name` begins the message.

    Raises:
        TypeError: it is not a float.
    """
    checked = checked_dtype(dtype or DEFAULT_FLOAT)
    if not is_float(checked):
        raise TypeError(f"{name}: dtype is {checked}; expected float16, float32 or float64")
    return checked


def check_differentiable(dtype: np.dtype[Any]) -> None:
    """Raises TypeError if tensors of this dtype cannot require a gradient."""
    if not is_float(dtype):
        raise TypeError(
            f"requires_grad: only float tensors have gradients, this one is {dtype}; use .to(dtype='float32')"
        )


# -- dtypes of results -------------------------------------------------------------------------------------------------


def widened_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The float dtype to compute in before the result is rounded: float64 for float64, otherwise float32.

    Sums in float16 would soon be inexact, or beyond its largest number, 65504.
    """
    return FLOAT64 if dtype == FLOAT64 else FLOAT32


def promoted_dtype(dtypes: Iterable[np.dtype[Any]], needs_float: bool = False) -> np.dtype[Any]:
    """The dtype of the result of an op on operands of these dtypes.

    NumPy's promotion, except that integers and bool never widen a float: int64 with float32 is float32.

    Args:
        needs_float: whether operands without a float become DEFAULT_FLOAT, as for `exp` or with 0.5.
    """
    dtypes = list(dtypes)
    floats = [dtype for dtype in dtypes if is_float(dtype)]
    if needs_float and not floats:
        return DEFAULT_FLOAT
    return np.result_type(*(floats or dtypes))


def dtype_of_numbers(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a tensor of Python numbers, given that of NumPy's array of them.

    Floats become DEFAULT_FLOAT. Integers become int64 on every platform; NumPy's have 32 bits in WebAssembly.
    """
    if dtype == FLOAT64:
        return DEFAULT_FLOAT
    return INT64 if dtype == np.dtype(int) else dtype


def summed_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the sum of integers or bool: 64 bits on every platform."""
    return np.dtype(np.uint64) if dtype.kind == "u" else INT64


def smallest_dtype(number: int) -> np.dtype[Any]:
    """The smallest dtype of the integers from 0 to `number`."""
    smallest: np.dtype[Any] = np.min_scalar_type(number)
    return smallest


def count_dtype(number: int) -> np.dtype[Any]:
    """The integer dtype for numbers up to `number`, of 32 bits if they suffice."""
    return np.dtype(np.int32) if number < 2**31 else INT64


def can_store(dtype: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether values of a dtype may be written into a tensor of `target`: floats not into integers, numbers not into
    bool. float64 may be written into float32, and is rounded."""
    return np.can_cast(dtype, target, "same_kind")


# -- Ranges of dtypes --------------------------------------------------------------------------------------------------


def limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The smallest and the largest finite number of a dtype, as Python numbers."""
    if is_bool(dtype):
        return 0, 1
    if is_float(dtype):
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def smallest_normal(dtype: np.dtype[Any]) -> float:
    """The smallest positive normal number: `torch.finfo(dtype).tiny`."""
    return float(np.finfo(dtype).tiny)


def resolution(dtype: np.dtype[Any]) -> float:
    """The distance from 1 to the next number: `torch.finfo(dtype).eps`."""
    return float(np.finfo(dtype).eps)


def fits(dtype: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether each value of a dtype is within the range of `target`."""
    return np.can_cast(dtype, target)


def check_bounds(name: str, numbers: Any, dtype: np.dtype[Any]) -> None:
    """Raises if `dtype` is an integer dtype and one of the numbers, rounded towards 0, is out of its range.

    Args:
        name: the beginning of the message.
        numbers: a number, an array on the host, or nested lists of numbers.
        dtype: the dtype of the result; a float or bool has no bounds.

    Raises:
        OverflowError: a number is out of the dtype's range, or infinite.
        ValueError: a number is NaN.
    """
    if not is_integer(dtype):
        return
    lowest, highest = limits(dtype)
    if type(numbers) is int and lowest <= numbers <= highest:
        return
    values = np.asarray(numbers)
    if values.dtype == dtype or values.dtype.kind not in "iufO":
        return
    whole = np.trunc(values.astype(np.float64)) if is_float(values.dtype) else values
    # highest + 1 is a power of two, which is exact as a float. NaN is outside of any range.
    outside = ~((whole >= lowest) & (whole < highest + 1))
    if outside.any():
        wrong = values[outside].flat[0]
        kind = ValueError if wrong != wrong else OverflowError
        raise kind(f"{name}: {wrong} is out of bounds for {dtype}, which holds {lowest} to {highest}")


def check_integers(name: str, data: Any, made: HostArray) -> None:
    """Raises OverflowError if `data` has Python integers too large for int64; `made` is NumPy's array of it."""
    exact = exact_integers(data, made)
    if exact is not made:
        check_bounds(name, exact, INT64)


def exact_integers(data: Any, made: HostArray) -> HostArray:
    """`made`, NumPy's array of `data`; or one of Python integers, if `data` has only these but `made` has floats."""
    if made.dtype.kind not in "fO":
        return made
    first = data
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if type(first) is int:
        exact = np.array(data, dtype=object)
        if all(type(value) is int for value in exact.flat):
            return exact
    return made
