"""Golden cases of stft and istft with drawn arguments, as PyTorch computes or refuses them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch_cases import Arrays, Case, Settings, called, number, seed

CASES_OF_EACH = 20


def _stft(x: Tensor, **settings: Any) -> Tensor:
    return torch.view_as_real(torch.stft(x, return_complex=True, **settings))


def _istft(x: Tensor, **settings: Any) -> Tensor:
    return torch.istft(torch.view_as_complex(x), **settings)


def drawn(name: str) -> tuple[Arrays, Settings]:
    """The arrays and results of one call, and its settings."""
    n_fft = number(1, 9)
    settings: Settings = {"n_fft": n_fft, "center": bool(number(0, 1)), "normalized": bool(number(0, 1))}
    settings["onesided"] = onesided = bool(number(0, 1))
    if number(0, 2):
        settings["hop_length"] = number(1, n_fft)
    length = n_fft
    if number(0, 1):
        settings["win_length"] = length = number(1, n_fft + (number(0, 5) == 0))
    window = {"window": 0.3 + torch.rand(length)} if number(0, 3) else {}
    batch = [number(1, 2)] * number(0, 1)
    if name == "stft":
        settings["pad_mode"] = ("reflect", "constant", "replicate", "circular")[number(0, 3)]
        x = torch.randn(*batch, number(4, 16))
        return called(name, {"input": x}, settings, window, function=_stft)
    if length < n_fft:  # otherwise no window reaches the first or last elements, which only the CPU refuses
        settings["center"] = True
    elif number(0, 1) or n_fft == 1:  # without length, PyTorch's slice of a centred window of 1 is empty
        settings["length"] = number(0, 16)
    spectrum = torch.randn(*batch, n_fft // 2 + 1 if onesided else n_fft, number(1, 5), 2)
    return called(name, {"input": spectrum}, settings, window, function=_istft)


def ops_spectral() -> Iterator[Case]:
    """Cases of each op."""
    for name in ("stft", "istft"):
        for place in range(CASES_OF_EACH):
            case = f"{name}_{place}"
            seed("ops_spectral", case)
            yield case, *drawn(name)
