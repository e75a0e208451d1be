"""The activation functions of layers, with the meaning that they have in a version of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from tinygrad_lstm.models.activations import function_of

from .... import ops
from ...._tensor import Tensor
from ...errors import shown
from ...keras.config import activation_name, activation_of
from .rules import UnsupportedError

__all__ = ["Function", "activation_function"]

Function: TypeAlias = Callable[[Tensor], Tensor]


def activation_function(setting: Any, keras: int) -> Function:
    """The function of a setting `activation`.

    Raises:
        UnsupportedError: it is not one of Keras's functions.
    """
    if activation_name(setting) == "glu":
        return ops.glu
    found = activation_of(setting, keras)
    if found is None:
        raise UnsupportedError(f"the activation {shown(activation_name(setting))}")
    return function_of(found)
