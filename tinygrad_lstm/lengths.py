"""Numbers of a traced run that are computed from the lengths of its inputs, with their expressions.

While a run is traced, `Tensor.shape` returns each free length as a `Length`, which acts as the integer of this run.
Arithmetic records the expression of a number, so that an op receives `x.shape[0] // 2` as this expression. It is not a
subclass of `int`, as `1.0 * n` would then be a plain float. NumPy and other code in C make plain numbers of it.
"""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Derived", "Length", "Quotient", "Size", "evaluated", "key", "plain", "sources"]

How: TypeAlias = tuple[str, Any, Any]
"""The name of a function of `operator`, and its operands."""


def _carried(kind: str) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """The methods of an operator for a derived number on its left, and on its right."""

    def left(self: Any, other: Any) -> Any:
        return _derived(kind, self, other)

    def right(self: Any, other: Any) -> Any:
        return _derived(kind, other, self)

    return left, right


def _as_plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method that uses the plain integer, so that the expression is lost."""
    return lambda self, *others: function(plain(self), *map(plain, others))


class Derived:
    """A number that is computed from the lengths of the inputs.

    Args:
        before: its value in the measured run.
        now: its value in the traced run.
        how: its expression; None for the length of a tensor.

    Attributes:
        values: its values in both runs.
        key: equal for numbers with the same expression of the same lengths.
    """

    def __init__(self, before: Any, now: Any, how: How | None = None) -> None:
        self.values = (before, now)
        self.how = how
        self.key: Any = object() if how is None else (how[0], key(how[1]), key(how[2]))

    __add__, __radd__ = _carried("add")
    __sub__, __rsub__ = _carried("sub")
    __mul__, __rmul__ = _carried("mul")
    __truediv__, __rtruediv__ = _carried("truediv")

    def __neg__(self) -> Any:
        return 0 - self

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or a pickled one, is a plain number."""
        return type(self.values[1]), (self.values[1],)


class Quotient(Derived, float):
    """A float of a traced run that is computed from the lengths of the inputs, such as 1 / x.shape[0]."""

    def __new__(cls, before: float, now: float, how: How | None = None) -> "Quotient":
        """A float with the value of the traced run."""
        return float.__new__(cls, now)

    def __floor__(self) -> Any:
        kind, a, b = self.how or ("", 0, 0)
        whole = kind == "truediv" and isinstance(a, int | Length) and isinstance(b, int | Length)
        return a // b if whole else math.floor(plain(self))

    def __ceil__(self) -> Any:
        kind, a, b = self.how or ("", 0, 0)
        return -math.floor(_derived("truediv", -a, b)) if kind == "truediv" else math.ceil(plain(self))


class Length(Derived):
    """An integer of a traced run that is computed from the lengths of the inputs. It compares like the integer.

    Attributes:
        source: for the length of a tensor, the object that represents the tensor.
    """

    values: tuple[int, int]
    source: Any = None

    __floordiv__, __rfloordiv__ = _carried("floordiv")
    __mod__, __rmod__ = _carried("mod")

    def __round__(self, digits: int | None = None) -> Any:
        return self if digits is None or digits >= 0 else round(plain(self), digits)

    __pos__ = __trunc__ = __floor__ = __ceil__ = __round__

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __lshift__(self, other: Any) -> Any:
        return self * 2**other

    def __rshift__(self, other: Any) -> Any:
        return self // 2**other

    def __rlshift__(self, other: Any) -> Any:
        return other << plain(self)

    def __rrshift__(self, other: Any) -> Any:
        return other >> plain(self)

    __eq__, __lt__, __le__, __gt__, __ge__ = map(
        _as_plain, (operator.eq, operator.lt, operator.le, operator.gt, operator.ge)
    )
    __hash__ = _as_plain(hash)
    __bool__ = _as_plain(bool)
    __repr__ = _as_plain(repr)
    __format__ = _as_plain(format)
    __int__ = __index__ = _as_plain(int)
    __float__ = _as_plain(float)
    __abs__ = _as_plain(abs)
    __pow__ = _as_plain(pow)

    __and__ = __rand__ = _as_plain(operator.and_)
    __or__ = __ror__ = _as_plain(operator.or_)
    __xor__ = __rxor__ = _as_plain(operator.xor)
    __invert__ = _as_plain(operator.invert)

    def __rpow__(self, other: Any) -> Any:
        return other ** plain(self)

    def __getattr__(self, name: str) -> Any:
        """Other attributes of an integer, such as `bit_length`."""
        return getattr(int(self), name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(plain(self), dtype)


Size: TypeAlias = int | Length

_NEUTRAL = {("add", 0), ("sub", 0), ("mul", 1), ("floordiv", 1)}


def _derived(kind: str, a: Any, b: Any) -> Any:
    """Applies a function of `operator` to two numbers, at least one of which is derived."""
    a, b = (number.item() if isinstance(number, np.generic) else number for number in (a, b))
    if not isinstance(a, int | float | Length) or not isinstance(b, int | float | Length):
        return NotImplemented
    if type(b) is int and (kind, b) in _NEUTRAL:
        return a
    function: Callable[[Any, Any], Any] = getattr(operator, kind)
    now = function(plain(a), plain(b))
    if isinstance(now, float) and kind in ("floordiv", "mod"):
        return now
    try:
        before = function(_before(a), _before(b))
    except ZeroDivisionError:  # the measured run did not compute it
        before = 0
    return (Quotient if isinstance(now, float) else Length)(before, now, (kind, a, b))


def _before(number: Any) -> Any:
    return number.values[0] if isinstance(number, Derived) else number


def key(number: Any) -> Any:
    """Identifies a number: derived ones are equal if they have the same expression of the same lengths."""
    return number.key if isinstance(number, Derived) else number


def evaluated(number: Any, lengths: Mapping[tuple[Any, Any], int]) -> Any:
    """A number for these lengths of the inputs, by the lengths in both runs.

    Raises:
        KeyError: it depends on a different length.
    """
    if not isinstance(number, Derived) or number.values[0] == number.values[1]:
        return plain(number)
    if number.values in lengths:
        return lengths[number.values]
    if number.how is None:
        raise KeyError(number.values)
    kind, a, b = number.how
    return getattr(operator, kind)(evaluated(a, lengths), evaluated(b, lengths))


def sources(number: Any) -> list[Any]:
    """The sources of the lengths in a number's expression."""
    if not isinstance(number, Derived):
        return []
    if number.how is not None:
        return [source for operand in number.how[1:] for source in sources(operand)]
    return [number.source] if isinstance(number, Length) and number.source is not None else []


def plain(argument: Any) -> Any:
    """An argument with plain numbers instead of derived ones, also in lists, tuples and slices."""
    if isinstance(argument, Derived):
        return argument.values[1]
    if type(argument) in (list, tuple):
        return type(argument)(map(plain, argument))
    if type(argument) is slice:
        return slice(plain(argument.start), plain(argument.stop), plain(argument.step))
    return argument
