"""What float32, in which models compute, rounds away: the seconds of a day within those since 1970."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import FLOAT32, FLOAT64, fits

from ..io.errors import ContentError
from .checking import narrowed

__all__ = ["check_variation", "narrowed_if_kept"]

LOST = 0.1
"""The error of rounding, relative to a feature's standard deviation, from which its variation is lost. The deviation is
then less than three steps between numbers of float32."""
EQUAL = 2.0**-48
"""A standard deviation, relative to the mean, below which numbers differ only by the rounding of float64."""
PART = 2**16
"""Steps that are converted at a time."""


class _Lost(NamedTuple):
    """A feature whose variation float32 rounds away."""

    feature: int
    mean: float
    std: float


def check_variation(sequences: Iterable[HostArray], name: Callable[[int], str]) -> None:
    """Checks that float32 has enough digits for each feature of sequences (T_b, F) of finite numbers.

    Args:
        name: how messages name a feature, from its position.

    Raises:
        ContentError: it rounds away the variation of one.
    """
    if (lost := _lost(sequences)) is not None:
        raise ContentError(
            f"{name(lost.feature)} varies by only {lost.std:.3g} around {lost.mean:.6g}, which float32 would round "
            "away; subtract a constant from it, such as its first number, or multiply it"
        )


def narrowed_if_kept(numbers: HostArray) -> HostArray:
    """Numbers (T, F) as float32, or as float64 if float32 would round away the variation of a feature.

    Rows with NaN or infinity do not decide about it.
    """
    if fits(numbers.dtype, FLOAT32) or _lost([numbers[np.isfinite(numbers).all(1)]]) is None:
        return narrowed(numbers)
    return numbers.astype(FLOAT64)


def _lost(sequences: Iterable[HostArray]) -> _Lost | None:
    steps, start, sums = 0, None, np.zeros((3, 0))
    for part in _parts(sequences):
        wide = part.astype(FLOAT64)
        if start is None:
            start, sums = wide[0], np.zeros((3, wide.shape[1]))
        error, shifted = wide - narrowed(wide), wide - start  # so that the sum of squares is exact enough
        with np.errstate(over="ignore", invalid="ignore"):
            sums += np.stack([shifted.sum(0), np.square(shifted).sum(0), np.square(error).sum(0)])
        steps += len(part)
    if start is None:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        shift, square, error = sums / steps
        mean, variance = start + shift, square - np.square(shift)
        is_lost = (error > LOST**2 * variance) & (variance > np.square(EQUAL * mean))
    for feature in np.flatnonzero(is_lost).tolist():
        return _Lost(feature, float(mean[feature]), float(np.sqrt(variance[feature])))
    return None


def _parts(sequences: Iterable[HostArray]) -> Iterator[HostArray]:
    """The steps of sequences, those of which float32 may round some."""
    for sequence in sequences:
        if not fits(sequence.dtype, FLOAT32):
            for begin in range(0, len(sequence), PART):
                yield sequence[begin : begin + PART]
