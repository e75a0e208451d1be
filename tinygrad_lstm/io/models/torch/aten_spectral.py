"""PyTorch's functions of complex tensors, Fourier transforms and their windows.

Reference: PyTorch's `aten/src/ATen/native/SpectralOps.cpp`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .... import creation, ops
from ...._tensor import Tensor
from ...._tensor import tensor as make_tensor
from ..shared.complex import Complex
from ..shared.spectral import dft
from .aten import RULES, aten, dtype_of

__all__: list[str] = []


def _as_complex(x: Any) -> Complex:
    return x if isinstance(x, Complex) else Complex(x, creation.zeros_like(x))


# -- parts -------------------------------------------------------------------------------------------------------------


@aten("view_as_real")
def view_as_real(x: Complex) -> Tensor:
    return x.pairs()


@aten("view_as_complex")
def view_as_complex(x: Tensor) -> Complex:
    return Complex.of_pairs(x)


@aten("complex")
def complex_(real: Tensor, imag: Tensor) -> Complex:
    return Complex(real, imag)


@aten("polar")
def polar(abs: Tensor, angle: Tensor) -> Complex:
    return Complex(abs * ops.cos(angle), abs * ops.sin(angle))


@aten("real")
def real(x: Any) -> Any:
    return x.real if isinstance(x, Complex) else x


@aten("imag")
def imag(x: Complex) -> Tensor:
    return x.imag


@aten("conj", "_conj", "conj_physical")
def conj(x: Any) -> Any:
    return Complex(x.real, -x.imag) if isinstance(x, Complex) else x


@aten("resolve_conj", "resolve_neg")
def resolved(x: Any) -> Any:
    return x


@aten("is_complex")
def is_complex(x: Any) -> bool:
    return isinstance(x, Complex)


@aten("abs", "absolute")
def magnitude(x: Any) -> Tensor:
    return ops.hypot(x.real, x.imag) if isinstance(x, Complex) else ops.abs(x)


@aten("angle")
def angle(x: Any) -> Any:
    return ops.atan2(x.imag, x.real) if isinstance(x, Complex) else ops.where(x < 0, math.pi, creation.zeros_like(x))


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _product(x: Any, y: Any) -> Complex:
    if not isinstance(x, Complex):
        x, y = y, x
    if not isinstance(y, Complex):
        return Complex(x.real * y, x.imag * y)
    return Complex(x.real * y.real - x.imag * y.imag, x.real * y.imag + x.imag * y.real)


def _quotient(x: Any, y: Any) -> Complex:
    if not isinstance(y, Complex):
        return Complex(x.real / y, x.imag / y)
    squares = y.real * y.real + y.imag * y.imag
    return _product(x, Complex(y.real / squares, -y.imag / squares))


@dataclass(frozen=True)
class _OrComplex:
    """A rule that has a different one for complex tensors."""

    plain: Callable[..., Any]
    complex: Callable[..., Any]

    def __call__(self, *args: Any, **settings: Any) -> Any:
        is_complex = any(isinstance(each, Complex) for each in args[:2])
        return (self.complex if is_complex else self.plain)(*args, **settings)


@dataclass(frozen=True)
class _EachPart:
    """A rule that does with the real and the imaginary part what it does with real tensors."""

    plain: Callable[..., Any]

    def __call__(self, first: Any, *others: Any, **settings: Any) -> Any:
        listed = isinstance(first, list | tuple)
        if not any(isinstance(each, Complex) for each in (first if listed else [first])):
            return self.plain(first, *others, **settings)
        made = [_as_complex(each) for each in first] if listed else first
        parts = [
            self.plain([getattr(each, part) for each in made] if listed else getattr(made, part), *others, **settings)
            for part in ("real", "imag")
        ]
        if isinstance(parts[0], Tensor):
            return Complex(*parts)
        return [Complex(*each) for each in zip(*parts, strict=True)]


def _sum(plain: Callable[..., Any], x: Any, y: Any, alpha: float = 1) -> Complex:
    (x, a), (y, b) = [(each.real, each.imag) if isinstance(each, Complex) else (each, 0) for each in (x, y)]
    return Complex(plain(x, y, alpha), plain(a, b, alpha))


RULES |= {name: _OrComplex(RULES[name], _product) for name in ("mul", "multiply")}
RULES |= {name: _OrComplex(RULES[name], _quotient) for name in ("div", "divide", "true_divide")}
RULES |= {name: _OrComplex(RULES[name], functools.partial(_sum, RULES[name])) for name in ("add", "sub")}
RULES |= {
    name: _EachPart(RULES[name])
    for name in (
        *("view", "reshape", "flatten", "unflatten", "transpose", "swapaxes", "permute", "movedim", "t", "mT"),
        *("squeeze", "unsqueeze", "expand", "repeat", "flip", "roll", "select", "slice", "narrow", "index_select"),
        *("split", "chunk", "unbind", "cat", "concat", "stack", "neg", "sum", "mean"),
    )
}


# -- transforms --------------------------------------------------------------------------------------------------------


def _transform(x: Any, n: int | None, dim: int, norm: str | None, inverse: int = 0, onesided: int = 0) -> Tensor:
    """The transform along a dimension: (..., 2), or with `inverse` and `onesided`, (..., 1)."""
    dim %= x.ndim
    given = x.pairs() if isinstance(x, Complex) else ops.unsqueeze(x, -1)
    y = dft(given, None if n is None else [n], [dim], inverse=inverse, onesided=onesided)
    power = {"forward": 1.0, "ortho": 0.5}.get(norm or "", 0.0)
    count = n or (2 * (x.shape[dim] - 1) if inverse and onesided else x.shape[dim])
    return y * count ** (power if inverse else -power) if power else y


@aten("fft_fft")
def fft(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Complex:
    return Complex.of_pairs(_transform(x, n, dim, norm))


@aten("fft_ifft")
def ifft(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Complex:
    return Complex.of_pairs(_transform(x, n, dim, norm, inverse=1))


@aten("fft_rfft")
def rfft(x: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Complex:
    return Complex.of_pairs(_transform(x, n, dim, norm, onesided=1))


@aten("fft_irfft")
def irfft(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    return _transform(_as_complex(x), n, dim, norm, inverse=1, onesided=1)[..., 0]


def _along_dims(transform: Callable[..., Any], x: Any, s: Any, dim: Sequence[int], norm: str | None) -> Any:
    for place, each in enumerate(dim):
        x = transform(x, s[place] if s else None, each, norm)
    return x


@aten("fft_fft2", "fft_fftn")
def fft2(x: Any, s: Any = None, dim: Sequence[int] | None = (-2, -1), norm: str | None = None) -> Any:
    return _along_dims(fft, x, s, range(x.ndim) if dim is None else dim, norm)


@aten("fft_ifft2", "fft_ifftn")
def ifft2(x: Any, s: Any = None, dim: Sequence[int] | None = (-2, -1), norm: str | None = None) -> Any:
    return _along_dims(ifft, x, s, range(x.ndim) if dim is None else dim, norm)


@aten("fft_rfftfreq")
def rfftfreq(n: int, d: float = 1.0, *others: Any, **settings: Any) -> Tensor:
    return make_tensor(np.fft.rfftfreq(n, d).astype(np.float32))


@aten("fft_fftfreq")
def fftfreq(n: int, d: float = 1.0, *others: Any, **settings: Any) -> Tensor:
    return make_tensor(np.fft.fftfreq(n, d).astype(np.float32))


# -- short times -------------------------------------------------------------------------------------------------------


@aten("stft")
def stft(
    x: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    *settings: Any,
    **named: Any,
) -> Any:
    """One of its overloads has `center` and `pad_mode` before the other settings; in the other, x is padded already."""
    names: tuple[str, ...] = ("normalized", "onesided", "return_complex", "align_to_window")
    if len(settings) > 1 and isinstance(settings[1], str):
        names = ("center", "pad_mode", *names)
    given = {"center": "pad_mode" in named, **dict(zip(names, settings, strict=False)), **named}
    pairs = ops.stft(
        x,
        n_fft,
        hop_length,
        win_length,
        window,
        center=given["center"],
        pad_mode=given.get("pad_mode", "reflect"),
        normalized=bool(given.get("normalized")),
        onesided=given.get("onesided") is not False,
    )
    return Complex.of_pairs(pairs) if given.get("return_complex") else pairs


@aten("istft")
def istft(
    x: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    pairs = x.pairs() if isinstance(x, Complex) else x
    return ops.istft(pairs, n_fft, hop_length, win_length, window, center, normalized, onesided is not False, length)


# -- windows -----------------------------------------------------------------------------------------------------------


def _window(length: int, terms: Sequence[float], periodic: bool, dtype: Any) -> Tensor:
    """A sum of cosines."""
    turns = 2 * np.pi * np.arange(length) / max(length - (not periodic), 1)
    total: Any = np.cos(np.outer(turns, np.arange(len(terms)))) @ np.array(terms)
    return make_tensor((total if length > 1 else total * 0 + 1).astype(dtype_of(dtype) or np.float32))


def _periodic(periodic: Any, dtype: Any) -> tuple[bool, Any]:
    """Whether a window is periodic, and its dtype, which is in the place of `periodic` in the overload without it."""
    return (periodic, dtype) if isinstance(periodic, bool) else (True, periodic)


@aten("hann_window")
def hann_window(length: int, periodic: Any = True, dtype: Any = None, *others: Any, **settings: Any) -> Tensor:
    return _window(length, (0.5, -0.5), *_periodic(periodic, dtype))


@aten("blackman_window")
def blackman_window(length: int, periodic: Any = True, dtype: Any = None, *others: Any, **settings: Any) -> Tensor:
    return _window(length, (0.42, -0.5, 0.08), *_periodic(periodic, dtype))


@aten("hamming_window")
def hamming_window(
    length: int, periodic: Any = True, alpha: Any = 0.54, beta: Any = 0.46, dtype: Any = None, **settings: Any
) -> Tensor:
    """Its overloads lack `beta`, or `alpha` too; a dtype follows."""
    dtype = next((each for each in (alpha, beta, dtype) if not isinstance(each, float)), None)
    terms = (alpha if isinstance(alpha, float) else 0.54, -beta if isinstance(beta, float) else -0.46)
    return _window(length, terms, *_periodic(periodic, dtype))
