"""Losses.

Reference: https://onnx.ai/onnx/operators/
"""

from typing import Any

from ..... import ops
from ....._tensor import Tensor
from ...rules import rule

__all__: list[str] = []


@rule("NegativeLogLikelihoodLoss")
def negative_log_likelihood_loss(
    x: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    return ops.nll_loss(x, target, weight, ignore_index, reduction)


@rule("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy_loss(
    scores: Tensor, labels: Tensor, weights: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Any:
    logs = ops.log_softmax(scores, 1)
    return ops.nll_loss(logs, labels, weights, ignore_index, reduction), logs
