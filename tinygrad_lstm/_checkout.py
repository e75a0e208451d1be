"""Finds `backends/` and `models/` in a checkout, where they are beside this package. In a wheel they are inside it."""

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

__all__ = ["ENTRY"]

_ROOT = Path(__file__).parents[1]
_FLOORS = ("backends", "models")
# The entry of the package's `__path__` for these two folders only: other folders there are not part of the package.
ENTRY = f"{_ROOT}{os.sep}{{{','.join(_FLOORS)}}}"


class _OuterFloors:
    """The finder that Python creates for this entry."""

    def __init__(self, entry: str) -> None:
        if entry != ENTRY:
            raise ImportError(f"this finder is for {ENTRY}, not for {entry}")

    def find_spec(self, name: str, target: ModuleType | None = None) -> ModuleSpec | None:
        floor = name.rpartition(".")[2]
        return spec_from_file_location(name, _ROOT / floor / "__init__.py") if floor in _FLOORS else None

    def iter_modules(self, prefix: str = "") -> list[tuple[str, bool]]:
        """For `pkgutil`: the names of the two packages, and that they are packages."""
        return [(prefix + floor, True) for floor in _FLOORS]


sys.path_hooks.append(_OuterFloors)
