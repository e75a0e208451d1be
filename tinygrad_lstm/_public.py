"""Sets which names of a module `dir()`, completion, `help()` and `import *` show.

A package calls one of these functions at its end, with its `globals()`. Other attributes are not listed, but can be
used.
"""

import builtins
from collections.abc import Iterable
from types import ModuleType
from typing import Any

__all__ = ["publish", "publish_gathered"]


def publish(module: dict[str, Any]) -> None:
    """Shows the names in the module's `__all__`."""
    _show(module, module["__all__"])


def publish_gathered(package: dict[str, Any], *modules: str) -> None:
    """Shows the public names that a package imports from its files, and the given modules.

    Sets the package's `__all__`, without names such as `abs` and `sum`: `import *` must not hide a builtin.
    """
    gathered = (
        name for name, value in package.items() if not name.startswith("_") and not isinstance(value, ModuleType)
    )
    names = sorted({*gathered, *modules})
    package["__all__"] = [name for name in names if not hasattr(builtins, name)]
    _show(package, names)
    for name in package.keys() & modules:
        publish(vars(package[name]))


def _show(module: dict[str, Any], names: Iterable[str]) -> None:
    def shown() -> list[str]:
        special = {name for name in module if name.startswith("__") and name.endswith("__")}
        return sorted(special.difference(["__dir__", "__getattr__"]).union(names))

    module["__dir__"] = shown
