"""Integers: checks of arguments that are dimensions, lengths or counts, of which none is a bool; and `x.size`."""

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from .lengths import Length

__all__ = ["ElementCount", "integer", "integers"]


def integer(name: str, argument: str, value: Any, expected: str = "an integer") -> int:
    """The value of an argument that must be an integer.

    Raises:
        TypeError: it is not an integer. A bool or a tensor is usually meant for a different argument.
    """
    if value.__class__ in (int, Length):
        return value  # type: ignore[return-value]
    advice = ""
    if isinstance(value, bool | np.bool_):
        advice = "; give flags by name"
    elif hasattr(value, "dtype") and not isinstance(value, np.generic):
        advice = "; use .item() for the number in a tensor"
        value = f"a {type(value).__name__} of shape {value.shape}"
    else:
        try:
            return int(operator.index(value))  # not of a subclass
        except TypeError:
            value = repr(value)
    raise TypeError(f"{name}: {argument} is {value}; expected {expected}{advice}")


def integers(name: str, argument: str, values: Iterable[Any], expected: str = "integers") -> tuple[int, ...]:
    """The values of an argument that must contain only integers.

    Raises:
        TypeError: as for `integer`.
    """
    return tuple([value if value.__class__ is int else integer(name, argument, value, expected) for value in values])


class ElementCount(int):
    """The number of elements of a tensor. Whoever calls it, as torch's `x.size(0)`, is told what to write."""

    __slots__ = ()

    def __call__(self, *dim: int) -> Any:
        raise TypeError("size: x.size is the number of elements; write x.shape[0] for x.size(0), x.shape for x.size()")

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)
