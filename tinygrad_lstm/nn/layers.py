"""Layers: modules that own the parameters of the ops of the same names."""

import math
from typing import Any

from .. import ops
from .._tensor import Tensor
from ..arguments import integer
from ..creation import zeros
from . import init
from .inputs import check_input
from .module import Module
from .parameter import Parameter

__all__ = ["Dropout", "Embedding", "Linear"]


def check_positive(layer: str, **settings: int) -> None:
    for name, value in settings.items():
        if integer(layer, name, value) < 1:
            raise ValueError(f"{layer}: {name} must be 1 or more, got {value}")


def uniform_by_fan_in(*shape: int, fan_in: int) -> Parameter:
    """Weights uniform within ±1/√fan_in (LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998)."""
    bound = 1 / math.sqrt(fan_in)
    return init.uniform_(Parameter(zeros(shape)), -bound, bound)


class Linear(Module):
    """y = x Wᵀ + b: (..., in_features) to (..., out_features).

    Parameters: `weight` (out_features, in_features) and `bias` (out_features,), uniform within ±1/√in_features.

    Raises:
        TypeError: a length is not an integer.
        ValueError: a length is below 1.
    """

    adaptable = ("weight",)

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        check_positive("Linear", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = uniform_by_fan_in(out_features, in_features, fan_in=in_features)
        self.bias = uniform_by_fan_in(out_features, fan_in=in_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.adapted("weight")
        check_input("Linear", "x", x, weight)
        return ops.linear(x, weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


class Embedding(Module):
    """A vector for each id: integers (...) below num_embeddings to (..., embedding_dim).

    Parameters: `weight` (num_embeddings, embedding_dim), normal with mean 0 and variance 1.

    Args:
        padding_idx: the id of padding. Its row is initialized with zeros and gets no gradient. A negative id counts
            from the end.

    Raises:
        TypeError: a length is not an integer.
        ValueError: a length is below 1.
        IndexError: `padding_idx` is out of range.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        check_positive("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None:
            padding_idx = integer("Embedding", "padding_idx", padding_idx)
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise IndexError(f"Embedding: padding_idx {padding_idx} is not an id of {num_embeddings} embeddings")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = init.normal_(Parameter(zeros(num_embeddings, embedding_dim)))
        if self.padding_idx is not None:
            init.zeros_(self.weight.detach()[self.padding_idx])

    def forward(self, ids: Any) -> Tensor:
        check_input("Embedding", "ids", ids, None)
        return ops.embedding(ids, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Dropout(Module):
    """In training, sets each element to 0 with probability p and divides the others by 1 - p; otherwise the identity.

    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout" (2014).

    Raises:
        ValueError: p is not within [0, 1].
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must be within [0, 1], got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        check_input("Dropout", "x", x, None)
        return ops.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
