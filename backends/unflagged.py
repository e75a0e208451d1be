"""NumPy's functions without the warnings of values whose result is right all the same."""

from collections.abc import Callable
from contextvars import Context
from typing import Any

import numpy as np

__all__ = ["unflagged"]

_NO_WARNING = Context()
_NO_WARNING.run(np.errstate(over="ignore", invalid="ignore").__enter__)
# For an exponential only a signaling NaN is invalid, which the memory can hold that steps are traced with. OpenBLAS
# computes with what its stack holds beside the elements of small matrices, and leaves that out of the product.


def unflagged(xp: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` of the array module `xp`, such as an exponential or `matmul`, without NumPy's warnings.

    NumPy keeps that state in a context variable. To run in a context that has it takes much less time than to set it,
    which is four times that of a small array's exponential.
    """
    if xp is np:
        return _NO_WARNING.copy().run(function, *arguments)
    with np.errstate(over="ignore", invalid="ignore"):
        return function(*arguments)
