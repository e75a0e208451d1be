"""PyTorch's functions of attention and of whole Transformer layers, which traced models call in evaluation mode.

Reference: PyTorch's `aten/src/ATen/native/transformers/attention.cpp` and `transformer.cpp`.
"""

from typing import Any

from .... import ops
from ...._tensor import Tensor
from .aten import aten

__all__: list[str] = []

_FOR_STEPS, _FOR_KEYS = 0, 1
"""The types of masks: (T, T), and (B, T); any other has the shape of the scores."""


@aten("_native_multi_head_attention")
def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_head: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor | None,
    proj_weight: Tensor,
    proj_bias: Tensor | None,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: Any = None,
) -> tuple[Tensor, Tensor | None]:
    """(B, T, embed_dim) to the same, and the weights (B, T, S), or of each head."""
    biases = (None,) * 3 if qkv_bias is None else ops.chunk(qkv_bias, 3, 0)
    given = zip((query, key, value), ops.chunk(qkv_weight, 3, 0), biases, strict=True)
    q, k, v = (ops.linear(x, w, b).unflatten(-1, (num_head, -1)).swapaxes(1, 2) for x, w, b in given)  # (B, H, T, E)
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if mask is not None:
        shape = {_FOR_STEPS: mask.shape, _FOR_KEYS: (mask.shape[0], 1, 1, mask.shape[-1])}.get(mask_type, mask.shape)
        scores = ops.masked_fill(scores, mask.reshape(shape).astype(bool), -float("inf"))
    weights = ops.softmax(scores, -1)
    out = ops.linear((weights @ v).swapaxes(1, 2).flatten(2), proj_weight, proj_bias)
    if not need_weights:
        return out, None
    return out, ops.mean(weights, 1) if average_attn_weights else weights


@aten("_transformer_encoder_layer_fwd")
def transformer_encoder_layer(
    src: Tensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    mask_type: int | None = None,
) -> Any:
    """(B, T, embed_dim) to the same."""

    def attention(x: Tensor) -> Any:
        out, _ = multi_head_attention(
            x, x, x, embed_dim, num_heads, qkv_weight, qkv_bias, proj_weight, proj_bias, mask, False, True, mask_type
        )
        return out

    def feed_forward(x: Tensor) -> Tensor:
        hidden = (ops.gelu if use_gelu else ops.relu)(ops.linear(x, ffn_weight_1, ffn_bias_1))
        return ops.linear(hidden, ffn_weight_2, ffn_bias_2)

    def norm_1(x: Tensor) -> Tensor:
        return ops.layer_norm(x, embed_dim, norm_weight_1, norm_bias_1, eps)

    def norm_2(x: Tensor) -> Tensor:
        return ops.layer_norm(x, embed_dim, norm_weight_2, norm_bias_2, eps)

    if norm_first:
        x = src + attention(norm_1(src))
        return x + feed_forward(norm_2(x))
    x = norm_1(src + attention(src))
    return norm_2(x + feed_forward(x))
