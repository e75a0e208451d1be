"""What modules refuse as inputs: floats of another dtype than their parameters', and tuples."""

from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor

__all__ = ["check_input"]


def check_input(name: str, what: str, given: Any, like: Tensor | None) -> None:
    """Raises unless a module of that name can take an input, or another tensor that goes with one.

    Ops promote: a float64 array among the inputs of a float32 model would turn all that follows into float64.

    Args:
        name: the module's.
        what: what the tensor is to the module.
        given: the tensor or array; integers, numbers and lists of them are left to the ops.
        like: a parameter, if the module has one, whose dtype floats must have.

    Raises:
        TypeError: `given` is of floats of another dtype than `like`; or a tuple with tensors in it.
    """
    if isinstance(given, tuple) and any(isinstance(part, Tensor) for part in given):
        raise TypeError(
            f"{name}: {what} is a tuple of {len(given)}; expected a tensor, such as the first of what an LSTM gives"
        )
    dtype = getattr(given, "dtype", None)
    if like is None or dtype is like.dtype or not isinstance(dtype, np.dtype) or not is_float(dtype):
        return
    if dtype != like.dtype:
        raise TypeError(
            f"{name}: {what} is {dtype}, but the parameters are {like.dtype}; convert it, or the module, "
            f"with .to(dtype='{like.dtype}') or .to(dtype='{dtype}')"
        )
