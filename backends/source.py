"""Functions that are written as source code."""

import linecache
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

__all__ = ["function_defined_by"]


def function_defined_by(source: str, names: Mapping[str, Any], filename: str) -> Callable[..., Any]:
    """The one function that the source defines, over these global names. Tracebacks show its lines.

    Args:
        filename: a name of its own, by which tracebacks find the lines in `linecache.cache`.
    """
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace = dict(names)
    exec(compile(source, filename, "exec"), namespace)
    (made,) = [value for key, value in namespace.items() if key not in names and isinstance(value, FunctionType)]
    return made
