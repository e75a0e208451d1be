"""Scaled dot-product attention."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_bool, is_float, widened_dtype
from tinygrad_lstm.backends.sums import total_to
from tinygrad_lstm.backends.threads import ONE_BLAS_THREAD, for_products

from .._tensor import Tensor, operand
from ..creation import ones
from ._softmax import softmax
from .define import composite, op
from .elementwise import where
from .linalg import matmul_op
from .random import dropout
from .shape import swapaxes, tril

__all__ = ["scaled_dot_product_attention"]


def _for_products_of(x: Array) -> AbstractContextManager[None]:
    """A context for products of the matrices of x: threads that share each of many small ones mostly wait."""
    return ONE_BLAS_THREAD if math.prod(x.shape[:-2]) >= 8 else for_products()


def _probabilities(xp: Any, scores: Array) -> Array:
    """The softmax of each row, in place; a row of only -inf becomes zeros."""
    largest = xp.max(scores, axis=-1, keepdims=True)
    scores -= xp.where(xp.isneginf(largest), 0, largest)
    with np.errstate(over="ignore"):
        xp.exp(scores, out=scores)
    sums = xp.matmul(scores, xp.ones((scores.shape[-1], 1), scores.dtype))
    scores /= xp.where(xp.equal(sums, 0), 1, sums)
    return scores


def _composed(inputs: Sequence[Tensor | None], scale: float, dropout_p: float = 0.0) -> Tensor:
    """The same of other ops."""
    query, key, value, bias = inputs
    assert query is not None and key is not None and value is not None
    scores = matmul_op(query * scale, swapaxes(key, -1, -2))
    scores = scores if bias is None else scores + bias
    reached = (scores != -math.inf).any(-1, True)
    weights = where(reached, softmax(where(reached, scores, 0.0), -1), 0.0)
    return matmul_op(dropout(weights, dropout_p), value)


def _attention_rule(
    backend: Any,
    g: Array,
    inputs: Sequence[Array | None],
    saved: Array,
    scale: float,
    needs_grad: Sequence[bool],
) -> list[Array | None]:
    """With P the probabilities: of the scores, P · (g vᵀ - the sum over each row of P · g vᵀ)."""
    query, key, value, _ = inputs
    xp, weights = backend.xp, saved
    if value is None or query is None or key is None:
        raise TypeError("scaled_dot_product_attention: query, key and value are needed")
    with _for_products_of(g):
        along = backend.matmul(g, value.swapaxes(-1, -2))
        along -= xp.einsum("...ij,...ij->...i", along, weights)[..., None]
        along *= weights
        gradients = [
            backend.matmul(along, key) * scale if needs_grad[0] else None,
            backend.matmul(along.swapaxes(-1, -2), query) * scale if needs_grad[1] else None,
            backend.matmul(weights.swapaxes(-1, -2), g) if needs_grad[2] else None,
            along if needs_grad[3] else None,
        ]
    return [
        None if found is None or like is None else _in_the_form_of(xp, found, like)
        for found, like in zip(gradients, inputs, strict=True)
    ]


def _in_the_form_of(xp: Any, g: Array, like: Array) -> Array:
    """The gradient of an input, which may have been broadcast."""
    g = g if g.shape == like.shape else total_to(xp, g, like.shape)
    return g.astype(like.dtype, copy=False)


@op(promotion="float", composed=_composed, fresh=True, inputs=_attention_rule)
def attention(backend: Any, inputs: Sequence[Array], scale: float, saving: bool = False) -> tuple[Array, Any]:
    """The softmax of query (..., L, E) keyᵀ (..., S, E) · scale + bias (..., L, S), times value (..., S, V)."""
    query, key, value, bias = inputs
    xp = backend.xp
    wide = widened_dtype(query.dtype)
    with _for_products_of(query):
        scores = backend.matmul(query.astype(wide, copy=False) * scale, key.swapaxes(-1, -2).astype(wide, copy=False))
        if bias is not None:
            scores = scores + bias
        weights = _probabilities(xp, scores)
        return backend.matmul(weights, value.astype(wide, copy=False)).astype(query.dtype, copy=False), weights


@composite
def scaled_dot_product_attention(
    query: Tensor,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(query keyᵀ · scale + mask) value: what each query takes from the values (Vaswani et al. 2017).

    A query whose keys are all masked takes zeros.

    Args:
        query: (..., L, E).
        key: (..., S, E).
        value: (..., S, V). Leading dimensions broadcast.
        attn_mask: (..., L, S), broadcast: bool, true where a query may take from a key; or floats that are added.
        dropout_p: the probability with which each weight is set to 0. It always applies: pass 0 for evaluation.
        is_causal: whether query i takes only from keys 0 ... i. There is no `attn_mask` then.
        scale: by default 1 / √E.

    Returns:
        (..., L, V).

    Raises:
        TypeError: the mask is of integers.
        ValueError: the shapes do not match, `dropout_p` is not within [0, 1], or there are a mask and `is_causal`.
    """
    key, value = operand(key, query.device), operand(value, query.device)
    shapes = f"query {query.shape}, key {key.shape} and value {value.shape}"
    few = min(query.ndim, key.ndim, value.ndim) < 2
    if few or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ValueError(f"scaled_dot_product_attention: {shapes} must be (..., L, E), (..., S, E) and (..., S, V)")
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"scaled_dot_product_attention: dropout_p is {dropout_p}; expected 0 to 1")
    mask = None if attn_mask is None else operand(attn_mask, query.device)
    if is_causal:
        if mask is not None:
            raise ValueError("scaled_dot_product_attention: attn_mask and is_causal are both given; give one")
        mask = tril(ones(query.shape[-2], key.shape[-2], dtype=bool, device=query.device))
    if mask is not None and is_bool(mask.dtype):
        mask = where(mask, 0.0, -math.inf).to(dtype=query.dtype if is_float(query.dtype) else np.float32)
    elif mask is not None and not is_float(mask.dtype):
        raise TypeError(f"scaled_dot_product_attention: attn_mask must be bool or floats, got {mask.dtype}")
    scale = 1 / math.sqrt(query.shape[-1] or 1) if scale is None else float(scale)
    if dropout_p:
        return _composed([query, key, value, mask], scale, dropout_p)
    return attention([query, key, value, mask], scale)
