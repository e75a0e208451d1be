"""The transforms of spectra in ONNX: DFT, whose real and imaginary parts are in the last axis too."""

import numpy as np

from ....lengths import Size
from ....ops import spectral
from ....programs.program import Operand
from ..graph import Graph, Input
from .entries import fixed, writes


def _counted(g: Graph, x: Input, n: int, frequencies: int, number: float, axis: int) -> Input:
    """x, with the frequencies that have a negative one multiplied by a number."""
    if number == 1:
        return x
    factors = np.ones((frequencies, *[1] * axis), g.call.result.dtype)
    factors[1 : (n + 1) // 2] = number
    return g.node("Mul", x, factors)


@writes(spectral.rfft)
def _rfft(g: Graph, x: Operand, twice: bool) -> str:
    rank, n = len(x.shape), fixed(g, x.shape[-1])
    rows = g.node("Unsqueeze", g.cast(x, g.call.result.dtype), np.array([0, -1]))  # DFT needs a batch dimension
    spectrum = g.node("Squeeze", g.node("DFT", rows, axis=rank, onesided=1), np.array([0]))
    turned = g.node("Transpose", spectrum, perm=[*range(rank - 2), rank - 1, rank - 2, rank])
    return g.name(_counted(g, turned, n, n // 2 + 1, 1 + twice, 2))


@writes(spectral.irfft)
def _irfft(g: Graph, x: Operand, n: Size, twice: bool) -> str:
    """n times the real part of the inverse transform, where all other frequencies are 0."""
    length, rank, frequencies = fixed(g, n), len(x.shape), fixed(g, x.shape[-3])
    counted = _counted(g, g.cast(x, g.call.result.dtype), length, frequencies, 1 + twice, 2)
    missing = np.zeros((2, rank + 1), np.int64)
    missing[1, -3] = length - frequencies
    whole = g.node("Pad", g.node("Unsqueeze", counted, np.array([0])), missing.reshape(-1))
    signal = g.node("DFT", whole, axis=rank - 2, inverse=1)
    real = g.node("Squeeze", g.node("Gather", signal, np.array(0), axis=rank), np.array([0]))
    scaled = g.node("Mul", real, g.number(length, g.call.result.dtype))
    return g.node("Transpose", scaled, perm=[*range(rank - 3), rank - 2, rank - 3])
