"""Activations, softmax and biases."""

from ..... import ops
from ....._tensor import Tensor
from ..rules import rule

__all__ = ["bias_add"]


@rule("Sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    return ops.sigmoid(x)


@rule("Tanh")
def tanh(x: Tensor) -> Tensor:
    return ops.tanh(x)


@rule("Relu")
def relu(x: Tensor) -> Tensor:
    return ops.relu(x)


@rule("Relu6")
def relu6(x: Tensor) -> Tensor:
    return ops.relu6(x)


@rule("Elu")
def elu(x: Tensor) -> Tensor:
    return ops.elu(x)


@rule("Selu")
def selu(x: Tensor) -> Tensor:
    return ops.selu(x)


@rule("LeakyRelu")
def leaky_relu(x: Tensor, *, alpha: float = 0.2) -> Tensor:
    return ops.leaky_relu(x, alpha)


@rule("Prelu")
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return ops.where(x > 0, x, alpha * x)


@rule("Softplus")
def softplus(x: Tensor) -> Tensor:
    return ops.softplus(x, threshold=1e3)


@rule("Softsign")
def softsign(x: Tensor) -> Tensor:
    return ops.softsign(x)


@rule("Softmax")
def softmax(x: Tensor) -> Tensor:
    return ops.softmax(x, -1)


@rule("LogSoftmax")
def log_softmax(x: Tensor) -> Tensor:
    return ops.log_softmax(x, -1)


@rule("BiasAdd")
def bias_add(x: Tensor, bias: Tensor, *, data_format: str = "NHWC") -> Tensor:
    if data_format == "NCHW":
        return x + bias.reshape((-1,) + (1,) * (x.ndim - 2))
    return x + bias
