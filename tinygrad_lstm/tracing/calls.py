"""Functions that a tracer sees as one call, not as their ops."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ..mode import mode

__all__ = ["shown_whole"]

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
