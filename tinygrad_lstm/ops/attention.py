"""Scaled dot-product attention."""

import math
from typing import Any

from tinygrad_lstm.backends.dtypes import is_bool, is_float, promoted_dtype, widened_dtype

from .._tensor import Tensor, operand
from ..creation import ones
from ..device import Device
from ._softmax import softmax
from .define import composite
from .elementwise import where
from .linalg import matmul_op
from .padding import repeat_interleave
from .random import dropout
from .reduction import any
from .shape import swapaxes, tril

__all__ = ["scaled_dot_product_attention"]


@composite
def scaled_dot_product_attention(
    query: Tensor,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
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
        enable_gqa: whether key and value may have fewer heads, their third last dimension, than query. Each of their
            heads then serves several adjacent heads of query (Ainslie et al. 2023).

    Returns:
        (..., L, V).

    Raises:
        TypeError: the mask is of integers.
        ValueError: the shapes do not match, `dropout_p` is not within [0, 1], or there are a mask and `is_causal`.

    >>> import tinygrad_lstm as tg
    >>> query, key, value = tg.zeros(2, 3, 4), tg.zeros(2, 5, 4), tg.arange(5.0).expand(2, 1, 5).mT
    >>> tg.scaled_dot_product_attention(query, key, value, is_causal=True)[0].T  # means of the values so far
    tensor([[0. , 0.5, 1. ]])
    """
    key, value = operand(key, query.device), operand(value, query.device)
    shapes = f"query {query.shape}, key {key.shape} and value {value.shape}"
    few = min(query.ndim, key.ndim, value.ndim) < 2
    if few or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ValueError(f"scaled_dot_product_attention: {shapes} must be (..., L, E), (..., S, E) and (..., S, V)")
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"scaled_dot_product_attention: dropout_p is {dropout_p}; expected 0 to 1")
    if is_causal and attn_mask is not None:
        raise ValueError("scaled_dot_product_attention: attn_mask and is_causal are both given; give one")
    if enable_gqa:
        few = min(query.ndim, key.ndim, value.ndim) < 3 or 0 in (key.shape[-3], value.shape[-3])
        if few or query.shape[-3] % key.shape[-3] or query.shape[-3] % value.shape[-3]:
            raise ValueError(
                f"scaled_dot_product_attention: {shapes} must have heads in the third last dimension, and the numbers "
                "of heads of key and value must divide that of query"
            )
        key, value = (repeat_interleave(x, query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    L, S = query.shape[-2], key.shape[-2]
    mask = causal_mask(L, S, query.device) if is_causal else None
    if attn_mask is not None:
        mask = operand(attn_mask, query.device)
        if not all(n in (1, length) for n, length in zip(reversed(mask.shape), (S, L))):
            raise ValueError(f"scaled_dot_product_attention: attn_mask {mask.shape} must broadcast to (..., {L}, {S})")
    return attend(query, key, value, mask, dropout_p, scale, reached=is_causal)[0]


def causal_mask(L: int, S: int, device: Device) -> Tensor:
    """True where query i takes from keys 0 ... i, (L, S)."""
    return tril(ones(L, S, dtype=bool, device=device))


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float = 0.0,
    scale: float | None = None,
    reached: bool = False,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """The output of `scaled_dot_product_attention`; and, if needed, the weights (..., L, S), after dropout.

    Args:
        reached: whether each query is known to have a key that is not masked.
    """
    masks = [] if mask is None or is_bool(mask.dtype) else [mask]
    if masks and not is_float(masks[0].dtype):
        raise TypeError(f"scaled_dot_product_attention: attn_mask must be bool or floats, got {masks[0].dtype}")
    dtype = promoted_dtype([x.dtype for x in (query, key, value, *masks)], needs_float=True)
    query, key, value = (x.to(dtype=widened_dtype(dtype)) for x in (query, key, value))
    scale = 1 / math.sqrt(query.shape[-1] or 1) if scale is None else float(scale)
    scores, some = matmul_op(query * scale, swapaxes(key, -1, -2)), None
    if mask is not None:
        added = (where(mask, 0.0, -math.inf) if is_bool(mask.dtype) else mask).to(dtype=scores.dtype)
        if not reached:  # A row that is masked whole is computed without its mask, so that all numbers are finite.
            some = any(added != -math.inf, -1, True)
            added = where(some, added, 0.0)
        scores = scores + added
    weights = dropout(softmax(scores, -1), dropout_p)
    out = matmul_op(weights, value)
    if some is not None:
        out = where(some, out, 0.0)
        weights = where(some, weights, 0.0) if need_weights else weights
    return out.to(dtype=dtype), weights.to(dtype=dtype) if need_weights else None
