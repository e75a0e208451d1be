"""Weights that PyTorch stores as several arrays: weight or spectral normalization, pruning, parametrizations.

Reference: PyTorch's `torch/nn/utils/weight_norm.py`, `prune.py`, `spectral_norm.py` and `parametrize.py`.
"""

import re
from collections.abc import Mapping

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

__all__ = ["plain_weights", "whole_name"]

_PLACE = r"(?:_l(?:0|[1-9]\d?)(?:_reverse)?)?"
_RECURRENT = re.compile(rf"(?:weight_(?:ih|hh|hr)|bias_(?:ih|hh)){_PLACE}", re.ASCII)
_OTHER = re.compile(r"(?:\w+_)?(?:weight|bias)", re.ASCII)
_SUFFIXES = {"g", "v", "orig", "mask", "u", "raw"}
_PARAMETRIZED = "parametrizations."
# What `parametrizations.weight` contains, in the words of the older functions.
_OLDER = {"original0": "g", "original1": "v", "original": "orig", "0._u": "u", "0._v": "v"}


def whole_name(name: str) -> str:
    """The name of the weight that an array is a part of, or its own name if it is not a part."""
    return _parted(name)[0]


def _parted(name: str) -> tuple[str, str]:
    """The name of a weight, and which part of it an array is; the array's name and "" if it is not a part."""
    module, found, rest = name.rpartition(_PARAMETRIZED)
    weight, dot, part = rest.partition(".")
    if found and weight and dot and part and (not module or module.endswith(".")):
        return module + weight, f"{_PARAMETRIZED}{part}"
    stem, _, part = name.rpartition("_")
    last = stem.rpartition(".")[-1]
    return (stem, part) if part in _SUFFIXES and (_RECURRENT.fullmatch(last) or _OTHER.fullmatch(last)) else (name, "")


def plain_weights(weights: Mapping[str, HostArray]) -> tuple[dict[str, HostArray], list[str]]:
    """Replaces the parts of weights by the weights.

    The parts of `torch.nn.utils.weight_norm`, `spectral_norm` and `prune`, and of `parametrizations.weight_norm` and
    `spectral_norm`, are combined: `weight` is g · v / ‖v‖ of `weight_g` and `weight_v`, the product of `weight_orig`
    and `weight_mask`, or `weight_orig` divided by uᵀWv of `weight_u` and `weight_v`.

    Returns:
        The arrays, none of which is a part; and the reasons why some weights cannot be computed.
    """
    parts: dict[str, dict[str, HostArray]] = {}
    found: dict[str, HostArray] = {}
    for name, array in weights.items():
        weight, part = _parted(name)
        if part:
            parts.setdefault(weight, {})[part] = array
        else:
            found[name] = array
    faults = []
    for weight, arrays in parts.items():
        parametrized = any(part.startswith(_PARAMETRIZED) for part in arrays)
        own = {_OLDER.get(part.removeprefix(_PARAMETRIZED), part): array for part, array in arrays.items()}
        whole = None if weight in found or len(own) < len(arrays) else _whole(own)
        if whole is not None:
            found[weight] = whole
        elif parametrized or _RECURRENT.fullmatch(weight.rpartition(".")[-1]):
            faults.append(_reason(weight, set(own), weight in found, parametrized))
        else:  # names that only look like those of parts
            found |= {f"{weight}_{part}": array for part, array in arrays.items()}
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
        case {"orig": original, "u": u, "v": v, **others} if not others and is_float(original.dtype):
            return _spectrally_normalized(original, u, v)
        case _:
            return None
    return whole


def _spectrally_normalized(weight: HostArray, u: HostArray, v: HostArray) -> HostArray | None:
    """A weight divided by its largest singular value, uᵀWv.

    W has the rows of the dimension that the vectors fit; if there are several, of that in which u is the direction of
    Wv, as the power iteration leaves it.
    """
    wide, left, right = weight.astype(np.float64), u.astype(np.float64), v.astype(np.float64)
    best: tuple[float, HostArray] | None = None
    for dim in range(weight.ndim):
        if left.shape != (weight.shape[dim],) or right.shape != (weight.size // max(weight.shape[dim], 1),):
            continue
        rows = np.moveaxis(wide, dim, 0).reshape(len(left), -1) @ right
        with np.errstate(all="ignore"):
            distance = float(np.abs(rows / np.linalg.norm(rows) - left).sum())
            scaled: HostArray = (wide / (left @ rows)).astype(weight.dtype)
        if best is None or distance < best[0]:
            best = distance, scaled
    return best[1] if best else None


def _is_norm(g: HostArray, v: HostArray) -> bool:
    """Whether g has a number for each vector of v along one dimension, or one number for all."""
    if not is_float(g.dtype) or not is_float(v.dtype):
        return False
    kept = [size for size in g.shape if size != 1]
    alike = all(size in (1, whole) for size, whole in zip(g.shape, v.shape, strict=False))
    return not g.ndim or (g.ndim == v.ndim and alike and len(kept) <= 1)


def _reason(weight: str, parts: set[str], is_there: bool, parametrized: bool) -> str:
    """Why a weight cannot be computed from its parts, and what to do."""
    name = weight.rpartition(".")[-1]
    if is_there:
        return f"{weight} is there both as it is and in parts ({', '.join(sorted(parts))}); leave out one of the two"
    if parametrized:
        how = f"torch.nn.utils.parametrize.remove_parametrizations(module, {name!r})"
        return f"{weight} is parametrized, by what the arrays do not tell: call {how}, and save again"
    if parts == {"raw"}:
        return f"{weight} is dropped in part while training: rename {weight}_raw to {weight}, which it is otherwise"
    there = ", ".join(f"{weight}_{part}" for part in sorted(parts))
    return f"{weight} cannot be computed from only {there}, or their shapes are wrong"
