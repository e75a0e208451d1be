"""How the arrays of a network are laid out: with a batch or without, and which dimension is first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.ops.recurrent import FlagsName, checked_flags

__all__ = ["Flags", "Layout", "Lengths"]

Lengths: TypeAlias = Sequence[int] | np.ndarray[Any, Any] | Tensor
Flags: TypeAlias = Sequence[Any] | np.ndarray[Any, Any] | Tensor


@dataclass(frozen=True)
class Layout:
    """The layout of a call's inputs and outputs: (T, B, ...), (B, T, ...), or (T, ...) of one sequence."""

    batched: bool
    batch_first: bool

    def inner(self, x: Tensor) -> Tensor:
        """An input as (T, B, ...)."""
        if not self.batched:
            return ops.unsqueeze(x, 1)
        return ops.transpose(x, 0, 1) if self.batch_first else x

    def outer(self, out: Tensor) -> Tensor:
        """An output (T, B, ...) in this layout."""
        if not self.batched:
            return ops.squeeze(out, 1)
        return ops.transpose(out, 0, 1) if self.batch_first else out

    def flags(self, name: str, what: FlagsName, flags: Flags, T: int, B: int) -> Tensor:
        """The resets or the mask as (T, B).

        Raises:
            ValueError: the shape or the dtype is different; the message begins with `name`.
        """
        shape = (B, T) if self.batch_first else (T, B)
        return self.inner(checked_flags(name, what, flags, *(shape if self.batched else (T,))))
