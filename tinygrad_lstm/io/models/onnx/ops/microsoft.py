"""Ops that onnxruntime's exporters and optimizers write, in the domain com.microsoft.

Reference: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

import math
import operator
from typing import Any

from tinygrad_lstm.backends.dtypes import is_float

from ..... import ops
from ....._tensor import Tensor
from .....creation import arange
from ...rules import rule
from ...shared.windows import conv
from .attention import heads_apart, heads_together, rotated
from .elementwise import rule_of_tensor
from .normalization import layer_normalization, rms_normalization
from .products import gemm
from .quantization import dequantize_linear, dynamic_quantize_linear, matmul_integer, quantize_linear

__all__: list[str] = []

DOMAIN = "com.microsoft"

# -- activations -------------------------------------------------------------------------------------------------------

rule_of_tensor("Gelu", ops.gelu, DOMAIN)


@rule("BiasGelu", domain=DOMAIN)
def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    return ops.gelu(x + bias)


@rule("FastGelu", domain=DOMAIN)
def fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    return ops.gelu(x if bias is None else x + bias, "tanh")


@rule("QuickGelu", domain=DOMAIN)
def quick_gelu(x: Tensor, *, alpha: float = 1.702) -> Tensor:
    return x * ops.sigmoid(alpha * x)


_ACTIVATIONS: dict[str, Any] = {
    "": lambda x: x,
    "Relu": ops.relu,
    "Tanh": ops.tanh,
    "Sigmoid": ops.sigmoid,
    "LeakyRelu": ops.leaky_relu,
    "Clip": ops.clamp,
    "HardSigmoid": lambda x, alpha, beta: ops.clamp(alpha * x + beta, 0, 1),
}

# -- products ----------------------------------------------------------------------------------------------------------


@rule("TransposeMatMul", domain=DOMAIN)
@rule("FusedMatMul", domain=DOMAIN)
def fused_matmul(
    a: Tensor,
    b: Tensor,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Tensor:
    """With `transBatch`, the first dimension comes before the last."""
    a = ops.movedim(a, 0, -2) if transBatchA else a
    b = ops.movedim(b, 0, -2) if transBatchB else b
    product = (a.mT if transA and a.ndim > 1 else a) @ (b.mT if transB and b.ndim > 1 else b)
    return product if alpha == 1 else alpha * product


@rule("FusedGemm", domain=DOMAIN, attributes_of=gemm)
def fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    activation: str = "",
    activation_alpha: float = 0.01,
    activation_beta: float = 0.0,
    activation_gamma: float = 0.0,
    **products: Any,
) -> Tensor:
    y = gemm(a, b, c, **products)
    of_activation = {"LeakyRelu": (activation_alpha,), "HardSigmoid": (activation_alpha, activation_beta)}
    return _activated(y, activation, of_activation.get(activation, ()))


@rule("FusedConv", domain=DOMAIN, attributes_of=conv)
def fused_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    added: Tensor | None = None,
    *,
    activation: str = "",
    activation_params: list[float] | None = None,
    **window: Any,
) -> Tensor:
    y = conv(x, weight, bias, **window)
    return _activated(y if added is None else y + added, activation, activation_params or ())


def _activated(x: Tensor, activation: str, parameters: Any) -> Tensor:
    if activation not in _ACTIVATIONS:
        raise ValueError(f"the activation {activation!r} is not one of {', '.join(filter(None, _ACTIVATIONS))}")
    y: Tensor = _ACTIVATIONS[activation](x, *parameters)
    return y


# -- normalization -----------------------------------------------------------------------------------------------------


def _added(x: Tensor, skip: Tensor, bias: Tensor | None) -> Tensor:
    return x + skip if bias is None else x + skip + bias


@rule("SkipLayerNormalization", domain=DOMAIN)
def skip_layer_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
) -> Any:
    total = _added(x, skip, bias)
    y = layer_normalization(total, gamma, beta, epsilon=epsilon, outputs=3)
    return *y, total


@rule("SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_rms_normalization(
    x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None, *, epsilon: float = 1e-6
) -> Any:
    total = _added(x, skip, bias)
    y, inverse = _rms(total, gamma, epsilon)
    return y, None, inverse, total


@rule("SimplifiedLayerNormalization")
def simplified_layer_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Any:
    """onnxruntime has it in the domain of ONNX."""
    return _rms(x, scale, epsilon, axis)


def _rms(x: Tensor, scale: Tensor, epsilon: float, axis: int = -1) -> tuple[Tensor, Tensor]:
    dims = tuple(range(axis % x.ndim, x.ndim))
    inverse = ops.rsqrt(ops.mean(ops.square(x), dims, keepdim=True) + epsilon)
    return rms_normalization(x, scale, axis=axis, epsilon=epsilon), inverse


# -- attention ---------------------------------------------------------------------------------------------------------


@rule("RotaryEmbedding", domain=DOMAIN)
def rotary_embedding(
    x: Tensor,
    position_ids: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Tensor:
    """`position_ids` (B, T), or the position of the first step."""
    if position_ids.ndim == 1:
        steps = x.shape[1 if x.ndim == 3 else 2]
        position_ids = ops.unsqueeze(position_ids + arange(steps, device=x.device), 0)
    heads = num_heads or x.shape[2] // (2 * cos_cache.shape[1])
    apart = heads_apart(x, heads) if x.ndim == 3 else x
    turned = rotated(apart, cos_cache[position_ids], sin_cache[position_ids], bool(interleaved), rotary_embedding_dim)
    return heads_together(turned) if x.ndim == 3 else turned


@rule("MultiHeadAttention", domain=DOMAIN)
def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    *,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    scale: float | None = None,
    unidirectional: int = 0,
) -> Any:
    """(B, T, heads * E) each; key and value also (B, heads, T, E)."""
    if bias is not None:
        size, of_value = query.shape[2], bias.shape[0] - 2 * query.shape[2]
        biases = ops.split(bias, [size, size, of_value])
        query = query + biases[0]
        if key.ndim == 3:
            key, value = key + biases[1], value + biases[2]
    query = heads_apart(query, num_heads)
    key, value = (each if each.ndim == 4 else heads_apart(each, num_heads) for each in (key, value))
    if past_key is not None and past_value is not None:
        key, value = ops.cat([past_key, key], 2), ops.cat([past_value, value], 2)
    added = _padding_bias(key_padding_mask, query, key.shape[2], mask_filter_value)
    if attention_bias is not None:
        added = attention_bias if added is None else added + attention_bias
    y, weights = _attended(query, key, value, added, scale, bool(unidirectional))
    return y, key, value, weights


@rule("Attention", domain=DOMAIN)
def attention_of_input(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask_index: Tensor | None = None,
    *,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    qkv_hidden_sizes: list[int] | None = None,
    scale: float | None = None,
    unidirectional: int = 0,
) -> Tensor:
    """Attention of (B, T, I), with the weights (I, 3 * heads * E) of query, key and value."""
    products = ops.linear(x, weights.T, bias)
    sizes = qkv_hidden_sizes or [weights.shape[1] // 3] * 3
    query, key, value = (heads_apart(each, num_heads) for each in ops.split(products, sizes, 2))
    added = _padding_bias(mask_index, query, x.shape[1], mask_filter_value)
    return _attended(query, key, value, added, scale, bool(unidirectional))[0]


def _padding_bias(mask: Tensor | None, query: Tensor, length: int, excluded: float) -> Tensor | None:
    """What is added to the scores of keys that a mask (B, T) has 0 for, or that are beyond lengths (B,)."""
    if mask is None:
        return None
    if mask.ndim == 1:
        mask = arange(length, device=mask.device) < ops.unsqueeze(mask, 1)
    apart = (mask.shape[0], *(1,) * (3 - mask.ndim), *mask.shape[-2:]) if mask.ndim == 3 else (mask.shape[0], 1, 1, -1)
    return ((mask == 0).astype(query.dtype) * excluded).reshape(apart)


def _attended(
    query: Tensor, key: Tensor, value: Tensor, added: Tensor | None, scale: float | None, causal: bool
) -> tuple[Tensor, Tensor]:
    """The output (B, T, heads * E), and the weights."""
    scores = (query * (query.shape[3] ** -0.5 if scale is None else scale)) @ key.mT
    scores = scores if added is None else scores + added
    if causal:
        ahead = arange(key.shape[2], device=query.device) - ops.unsqueeze(
            arange(query.shape[2], device=query.device) + (key.shape[2] - query.shape[2]), 1
        )
        scores = ops.masked_fill(scores, ahead > 0, -math.inf)
    weights = ops.softmax(scores, -1)
    return heads_together(weights @ value), weights


# -- quantized ops -----------------------------------------------------------------------------------------------------

rule("QuantizeLinear", domain=DOMAIN)(quantize_linear)
rule("DequantizeLinear", domain=DOMAIN)(dequantize_linear)


@rule("MatMulIntegerToFloat", domain=DOMAIN)
def matmul_integer_to_float(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    product = matmul_integer(a, b, a_zero_point, b_zero_point).astype(a_scale.dtype)
    y = product * (a_scale * b_scale)
    return y if bias is None else y + bias


@rule("DynamicQuantizeMatMul", domain=DOMAIN)
def dynamic_quantize_matmul(
    a: Tensor, b: Tensor, b_scale: Tensor, b_zero_point: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    levels, scale, zero_point = dynamic_quantize_linear(a)
    return matmul_integer_to_float(levels, b, scale, b_scale, zero_point, b_zero_point, bias)


@rule("MatMulNBits", domain=DOMAIN)
def matmul_n_bits(
    a: Tensor,
    b: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    g_idx: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int = 0,
    bits: int = 4,
    block_size: int,
    weight_prepacked: int = 0,
) -> Tensor:
    """a (..., K) times a matrix (K, N), whose columns are in blocks of levels of some bits, the lowest bits first."""
    if g_idx is not None or weight_prepacked or bits not in (2, 4, 8):
        raise ValueError("MatMulNBits: of g_idx, prepacked weights, and bits except 2, 4 and 8 there is no rule")
    blocks = -(-K // block_size)
    levels = _unpacked(b.reshape((N, -1)), bits).reshape((N, blocks, block_size))
    if zero_points is None:
        middle: Any = 2 ** (bits - 1)
    elif is_float(zero_points.dtype):
        middle = zero_points.reshape((N, blocks, 1))
    else:
        middle = _unpacked(zero_points.reshape((N, -1)), bits)[:, :blocks].reshape((N, blocks, 1)).astype(a.dtype)
    weight = ((levels.astype(a.dtype) - middle) * scales.reshape((N, blocks, 1))).reshape((N, -1))[:, :K]
    return ops.linear(a, weight, bias)


def _unpacked(x: Tensor, bits: int) -> Tensor:
    """The numbers of `bits` bits in bytes."""
    each = [ops.floor_divide(x, 2**shift) % 2**bits if bits < 8 else x for shift in range(0, 8, bits)]
    return ops.stack(each, -1).reshape((x.shape[0], -1))


def _rule_of_quantized(op: str, function: Any) -> None:
    """Registers a function of one tensor, on levels."""

    @rule(op, domain=DOMAIN)
    def computed(
        x: Tensor, x_scale: Tensor, x_zero_point: Tensor | None, y_scale: Tensor, y_zero_point: Tensor | None = None
    ) -> Tensor:
        y = function(dequantize_linear(x, x_scale, x_zero_point))
        return quantize_linear(y, y_scale, y_zero_point, output_dtype=x.dtype)


def _rule_of_quantized_pair(op: str, function: Any) -> None:
    @rule(op, domain=DOMAIN)
    def computed(
        a: Tensor,
        a_scale: Tensor,
        a_zero_point: Tensor | None,
        b: Tensor,
        b_scale: Tensor,
        b_zero_point: Tensor | None,
        y_scale: Tensor,
        y_zero_point: Tensor | None = None,
    ) -> Tensor:
        y = function(dequantize_linear(a, a_scale, a_zero_point), dequantize_linear(b, b_scale, b_zero_point))
        return quantize_linear(y, y_scale, y_zero_point, output_dtype=a.dtype)


_rule_of_quantized("QLinearSigmoid", ops.sigmoid)
_rule_of_quantized_pair("QLinearAdd", operator.add)
_rule_of_quantized_pair("QLinearMul", operator.mul)


@rule("QLinearConcat", domain=DOMAIN)
def qlinear_concat(y_scale: Tensor, y_zero_point: Tensor, *inputs: Tensor, axis: int) -> Tensor:
    parts = [dequantize_linear(*inputs[k : k + 3]) for k in range(0, len(inputs), 3)]
    return quantize_linear(ops.cat(parts, axis), y_scale, y_zero_point)


@rule("QGemm", domain=DOMAIN)
def quantized_gemm(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero_point: Tensor | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """The bias is in units of the product's scale."""
    first, second = a.mT if transA else a, b.mT if transB else b
    product = matmul_integer(first, second, a_zero_point, b_zero_point)
    y = (product if c is None else product + c).astype(a_scale.dtype) * (a_scale * b_scale * alpha)
    return y if y_scale is None else quantize_linear(y, y_scale, y_zero_point)
