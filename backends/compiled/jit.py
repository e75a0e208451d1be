"""Compiles this package's functions with numba."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

from ..base import HostArray

__all__ = ["contiguous", "compiled_with", "jit", "jit_in_any_order"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled_with(decorator: Callable[..., Callable[[F], Any]], *args: Any, **options: Any) -> Callable[[F], Any]:
    """A decorator that applies numba's decorator with these arguments, with a cache on disk if that is possible."""

    def compiled(function: F) -> Any:
        try:
            return decorator(*args, cache=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return decorator(*args, **options)(function)

    return compiled


def jit(function: F) -> F:
    """Compiles a function on its first call, and caches the machine code on disk.

    Divisions are not checked, because checks prevent vector instructions. A product and a sum may become one
    instruction, but sums keep their order. The function releases the interpreter's lock.
    """
    compiled: F = compiled_with(numba.njit, nogil=True, error_model="numpy", fastmath={"contract"})(function)
    return compiled


def jit_in_any_order(function: F) -> F:
    """As `jit`, but sums may have any order, which is fixed when compiled: this allows vector instructions."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}
    compiled: F = compiled_with(numba.njit, **options)(function)
    return compiled


def contiguous(array: HostArray) -> HostArray:
    """The array, copied if it is not contiguous, aligned and writeable: numba compiles different code for each kind."""
    return array if array.flags.carray else array.copy()
