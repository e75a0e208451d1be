"""Shapes in a traced run: `Tensor.shape` and `len` return a `Length`, which knows its origin.

Python converts the result of `__len__` to a plain integer, so `len` itself is replaced while a run is traced. For
threads that trace nothing it is unchanged.
"""

import builtins
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..mode import mode
from .lengths import Length, Size

__all__ = ["shape_seen", "shapes_traced"]

under_way = 0
"""The number of runs that are traced now, in all threads."""

_lock = threading.Lock()
_builtin_len = len


def shape_seen(tensor: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a Tensor, as the tracer of this thread shows it if there is one."""
    tracer = mode().value.tracer
    return shape if tracer is None else tracer.see_shape(tensor, shape)


def _len(of: Any, /) -> Size:
    number = _builtin_len(of)
    if mode().value.tracer is None:
        return number
    shape = getattr(of, "shape", ())
    return shape[0] if isinstance(shape, tuple) and isinstance(next(iter(shape), None), Length) else number


@contextmanager
def shapes_traced() -> Iterator[None]:
    """In a `with` block, `len` asks the tracer for the shapes of tensors."""
    global under_way
    with _lock:
        under_way += 1
        builtins.len = _len  # type: ignore[assignment]
    try:
        yield
    finally:
        with _lock:
            under_way -= 1
            if not under_way:
                builtins.len = _builtin_len
