"""Freezes parameters and sorts them into an optimizer's groups, by patterns of their names."""

from collections.abc import Mapping, Sequence
from typing import Any

from tinygrad_lstm.backends.dtypes import is_float

from .names import matching
from .parameter import Parameter

__all__ = ["grouped", "require_gradients"]


def grouped(parameters: Mapping[str, Parameter], settings: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An optimizer's groups of these parameters, under all their names; see `Module.parameter_groups`."""
    left = {id(parameter): parameter for parameter in parameters.values() if parameter.requires_grad}
    groups: list[dict[str, Any]] = []
    for pattern, own in settings.items():
        if not isinstance(own, Mapping):
            raise TypeError(
                f"parameter_groups: expected settings such as {{'lr': 0.001}} for {pattern!r}, got {type(own).__name__}"
            )
        keys = [id(parameters[name]) for name in matching("parameter_groups", [pattern], parameters)]
        params = [left.pop(key) for key in keys if key in left]
        if not params:
            raise ValueError(
                f"parameter_groups: all that {pattern!r} matches is frozen, or in the group of an earlier pattern; "
                "leave it out, or put it first"
            )
        groups.append({**own, "params": params})
    return groups + [{"params": list(left.values())}] * bool(left)


def require_gradients(caller: str, parameters: Mapping[str, Parameter], patterns: Sequence[str], value: bool) -> None:
    """Sets whether parameters require gradients: those that a pattern matches, or all if there are no patterns.

    Args:
        caller: the name of the method, for errors; see `Module.freeze`.
        parameters: under all their names.
    """
    chosen = {name: parameters[name] for name in (matching(caller, patterns, parameters) if patterns else parameters)}
    if value and (integers := [name for name, parameter in chosen.items() if not is_float(parameter.dtype)]):
        raise TypeError(f"{caller}: only floats have gradients, but these are integers: {', '.join(integers)}")
    for parameter in chosen.values():
        parameter.requires_grad = value
        if not value:
            parameter.grad = None
