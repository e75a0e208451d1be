"""The one check of sequences, for all that take them: each error says where in the data the fault is."""

from collections.abc import Callable, Sequence

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_real

from ..io.errors import ContentError

__all__ = ["Place", "check_finite", "check_shapes", "in_sequences", "narrowed"]

Place = Callable[[int, int], str]
"""How messages name a number, from its row and its column."""


def check_shapes(
    sequences: Sequence[HostArray], name: Callable[[int], str], empty: bool = False, feature: str = "feature"
) -> None:
    """Checks that arrays are sequences (T_b, F) of real numbers with one F.

    Args:
        name: how messages name a sequence, from its position.
        empty: whether a sequence may have no steps.
        feature: how messages call a feature.

    Raises:
        ContentError: one is not.
    """
    for number, sequence in enumerate(sequences):
        if sequence.ndim != 2:
            raise ContentError(f"{name(number)}: the sequence has shape {sequence.shape}; expected (T, F)")
        if not is_real(sequence.dtype):
            raise ContentError(f"{name(number)}: the sequence is an array of {sequence.dtype}; expected real numbers")
        width = sequences[0].shape[1]
        if not width:
            raise ContentError(f"{name(number)}: the sequence has no {feature}s; expected at least one")
        if sequence.shape[1] != width:
            raise ContentError(f"{name(number)}: {sequence.shape[1]} {feature}s; expected {width}, as {name(0)} has")
        if not (empty or len(sequence)):
            raise ContentError(f"{name(number)}: the sequence is empty; expected at least one step")


def check_finite(numbers: HostArray, place: Place) -> None:
    """Checks that all numbers of an array (rows, columns) are finite.

    Raises:
        ContentError: one is not.
    """
    finite = np.isfinite(numbers)
    if not finite.all():
        row, column = map(int, np.argwhere(~finite)[0])
        kind = "NaN or missing" if np.isnan(numbers[row, column]) else "infinite, or too large for float32"
        raise ContentError(
            f"{place(row, column)}: the number is {kind}; expected finite numbers: fill in such values, or remove them"
        )


def in_sequences(name: str, features: Sequence[str] | None = None) -> Place:
    """Names the numbers of a sequence (T, F).

    Args:
        name: the sequence's name.
        features: the names of the features; by default "feature 0" and so on.
    """

    def place(step: int, feature: int) -> str:
        return f"{name}, step {step}, {f'feature {feature}' if features is None else features[feature]}"

    return place


def narrowed(numbers: HostArray) -> HostArray:
    """Numbers as float32. Those that are too large are infinite, which `check_finite` refuses."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)
