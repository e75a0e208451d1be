"""Shapes in a traced run: `Tensor.shape` and `len` return a `Length`, which knows its origin.

Python converts the result of `__len__` to a plain integer, so `len` itself is replaced while a run is traced.
"""

from collections.abc import Callable
from typing import Any

from ..mode import mode
from .builtin import ReplacedBuiltin
from .lengths import Length, Size

__all__ = ["shape_seen", "shapes_traced"]


def shape_seen(tensor: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a Tensor, as the tracer of this thread shows it if there is one."""
    tracer = mode().value.tracer
    return shape if tracer is None else tracer.see_shape(tensor, shape)


def _len(original: Callable[[Any], int], of: Any, /) -> Size:
    number = original(of)
    if mode().value.tracer is None:
        return number
    shape = getattr(of, "shape", ())
    return shape[0] if isinstance(shape, tuple) and isinstance(next(iter(shape), None), Length) else number


shapes_traced = ReplacedBuiltin("len", _len)
"""In a `with` block, tensors ask the tracer of their thread for their shapes, and so does `len`."""
