"""Fourier transforms, spectrograms, and the parts of complex tensors."""

import math

import numpy as np

from ..... import ops
from ....._tensor import Tensor, tensor
from ...rules import Ints
from ...shared.complex import Complex
from ...shared.spectral import dft, stft
from ..rules import rule

__all__: list[str] = []


@rule("RFFT")
def rfft(x: Tensor, fft_length: Ints) -> Complex:
    return Complex.of_pairs(dft(ops.unsqueeze(x, -1), fft_length, [x.ndim - 1], onesided=1))


@rule("IRFFT")
def irfft(x: Complex, fft_length: Ints) -> Tensor:
    return dft(x.pairs(), fft_length, [x.ndim - 1], inverse=1, onesided=1)[..., 0]


@rule("FFT")
def fft(x: Complex) -> Complex:
    return Complex.of_pairs(dft(x.pairs(), None, [x.ndim - 1]))


@rule("IFFT")
def ifft(x: Complex) -> Complex:
    return Complex.of_pairs(dft(x.pairs(), None, [x.ndim - 1], inverse=1))


@rule("AudioSpectrogram")
def audio_spectrogram(x: Tensor, *, window_size: int, stride: int, magnitude_squared: bool = False) -> Tensor:
    """(T, channels) to (channels, frames, frequencies)."""
    n = 1 << (window_size - 1).bit_length()
    hann = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(window_size) / window_size)
    window = tensor(np.pad(hann, (0, n - window_size)).astype(x.dtype), device=x.device)
    padded = ops.pad(ops.transpose(x, 0, 1), [0, n - window_size])
    pairs = stft(ops.unsqueeze(padded, -1), [stride], window, [n])
    squares = ops.sum(pairs * pairs, -1)
    return squares if magnitude_squared else ops.sqrt(squares)


# -- parts -------------------------------------------------------------------------------------------------------------


@rule("Complex")
def complex_of(real: Tensor, imag: Tensor) -> Complex:
    return Complex(real, imag)


@rule("Real")
def real(x: Complex) -> Tensor:
    return x.real


@rule("Imag")
def imag(x: Complex) -> Tensor:
    return x.imag


@rule("Conj")
def conj(x: Complex) -> Complex:
    return Complex(x.real, -x.imag)


@rule("ComplexAbs")
def magnitude(x: Complex) -> Tensor:
    return ops.hypot(x.real, x.imag)


@rule("Angle")
def angle(x: Complex) -> Tensor:
    return ops.atan2(x.imag, x.real)
