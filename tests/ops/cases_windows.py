"""Cases of ops/pooling.py, and of the transforms of ops/spectral.py."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from ops.case import SEEDS, Drawn, HostArray, case, distinct, nonzero

import tinygrad_lstm as tg

# -- pools -------------------------------------------------------------------------------------------------------------


def each(value: Any, dims: int) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value] * dims


@st.composite
def pooled(draw: st.DrawFn, kind: str, dims: int) -> Drawn:
    """An input and settings with at least one element of the input in each window."""
    lengths = [draw(st.integers(1, 6)) for _ in range(dims)]
    shape = (*[draw(st.integers(0, 2))] * draw(st.booleans()), draw(st.integers(1, 2)), *lengths)
    x = (distinct if "max" in kind else nonzero)(np.random.default_rng(draw(SEEDS)), shape)
    if kind.startswith("adaptive"):
        sizes = [draw(st.integers(1, 4)) for _ in range(dims)]
        return Drawn([x], {"output_size": sizes[0] if dims == 1 else tuple(sizes)})
    found: list[list[int]] = []
    for length in lengths:
        dilation = draw(st.integers(1, 2)) if kind == "max" else 1
        size = draw(st.integers(1, (length - 1) // dilation + 1))
        padding = draw(st.integers(0, size // 2)) if dilation == 1 else 0
        found.append([size, draw(st.integers(1, 3)), padding, dilation])
    names = ("kernel_size", "stride", "padding", "dilation")[: 4 if kind == "max" else 3]
    settings: dict[str, Any] = dict(zip(names, zip(*found, strict=True), strict=False))
    settings["ceil_mode"] = draw(st.booleans())
    if kind == "avg":
        settings["count_include_pad"] = draw(st.booleans())
        if dims == 2 and draw(st.booleans()):
            settings["divisor_override"] = draw(st.sampled_from([-2, 3]))
    return Drawn([x], settings)


Window = tuple[range, range]


def windows(length: int, size: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> list[Window]:
    """Of each window the places within the input, and those within the padded input."""
    found = []
    for first in itertools.count(-padding, stride):
        end = first + dilation * (size - 1) + 1
        if first >= length if ceil_mode else end > length + padding:
            break
        inside = range(first if first >= 0 else first % dilation, min(end, length), dilation)
        found.append((inside, range(max(first, -padding), min(end, length + padding))))
        if end >= length + padding:
            break
    return found


def over_windows(x: HostArray, of_dims: Sequence[Sequence[Window]], reduce: Callable[..., Any]) -> HostArray:
    """`reduce` of the elements of each window, and of its number of elements with the padding."""
    dims = len(of_dims)
    results = []
    for window in itertools.product(*of_dims):
        part = x[(..., *np.ix_(*[list(inside) for inside, _ in window]))]
        flat = part.reshape(*x.shape[:-dims], math.prod(part.shape[-dims:]))
        results.append(reduce(flat, math.prod(len(padded) for _, padded in window)))
    return np.stack(results, -1).reshape(*x.shape[:-dims], *map(len, of_dims))


def max_pool(dims: int) -> Callable[..., Any]:
    def reference(
        x: HostArray, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
    ) -> HostArray:
        settings = [each(value, dims) for value in (kernel_size, stride, padding, dilation)]
        of_dims = [windows(*one, ceil_mode) for one in zip(x.shape[-dims:], *settings, strict=True)]
        return over_windows(x, of_dims, lambda part, _: part.max(-1))

    return reference


def avg_pool(dims: int) -> Callable[..., Any]:
    def reference(
        x: HostArray,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None = None,
    ) -> HostArray:
        settings = [each(value, dims) for value in (kernel_size, stride, padding, 1)]
        of_dims = [windows(*one, ceil_mode) for one in zip(x.shape[-dims:], *settings, strict=True)]

        def mean(part: HostArray, padded: int) -> HostArray:
            return np.asarray(part.sum(-1) / (divisor_override or (padded if count_include_pad else part.shape[-1])))

        return over_windows(x, of_dims, mean)

    return reference


def adaptive(dims: int, reduce: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: HostArray, output_size: Any) -> HostArray:
        of_dims = [
            [(range(k * length // size, math.ceil((k + 1) * length / size)), range(0)) for k in range(size)]
            for length, size in zip(x.shape[-dims:], each(output_size, dims), strict=True)
        ]
        return over_windows(x, of_dims, reduce)

    return reference


for _dims in (1, 2):
    case(f"max_pool{_dims}d", max_pool(_dims), pooled("max", _dims), out="same", bools=False)
    case(f"avg_pool{_dims}d", avg_pool(_dims), pooled("avg", _dims), bools=False)
    case(
        f"adaptive_max_pool{_dims}d",
        adaptive(_dims, lambda part, _: part.max(-1)),
        pooled("adaptive_max", _dims),
        out="same",
        bools=False,
    )
    case(
        f"adaptive_avg_pool{_dims}d",
        adaptive(_dims, lambda part, _: part.mean(-1)),
        pooled("adaptive_avg", _dims),
        bools=False,
    )


# -- spectra -----------------------------------------------------------------------------------------------------------

MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@st.composite
def transformed(draw: st.DrawFn, name: str) -> Drawn:
    """A signal or spectrum, a window, and settings for which windows leave no gap."""
    n_fft = draw(st.integers(2, 6))
    length = draw(st.integers(max(n_fft - 2, 1), n_fft))
    onesided = draw(st.booleans())
    settings = {
        "n_fft": n_fft,
        "hop_length": draw(st.integers(1, max(length // 2, 1))),
        "win_length": length,
        "normalized": draw(st.booleans()),
        "onesided": onesided,
    }
    rng = np.random.default_rng(draw(SEEDS))
    batch = [draw(st.integers(0, 2))] * draw(st.booleans())
    if name == "stft":
        settings |= {"center": draw(st.booleans()), "pad_mode": draw(st.sampled_from(sorted(MODES)))}
        signal = rng.normal(size=(*batch, draw(st.integers(n_fft, n_fft + 4))))
    else:
        settings["center"] = length < n_fft or draw(st.booleans())
        frames = draw(st.integers(2, 4))
        reached = settings["hop_length"] * (frames - 1)
        settings["length"] = draw(st.none() | st.integers(1, reached + 8 * (length == n_fft)))
        signal = rng.normal(size=(*batch, n_fft // 2 + 1 if onesided else n_fft, frames, 2))
    return Drawn([signal, rng.uniform(0.5, 1.5, length)], settings)


def widened(window: HostArray, n_fft: int) -> HostArray:
    before = (n_fft - len(window)) // 2
    return np.pad(window, (before, n_fft - len(window) - before))


def stft(
    x: HostArray,
    window: HostArray,
    n_fft: int,
    hop_length: int,
    win_length: int,
    normalized: bool,
    onesided: bool,
    center: bool,
    pad_mode: str,
) -> HostArray:
    """The definition: the products of each window of the signal with e^(-2πikt/n)."""
    ends = [(0, 0)] * (x.ndim - 1) + [(n_fft // 2,) * 2 if center else (0, 0)]
    x = np.pad(x, ends, mode=MODES[pad_mode]) if center else x  # type: ignore[call-overload]
    starts = range(0, x.shape[-1] - n_fft + 1, hop_length)
    frames = np.stack([x[..., first : first + n_fft] for first in starts], -2) * widened(window, n_fft)
    angles = 2 * np.pi * np.outer(np.arange(n_fft), np.arange(n_fft // 2 + 1 if onesided else n_fft)) / n_fft
    spectrum = np.stack([frames @ np.cos(angles), -frames @ np.sin(angles)], -1).swapaxes(-2, -3)
    return np.asarray(spectrum / math.sqrt(n_fft) if normalized else spectrum)


def istft(
    x: HostArray,
    window: HostArray,
    n_fft: int,
    hop_length: int,
    win_length: int,
    normalized: bool,
    onesided: bool,
    center: bool,
    length: int | None,
) -> HostArray:
    """The definition: the sum of the inverse transforms, times their windows, over the sum of the squared windows."""
    parts = x.swapaxes(-2, -3)[..., : n_fft // 2 + 1, :]
    angles = 2 * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) / n_fft
    number = np.full((n_fft // 2 + 1, 1), 2.0)  # of frequencies: the positive and the negative one
    number[0] = number[(n_fft + 1) // 2 :] = 1
    frames = parts[..., 0] @ (number * np.cos(angles)) - parts[..., 1] @ (number * np.sin(angles))
    frames = frames * (math.sqrt(n_fft) if normalized else 1) / n_fft
    window, count = widened(window, n_fft), frames.shape[-2]
    total = n_fft + hop_length * (count - 1)
    signal, squares = np.zeros((*frames.shape[:-2], total)), np.zeros(total)
    for k in range(count):
        signal[..., k * hop_length : k * hop_length + n_fft] += frames[..., k, :] * window
        squares[k * hop_length : k * hop_length + n_fft] += window * window
    start = n_fft // 2 if center else 0
    end = total - start if length is None else start + length
    signal, squares = signal[..., start:end], squares[start:end]
    return np.pad(signal / squares, [(0, 0)] * (x.ndim - 3) + [(0, max(end - start - signal.shape[-1], 0))])


case(
    "stft", stft, transformed("stft"), lambda x, window, **settings: tg.stft(x, window=window, **settings), bools=False
)
case(
    "istft",
    istft,
    transformed("istft"),
    lambda x, window, **settings: tg.istft(x, window=window, **settings),
    bools=False,
)
