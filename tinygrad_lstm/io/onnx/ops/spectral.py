"""The transforms of spectra in ONNX: DFT, whose real and imaginary parts are in the last axis too."""

import numpy as np

from ....ops import spectral
from ....tracing.lengths import Size
from ..graph import Graph
from ..program import Operand
from .entries import fixed, writes


@writes(spectral.rfft)
def _rfft(g: Graph, x: Operand) -> str:
    rank = len(x.shape)
    rows = g.cast(x, g.call.result.dtype)
    if rank == 1:  # DFT needs a batch dimension
        rows = g.node("Unsqueeze", rows, np.array([0]))
    spectrum = g.node("DFT", g.node("Unsqueeze", rows, np.array([-1])), axis=max(rank - 1, 1), onesided=1)
    return g.node("Squeeze", spectrum, np.array([0])) if rank == 1 else spectrum


@writes(spectral.rfft_transposed)
def _rfft_transposed(g: Graph, x: Operand, n: Size) -> str:
    """n times the real part of the inverse transform, where all other frequencies are 0."""
    length, rank = fixed(g, n), len(x.shape)
    missing = np.zeros((2, rank), np.int64)
    missing[1, -2] = length - fixed(g, x.shape[-2])
    whole = g.node("Pad", g.cast(x, g.call.result.dtype), missing.reshape(-1))
    if rank == 2:
        whole = g.node("Unsqueeze", whole, np.array([0]))
    signal = g.node("DFT", whole, axis=max(rank - 2, 1), inverse=1)
    real = g.node("Gather", signal, np.array(0), axis=max(rank, 3) - 1)
    scaled = g.node("Mul", real, g.number(length, g.call.result.dtype))
    return g.node("Squeeze", scaled, np.array([0])) if rank == 2 else scaled
