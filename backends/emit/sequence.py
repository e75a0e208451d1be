"""A step over a sequence, as the functions that its program is written to."""

from __future__ import annotations

import itertools
import linecache
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..base import Array
from ..source import function_defined_by
from .arrays import forward_code
from .arrays_backward import backward_code
from .norms import with_norms_joined
from .schedule import Backward, Forward
from .steps import StepOfArrays, Steps, step_code

__all__ = ["ArraySequence", "emitted", "steps_at_once", "steps_in_cache"]

_CACHED_BYTES = 512 * 1024
_ENOUGH_ROWS = 1024


class ArraySequence:
    """The functions of a step for backends that compute with an array module."""

    def __init__(self, forward: Forward, backward: Backward | None) -> None:
        self._schedules = forward, backward

    @cached_property
    def _codes(self) -> list[tuple[str, dict[str, Any]]]:
        """The source of each function, and the objects that it names."""
        forward, backward = self._schedules
        return [
            forward_code(with_norms_joined(forward)),
            *([] if backward is None else [backward_code(backward, forward)]),
        ]

    @cached_property
    def _functions(self) -> list[Callable[..., Any]]:
        return [emitted(name, *code) for name, code in zip(("forward", "backward"), self._codes)]

    @property
    def sources(self) -> dict[str, str]:
        """The code of the functions by language, or the reason why there is none. The first one is used."""
        return {"Python": "\n\n".join(source for source, _ in self._codes)}

    def forward(
        self, backend: Any, operands: Sequence[Array], reverse: bool, saving: bool
    ) -> tuple[tuple[Array, ...], Any]:
        """The outputs of all steps and the states after the last; and what is saved for `backward`."""
        with np.errstate(over="ignore"):
            operands = self._laid_out(backend, operands)
            result: tuple[tuple[Array, ...], Any] = self._functions[0](backend, operands, int(reverse), saving)
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
        if len(self._functions) < 2:
            raise RuntimeError("this step was built without a derivative")
        function = self._functions[1]
        cotangents, operands = self._laid_out(backend, cotangents), self._laid_out(backend, operands)
        with np.errstate(over="ignore"):
            result: Sequence[Array | None] = function(backend, cotangents, operands, saved, int(reverse), needs)
        return result

    def _laid_out(self, backend: Any, arrays: Sequence[Array]) -> Sequence[Array]:
        """The arrays in memory layouts that the functions take."""
        return arrays

    def stepper(self, backend: Any, captured: Sequence[Array]) -> StepOfArrays:
        """A step at a time, given what is the same in all steps, which must not change. Threads may share it.

        The output of the step must be the first of its states.
        """
        return Steps(self._prepared_step(backend, captured))

    @cached_property
    def _prepared_step(self) -> Callable[..., Any]:
        return emitted("step", *step_code(self._schedules[0]))


_numbers = itertools.count()


def emitted(name: str, source: str, names: dict[str, Any]) -> Callable[..., Any]:
    """The one function that generated source defines. Its lines are forgotten when it is."""
    filename = f"<{name} {next(_numbers)}>"
    made = function_defined_by(source, {**_HELPERS, **names}, filename)
    weakref.finalize(made, linecache.cache.pop, filename, None)
    return made


def _chunks(T: int, at_once: int, reverse: bool) -> Iterator[slice]:
    """The steps in chunks of `at_once` steps, in the order of computation."""
    for done in range(0, T, at_once):
        end = min(done + at_once, T)
        yield slice(T - end, T - done) if reverse else slice(done, end)


def _in_order(steps: slice, reverse: bool) -> range:
    """The steps of a chunk, counted from its first, in the order of computation."""
    n = steps.stop - steps.start
    return range(n - 1, -1, -1) if reverse else range(n)


def steps_at_once(T: int, B: int, row_bytes: int, rows: int = _ENOUGH_ROWS, cached: int = _CACHED_BYTES) -> int:
    """The number of steps whose arrays fit in a cache of this many bytes, or that have that many rows."""
    return max(steps_in_cache(T, B, row_bytes, cached), min(T, rows // max(B, 1)))


def steps_in_cache(T: int, B: int, row_bytes: int, cached: int = _CACHED_BYTES) -> int:
    """The number of steps whose arrays fit in the cache; at least 1."""
    return max(1, min(T, cached // max(B * row_bytes, 1)))


_HELPERS = {
    "chunks": _chunks,
    "in_order": _in_order,
    "steps_at_once": steps_at_once,
    "steps_in_cache": steps_in_cache,
}
"""The functions that the code calls by name, if it does not come with its own."""
