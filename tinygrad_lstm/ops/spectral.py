"""The short-time Fourier transform and its inverse, without complex dtypes: the last axis has real and imaginary parts.

Both are composed of two linear ops, `rfft` and `irfft`, each of which is the other's derivative.
"""

import math
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import FLOAT32, is_float, widened_dtype

from .._tensor import Tensor, operand, tensor
from ..arguments import integer
from ..creation import ones
from .define import composite, op
from .padding import overlapped, pad, unfold
from .reduction import narrowed, widened
from .shape import cat, flip

__all__ = ["istft", "stft"]


@op(promotion="float", x=lambda g, twice, x_shape, F: F.irfft(g, x_shape[-1], twice))
def rfft(xp: Any, x: Array, twice: bool) -> Array:
    """Σₜ x[t]·e^(-2πikt/n) for k = 0 ... n // 2: (..., T, n) to (..., n // 2 + 1, T, 2).

    With `twice`, the frequencies that have a negative one, whose part is the conjugate, count twice.
    """
    wide = widened_dtype(x.dtype)
    spectrum = xp.ascontiguousarray(xp.fft.rfft(x.astype(wide, copy=False), axis=-1).swapaxes(-1, -2))
    if twice:
        spectrum[..., 1 : (x.shape[-1] + 1) // 2, :] *= 2
    return spectrum.view(wide).reshape(*spectrum.shape, 2).astype(x.dtype, copy=False)


@op(promotion="float", x=lambda g, twice, F: F.rfft(g, twice))
def irfft(xp: Any, x: Array, n: int, twice: bool) -> Array:
    """Σₖ of the real part of x[k]·e^(2πikt/n) for t = 0 ... n - 1: (..., n // 2 + 1, T, 2) to (..., T, n).

    With `twice`, the frequencies that have a negative one count twice: n times the inverse of `rfft`.
    """
    wide = widened_dtype(x.dtype)
    pairs = xp.ascontiguousarray(x.astype(wide, copy=False))
    spectrum = pairs.view(xp.complex64 if wide == FLOAT32 else xp.complex128)[..., 0].swapaxes(-1, -2).copy()
    if not twice:
        spectrum[..., 1 : (n + 1) // 2] *= 0.5
    return xp.fft.irfft(spectrum, n, axis=-1, norm="forward").astype(x.dtype, copy=False)


def _settings(
    name: str, x: Tensor, n_fft: int, hop_length: int | None, win_length: int | None, window: Any
) -> tuple[int, Tensor]:
    """The hop length, and the window padded to `n_fft`.

    Raises:
        ValueError: a length is out of range, or the window is not of shape (win_length,).
    """
    hop = n_fft // 4 if hop_length is None else integer(name, "hop_length", hop_length)
    length = n_fft if win_length is None else integer(name, "win_length", win_length)
    if n_fft < 1 or hop < 1 or not 1 <= length <= n_fft:
        raise ValueError(
            f"{name}: n_fft {n_fft}, hop_length {hop}, win_length {length}; expected lengths of 1 or more, and a "
            "window no longer than n_fft"
        )
    if window is None:
        window = ones(length, dtype=widened_dtype(x.dtype) if is_float(x.dtype) else np.float32, device=x.device)
    window = operand(window, x.device)
    if window.shape != (length,):
        raise ValueError(f"{name}: window of shape {window.shape} must have shape {(length,)}, its win_length")
    before = (n_fft - length) // 2
    return hop, pad(window, (before, n_fft - length - before)) if length < n_fft else window


@composite
def stft(
    x: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool = True,
) -> Tensor:
    """The short-time Fourier transform: the spectrum of each window of a signal, (..., frequencies, frames, 2).

    It is `torch.view_as_real` of torch's. There are n_fft // 2 + 1 frequencies, or n_fft if `onesided` is False.

    Args:
        x: (T,) or (B, T).
        n_fft: the number of elements of each window.
        hop_length: the number of elements from one window to the next; by default n_fft // 4.
        win_length: the length of `window`, which is padded with zeros to n_fft at both ends; by default n_fft.
        window: (win_length,), by which each window is multiplied; by default ones.
        center: whether x is padded by n_fft // 2 at both ends, so that the middle of window t is at t · hop_length.
        pad_mode: the mode of `pad` for this.
        normalized: divides by √n_fft.

    Raises:
        ValueError: x has a different number of dimensions or is too short, a length is out of range, or the window has
            a different length.

    >>> import tinygrad_lstm as tg
    >>> tg.stft(tg.ones(8), 4, center=False).shape
    (3, 5, 2)
    """
    n_fft = integer("stft", "n_fft", n_fft)
    if x.ndim not in (1, 2):
        raise ValueError(f"stft: x of shape {x.shape} must have shape (T,) or (B, T)")
    hop, window = _settings("stft", x, n_fft, hop_length, win_length, window)
    if center:
        x = pad(x, (n_fft // 2, n_fft // 2), pad_mode)
    if x.shape[-1] < n_fft:
        raise ValueError(f"stft: a window of n_fft {n_fft} is longer than x, of shape {x.shape} with its padding")
    windows = unfold(x, -1, n_fft, hop) * (window * (1 / math.sqrt(n_fft)) if normalized else window)
    spectrum = rfft(windows, False)
    if not onesided:  # a negative frequency has the conjugate of the positive one
        rest = flip(spectrum[..., 1 : (n_fft + 1) // 2, :, :], -3)
        spectrum = cat([spectrum, rest * tensor([1, -1], dtype=rest.dtype, device=rest.device)], -3)
    return spectrum


@composite
def istft(
    x: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool = True,
    length: int | None = None,
) -> Tensor:
    """The inverse of `stft`: (..., frequencies, frames, 2) to (..., T), least squares (Griffin and Lim 1984).

    Args:
        onesided: whether x has only the frequencies 0 ... n_fft // 2; further ones have no effect.
        length: of the result, which is cut or padded with zeros; by default it ends with the last window, less
            n_fft // 2 elements if `center`.

    The other arguments are those of `stft`. Results are not finite where no window reaches. On the CPU this raises.

    Raises:
        ValueError: x has a different shape, a length is out of range, the window has a different length, or the
            windows leave a gap.
    """
    n_fft = integer("istft", "n_fft", n_fft)
    frequencies = n_fft // 2 + 1 if onesided else n_fft
    if x.ndim not in (3, 4) or x.shape[-1] != 2 or x.shape[-3] != frequencies or not x.shape[-2]:
        raise ValueError(
            f"istft: x of shape {x.shape} must have shape ({frequencies}, frames, 2) or (B, {frequencies}, frames, 2)"
        )
    hop, window = _settings("istft", x, n_fft, hop_length, win_length, window)
    if hop > (win_length or n_fft):
        raise ValueError(f"istft: hop_length {hop} must be at most win_length, {win_length or n_fft}")
    if not onesided:  # the signal is real: negative frequencies are not needed
        x = x[..., : n_fft // 2 + 1, :, :]
    windows = irfft(widened(x), n_fft, True) * (window * (1 / (math.sqrt(n_fft) if normalized else n_fft)))
    frames = x.shape[-2]
    total = n_fft + hop * (frames - 1)
    dim = windows.ndim - 2
    signal = overlapped(windows, dim, n_fft, hop, total)
    squares = overlapped((window * window).expand(frames, n_fft), 0, n_fft, hop, total)
    start = n_fft // 2 if center else 0
    end = total - start if length is None else start + integer("istft", "length", length)
    if end <= start:
        raise ValueError(f"istft: length {length} of {frames} frames of n_fft {n_fft}; expected one element to be left")
    signal, squares = signal[..., start:end], squares[start:end]
    if squares.device == "cpu" and squares.size and not float(np.min(squares.detach().numpy())) >= 1e-11:
        raise ValueError(f"istft: windows of n_fft {n_fft} and hop_length {hop} leave elements that none reaches")
    signal = narrowed(signal / squares, x)
    missing = end - start - signal.shape[-1]
    return pad(signal, (0, missing)) if missing > 0 else signal
