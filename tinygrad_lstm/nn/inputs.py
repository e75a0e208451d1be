"""Checks of a module's inputs: tuples are refused, and floats whose dtype differs from the parameters'."""

from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor

__all__ = ["check_input"]


def check_input(name: str, what: str, given: Any, like: Tensor | None) -> None:
    """Checks an input of a module, or a tensor that belongs to it, such as a state.

    Ops promote dtypes: a float64 input of a float32 model would turn all later results into float64.

    Args:
        name: the module's name.
        what: the name of the input.
        given: the tensor or array. Integers, numbers and lists of numbers are left to the ops.
        like: a parameter, if the module has one. Floats must have its dtype.

    Raises:
        TypeError: `given` has a different float dtype than `like`, or is a tuple that contains tensors.
    """
    if isinstance(given, tuple) and any(isinstance(part, Tensor) for part in given):
        raise TypeError(
            f"{name}: {what} is a tuple of {len(given)}; expected a tensor, such as the first of what an LSTM returns"
        )
    dtype = getattr(given, "dtype", None)
    if like is None or dtype is like.dtype or not isinstance(dtype, np.dtype) or not is_float(dtype):
        return
    if dtype != like.dtype:
        raise TypeError(
            f"{name}: {what} is {dtype}, but the parameters are {like.dtype}; convert it, or the module, "
            f"with .to(dtype='{like.dtype}') or .to(dtype='{dtype}')"
        )
