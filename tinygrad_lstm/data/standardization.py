"""Standardization of features."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ..io.errors import ContentError, naming_file
from .checking import check_finite, check_shapes, in_sequences

__all__ = ["Standardization"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Standardization:
    """Shifts and scales each feature, so that it has mean 0 and standard deviation 1 in the data it was fitted on.

    Fit it on the training sequences only: what is held back for validation must not influence it. `state_dict()` can be
    stored in a checkpoint, by `Trainer(about=...)`.

    >>> import numpy as np
    >>> fitted = Standardization.fit([np.array([[0.0, 5.0], [2.0, 5.0]])])
    >>> fitted.apply(np.array([[4.0, 5.0]])).tolist(), fitted.constant.tolist()
    ([[3.0, 0.0]], [False, True])
    """

    mean: Floats
    """The mean of each feature, (F,)."""
    std: Floats
    """What each feature is divided by, (F,): its standard deviation, or 1 if it is constant."""
    constant: npt.NDArray[np.bool_]
    """Whether each feature has one value only, (F,). Such a feature becomes 0."""

    @classmethod
    def fit(cls, sequences: Iterable[Any], names: Sequence[str] | None = None) -> "Standardization":
        """Measures the features over all steps of sequences.

        Args:
            sequences: arrays (T_b, F) of one width.
            names: the names of the features, for messages.

        Raises:
            ValueError: there is no step, the widths differ, a number is NaN or infinite, or `names` are not one for
                each feature.
        """
        arrays = [np.asarray(sequence) for sequence in sequences]
        with naming_file("Standardization"):
            check_shapes(arrays, "sequence {}".format, empty=True)
            features = None if names is None else [f"feature {name}" for name in names]
            if arrays and features is not None and len(features) != arrays[0].shape[1]:
                raise ContentError(f"{len(features)} names for {arrays[0].shape[1]} features; expected one for each")
            for number, array in enumerate(arrays):
                check_finite(array, in_sequences(f"sequence {number}", features))
        arrays = [array for array in arrays if len(array)]
        steps = sum(map(len, arrays))
        if not steps:
            raise ValueError("Standardization: there are no steps to fit on; expected at least one sequence with steps")
        lowest = np.min([array.min(0) for array in arrays], axis=0).astype(np.float64)
        highest = np.max([array.max(0) for array in arrays], axis=0).astype(np.float64)
        constant = lowest == highest
        # In float64, and in two passes: a mean that is much larger than the deviation leaves it exact.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.where(constant, lowest, sum(array.sum(0, dtype=np.float64) for array in arrays) / steps)
            variance = sum(np.square(array - mean).sum(0) for array in arrays) / steps
        if (large := np.flatnonzero(~np.isfinite(variance))).size:
            raise ValueError(f"Standardization: feature {large[0]}: its numbers are too large for squares in float64")
        return cls(mean, np.where(constant | (variance == 0), 1.0, np.sqrt(variance)), constant)

    def apply(self, sequence: Any) -> HostArray:
        """A sequence (..., F), standardized; in its own dtype if that is one of floats, else float32.

        Raises:
            ValueError: it has a different number of features.
        """
        given = self._checked(sequence)
        return self._as_given((given - self.mean) / self.std, given)

    def undo(self, sequence: Any) -> HostArray:
        """The sequence (..., F) of which `apply` returns this one. Raises the errors of `apply`."""
        given = self._checked(sequence)
        return self._as_given(given * self.std + self.mean, given)

    def _checked(self, sequence: Any) -> HostArray:
        given: HostArray = np.asarray(sequence)
        if not given.ndim or given.shape[-1] != len(self.mean):
            raise ValueError(
                f"Standardization: expected {len(self.mean)} features, as in the data it was fitted on, got an array "
                f"of shape {given.shape}"
            )
        return given

    @staticmethod
    def _as_given(result: HostArray, given: HostArray) -> HostArray:
        return result.astype(given.dtype if is_float(given.dtype) else np.float32)

    def state_dict(self) -> dict[str, HostArray]:
        """Its arrays by name."""
        return {"mean": self.mean, "std": self.std, "constant": self.constant}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Standardization":
        """The standardization with these arrays.

        Raises:
            ValueError: they are not those of `state_dict`.
        """
        if state.keys() != {"mean", "std", "constant"} or len({np.shape(array) for array in state.values()}) != 1:
            raise ValueError(
                "Standardization: expected arrays mean, std and constant of one shape, got "
                + ", ".join(f"{name} {np.shape(array)}" for name, array in state.items())
            )
        mean, std = (np.asarray(state[name], np.float64) for name in ("mean", "std"))
        if mean.ndim != 1 or not np.isfinite([mean, std]).all() or not (std > 0).all():
            raise ValueError("Standardization: expected finite numbers (F,), and std above 0")
        return cls(mean, std, np.asarray(state["constant"], np.bool_))
