"""Fourier transforms, and what is used with them.

Reference: https://onnx.ai/onnx/operators/
"""

import math
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..... import ops
from ....._tensor import Tensor
from .....ops.spectral import irfft, rfft
from ...rules import Floats, Ints, rule

__all__: list[str] = []


# -- transforms --------------------------------------------------------------------------------------------------------


@rule("DFT", since=20)
def dft(
    x: Tensor, dft_length: Ints | None = None, axis: Ints | None = None, *, inverse: int = 0, onesided: int = 0
) -> Tensor:
    dim = (axis[0] if axis else -2) % x.ndim
    x = x.swapaxes(dim, -2)
    if inverse and onesided:
        n = dft_length[0] if dft_length else 2 * (x.shape[-2] - 1)
        half = _of_length(x, n // 2 + 1)
        y = ops.unsqueeze(irfft(ops.unsqueeze(half, -2), n, True).reshape((*x.shape[:-2], n)) / n, -1)
        return y.swapaxes(dim, -2)
    n = dft_length[0] if dft_length else x.shape[-2]
    x = _of_length(x, n)
    if x.shape[-1] == 1:
        y = _spectrum(x[..., 0], n)
    else:  # F(a + ib) = F(a) + i F(b)
        a, b = _spectrum(x[..., 0], n), _spectrum(-x[..., 1] if inverse else x[..., 1], n)
        y = a + ops.stack([-b[..., 1], b[..., 0]], -1)
    if inverse:  # that of the conjugate, conjugated
        y = ops.stack([y[..., 0], -y[..., 1]], -1) / n
    if onesided:
        y = y[..., : n // 2 + 1, :]
    return y.swapaxes(dim, -2)


@rule("DFT")
def dft_along(
    x: Tensor, dft_length: Ints | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Tensor:
    return dft(x, dft_length, [axis], inverse=inverse, onesided=onesided)


def _of_length(x: Tensor, length: int) -> Tensor:
    """x cut, or with zeros appended, along the dimension before the last."""
    return x if x.shape[-2] == length else ops.pad(x, [0, 0, 0, length - x.shape[-2]])


def _spectrum(x: Tensor, n: int) -> Tensor:
    """All n frequencies of the last dimension of a real x, each with a real and an imaginary part."""
    half = ops.squeeze(rfft(ops.unsqueeze(x, -2), False), -2)
    mirrored = ops.flip(half[..., 1 : (n + 1) // 2, :], -2)
    conjugate = ops.stack([mirrored[..., 0], -mirrored[..., 1]], -1)
    return ops.cat([half, conjugate], -2)


@rule("STFT")
def stft(
    signal: Tensor,
    frame_step: Ints,
    window: Tensor | None = None,
    frame_length: Ints | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """(B, T, 1 or 2) to (B, frames, frequencies, 2)."""
    n = frame_length[0] if frame_length else window.shape[0] if window is not None else signal.shape[1]
    if signal.ndim == 2 or signal.shape[2] == 1:
        x = signal.reshape(signal.shape[:2])
        length = None if window is None else window.shape[0]
        return ops.stft(x, n, frame_step[0], length, window, center=False, onesided=bool(onesided)).swapaxes(1, 2)
    frames = ops.unfold(signal, 1, n, frame_step[0])
    frames = frames if window is None else frames * window
    return dft(frames.swapaxes(2, 3), axis=[2])


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
