"""Fourier transforms; settings have ONNX's names and meaning."""

from .... import ops
from ...._tensor import Tensor
from ....ops.spectral import irfft, rfft
from ..rules import Ints

__all__ = ["dft", "stft"]


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


def _of_length(x: Tensor, length: int) -> Tensor:
    """x cut, or with zeros appended, along the dimension before the last."""
    return x if x.shape[-2] == length else ops.pad(x, [0, 0, 0, length - x.shape[-2]])


def _spectrum(x: Tensor, n: int) -> Tensor:
    """All n frequencies of the last dimension of a real x, each with a real and an imaginary part."""
    half = ops.squeeze(rfft(ops.unsqueeze(x, -2), False), -2)
    mirrored = ops.flip(half[..., 1 : (n + 1) // 2, :], -2)
    conjugate = ops.stack([mirrored[..., 0], -mirrored[..., 1]], -1)
    return ops.cat([half, conjugate], -2)


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
