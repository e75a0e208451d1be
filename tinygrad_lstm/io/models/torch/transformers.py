"""PyTorch's Transformers: what their `forward` computes, whose code has branches for a faster path."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...torch.pickled import Record

__all__ = ["TRANSFORMERS", "transformed"]

TRANSFORMERS = {
    "Transformer": (
        *("tgt", "src_mask", "tgt_mask", "memory_mask", "src_key_padding_mask", "tgt_key_padding_mask"),
        *("memory_key_padding_mask", "src_is_causal", "tgt_is_causal", "memory_is_causal"),
    ),
    "TransformerEncoder": ("mask", "src_key_padding_mask", "is_causal"),
    "TransformerDecoder": (
        *("memory", "tgt_mask", "memory_mask", "tgt_key_padding_mask", "memory_key_padding_mask"),
        *("tgt_is_causal", "memory_is_causal"),
    ),
    "TransformerEncoderLayer": ("src_mask", "src_key_padding_mask", "is_causal"),
}
"""The types, with the arguments of their `forward` after the first."""


def transformed(
    kind: str,
    owner: Record,
    src: Any,
    others: Sequence[Any],
    named: Mapping[str, Any],
    attribute: Callable[[Record, str], Any],
    call: Callable[..., Any],
    add: Callable[[Any, Any], Any],
) -> Any:
    """The result of the module `owner` for `src` and other arguments of its `forward`.

    Args:
        attribute: returns an attribute of a module.
        call: calls a method of a module, by its name.
        add: adds two tensors.
    """
    given = {**dict(zip(TRANSFORMERS[kind], others, strict=False)), **named}

    def of(*names: str) -> list[Any]:
        return [given.get(name) for name in names]

    if kind == "Transformer":
        memory = call(attribute(owner, "encoder"), "forward", src, *of("src_mask", "src_key_padding_mask"))
        masks = of("tgt_mask", "memory_mask", "tgt_key_padding_mask", "memory_key_padding_mask", "tgt_is_causal")
        causal = given.get("memory_is_causal", False)
        return call(attribute(owner, "decoder"), "forward", given["tgt"], memory, *masks, causal)
    if kind in ("TransformerEncoder", "TransformerDecoder"):
        layers = attribute(owner, "layers")
        masks = of(*(name for name in TRANSFORMERS[kind] if not name.endswith("is_causal")))  # a mask says it already
        for _, layer in layers.attributes.pairs() if layers.attributes else ():
            if isinstance(layer, Record):
                src = call(layer, "forward", src, *masks)
        norm = attribute(owner, "norm")
        return src if norm is None else call(norm, "forward", src)

    def attention(x: Any) -> Any:
        return call(owner, "_sa_block", x, *of("src_mask", "src_key_padding_mask"), given.get("is_causal", False))

    def norm_of(x: Any, number: int) -> Any:
        return call(attribute(owner, f"norm{number}"), "forward", x)

    if attribute(owner, "norm_first"):
        src = add(src, attention(norm_of(src, 1)))
        return add(src, call(owner, "_ff_block", norm_of(src, 2)))
    src = norm_of(add(src, attention(src)), 1)
    return norm_of(add(src, call(owner, "_ff_block", src)), 2)
