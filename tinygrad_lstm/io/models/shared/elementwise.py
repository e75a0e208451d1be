"""Arithmetic of tensors and of numbers on the host."""

from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import is_float

from .... import ops
from ...._tensor import Tensor
from ..rules import Operand, is_known

__all__ = ["divided"]


def divided(a: Operand, b: Operand) -> Any:
    found = a if isinstance(a, Tensor) else b
    if isinstance(found, Tensor):
        divide: Any = ops.div
        return divide(a, b, rounding_mode=None if is_float(found.dtype) else "trunc")
    quotient: Any = np.frompyfunc(_quotient, 2, 1)(a, b)
    return np.asarray(quotient, np.asarray(a).dtype) if is_known(a, b) else quotient


def _quotient(a: Any, b: Any) -> Any:
    """a / b of Python's numbers: that of integers is rounded toward zero."""
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    return a // b if (a < 0) == (b < 0) else -(-a // b)
