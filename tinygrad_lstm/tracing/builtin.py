"""Python's own functions, replaced while runs are traced."""

import builtins
import threading
from collections.abc import Callable
from typing import Any

from ..mode import mode

__all__ = ["ReplacedBuiltin", "prints_seen"]


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


def _print(original: Callable[..., None], *values: Any, **options: Any) -> None:
    tracer = mode().value.tracer
    if tracer is None or tracer.see_print():
        original(*values, **options)


prints_seen = ReplacedBuiltin("print", _print)
"""In a `with` block, `print` asks the tracer of its thread whether to print."""
