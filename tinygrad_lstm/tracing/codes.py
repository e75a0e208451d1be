"""What functions can call and read, as their code says."""

import dis
import functools
from collections.abc import Iterable, Iterator
from types import CellType, CodeType, FunctionType
from typing import Any

__all__ = ["codes_in", "functions_of", "names_in_code", "variables_around"]


def variables_around(function: FunctionType) -> Iterable[tuple[str, CellType]]:
    """The variables around a function that it uses, with their names."""
    return zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """The code of a function, and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_in(constant)


@functools.lru_cache(1024)
def names_in_code(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The names of globals and attributes in the code of a function, and of those inside it; and of what it imports."""
    codes = [*codes_in(code)]
    imports = (each.argval for part in codes for each in dis.get_instructions(part) if each.opname == "IMPORT_NAME")
    return frozenset(name for part in codes for name in part.co_names), frozenset(imports)


def functions_of(attribute: Any) -> tuple[Any, ...]:
    """The functions that an attribute of a class calls, or the attribute itself."""
    if isinstance(attribute, property):
        return attribute.fget, attribute.fset
    if isinstance(attribute, staticmethod | classmethod):
        return (attribute.__func__,)
    if isinstance(attribute, functools.cached_property):
        return (attribute.func,)
    return (attribute,)
