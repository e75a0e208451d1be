"""The activation functions of layers, with the meaning that they have in a version of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from tinygrad_lstm.models.activations import function_of

from .... import ops
from ...._tensor import Tensor
from ....creation import arange
from ...errors import shown
from ...keras.config import activation_name, activation_of, is_custom, is_layer, layer_config
from .rules import UnsupportedError, built
from .spec import Spec

__all__ = ["Function", "activation_function", "sparsemax"]

Function: TypeAlias = Callable[[Tensor], Tensor]


def sparsemax(x: Tensor, axis: int = -1) -> Tensor:
    """relu(x - τ), as Keras computes it.

    Its τ is different from that of Martins & Astudillo 2016 if several elements are above τ: it contains the sum of the
    cumulative sums, not the last one. Models were trained with it.
    """
    ordered = ops.sort(x.movedim(axis, -1), -1, True)[0]
    sums = ops.cumsum(ordered, dim=-1)
    counts = arange(1, ordered.shape[-1] + 1, dtype=x.dtype, device=x.device)
    above = ordered > (sums - 1.0) / counts
    number = ops.sum(above.astype(x.dtype), dim=-1, keepdim=True)
    limit = (ops.sum(ops.where(above, sums, 0.0), dim=-1, keepdim=True) - 1.0) / number
    return ops.relu(x - limit.movedim(-1, axis))


_OF_ROWS: dict[str, Function] = {"glu": ops.glu, "sparsemax": sparsemax}
"""Functions of all elements along the last dimension, which recurrent layers do not have."""

_LAYERS = ("ReLU", "Softmax", "ThresholdedReLU")
"""Layers without arrays that may be an activation, beside those that recurrent layers have."""


def activation_function(setting: Any, keras: int) -> Function:
    """The function of a setting `activation`.

    Raises:
        UnsupportedError: it is not one of Keras's functions.
    """
    if (name := activation_name(setting)) in _OF_ROWS:
        return _OF_ROWS[name]
    if is_layer(setting) and setting["class_name"] in _LAYERS:
        return built(Spec(name, "", layer_config(setting), "", keras, custom=is_custom(setting)), {}).function
    found = activation_of(setting, keras)
    if found is None:
        raise UnsupportedError(f"the activation {shown(name)}")
    return function_of(found)
