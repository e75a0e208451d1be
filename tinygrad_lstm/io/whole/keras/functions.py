"""The activation functions of Keras, by name, with the meaning that they have in a version of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from .... import ops
from ...._tensor import Tensor
from ...errors import shown
from ...keras.config import is_layer
from .rules import UnsupportedError

__all__ = ["Function", "function_of", "named_function"]

Function: TypeAlias = Callable[[Tensor], Tensor]


def linear(x: Tensor) -> Tensor:
    return x


def softmax(x: Tensor) -> Tensor:
    return ops.softmax(x, dim=-1)


def log_softmax(x: Tensor) -> Tensor:
    return ops.log_softmax(x, dim=-1)


def hard_sigmoid_of_2(x: Tensor) -> Tensor:
    """0.2 x + 0.5, limited to [0, 1]."""
    return ops.clamp(x * 0.2 + 0.5, 0.0, 1.0)


def leaky_relu(x: Tensor) -> Tensor:
    return ops.leaky_relu(x, 0.2)


def gelu_tanh(x: Tensor) -> Tensor:
    return ops.gelu(x, "tanh")


def hard_silu(x: Tensor) -> Tensor:
    return x * ops.hardsigmoid(x)


def soft_shrink(x: Tensor) -> Tensor:
    return ops.where(x > 0.5, x - 0.5, ops.where(x < -0.5, x + 0.5, 0.0))


def hard_shrink(x: Tensor) -> Tensor:
    return ops.where(ops.abs(x) > 0.5, x, 0.0)


def tanh_shrink(x: Tensor) -> Tensor:
    return x - ops.tanh(x)


def squareplus(x: Tensor) -> Tensor:
    return (x + ops.sqrt(x * x + 4.0)) * 0.5


def sparse_sigmoid(x: Tensor) -> Tensor:
    return ops.clamp(x * 0.5 + 0.5, 0.0, 1.0)


def sparse_plus(x: Tensor) -> Tensor:
    return ops.where(x >= 1.0, x, ops.where(x <= -1.0, 0.0, (x + 1.0) * (x + 1.0) * 0.25))


_FUNCTIONS: dict[str, Function] = {
    "linear": linear,
    "relu": ops.relu,
    "relu6": ops.relu6,
    "leaky_relu": leaky_relu,
    "sigmoid": ops.sigmoid,
    "hard_sigmoid": ops.hardsigmoid,
    "tanh": ops.tanh,
    "hard_tanh": ops.hardtanh,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "softplus": ops.softplus,
    "softsign": ops.softsign,
    "elu": ops.elu,
    "celu": ops.elu,
    "selu": ops.selu,
    "gelu": ops.gelu,
    "silu": ops.silu,
    "swish": ops.silu,
    "hard_silu": hard_silu,
    "hard_swish": hard_silu,
    "mish": ops.mish,
    "exponential": ops.exp,
    "log_sigmoid": ops.logsigmoid,
    "glu": ops.glu,
    "soft_shrink": soft_shrink,
    "hard_shrink": hard_shrink,
    "tanh_shrink": tanh_shrink,
    "squareplus": squareplus,
    "sparse_sigmoid": sparse_sigmoid,
    "sparse_plus": sparse_plus,
}

_IN_KERAS_2: dict[str, Function] = {"hard_sigmoid": hard_sigmoid_of_2}


def function_of(setting: Any, keras: int) -> Function:
    """The function of a setting `activation`.

    Raises:
        UnsupportedError: it is not one of Keras's functions.
    """
    name = named_function(setting)
    found = (_IN_KERAS_2 if keras == 2 else {}).get(name) or _FUNCTIONS.get(name)
    if found is None:
        raise UnsupportedError(f"the activation {shown(name)}")
    return found


def named_function(setting: Any) -> str:
    """The name of a function in a config: a string, or a description of the function."""
    if setting is None:
        return "linear"
    if is_layer(setting):
        return str(setting["config"] if isinstance(setting["config"], str) else setting["class_name"])
    return str(setting)
