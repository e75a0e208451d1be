"""The operations of Keras 3, as layers of a model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from ...errors import shown
from . import shape_operations, sorting_operations  # noqa: F401  (they register operations)
from .operations import OPERATIONS
from .rules import Layer, UnsupportedError, register_kind
from .spec import Slot, Spec

__all__: list[str] = []


def _outputs_of(name: str, config: Mapping[str, Any]) -> int:
    """The number of outputs of an operation."""
    if name == "Split":
        sections = config.get("indices_or_sections")
        return sections if isinstance(sections, int) else len(sections or ()) + 1
    if name == "TopK":
        return 2
    return int(config.get("num") or 1) if name == "Unstack" else 1


def _check(name: str, config: Mapping[str, Any]) -> None:
    """Raises `UnsupportedError` for settings of an operation that its function does not compute."""
    match name, config:
        case "Norm", {"ord": str() | int() | float() as order} if order != "fro":
            axis = config.get("axis")
            if isinstance(order, str) or axis is None or (isinstance(axis, list) and len(axis) != 1):
                raise UnsupportedError(f"the norm of matrices of the order {order!r}")
        case "Normalize", {"order": order} if order != 2:
            raise UnsupportedError(f"the order {shown(str(order))}")
        case "Pad", {"mode": mode} if mode not in ("constant", "reflect", "symmetric"):
            raise UnsupportedError(f"the mode {shown(str(mode))}")
        case "Unstack", _ if not config.get("num"):
            raise UnsupportedError("num=None")


class _Operation:
    """An operation of Keras 3, whose settings are those of its function."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        return iter(())

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        function = OPERATIONS[spec.class_name]
        known = inspect.signature(function).parameters
        settings = {name: value for name, value in spec.config.items() if name in known}
        beyond = [
            name for name, value in spec.config.items() if name not in {*known, "name", "dtype"} and value is not None
        ]
        if beyond:
            raise UnsupportedError(f"the settings {', '.join(map(shown, beyond))}")
        _check(spec.class_name, spec.config)
        return Layer(partial(function, **settings), outputs=_outputs_of(spec.class_name, spec.config))


register_kind(_Operation(), *OPERATIONS, operations=True)
