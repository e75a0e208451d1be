"""Multi-head attention."""

import math
from collections.abc import Sequence
from typing import Any

from tinygrad_lstm.backends.dtypes import is_bool, is_float

from .. import ops
from .._tensor import Tensor, operand
from ..creation import zeros
from ..ops.attention import attend, causal_mask
from . import init
from .inputs import check_input
from .layers import Linear, check_positive
from .module import Module
from .parameter import Parameter

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Attention of several heads: each projects queries, keys and values itself, and all outputs are projected again.

    Vaswani et al., "Attention is all you need" (2017).

    Parameters: `in_proj_weight` (3·embed_dim, embed_dim), of queries, keys and values, one after another; if `kdim` or
    `vdim` differs from `embed_dim`, instead `q_proj_weight` (embed_dim, embed_dim), `k_proj_weight` (embed_dim, kdim)
    and `v_proj_weight` (embed_dim, vdim). They are initialized by `xavier_uniform_`. `in_proj_bias` (3·embed_dim,),
    zeros. `out_proj`, a `Linear` whose bias is zeros. `bias_k` and `bias_v` (1, 1, embed_dim), by `xavier_normal_`.
    Names and shapes are PyTorch's.

    Args:
        embed_dim: the size of queries and outputs.
        num_heads: the number of heads, each of size embed_dim / num_heads.
        dropout: the probability with which a weight is set to 0 in training.
        bias: whether `in_proj_bias` and the bias of `out_proj` exist.
        add_bias_kv: whether `bias_k` and `bias_v` exist: a key and its value that are learned, after all others.
        add_zero_attn: whether a key and a value of zeros come after all others.
        kdim: the size of keys; by default embed_dim.
        vdim: the size of values; by default embed_dim.
        batch_first: whether tensors are (N, L, ...) instead of (L, N, ...).

    Raises:
        TypeError: a length is not an integer.
        ValueError: a length is below 1, `num_heads` does not divide `embed_dim`, or `dropout` is not within [0, 1].

    >>> import tinygrad_lstm as tg
    >>> layer = tg.nn.MultiheadAttention(8, num_heads=2, batch_first=True)
    >>> x = tg.randn(3, 5, 8)
    >>> out, weights = layer(x, x, x)
    >>> out.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    adaptable = ("*_proj_weight",)

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
    ) -> None:
        kdim, vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        check_positive("MultiheadAttention", embed_dim=embed_dim, num_heads=num_heads, kdim=kdim, vdim=vdim)
        if embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: num_heads {num_heads} does not divide embed_dim {embed_dim}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"MultiheadAttention: dropout must be within [0, 1], got {dropout}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.add_zero_attn = add_zero_attn
        self.kdim = kdim
        self.vdim = vdim
        self.batch_first = batch_first
        packed = kdim == vdim == embed_dim
        self.in_proj_weight = init.xavier_uniform_(Parameter(zeros(3 * embed_dim, embed_dim))) if packed else None
        self.q_proj_weight, self.k_proj_weight, self.v_proj_weight = (
            None if packed else init.xavier_uniform_(Parameter(zeros(embed_dim, size)))
            for size in (embed_dim, kdim, vdim)
        )
        self.in_proj_bias = Parameter(zeros(3 * embed_dim)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)
        self.bias_k, self.bias_v = (
            init.xavier_normal_(Parameter(zeros(1, 1, embed_dim))) if add_bias_kv else None for _ in "kv"
        )

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output and the weights.

        A query whose keys are all masked takes zeros, so that its output is the bias of `out_proj`, and its weights are
        0. PyTorch returns NaN if the weights are needed.

        Args:
            query: (L, N, embed_dim), or (N, L, embed_dim) if `batch_first`; without a batch (L, embed_dim).
            key: (S, N, kdim), (N, S, kdim) or (S, kdim).
            value: (S, N, vdim), (N, S, vdim) or (S, vdim).
            key_padding_mask: (N, S) or (S,): bool, true where a key is padding; or floats that are added to scores.
            need_weights: whether the weights are returned.
            attn_mask: (L, S) or (N·num_heads, L, S): bool, true where a query may not take from a key, which is the
                opposite of `scaled_dot_product_attention`; or floats that are added to scores.
            average_attn_weights: whether the mean over the heads is returned.
            is_causal: without `attn_mask`, whether query i takes only from keys 0 ... i. PyTorch refuses this. With
                `attn_mask`, it has no effect.

        Returns:
            The output, of the shape of the query; and the weights, after dropout: (N, L, S), or (N, num_heads, L, S) if
            not averaged, both without N if there is no batch; or None. S includes the keys of `add_bias_kv` and
            `add_zero_attn`.

        Raises:
            TypeError: an input has a different float dtype than the parameters, or a mask has integers.
            ValueError: the shapes do not match.
        """
        for name, x in (("query", query), ("key", key), ("value", value)):
            check_input("MultiheadAttention", name, x, self.out_proj.weight)
        self._check_shapes(query, key, value)
        heads, head_dim = self.num_heads, self.embed_dim // self.num_heads
        # To (N, heads, L, head_dim), or (heads, L, head_dim) without a batch.
        order = (1, 0, 2) if query.ndim == 2 else (0, 2, 1, 3) if self.batch_first else (1, 2, 0, 3)
        back = (2, 0, 1, 3) if order == (1, 2, 0, 3) else order
        projected = self._projected(query, key, value)
        q, k, v = (x.reshape(*x.shape[:-1], heads, head_dim).permute(order) for x in projected)
        causal = is_causal and attn_mask is None
        if causal:
            attn_mask = ~causal_mask(q.shape[-2], k.shape[-2], q.device)
        mask = self._mask(key_padding_mask, attn_mask, q, k)
        more = self._more_keys(k)
        if more:
            k, v = (ops.cat([x, *rows], -2) for x, rows in zip((k, v), zip(*more, strict=True), strict=True))
            mask = None if mask is None else ops.pad(mask, (0, len(more)))
        dropout_p = self.dropout if self.training else 0.0
        reached = bool(more) or (causal and key_padding_mask is None)
        out, weights = attend(q, k, v, mask, dropout_p, reached=reached, need_weights=need_weights)
        if weights is not None and average_attn_weights:
            weights = weights.mean(-3)
        return self.out_proj(out.permute(back).reshape(*query.shape[:-1], self.embed_dim)), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values of size embed_dim. Equal inputs are projected by one product."""
        if query is key is value and self.in_proj_weight is not None:
            return ops.linear(query, self.adapted("in_proj_weight"), self.in_proj_bias).chunk(3, -1)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        if self.in_proj_weight is not None:
            weights = self.adapted("in_proj_weight").chunk(3)
        else:
            weights = tuple(self.adapted(f"{name}_proj_weight") for name in "qkv")
        return [ops.linear(x, *rest) for x, *rest in zip((query, key, value), weights, biases, strict=True)]

    def _more_keys(self, k: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The keys that come after all others, each with its value."""
        shape = (*k.shape[:-2], 1, k.shape[-1])
        more = []
        if self.bias_k is not None and self.bias_v is not None:
            bias_k, bias_v = (x.reshape(self.num_heads, 1, -1).expand(shape) for x in (self.bias_k, self.bias_v))
            more.append((bias_k, bias_v))
        if self.add_zero_attn:
            nothing = zeros(shape, dtype=k.dtype, device=k.device)
            more.append((nothing, nothing))
        return more

    def _mask(self, key_padding_mask: Any, attn_mask: Any, q: Tensor, k: Tensor) -> Tensor | None:
        """Both masks in one, as floats that are added to the scores."""
        (*batch, heads, L, _), S = q.shape, k.shape[-2]
        masks = []
        if key_padding_mask is not None:
            added = self._added("key_padding_mask", key_padding_mask, (*batch, S))
            masks.append(added.reshape(*batch, 1, 1, S))
        if attn_mask is not None:
            added = self._added("attn_mask", attn_mask, (L, S), (math.prod(batch) * heads, L, S))
            masks.append(added if added.ndim == 2 else added.reshape(*batch, heads, L, S))
        return sum(masks[1:], masks[0]) if masks else None

    def _added(self, name: str, given: Any, *shapes: tuple[int, ...]) -> Tensor:
        """A mask of one of these shapes, as floats that are added to the scores."""
        weight = self.out_proj.weight
        mask = operand(given, weight.device)
        check_input("MultiheadAttention", name, mask, weight)
        if mask.shape not in shapes:
            expected = " or ".join(map(str, shapes))
            raise ValueError(f"MultiheadAttention: expected {name} of shape {expected}, got {mask.shape}")
        if is_bool(mask.dtype):
            return ops.where(mask, -math.inf, 0.0).to(dtype=weight.dtype)
        if not is_float(mask.dtype):
            raise TypeError(f"MultiheadAttention: {name} must be bool or floats, got {mask.dtype}")
        return mask

    def _check_shapes(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        sizes = (self.embed_dim, self.kdim, self.vdim)
        fits = query.ndim == key.ndim == value.ndim in (2, 3) and key.shape[:-1] == value.shape[:-1]
        fits = fits and all(x.shape[-1] == size for x, size in zip((query, key, value), sizes, strict=True))
        if query.ndim == 3 and fits:
            fits = query.shape[1 - self.batch_first] == key.shape[1 - self.batch_first]
        if not fits:
            before = "N, {}" if self.batch_first else "{}, N"
            expected = ", ".join(f"({before.format(T)}, {size})" for T, size in zip("LSS", sizes, strict=True))
            raise ValueError(
                f"MultiheadAttention: expected query, key and value of shapes {expected}, or all without N, got "
                f"{query.shape}, {key.shape} and {value.shape}"
            )

    def extra_repr(self) -> str:
        size = self.embed_dim
        usual = {"dropout": 0.0, "bias": True, "add_bias_kv": False, "add_zero_attn": False, "kdim": size, "vdim": size}
        own = vars(self) | {"bias": self.in_proj_bias is not None, "add_bias_kv": self.bias_k is not None}
        changed = [f"{name}={own[name]}" for name, value in usual.items() if own[name] != value]
        changed += ["batch_first=True"] * self.batch_first
        return ", ".join([f"{size}, num_heads={self.num_heads}", *changed])
