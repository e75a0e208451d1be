"""How shapes, whole functions, `len` and `print` show themselves to the tracer of a thread, if there is one."""

import builtins
import functools
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from .lengths import Length, Size
from .mode import mode

__all__ = ["prints_seen", "shape_seen", "shapes_traced", "shown_whole"]

P = ParamSpec("P")
R = TypeVar("R")


def shown_whole(function: Callable[P, R]) -> Callable[P, R]:
    """Shows the calls of a function to the current tracer, if there is one. It may record them instead of the ops."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        tracer = mode().value.tracer
        if tracer is None:
            return function(*args, **kwargs)
        result: R = tracer.see_call(function, args, kwargs)
        return result

    return call


def shape_seen(tensor: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a Tensor, as the tracer of this thread shows it if there is one."""
    tracer = mode().value.tracer
    return shape if tracer is None else tracer.see_shape(tensor, shape)


class ReplacedBuiltin:
    """A context manager in which a function of Python's is replaced. Blocks may overlap, in one thread or several.

    Args:
        name: the function's name.
        replacement: `replacement(original, *args, **kwargs)` is called in its place, in every thread.

    Attributes:
        blocks: the number of blocks that are under way.
    """

    def __init__(self, name: str, replacement: Callable[..., Any]) -> None:
        self.blocks = 0
        self._name = name
        self._replacement = replacement
        self._original: Any = None
        self._put: Any = None
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.blocks += 1
            if self.blocks == 1:
                original = self._original = getattr(builtins, self._name)
                self._put = lambda *args, **kwargs: self._replacement(original, *args, **kwargs)
                setattr(builtins, self._name, self._put)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self.blocks -= 1
            if not self.blocks and getattr(builtins, self._name) is self._put:  # else someone else has replaced it
                setattr(builtins, self._name, self._original)


def _len(original: Callable[[Any], int], of: Any, /) -> Size:
    number = original(of)
    if mode().value.tracer is None:
        return number
    shape = getattr(of, "shape", ())
    return shape[0] if isinstance(shape, tuple) and isinstance(next(iter(shape), None), Length) else number


# `len` itself is replaced, since Python converts the result of `__len__` to a plain integer.
shapes_traced = ReplacedBuiltin("len", _len)
"""In a `with` block, tensors ask the tracer of their thread for their shapes, and so does `len`."""


def _print(original: Callable[..., None], *values: Any, **options: Any) -> None:
    tracer = mode().value.tracer
    if tracer is None or tracer.see_print():
        original(*values, **options)


prints_seen = ReplacedBuiltin("print", _print)
"""In a `with` block, `print` asks the tracer of its thread whether to print."""
