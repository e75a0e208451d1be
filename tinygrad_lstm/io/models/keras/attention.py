"""Attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from .... import ops
from ...._tensor import Tensor
from ....nn import Linear, Module
from ....ops.attention import causal_mask
from .core import parameter
from .rules import Layer, UnsupportedError, Weights, layer

__all__: list[str] = []

_FAR = -1e9
"""What Keras adds to scores that a mask excludes."""


def _with_scores(kwargs: Mapping[str, Any]) -> int:
    return 2 if kwargs.get("return_attention_scores") else 1


class DotScores(Module):
    """scale · (q · k), with a learned scale or none."""

    def __init__(self, scale: HostArray | None) -> None:
        self.scale = None if scale is None else parameter(scale)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        scores = query @ key.transpose(-2, -1)
        return scores if self.scale is None else scores * self.scale


class SumScores(Module):
    """The sum of tanh(q + k), with learned scales or none."""

    def __init__(self, inner: HostArray | None, outer: HostArray | None) -> None:
        self.scale = None if inner is None else parameter(inner)
        self.weight = None if outer is None else parameter(outer)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        both = query.unsqueeze(-2) + key.unsqueeze(-3)
        parts = ops.tanh(both if self.scale is None else both * self.scale)
        return ops.sum(parts if self.weight is None else parts * self.weight, dim=-1)


@layer("Attention", weights=("scale if use_scale", "concat_score_weight if score_mode=concat"))
def attention(
    weights: Weights, *, use_scale: bool = False, score_mode: str = "dot", dropout: float = 0.0, causal: bool = False
) -> Layer:
    if score_mode == "dot":
        return _attention(DotScores(weights.get("scale")), causal, dropout)
    return _attention(SumScores(weights.get("scale"), weights["concat_score_weight"]), causal, dropout)


@layer("AdditiveAttention", weights=("scale if use_scale",))
def additive_attention(
    weights: Weights, *, use_scale: bool = True, dropout: float = 0.0, causal: bool = False
) -> Layer:
    return _attention(SumScores(None, weights.get("scale")), causal, dropout)


def _attention(module: Module, causal: bool, dropout: float) -> Layer:
    function = partial(_attended, causal=causal, dropout=dropout)
    return Layer(function, module, mask=_of_query, takes_mask=True, outputs=_with_scores)


def _of_query(inputs: Any, masks: Sequence[Tensor | None]) -> Tensor | None:
    return masks[0]


def _attended(
    scores_of: Module,
    inputs: Sequence[Tensor],
    mask: Sequence[Tensor | None] | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
    *,
    causal: bool,
    dropout: float,
) -> Any:
    query, value, *rest = inputs
    of_query, of_value = (None, None) if mask is None else mask[:2]
    scores = scores_of(query, rest[0] if rest else value)
    if of_value is not None:
        scores = ops.where(of_value.unsqueeze(-2), scores, scores + _FAR)
    if causal or use_causal_mask:
        scores = ops.where(causal_mask(scores.shape[-2], scores.shape[-1], scores.device), scores, scores + _FAR)
    weights = ops.dropout(ops.softmax(scores, dim=-1), dropout, scores_of.training)
    out = weights @ value
    if of_query is not None:
        out = ops.where(of_query.unsqueeze(-1), out, 0.0)
    return (out, weights) if return_attention_scores else out


_PARTS = ("query", "key", "value")


_HEADS = tuple(f"{part}_dense/{role}" for part in (*_PARTS, "output") for role in ("kernel", "bias if use_bias"))


class MultiHeadAttention(Module):
    """Attention of several heads. The rows of the three projections are those of the heads, one after another."""

    query_dense: Linear
    key_dense: Linear
    value_dense: Linear

    def __init__(self, weights: Weights, heads: int, dropout: float) -> None:
        self.heads = heads
        self.dropout = dropout
        for part in _PARTS:
            kernel, bias = weights[f"{part}_dense/kernel"], weights.get(f"{part}_dense/bias")
            setattr(self, f"{part}_dense", _linear(kernel.reshape(len(kernel), -1), bias))
        kernel = weights["output_dense/kernel"]
        self.output_dense = _linear(kernel.reshape(-1, kernel.shape[-1]), weights.get("output_dense/bias"))

    def forward(self, query: Tensor, value: Tensor, key: Tensor, excluded: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The outputs (B, T, ...) and the weights (B, heads, T, S), which are 0 where a mask is False.

        The weights are those before dropout, which is only in training.
        """
        q, k, v = (
            dense(x).reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for dense, x in zip((self.query_dense, self.key_dense, self.value_dense), (query, key, value), strict=True)
        )
        scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(-2, -1)
        for mask in excluded:
            scores = scores + ops.where(mask, 0.0, _FAR)
        weights = ops.softmax(scores, dim=-1)
        out = (ops.dropout(weights, self.dropout, self.training) @ v).transpose(1, 2)
        return self.output_dense(out.reshape(*out.shape[:2], -1)), weights


def _linear(kernel: HostArray, bias: HostArray | None) -> Linear:
    made = Linear(*kernel.shape, bias=bias is not None)  # type: ignore[misc]
    made.weight = parameter(kernel.T)
    if bias is not None:
        made.bias = parameter(bias.reshape(-1))
    return made


@layer("MultiHeadAttention", weights=_HEADS)
def multi_head_attention(
    weights: Weights,
    *,
    num_heads: int,
    key_dim: int,
    value_dim: int | None = None,
    dropout: float = 0.0,
    use_bias: bool = True,
    output_shape: Any = None,
    attention_axes: Any = None,
    flash_attention: Any = None,
    use_gate: bool = False,
    query_shape: Any = None,
    key_shape: Any = None,
    value_shape: Any = None,
    softmax_robust_masking: bool = False,
) -> Layer:
    if attention_axes not in (None, [1], (1,), 1) or use_gate:
        raise UnsupportedError("attention_axes or use_gate")
    return Layer(
        _by_heads,
        MultiHeadAttention(weights, num_heads, dropout),
        mask="keep",
        takes_mask=("query", "value", "key"),
        outputs=_with_scores,
    )


def _by_heads(
    module: MultiHeadAttention,
    query: Tensor,
    value: Tensor,
    key: Tensor | None = None,
    query_mask: Tensor | None = None,
    value_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    attention_mask: Tensor | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Any:
    if query.ndim != 3 or value.ndim != 3:
        raise ValueError(f"attention along one axis of time: expected (B, T, F), got {query.shape} and {value.shape}")
    T, S = query.shape[1], value.shape[1]
    masks = [] if query_mask is None else [query_mask[:, None, :, None]]
    masks += [mask[:, None, None, :] for mask in (value_mask, key_mask) if mask is not None]
    if use_causal_mask:
        masks.append(causal_mask(T, S, query.device))
    if attention_mask is not None:
        given = attention_mask if attention_mask.ndim == 4 else attention_mask.unsqueeze(1)
        masks.append(given != 0)
    combined: list[Tensor] = []
    for mask in masks:
        combined = [ops.logical_and(combined[0], mask)] if combined else [mask]
    out, weights = module(query, value, value if key is None else key, combined)
    return (out, weights) if return_attention_scores else out
