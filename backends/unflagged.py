"""NumPy's functions without the warnings of values whose result is right all the same."""

from collections.abc import Callable
from contextvars import Context
from typing import Any

import numpy as np

__all__ = ["without_overflow_warning"]

_NO_WARNING = Context()
_NO_WARNING.run(np.errstate(over="ignore", invalid="ignore").__enter__)
# For an exponential only a signaling NaN is invalid, which the memory can hold that steps are traced with.


def without_overflow_warning(xp: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` of the array module `xp`, such as an exponential, without NumPy's warnings.

    NumPy keeps that state in a context variable. To run in a context that has it takes much less time than to set it,
    which is four times that of a small array's exponential.
    """
    if xp is np:
        return _NO_WARNING.copy().run(function, *arguments)
    with np.errstate(over="ignore", invalid="ignore"):
        return function(*arguments)
