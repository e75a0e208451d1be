"""Golden cases of attention with drawn arguments, as PyTorch computes them."""

import math
from collections.abc import Iterator

import torch
from torch.nn import MultiheadAttention
from torch_cases import Arrays, Case, Settings, called, gradients, number, one_of, seed

OF_THE_OP, OF_THE_LAYER = 36, 24


def bool_mask(*shape: int) -> torch.Tensor:
    """True for about half of the elements, and for one of each row."""
    mask = torch.rand(shape) < 0.5
    mask[..., number(0, shape[-1] - 1)] = True
    return mask


def float_mask(*shape: int) -> torch.Tensor:
    """Numbers, and in half of the cases -inf for about half of the elements."""
    mask = torch.randn(shape)
    return mask.masked_fill(~bool_mask(*shape), -math.inf) if one_of(True, False) else mask


def ops_attention() -> Iterator[Case]:
    """Cases of scaled_dot_product_attention."""
    for k in range(OF_THE_OP):
        case = f"scaled_dot_product_attention_{k}"
        seed("ops_attention", case)
        batch, heads, times, L, S, E, V = one_of((), (number(1, 2),)), *(number(1, most) for most in (2, 2, 5, 5, 4, 4))
        settings: Settings = {"scale": one_of(0.3, 2.0)} if one_of(True, False) else {}
        if one_of(True, False, False):
            settings["enable_gqa"] = True
        else:
            times = 1
        arrays = {
            "query": torch.randn(*batch, heads * times, L, E),
            "key": torch.randn(*batch, heads, S, E),
            "value": torch.randn(*batch, heads, S, V),
        }
        masks: Arrays = {}
        shape = one_of((L, S), (1, S), (*batch, heads * times, L, S))
        match one_of("none", "causal", "bool", "whole rows", "float"):
            case "causal":
                settings["is_causal"] = True
            case "bool":
                masks["attn_mask"] = bool_mask(*shape)
            case "whole rows":
                masks["attn_mask"] = torch.rand(L, S) < 0.3
            case "float":
                masks["attn_mask"] = float_mask(*shape)
        yield case, *called("scaled_dot_product_attention", arrays, settings, masks, constant=["attn_mask"])


def multihead_attention() -> Iterator[Case]:
    """Cases of MultiheadAttention, in evaluation."""
    for k in range(OF_THE_LAYER):
        case = f"case_{k}"
        seed("multihead_attention", case)
        yield case, *_layer()


def _layer() -> tuple[Arrays, Settings]:
    heads, L, S, N = (number(1, most) for most in (3, 4, 5, 3))
    E = heads * number(1, 3)
    kdim, vdim = one_of((None, None), (None, None), (number(1, 4), None), (number(1, 4), number(1, 4)))
    made = {"embed_dim": E, "num_heads": heads, "bias": one_of(True, True, False), "batch_first": one_of(True, False)}
    made |= {"add_bias_kv": one_of(True, False, False), "add_zero_attn": one_of(True, False, False)}
    made |= {"kdim": kdim, "vdim": vdim}
    batched = one_of(True, True, False)

    def sizes(T: int, size: int) -> tuple[int, ...]:
        return ((N, T, size) if made["batch_first"] else (T, N, size)) if batched else (T, size)

    layer = MultiheadAttention(**made).eval()
    parameters = {name: torch.randn_like(parameter) for name, parameter in layer.state_dict().items()}
    layer.load_state_dict(parameters)
    inputs = {"query": torch.randn(sizes(L, E))}
    if made["kdim"] is made["vdim"] is None and one_of(True, False):  # the query attends to itself
        S = L
    else:
        inputs |= {"key": torch.randn(sizes(S, kdim or E)), "value": torch.randn(sizes(S, vdim or E))}
    masks: Arrays = {}
    draw = one_of(float_mask, lambda *shape: ~bool_mask(*shape))
    if one_of(True, False):
        masks["key_padding_mask"] = draw(*([N] if batched else []), S)
        masks["key_padding_mask"][..., 0] = 0  # so that no row is masked whole by both masks
    if one_of(True, False):
        masks["attn_mask"] = draw(*one_of((), ((N if batched else 1) * heads,)), L, S)
        masks["attn_mask"][..., 0] = 0
    options = {"need_weights": one_of(True, True, False), "average_attn_weights": one_of(True, False)}
    for tensor in inputs.values():
        tensor.requires_grad_()
    given = [inputs.get(name, inputs["query"]) for name in ("query", "key", "value")]
    out, weights = layer(*given, **masks, **options)
    results = {"out": out} if weights is None else {"out": out, "weights": weights}
    w = {f"w_{name}": torch.randn_like(result) for name, result in results.items()}
    loss = sum((results[name] * w[f"w_{name}"]).sum() for name in results)
    found = gradients(loss, inputs | dict(layer.named_parameters()))
    return parameters | inputs | masks | results | w | found, {"made": made, "options": options, "masks": list(masks)}
