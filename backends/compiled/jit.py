"""How this package's functions are compiled."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

__all__ = ["jit", "jit_in_any_order"]

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compiles a function on its first call, and keeps the machine code on disk.

    Divisions are not checked, without which nothing becomes vector instructions; a product and a sum may be one
    instruction, but sums keep their order; other Python threads go on meanwhile.
    """
    compiled: F = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, cache=True)(function)
    return compiled


def jit_in_any_order(function: F) -> F:
    """As `jit`, but sums may go in any order, always the same: without that, they take one element after the other."""
    compiled: F = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"}, cache=True)(function)
    return compiled
