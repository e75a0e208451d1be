"""For which sizes a layer is computed in one launch, and how its units and sequences are shared out to blocks.

A block has the recurrent weights of its units in registers, and needs a multiprocessor for itself; all blocks run at
the same time.
"""

from dataclasses import dataclass
from typing import Any

from ..dtypes import FLOAT64, checked_dtype

__all__ = ["COUNTER_STEP", "THREADS", "Plan", "plan"]

COUNTER_STEP = 32  # from one group's counter to the next: each has a line of the cache
THREADS = 256
_WARPS = THREADS // 32

_FEW_UNITS, _MANY_UNITS = 8, 16
_MOST_WITH_MANY = 512  # units of a layer of which a block has many: beyond, their weights would not fit into registers
_MOST = 1024

# Sequences of a block. With more, a step is mostly the matrix product, at which cuBLAS is better.
_MOST_ROWS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """How the work is shared: `slices` of units by `groups` of sequences.

    Attributes:
        units: of a block.
        rows: sequences of a block.
        staged: of these, how many have their states in shared memory at a time.
    """

    hidden_size: int
    units: int
    slices: int
    groups: int
    rows: int
    staged: int

    @property
    def blocks(self) -> tuple[int, int, int]:
        # None in the first dimension: CuPy shortens it silently where a grid does not fit, of others it complains.
        return 1, self.slices, self.groups

    @property
    def constants(self) -> dict[str, int]:
        """What the kernels are compiled for."""
        return {"HIDDEN": self.hidden_size, "UNITS": self.units, "WARPS": _WARPS, "COUNTER_STEP": COUNTER_STEP}

    @property
    def forward_bytes(self) -> int:
        """Of shared memory: the staged states, and the block's cells."""
        return 4 * (self.staged * _padded(self.hidden_size) + self.rows * self.units)

    @property
    def backward_bytes(self) -> int:
        """Of shared memory: two gradients of each unit and sequence, and what each warp adds to one of them."""
        return 4 * (2 + _WARPS) * self.rows * self.units


def plan(hidden_size: int, batch: int, dtype: Any, multiprocessors: int, shared_bytes: int) -> Plan | None:
    """A plan for these sizes, on a device that has so many multiprocessors with so much shared memory; None if none
    fits."""
    if not 0 < hidden_size <= _MOST or not batch or checked_dtype(dtype) == FLOAT64:
        return None
    units = _MANY_UNITS if hidden_size <= _MOST_WITH_MANY else _FEW_UNITS
    at_once = 32 * _WARPS // (4 * units)  # sequences that a warp computes with together
    slices = -(-hidden_size // units)
    groups = min(multiprocessors // slices, -(-batch // at_once))
    if not groups:
        return None
    rows = _rounded_up(-(-batch // groups), at_once)
    groups = -(-batch // rows)
    room = shared_bytes - 4 * rows * units
    staged = min(rows, room // (4 * _padded(hidden_size)) // at_once * at_once)
    if rows > _MOST_ROWS or staged <= 0:
        return None
    found = Plan(hidden_size, units, slices, groups, rows, staged)
    return found if found.backward_bytes <= shared_bytes else None


def _padded(hidden_size: int) -> int:
    return _rounded_up(hidden_size, 128)


def _rounded_up(number: int, to: int) -> int:
    return -(-number // to) * to
