"""Functions in C that a step calls: what they do, besides what they return, can neither be seen nor put back.

They read the time, write to files and streams, or return what a run cannot follow. Functions in Python do so by calling
them. So calls are watched that the step makes, or functions in Python that it calls.
"""

import functools
import gc
import inspect
import random
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from types import BuiltinMethodType, FrameType, ModuleType
from typing import Any

import numpy as np

from ..graph import OWN_CODE

__all__ = ["IMPURE_BUILTINS", "is_followed", "is_known", "profiled", "watched_calls"]

IMPURE_BUILTINS = frozenset({"breakpoint", "eval", "exec", "globals", "input", "open"})
_LIBRARY = __name__.partition(".")[0]
_KNOWN = frozenset({
    _LIBRARY, "numpy", "builtins", "types", "typing", "collections", "dataclasses", "enum", "abc", "functools",
    "itertools", "operator", "math", "cmath", "copy", "numbers", "contextlib", "re", "bisect", "heapq", "_thread",
    "_typing", "_collections", "_abc", "_functools", "_operator", "_bisect", "_heapq", "_sre",
})  # fmt: skip
"""Modules whose functions return results only, or change what `Effects` notes."""
_STARTING = {"_thread.start_new_thread", "_thread.start_joinable_thread"}  # the second from Python 3.13 on
_IMPURE = frozenset({*_STARTING, *(f"builtins.{name}" for name in IMPURE_BUILTINS)})
_DRAWING = np.random.RandomState, np.random.Generator, random.Random  # `Effects` notes what they draw
_TRUSTED = (*OWN_CODE, *np.__path__, inspect.__file__, "<frozen importlib")  # ops inspect rules that are first used


@functools.lru_cache(4096)
def is_known(module: object) -> bool:
    """Whether what a module defines has no effects that cannot be followed.

    Args:
        module: a `__module__`; for classes in C it may be a descriptor, not a name.
    """
    name = module if isinstance(module, str) else ""
    return name.partition(".")[0] in _KNOWN and not f"{name}.".startswith("numpy.random.")


def is_followed(function: BuiltinMethodType) -> bool:
    """Whether a function or method in C has no effects that cannot be followed."""
    owner = function.__self__
    if owner is None or isinstance(owner, ModuleType):
        name = owner.__name__ if isinstance(owner, ModuleType) else function.__module__
        return is_known(name) and f"{name}.{function.__name__}" not in _IMPURE
    kind = owner if isinstance(owner, type) else type(owner)
    return is_known(kind.__module__) or issubclass(kind, _DRAWING)


def _name_of(function: BuiltinMethodType) -> str:
    owner = function.__self__
    if owner is None or isinstance(owner, ModuleType):
        module = (function.__module__ or "").lstrip("_")
        return function.__name__ if module in ("builtins", "io", "") else f"{module}.{function.__name__}"
    return f"{(owner if isinstance(owner, type) else type(owner)).__name__}.{function.__name__}"


@contextmanager
def watched_calls(codes: Container[int], see: Callable[[str, FrameType], None]) -> Iterator[bool]:
    """Calls `see` before each call of a function in C that is not followed, if code with these ids leads to it.

    It is given the name of the function that this code calls, which may be one in Python that calls the one in C, and
    the frame of this code. What this library calls on its own is left out, such as a user's backend.
    Gives False if calls cannot be watched, since a profiler is active.
    """

    def watch(frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call" or is_followed(function):
            return
        name = _name_of(function)
        while True:
            if frame.f_code.co_filename.startswith(_TRUSTED) or frame.f_back is None:
                return
            if id(frame.f_code) in codes:
                break
            name, frame = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}", frame.f_back
        see(name, frame)

    collects = gc.isenabled()
    gc.disable()  # it may call functions that have nothing to do with the step
    try:
        with profiled(watch) as active:
            yield active
    finally:
        if collects:
            gc.enable()


@contextmanager
def profiled(see: Callable[[FrameType, str, Any], object]) -> Iterator[bool]:
    """In a `with` block, `see` is called as `sys.setprofile` describes, and then any function that was set before.

    Gives False, and does nothing, if a profiler in C is active, which could not be set again.
    """
    before: Any = sys.getprofile()
    if before is not None and not callable(before):
        yield False
        return

    def both(frame: FrameType, event: str, argument: Any) -> None:
        see(frame, event, argument)
        before(frame, event, argument)

    sys.setprofile(see if before is None else both)
    try:
        yield True
    finally:
        sys.setprofile(before)
