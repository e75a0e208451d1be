"""Attention.

Reference: https://onnx.ai/onnx/operators/
"""

import math
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import is_bool

from ..... import ops
from ....._tensor import Tensor
from .....creation import arange
from ...rules import rule

__all__ = ["heads_apart", "heads_together", "rotated"]


def heads_apart(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads * E) to (B, heads, T, E)."""
    return x.reshape((*x.shape[:2], heads, x.shape[2] // heads)).swapaxes(1, 2)


def heads_together(x: Tensor) -> Tensor:
    """(B, heads, T, E) to (B, T, heads * E)."""
    batch, heads, steps, size = x.shape
    return x.swapaxes(1, 2).reshape((batch, steps, heads * size))


@rule("Attention", since=23)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: np.dtype[Any] | None = None,
) -> Any:
    """Returns the output, the keys and values with those of the past, and a stage of the scores."""
    whole = q.ndim == 3
    if whole:
        assert q_num_heads is not None and kv_num_heads is not None
        q, k, v = heads_apart(q, q_num_heads), heads_apart(k, kv_num_heads), heads_apart(v, kv_num_heads)
    if past_key is not None and past_value is not None:
        k, v = ops.cat([past_key, k], 2), ops.cat([past_value, v], 2)
    present_key, present_value = k, v
    if q.shape[1] != k.shape[1]:
        k, v = (ops.repeat_interleave(each, q.shape[1] // each.shape[1], 1) for each in (k, v))

    allowed, bias = _mask(attn_mask, k.shape[2])
    right = 0 if is_causal else right_window_size
    if is_causal or left_window_size >= 0 or right_window_size >= 0:
        if nonpad_kv_seqlen is not None:
            before: Any = nonpad_kv_seqlen.reshape((-1, 1, 1, 1)) - q.shape[2]
        else:
            before = 0 if past_key is None else past_key.shape[2]
        ahead = arange(k.shape[2], device=q.device) - ops.unsqueeze(arange(q.shape[2], device=q.device), 1) - before
        if right >= 0:
            allowed = _both(allowed, ahead <= right)
        if left_window_size >= 0:
            allowed = _both(allowed, -ahead <= left_window_size)
    if nonpad_kv_seqlen is not None:
        allowed = _both(allowed, arange(k.shape[2], device=q.device) < nonpad_kv_seqlen.reshape((-1, 1, 1, 1)))

    root = math.sqrt(1 / math.sqrt(q.shape[3]) if scale is None else scale)
    scores = (q * root) @ (k * root).mT
    scores = capped = softcap * ops.tanh(scores / softcap) if softcap else scores
    if bias is not None:
        scores = scores + bias
    if allowed is not None:
        scores = ops.masked_fill(scores, ~allowed, -math.inf)
    weights = _softmax(scores.astype(softmax_precision or scores.dtype)).astype(q.dtype)
    y = weights @ v
    stage = (capped, capped, scores, weights)[qk_matmul_output_mode]
    return heads_together(y) if whole else y, present_key, present_value, stage


def _mask(given: Tensor | None, length: int) -> tuple[Tensor | None, Tensor | None]:
    """Which keys a query may attend to, and what is added to its scores. A mask that is too short excludes the rest."""
    if given is None:
        return None, None
    missing = length - given.shape[-1]
    if is_bool(given.dtype):
        return (ops.pad(given, [0, missing]) if missing else given), None
    return None, (ops.pad(given, [0, missing], value=-math.inf) if missing else given)


def _both(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a & b


def _softmax(scores: Tensor) -> Tensor:
    """The softmax of the last dimension: zeros if all scores are -inf."""
    excluded = ops.amax(scores.detach(), -1, keepdim=True) == -math.inf
    return ops.masked_fill(ops.softmax(ops.masked_fill(scores, excluded, 0.0), -1), excluded, 0.0)


# -- positions ---------------------------------------------------------------------------------------------------------


@rule("RotaryEmbedding")
def rotary_embedding(
    x: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    position_ids: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    if position_ids is not None:
        cos_cache, sin_cache = cos_cache[position_ids], sin_cache[position_ids]
    if x.ndim == 3:
        apart = heads_apart(x, num_heads)
        return heads_together(rotated(apart, cos_cache, sin_cache, bool(interleaved), rotary_embedding_dim))
    return rotated(x, cos_cache, sin_cache, bool(interleaved), rotary_embedding_dim)


def rotated(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, size: int) -> Tensor:
    """(B, heads, T, E), of which pairs of the first `size` features are rotated by angles (B, T, size / 2)."""
    size = size or x.shape[3]
    cos, sin = ops.unsqueeze(cos, 1), ops.unsqueeze(sin, 1)
    a, b = (x[..., 0:size:2], x[..., 1:size:2]) if interleaved else (x[..., : size // 2], x[..., size // 2 : size])
    pair = [cos * a - sin * b, sin * a + cos * b]
    turned = ops.stack(pair, -1).reshape((*x.shape[:3], size)) if interleaved else ops.cat(pair, -1)
    return turned if size == x.shape[3] else ops.cat([turned, x[..., size:]], -1)
