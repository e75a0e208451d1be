"""A step over a sequence, as the functions that its program is written to."""

from __future__ import annotations

import linecache
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..base import Array
from .arrays import backward_code, forward_code
from .schedule import Backward, Forward

__all__ = ["ArraySequence", "function_of", "steps_at_once"]

_CACHED_BYTES = 512 * 1024
_ENOUGH_ROWS = 1024


class ArraySequence:
    """The functions of a step for backends that compute with an array module."""

    def __init__(self, forward: Forward, backward: Backward | None) -> None:
        self._forward, self._source = function_of("forward", *forward_code(forward))
        self._backward: Callable[..., Any] | None = None
        if backward is not None:
            self._backward, source = function_of("backward", *backward_code(backward, forward))
            self._source += f"\n\n{source}"

    @property
    def sources(self) -> dict[str, str]:
        """The code of the functions by language, or the reason why there is none. The first one is used."""
        return {"Python": self._source}

    def forward(
        self, backend: Any, operands: Sequence[Array], reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], Any]:
        """The outputs of all steps and the states after the last; and what is saved for `backward`."""
        with np.errstate(over="ignore"):
            result: tuple[tuple[Array, ...], Any] = self._forward(backend, operands, int(reverse), saving)
        return result

    def backward(
        self,
        backend: Any,
        cotangents: Sequence[Array],
        operands: Sequence[Array],
        saved: Any,
        reverse: bool,
        needs: Sequence[bool],
    ) -> Sequence[Array | None]:
        """The gradients of the operands that need one."""
        if self._backward is None:
            raise RuntimeError("this step was built without a derivative")
        with np.errstate(over="ignore"):
            result: Sequence[Array | None] = self._backward(backend, cotangents, operands, saved, int(reverse), needs)
        return result


def function_of(name: str, source: str, names: dict[str, Any]) -> tuple[Callable[..., Any], str]:
    """The one function that the source defines, and the source. Tracebacks show its lines."""
    filename = f"<{name} {id(names)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace = {**names, **_HELPERS}
    before = set(namespace)
    exec(compile(source, filename, "exec"), namespace)
    (made,) = [value for key, value in namespace.items() if key not in before and key != "__builtins__"]
    weakref.finalize(made, linecache.cache.pop, filename, None)
    return made, source


def _chunks(T: int, at_once: int, reverse: bool) -> Iterator[slice]:
    """The steps in chunks of `at_once` steps, in the order of computation."""
    for done in range(0, T, at_once):
        end = min(done + at_once, T)
        yield slice(T - end, T - done) if reverse else slice(done, end)


def _in_order(steps: slice, reverse: bool) -> range:
    """The steps of a chunk, counted from its first, in the order of computation."""
    n = steps.stop - steps.start
    return range(n - 1, -1, -1) if reverse else range(n)


def steps_at_once(T: int, B: int, row_bytes: int, rows: int = _ENOUGH_ROWS) -> int:
    """The number of steps whose arrays fit in the cache, or that have that many rows."""
    return max(_steps_in_cache(T, B, row_bytes), min(T, rows // max(B, 1)))


def _steps_in_cache(T: int, B: int, row_bytes: int) -> int:
    """The number of steps whose arrays fit in the cache; at least 1."""
    return max(1, min(T, _CACHED_BYTES // max(B * row_bytes, 1)))


_HELPERS = {
    "chunks": _chunks,
    "in_order": _in_order,
    "steps_at_once": steps_at_once,
    "steps_in_cache": _steps_in_cache,
}
"""The functions that the code calls by name."""
