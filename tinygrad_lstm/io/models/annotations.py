"""Whether a value from a file is what the annotation of a rule's parameter says."""

import types
import typing
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["is_of"]


def is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type.

    Where a float is expected, an integer will do; where a Sequence is expected, a list or a tuple. A dtype is given by
    its number in the file.
    """
    if hint is Any:
        return True
    if isinstance(hint, types.UnionType):
        return any(is_of(value, each) for each in typing.get_args(hint))
    origin = typing.get_origin(hint)
    if origin in (list, Sequence):
        (of_each,) = typing.get_args(hint)
        return isinstance(value, list if origin is list else list | tuple) and all(
            is_of(each, of_each) for each in value
        )
    if hint == np.dtype[Any]:
        return isinstance(value, int)
    return isinstance(value, int | float if hint is float else origin or hint)
