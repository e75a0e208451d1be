"""Arrays as 16-bit integers in base64, small enough for a page; each says how to decode it."""

import base64
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

__all__ = ["LINEAR_PRECISION", "Packer"]

_LARGEST = 32767
_MISSING = -32768  # a NaN or an infinity
LINEAR_PRECISION = 1 / (2 * _LARGEST)
"""The largest error of `Packer.linear`, as a share of the largest magnitude in a column."""


class Packer:
    """Collects packed arrays under ids.

    Attributes:
        encoded: the arrays in base64, by id.
        precision: the largest relative error of the arrays that `logarithmic` packed.
    """

    def __init__(self) -> None:
        self.encoded: dict[str, str] = {}
        self.precision = 0.0

    def linear(self, rows: HostArray) -> dict[str, Any]:
        """Packs rows (N, C) linearly, each column scaled by its largest magnitude."""
        values = rows.astype(np.float64)
        finite = np.isfinite(values)
        largest = np.where(finite, np.abs(values), 0).max(axis=0, initial=0)
        scale = np.array([float(f"{magnitude:.9g}") for magnitude in largest])  # written as a decimal
        with np.errstate(divide="ignore", invalid="ignore"):
            numbers = np.where(scale > 0, np.round(values / scale * _LARGEST), 0)
        return {"id": self._add(np.where(finite, numbers, _MISSING)), "scale": scale.tolist()}

    def logarithmic(self, rows: HostArray) -> dict[str, Any]:
        """Packs rows (N, C) by sign and logarithm; zeros stay zero."""
        values = rows.astype(np.float64)
        magnitude = np.where(np.isfinite(values), np.abs(values), 0)
        logs = np.log2(magnitude, out=np.zeros_like(magnitude), where=magnitude > 0)
        found = logs[magnitude > 0]
        low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 0.0)
        step = (high - low) / (_LARGEST - 1)
        self.precision = max(self.precision, 2 ** (step / 2) - 1)
        numbers = np.round((logs - low) / step) + 1 if step else np.ones_like(logs)
        numbers = np.where(magnitude > 0, np.sign(values) * numbers, np.where(np.isfinite(values), 0, _MISSING))
        return {"id": self._add(numbers), "low": low, "high": high, "columns": rows.shape[1]}

    def _add(self, numbers: HostArray) -> str:
        name = f"a{len(self.encoded)}"
        self.encoded[name] = base64.b64encode(np.ascontiguousarray(numbers, "<i2").tobytes()).decode()
        return name
