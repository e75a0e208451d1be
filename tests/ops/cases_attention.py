"""Cases of ops/attention.py."""

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from ops.case import SEEDS, Drawn, case, nonzero, shapes

HostArray = np.ndarray[Any, Any]


def attention(
    query: HostArray,
    key: HostArray,
    value: HostArray,
    added: HostArray | None = None,
    attn_mask: HostArray | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> HostArray:
    """Its definition, in float64."""
    if enable_gqa:
        key, value = (np.repeat(x, query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    scores = query @ key.swapaxes(-1, -2) * (1 / math.sqrt(query.shape[-1] or 1) if scale is None else scale)
    scores = scores if added is None else scores + added
    allowed = np.tri(*scores.shape[-2:], dtype=bool) if is_causal else attn_mask
    powers = np.exp(scores) if allowed is None else np.exp(scores) * allowed
    sums = powers.sum(-1, keepdims=True)
    return np.asarray(powers / np.where(sums == 0, 1, sums) @ value)


@st.composite
def attending(draw: st.DrawFn, kind: str) -> Drawn:
    L, S, E, V = (draw(st.integers(0, 4)) for _ in range(4))
    lead = draw(shapes(0, 2, smallest=1))
    rng = np.random.default_rng(draw(SEEDS))
    if kind == "grouped":
        groups, times = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        leads = [(*lead, groups * times), (*lead, groups), (*lead, groups)]
    else:
        leads = [tuple(n if draw(st.booleans()) else 1 for n in lead[draw(st.integers(0, len(lead))) :]) for _ in "qkv"]
    arrays = [nonzero(rng, (*before, *ends)) for before, ends in zip(leads, [(L, E), (S, E), (S, V)])]
    options: dict[str, Any] = {"scale": draw(st.sampled_from([-0.7, 0.0, 1.5]))} if draw(st.booleans()) else {}
    whole = (*(lead if draw(st.booleans()) else ()), L, S)
    if kind == "added":
        arrays.append(nonzero(rng, whole))
    if kind == "masked":
        options["attn_mask"] = rng.random(whole) < draw(st.sampled_from([0.2, 0.7]))
    return Drawn(arrays, options | {"causal": {"is_causal": True}, "grouped": {"enable_gqa": True}}.get(kind, {}))


for kind in ("plain", "masked", "added", "causal", "grouped"):
    case(
        "scaled_dot_product_attention",
        attention,
        attending(kind),
        ints=kind != "added",
        bools=False,
        variant="" if kind == "plain" else kind,
    )
