"""The activation functions of LSTM, GRU and RNN, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.kinds import Activation

__all__ = ["ACTIVATIONS", "Activation", "function_of", "functions_of", "is_activation"]


def identity(x: Tensor) -> Tensor:
    return x


def hard_sigmoid(x: Tensor, alpha: float = 1 / 6, beta: float = 0.5) -> Tensor:
    """alpha x + beta, limited to [0, 1]; the default is PyTorch's and Keras 3's."""
    return ops.hardsigmoid(x) if (alpha, beta) == (1 / 6, 0.5) else ops.clamp(x * alpha + beta, 0.0, 1.0)


def leaky_relu(x: Tensor, alpha: float = 0.01) -> Tensor:
    return ops.leaky_relu(x, alpha)


def thresholded_relu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return ops.where(x > alpha, x, 0.0)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return ops.elu(x, alpha)


def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return ops.elu(x / alpha) * alpha if alpha != 1 else ops.elu(x)


def affine(x: Tensor, alpha: float = 1.0, beta: float = 0.0) -> Tensor:
    return x * alpha + beta


def scaled_tanh(x: Tensor, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    """alpha tanh(beta x)."""
    return ops.tanh(x * beta) * alpha


def gelu_tanh(x: Tensor) -> Tensor:
    return ops.gelu(x, "tanh")


def hard_silu(x: Tensor) -> Tensor:
    return x * ops.hardsigmoid(x)


def softmax(x: Tensor) -> Tensor:
    return ops.softmax(x, dim=-1)


def log_softmax(x: Tensor) -> Tensor:
    return ops.log_softmax(x, dim=-1)


def soft_shrink(x: Tensor, alpha: float = 0.5) -> Tensor:
    return x - ops.clamp(x, -alpha, alpha)


def hard_shrink(x: Tensor, alpha: float = 0.5) -> Tensor:
    return ops.where(ops.abs(x) > alpha, x, 0.0)


def tanh_shrink(x: Tensor) -> Tensor:
    return x - ops.tanh(x)


def squareplus(x: Tensor, alpha: float = 4.0) -> Tensor:
    return (x + ops.sqrt(x * x + alpha)) * 0.5


def sparse_sigmoid(x: Tensor) -> Tensor:
    return ops.clamp(x * 0.5 + 0.5, 0.0, 1.0)


def sparse_plus(x: Tensor) -> Tensor:
    return ops.where(x >= 1.0, x, ops.square(ops.clamp(x, -1.0, 1.0) + 1.0) * 0.25)


ACTIVATIONS: Mapping[str, Callable[..., Tensor]] = {
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "relu": ops.relu,
    "hard_sigmoid": hard_sigmoid,
    "softsign": ops.softsign,
    "softplus": ops.softplus,
    "identity": identity,
    "leaky_relu": leaky_relu,
    "thresholded_relu": thresholded_relu,
    "relu6": ops.relu6,
    "elu": elu,
    "celu": celu,
    "selu": ops.selu,
    "affine": affine,
    "scaled_tanh": scaled_tanh,
    "hard_tanh": ops.hardtanh,
    "exp": ops.exp,
    "silu": ops.silu,
    "hard_silu": hard_silu,
    "gelu": ops.gelu,
    "gelu_tanh": gelu_tanh,
    "mish": ops.mish,
    "log_sigmoid": ops.logsigmoid,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "soft_shrink": soft_shrink,
    "hard_shrink": hard_shrink,
    "tanh_shrink": tanh_shrink,
    "squareplus": squareplus,
    "sparse_sigmoid": sparse_sigmoid,
    "sparse_plus": sparse_plus,
}
"""The functions by name."""

_NUMBERS = {
    "hard_sigmoid": 2,
    "leaky_relu": 1,
    "thresholded_relu": 1,
    "elu": 1,
    "celu": 1,
    "affine": 2,
    "scaled_tanh": 2,
    "soft_shrink": 1,
    "hard_shrink": 1,
    "squareplus": 1,
}
"""How many of the numbers alpha and beta a function has; the others have none."""


def function_of(activation: Activation) -> Callable[[Tensor], Tensor]:
    """The function of a name, or of a name and its numbers."""
    if isinstance(activation, str):
        return ACTIVATIONS[activation]
    name, *numbers = activation
    return partial(ACTIVATIONS[str(name)], **dict(zip(("alpha", "beta"), numbers, strict=False)))


def functions_of(activations: Iterable[Activation]) -> list[Callable[[Tensor], Tensor]]:
    """The functions of several activations."""
    return list(map(function_of, activations))


def is_activation(value: object) -> bool:
    """Whether it is a name, or a tuple of a name and of numbers that its function has."""
    name, *numbers = value if isinstance(value, tuple) and value else (value,)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        return False
    return len(numbers) <= _NUMBERS.get(name, 0) and all(type(each) in (int, float) for each in numbers)
