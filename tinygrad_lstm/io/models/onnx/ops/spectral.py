"""Fourier transforms, and what is used with them.

Reference: https://onnx.ai/onnx/operators/
"""

import math
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ....._tensor import Tensor
from ...rules import Floats, Ints, rule
from ...shared.spectral import dft, stft

__all__: list[str] = []


# -- transforms --------------------------------------------------------------------------------------------------------


rule("DFT", since=20)(dft)
rule("STFT")(stft)


@rule("DFT")
def dft_along(
    x: Tensor, dft_length: Ints | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Tensor:
    return dft(x, dft_length, [axis], inverse=inverse, onesided=onesided)


# -- windows -----------------------------------------------------------------------------------------------------------


def _rule_of_window(op: str, *terms: float) -> None:
    """Registers a window that is a sum of cosines."""

    @rule(op)
    def window(size: Ints, *, output_datatype: np.dtype[Any] | None = None, periodic: int = 1) -> HostArray:
        turns = 2 * np.pi * np.arange(size[0]) / max(size[0] - (not periodic), 1)
        total: HostArray = np.cos(np.outer(turns, np.arange(len(terms)))) @ np.array(terms)
        return total.astype(output_datatype or np.float32)


_rule_of_window("HannWindow", 0.5, -0.5)
_rule_of_window("HammingWindow", 25 / 46, -21 / 46)
_rule_of_window("BlackmanWindow", 0.42, -0.5, 0.08)


@rule("MelWeightMatrix")
def mel_weight_matrix(
    num_mel_bins: Ints,
    dft_length: Ints,
    sample_rate: Ints,
    lower_edge_hertz: Floats,
    upper_edge_hertz: Floats,
    *,
    output_datatype: np.dtype[Any] | None = None,
) -> HostArray:
    """Triangles over the frequencies of a spectrum, (frequencies, bins), whose corners are even steps apart in mels."""
    (bins,), (length,), (rate,), (low,), (high,) = (
        num_mel_bins,
        dft_length,
        sample_rate,
        lower_edge_hertz,
        upper_edge_hertz,
    )
    first, last = (2595 * math.log10(1 + hertz / 700) for hertz in (low, high))
    mels = first + (last - first) / (bins + 2) * np.arange(bins + 2)
    corners = np.floor((length + 1) * 700 * (10 ** (mels / 2595) - 1) / rate)
    left, center, right = corners[:-2], corners[1:-1], corners[2:]
    at = np.arange(length // 2 + 1)[:, None]
    rising = np.where(left == center, at == center, (at - left) / np.maximum(center - left, 1))
    falling = (right - at) / np.maximum(right - center, 1)
    weights = np.where((at >= left) & (at <= center), rising, np.where((at > center) & (at < right), falling, 0))
    return weights.astype(output_datatype or np.float32)
