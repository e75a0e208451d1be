"""stft and istft: their definitions, their derivatives, and one as the inverse of the other."""

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).normal(size=shape)


@pytest.mark.parametrize("onesided", [True, False])
@pytest.mark.parametrize(("n_fft", "win_length", "normalized"), [(6, 6, False), (5, 3, True), (1, 1, False)])
def test_stft_is_its_definition_and_istft_its_inverse(
    n_fft: int, win_length: int, normalized: bool, onesided: bool, device: str
) -> None:
    signal, window = normal(2, 14), np.linspace(0.5, 1, win_length)
    x = tg.tensor(signal, device=device)
    options: dict[str, Any] = {"normalized": normalized, "onesided": onesided, "window": window}
    spectrum = tg.stft(x, n_fft, 1, win_length, **options)

    before = (n_fft - win_length) // 2
    wide = np.pad(window, (before, n_fft - win_length - before))
    padded = np.pad(signal, ((0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
    frames = np.stack([padded[:, k : k + n_fft] * wide for k in range(padded.shape[1] - n_fft + 1)], 1)
    expected = (np.fft.rfft if onesided else np.fft.fft)(frames).swapaxes(1, 2) / (
        math.sqrt(n_fft) if normalized else 1
    )
    found = spectrum.cpu().numpy()
    np.testing.assert_allclose(found[..., 0] + 1j * found[..., 1], expected, atol=1e-12)
    again = tg.istft(spectrum, n_fft, 1, win_length, length=14, **options)
    np.testing.assert_allclose(again.cpu().numpy(), signal, atol=1e-12)


def test_istft_of_float16_does_not_overflow_in_between(device: str) -> None:
    """The sum over the frequencies, before the division by their number, is above float16's range."""
    spectrum = np.zeros((257, 3, 2), np.float16)
    spectrum[:, :, 0] = 1000
    out = tg.istft(tg.tensor(spectrum, device=device), 512, 128, center=False)
    assert out.dtype == np.float16 and out[0].item() == 1000


def test_an_infinity_stays_in_its_windows(device: str) -> None:
    signal = np.ones(12)
    signal[9] = np.inf
    x = tg.tensor(signal, device=device, requires_grad=True)
    out = tg.stft(x, 4, 2, center=False)  # windows begin at 0, 2, 4, 6, 8
    assert out.isfinite().all(0).all(-1).tolist() == [True, True, True, False, False]
    ordinary = tg.ones(12, dtype="float64", device=device, requires_grad=True)
    first, second = (tg.stft(each, 4, 2, center=False) for each in (x, ordinary))
    g = tg.ones(*first.shape, dtype="float64", device=device)
    assert tg.grad(first, x, g)[0].tolist() == tg.grad(second, ordinary, g)[0].tolist()


def test_derivatives_of_spectra() -> None:
    x, window = (tg.tensor(array, requires_grad=True) for array in (normal(10), np.linspace(0.5, 1, 4)))
    assert tg.gradcheck(lambda x, w: tg.stft(x, 4, 2, window=w), [x, window])
    spectrum = tg.tensor(normal(3, 4, 2), requires_grad=True)
    assert tg.gradcheck(lambda z, w: tg.istft(z, 4, 2, window=w), [spectrum, window])
