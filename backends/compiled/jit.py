"""How this package's functions are compiled."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

from ..base import HostArray

__all__ = ["contiguous", "compiled_with", "jit", "jit_in_any_order"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled_with(decorator: Callable[..., Callable[[F], Any]], *args: Any, **options: Any) -> Callable[[F], Any]:
    """What numba's decorator makes with these arguments of a function, kept on disk where there is a place to write."""

    def compiled(function: F) -> Any:
        try:
            return decorator(*args, cache=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return decorator(*args, **options)(function)

    return compiled


def jit(function: F) -> F:
    """Compiles a function on its first call, and keeps the machine code on disk.

    Divisions are not checked, without which nothing becomes vector instructions; a product and a sum may be one
    instruction, but sums keep their order; other Python threads go on meanwhile.
    """
    compiled: F = compiled_with(numba.njit, nogil=True, error_model="numpy", fastmath={"contract"})(function)
    return compiled


def jit_in_any_order(function: F) -> F:
    """As `jit`, but sums may go in any order, always the same: without that, they take one element after the other."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}
    compiled: F = compiled_with(numba.njit, **options)(function)
    return compiled


def contiguous(array: HostArray) -> HostArray:
    """The array, or a copy of one that is not contiguous, aligned and writeable: for each sort there is other code."""
    return array if array.flags.carray else array.copy()
