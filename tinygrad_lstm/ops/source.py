"""Functions that are written as source code, and compiled when they are first called."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from tinygrad_lstm.backends.source import function_defined_by

__all__ = ["by_own_names", "compiled", "written_when_called"]


def by_own_names(*known: Any) -> dict[str, Any]:
    """Functions and classes by their own names, with a `_` before them: no parameter of an op can hide these."""
    return {f"_{each.__name__}": each for each in known}


_BUILTINS = by_own_names(bool, dict, Exception, isinstance, list, map, tuple)


def compiled(name: str, source: str, names: Mapping[str, Any]) -> Callable[..., Any]:
    """The one function that the source defines, over these global names. Tracebacks show its lines.

    The source calls Python's own functions by names such as `_list`.
    """
    filename = str(Path(__file__).with_name(f"<{name}>"))  # beside this file, so that it counts as the library's own
    return function_defined_by(source, {**_BUILTINS, **names}, filename)


def written_when_called(write: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """A function that becomes, at its first call, the one that `write` gives: an import need not write all."""
    namespace: dict[str, Any] = {}

    def become_written() -> Callable[..., Any]:
        written: Any = write()
        namespace.update(written.__globals__)
        function.__defaults__, function.__kwdefaults__ = written.__defaults__, written.__kwdefaults__
        function.__code__ = written.__code__
        return function

    function = FunctionType(_first_call.__code__, namespace, "first_call")
    namespace["become_written"] = become_written
    return function


def _first_call(*args: Any, **kwargs: Any) -> Any:
    return become_written()(*args, **kwargs)  # type: ignore[name-defined]  # noqa: F821
