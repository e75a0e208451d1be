"""Decides for which sizes a layer is computed in one launch, and how blocks share its units and sequences.

A block has the recurrent weights of its units in registers, and needs its own multiprocessor. All blocks run at the
same time.
"""

from dataclasses import dataclass
from typing import Any

from ..dtypes import FLOAT64, checked_dtype

__all__ = ["COUNTER_STEP", "THREADS", "Plan", "plan"]

COUNTER_STEP = 32  # elements between the groups' counters, so that each has its own cache line
THREADS = 256
_WARPS = THREADS // 32

_FEW_UNITS, _MANY_UNITS = 8, 16
_MOST_WITH_MANY = 512  # units of a layer; beyond this, the weights of many units do not fit into a block's registers
_MOST = 1024

# Sequences of a block. With more, a step is mostly the matrix product, which cuBLAS computes faster.
_MOST_ROWS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """How blocks share the work: `slices` of units times `groups` of sequences.

    Attributes:
        units: the number of units of a block.
        rows: the number of sequences of a block.
        staged: the number of sequences whose states are in shared memory at a time.
    """

    hidden_size: int
    units: int
    slices: int
    groups: int
    rows: int
    staged: int

    @property
    def blocks(self) -> tuple[int, int, int]:
        # The first dimension is 1: if a grid is too large, CuPy silently shortens this one, but raises for the others.
        return 1, self.slices, self.groups

    @property
    def constants(self) -> dict[str, int]:
        """The constants for which the kernels are compiled."""
        return {"HIDDEN": self.hidden_size, "UNITS": self.units, "WARPS": _WARPS, "COUNTER_STEP": COUNTER_STEP}

    @property
    def forward_bytes(self) -> int:
        """The bytes of shared memory forward: the staged states, and the block's cells."""
        return 4 * (self.staged * _padded(self.hidden_size) + self.rows * self.units)

    @property
    def backward_bytes(self) -> int:
        """The bytes of shared memory backward: two gradients per unit and sequence, and each warp's part of one."""
        return 4 * (2 + _WARPS) * self.rows * self.units


def plan(hidden_size: int, batch: int, dtype: Any, multiprocessors: int, shared_bytes: int) -> Plan | None:
    """A plan for these sizes on a device with this number of multiprocessors and size of shared memory, or None."""
    if not 0 < hidden_size <= _MOST or not batch or checked_dtype(dtype) == FLOAT64:
        return None
    units = _MANY_UNITS if hidden_size <= _MOST_WITH_MANY else _FEW_UNITS
    at_once = 32 * _WARPS // (4 * units)  # sequences that a warp computes together
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
