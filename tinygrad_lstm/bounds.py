"""What an integer dtype can hold: numbers beyond its range, and NaN, are refused."""

from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

__all__ = ["check_bounds", "check_integers", "exact_integers"]


def check_bounds(name: str, numbers: Any, dtype: np.dtype[Any]) -> None:
    """Raises if `dtype` is of integers and cannot hold one of the numbers, without what follows its decimal point.

    Args:
        name: what the error begins with.
        numbers: a number, an array on the host, or nested lists of numbers.
        dtype: the dtype that they are to have.

    Raises:
        OverflowError: a number is beyond the dtype's range, or infinite.
        ValueError: a number is NaN.
    """
    if dtype.kind not in "iu":
        return
    limits = np.iinfo(dtype)
    if type(numbers) is int and limits.min <= numbers <= limits.max:
        return
    values = np.asarray(numbers)
    if values.dtype == dtype or values.dtype.kind not in "iufO":
        return
    whole = np.trunc(values.astype(np.float64)) if values.dtype.kind == "f" else values
    # Below the largest and 1, a power of two, which a float holds exactly; NaN is not within anything.
    outside = ~((whole >= limits.min) & (whole < limits.max + 1))
    if outside.any():
        wrong = values[outside].flat[0]
        kind = ValueError if wrong != wrong else OverflowError
        raise kind(f"{name}: {wrong} is out of bounds for {dtype}, which holds {limits.min} to {limits.max}")


def check_integers(name: str, data: Any, made: HostArray) -> None:
    """Raises OverflowError if `made`, NumPy's array of `data`, is none of integers because these are too large."""
    exact = exact_integers(data, made)
    if exact is not made:
        check_bounds(name, exact, np.dtype(np.int64))


def exact_integers(data: Any, made: HostArray) -> HostArray:
    """`made`, NumPy's array of `data`; or Python's integers, where `data` holds these alone but NumPy made floats."""
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
