"""Similarity of vectors, and losses that are 0 beyond a margin. Targets are 1 and -1."""

from typing import Any

from .._tensor import Tensor
from .activation import log1pexp
from .clamping import clamp
from .define import composite
from .elementwise import minimum, sqrt, where
from .loss import beside, of_same_shape, reduced
from .reduction import dim_of, narrowed, norm, widened

__all__ = [
    "cosine_embedding_loss",
    "cosine_similarity",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
]


@composite
def cosine_similarity(x1: Tensor, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1·x2 / (|x1|·|x2|) of vectors along `dim`, with lengths of `eps` at least. x1 and x2 broadcast.

    The derivative is that of this formula: vectors that are shorter than `eps` have a constant length.

    Raises:
        IndexError: `dim` is out of range.
        ValueError: the shapes do not broadcast.
    """
    first, second = widened(x1), widened(beside("cosine_similarity", "x2", x2, x1))
    products = first * second
    dim = dim_of("cosine_similarity", dim, products.shape, zero_d=True)
    if first.shape != second.shape:
        first, second = first.expand(*products.shape), second.expand(*products.shape)

    def lengths(x: Tensor) -> Tensor:
        return sqrt(clamp((x * x).sum(dim), eps * eps))

    return narrowed(products.sum(dim) / lengths(first) / lengths(second), x1)


@composite
def cosine_embedding_loss(
    input1: Tensor, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """With c the cosine of two vectors: 1 - c if the target is 1, max(0, c - margin) if it is -1.

    The lengths of vectors are 1e-6 at least; PyTorch adds 1e-12 to their squares.

    Args:
        input1, input2: (N, D), or (D,) of one pair.
        target: (N,), or of shape () for one pair.

    Raises:
        ValueError: the shapes do not match; an unknown `reduction`.
    """
    name = "cosine_embedding_loss"
    if input1.ndim not in (1, 2):
        raise ValueError(f"{name}: input1 of shape {input1.shape}; expected (N, D) or (D,)")
    cosines = cosine_similarity(input1, of_same_shape(name, input2, input1, "input2"), -1, 1e-6)
    target = of_same_shape(name, target, cosines)
    return reduced(name, where(target == 1, 1 - cosines, clamp(cosines - margin, 0)), reduction)


@composite
def hinge_embedding_loss(input: Tensor, target: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """The input, a distance, if the target is 1; max(0, margin - input) if it is -1.

    Raises:
        ValueError: the shapes differ; an unknown `reduction`.
    """
    target = of_same_shape("hinge_embedding_loss", target, input)
    losses = where(target == 1, input, clamp(margin - input, 0))
    return reduced("hinge_embedding_loss", losses, reduction)


@composite
def margin_ranking_loss(
    input1: Tensor, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - target·(input1 - input2)): input1 is to be larger if the target is 1, smaller if it is -1.

    Raises:
        ValueError: the shapes differ; an unknown `reduction`.
    """
    name = "margin_ranking_loss"
    difference = input1 - of_same_shape(name, input2, input1, "input2")
    return reduced(name, clamp(margin - of_same_shape(name, target, input1) * difference, 0), reduction)


@composite
def soft_margin_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """log(1 + e^(-target·input)), without overflow.

    Raises:
        ValueError: the shapes differ; an unknown `reduction`.
    """
    losses: Tensor = log1pexp(-of_same_shape("soft_margin_loss", target, input) * input)
    return reduced("soft_margin_loss", losses, reduction)


@composite
def triplet_margin_loss(
    anchor: Tensor,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, |anchor - positive| - |anchor - negative| + margin), with p-norms over the last dimension.

    Args:
        anchor, positive, negative: (..., D).
        eps: added to each difference.
        swap: whether |positive - negative| replaces |anchor - negative| if it is smaller.

    Raises:
        ValueError: the shapes differ; an unknown `reduction`; p is not positive.
    """
    name = "triplet_margin_loss"
    positive = of_same_shape(name, positive, anchor, "positive")
    negative = of_same_shape(name, negative, anchor, "negative")

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return norm(x - y + eps, p, -1)

    far = distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return reduced(name, clamp(distance(anchor, positive) - far + margin, 0), reduction)
