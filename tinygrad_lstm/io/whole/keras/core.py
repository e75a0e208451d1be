"""Layers that are products, tables and functions of single elements."""

from __future__ import annotations

from functools import partial
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ...._tensor import Tensor, tensor
from ....nn import Dropout, Embedding, Linear, Module, Parameter
from .functions import Function, function_of
from .rules import Layer, Weights, layer

__all__ = ["parameter"]


def parameter(array: HostArray) -> Parameter:
    """A parameter with the values of an array."""
    return Parameter(tensor(array))


@layer("InputLayer")
def input_layer(
    *, sparse: bool = False, ragged: bool = False, optional: bool = False, input_tensor: Any = None
) -> Layer:
    return Layer(_same)


def _same(x: Tensor) -> Tensor:
    return x


@layer("Dense", weights=("kernel", "bias if use_bias"))
def dense(weights: Weights, *, units: int, activation: Any = None, use_bias: bool = True, keras: int) -> Layer:
    kernel = weights["kernel"]
    inputs, outputs = kernel.shape
    linear = Linear(inputs, outputs, bias=use_bias)
    linear.weight = parameter(kernel.T)
    if use_bias:
        linear.bias = parameter(weights["bias"])
    return Layer(partial(activated, activation=function_of(activation, keras)), linear, mask="keep")


def activated(module: Module, x: Tensor, activation: Function) -> Tensor:
    """A module's output, then a function of it."""
    out: Tensor = activation(module(x))
    return out


@layer("Embedding", weights=("embeddings",))
def embedding(
    weights: Weights, *, input_dim: int, output_dim: int, mask_zero: bool = False, input_length: Any = None
) -> Layer:
    table = weights["embeddings"]
    module = Embedding(*table.shape)
    module.weight = parameter(table)
    return Layer(_embedded, module, mask=_not_zero if mask_zero else None, makes_mask=mask_zero)


def _embedded(module: Module, ids: Tensor) -> Tensor:
    out: Tensor = module(ids.astype("int64") if is_float(ids.dtype) else ids)
    return out


def _not_zero(ids: Tensor, mask: Any) -> Tensor:
    return ids != 0


@layer("Dropout")
def dropout(*, rate: float, noise_shape: Any = None) -> Layer:
    return Layer(Module.__call__, Dropout(rate), mask="keep")


@layer("Activation")
def activation(*, activation: Any, keras: int) -> Layer:
    return Layer(function_of(activation, keras), mask="keep")
