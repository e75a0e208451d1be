"""Weights that PyTorch stores as several arrays: weight or spectral normalization, pruning, parametrizations.

Reference: PyTorch's `torch/nn/utils/weight_norm.py`, `prune.py`, `spectral_norm.py` and `parametrize.py`.
"""

import re
from collections.abc import Mapping

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

__all__ = ["plain_weights", "whole_name"]

_WEIGHT = r"(?:weight_(?:ih|hh|hr)|bias_(?:ih|hh))(?:_l(?:0|[1-9]\d?)(?:_reverse)?)?"
_PART = re.compile(
    rf"(?P<module>(?:.+\.)?)(?:(?P<parametrized>parametrizations)\.(?P<within>{_WEIGHT})\..+"
    rf"|(?P<weight>{_WEIGHT})_(?P<part>g|v|orig|mask|u|raw))",
    re.ASCII | re.DOTALL,  # if a dot matches any character, long names are scanned only once
)


def whole_name(name: str) -> str:
    """The name of the recurrent weight that an array is a part of, or its own name if it is not a part."""
    match = _PART.fullmatch(name)
    return match["module"] + (match["within"] or match["weight"]) if match else name


def plain_weights(weights: Mapping[str, HostArray]) -> tuple[dict[str, HostArray], list[str]]:
    """Replaces the parts of recurrent weights by the weights.

    The parts of `torch.nn.utils.weight_norm` and `torch.nn.utils.prune` are combined: `weight_hh_l0` is g · v / ‖v‖ of
    `weight_hh_l0_g` and `weight_hh_l0_v`, or the product of `weight_hh_l0_orig` and `weight_hh_l0_mask`.

    Returns:
        The arrays, none of which is a part; and the reasons why some weights cannot be computed.
    """
    parts: dict[str, dict[str, HostArray]] = {}
    found: dict[str, HostArray] = {}
    for name, array in weights.items():
        if match := _PART.fullmatch(name):
            parts.setdefault(whole_name(name), {})[match["part"] or match["parametrized"]] = array
        else:
            found[name] = array
    faults = []
    for weight, arrays in parts.items():
        whole = None if weight in found else _whole(arrays)
        if whole is None:
            faults.append(_reason(weight, set(arrays), weight in found))
        else:
            found[weight] = whole
    return found, faults


def _whole(parts: Mapping[str, HostArray]) -> HostArray | None:
    """The weight computed from its parts; None if that is not possible."""
    whole: HostArray
    match parts:
        case {"g": g, "v": v, **others} if not others and _is_norm(g, v):
            axes = tuple(axis for axis in range(v.ndim) if not g.ndim or g.shape[axis] == 1)
            wide = v.astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):  # NaN for a zero vector, as in PyTorch
                whole = g.astype(np.float64) * wide / np.sqrt(np.square(wide).sum(axis=axes, keepdims=True))
            whole = whole.astype(v.dtype)
        case {"orig": original, "mask": mask, **others} if not others and original.shape == mask.shape:
            whole = (original * mask).astype(original.dtype)
        case _:
            return None
    return whole


def _is_norm(g: HostArray, v: HostArray) -> bool:
    """Whether g has a number for each vector of v along one dimension, or one number for all."""
    if not is_float(g.dtype) or not is_float(v.dtype):
        return False
    kept = [size for size in g.shape if size != 1]
    alike = all(size in (1, whole) for size, whole in zip(g.shape, v.shape, strict=False))
    return not g.ndim or (g.ndim == v.ndim and alike and len(kept) <= 1)


def _reason(weight: str, parts: set[str], is_there: bool) -> str:
    """Why a weight cannot be computed from its parts, and what to do."""
    name = weight.rpartition(".")[-1]
    if is_there:
        return f"{weight} is there both as it is and in parts ({', '.join(sorted(parts))}); leave out one of the two"
    if "parametrizations" in parts:
        how = f"torch.nn.utils.parametrize.remove_parametrizations(module, {name!r})"
        return f"{weight} is parametrized, by what the arrays do not tell: call {how}, and save again"
    if parts == {"orig", "u", "v"}:
        how = f"torch.nn.utils.remove_spectral_norm(module, {name!r})"
        return f"{weight} is spectrally normalized: call {how}, and save again"
    if parts == {"raw"}:
        return f"{weight} is dropped in part while training: rename {weight}_raw to {weight}, which it is otherwise"
    there = ", ".join(f"{weight}_{part}" for part in sorted(parts))
    return f"{weight} cannot be computed from only {there}, or their shapes are wrong"
