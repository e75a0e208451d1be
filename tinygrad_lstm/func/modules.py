"""Modules as functions of their parameters."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .._tensor import Tensor, operand
from ..checkpointing import SURROUNDINGS
from ..nn.module import Module
from ..nn.parameter import Parameter

__all__ = ["functional_call"]

Places = list[tuple[Module, str, Tensor]]
"""Attributes of modules, each with the tensor that replaces it."""


def functional_call(
    module: Module, parameters: Mapping[str, Any], args: Any = (), kwargs: Mapping[str, Any] | None = None
) -> Any:
    """`module(*args, **kwargs)`, computed with the given parameters and buffers instead of the module's own.

    This makes a model a function that the transformations of `tg.func` can differentiate. After the call the module has
    its own values again. Different threads must not use the module during the call.

    Args:
        parameters: arrays or Tensors by dotted name, such as `module.state_dict()` returns; others are unchanged. A
            parameter with several names is replaced under all of them, except names with a given value.
        args: a tuple of positional arguments, or a single one.

    Raises:
        TypeError: `module` is not a Module.
        ValueError: a name is not a parameter or buffer of the module, a value has a different shape, or two values are
            given for one attribute of a module that has several names.

    >>> import tinygrad_lstm as tg
    >>> model, x = tg.nn.Linear(3, 1), tg.ones(5, 3)
    >>> def loss(parameters):
    ...     return tg.func.functional_call(model, parameters, (x,)).square().mean()
    >>> gradient = tg.func.grad(loss)(model.state_dict())
    >>> {name: g.shape for name, g in gradient.items()}
    {'weight': (1, 3), 'bias': (1,)}
    """
    if not isinstance(module, Module):
        raise TypeError(f"functional_call: expected a Module, got {type(module).__name__}")
    places = _places(module, parameters)
    around = (*SURROUNDINGS.value, lambda: _standing_in(places))
    with _standing_in(places), SURROUNDINGS.set_to(around):
        return module(*(args if isinstance(args, tuple) else (args,)), **(kwargs or {}))


def _places(module: Module, parameters: Mapping[str, Any]) -> Places:
    own = module._named_tensors()
    if unknown := [repr(name) for name in parameters if name not in own]:
        raise ValueError(f"functional_call: {type(module).__name__} has no parameter or buffer {', '.join(unknown)}")
    given = {name: _stand_in(name, value, own[name]) for name, value in parameters.items()}
    tied = {id(own[name]): value for name, value in given.items()}
    modules = dict(module.named_modules(remove_duplicate=False))
    names: dict[tuple[Module, str], str] = {}
    places: dict[tuple[Module, str], Tensor] = {}
    for name, tensor in own.items():
        path, _, attribute = name.rpartition(".")
        place = modules[path], attribute
        if name in given:
            if place in names:
                raise ValueError(f"functional_call: {names[place]!r} and {name!r} are one attribute; give one of them")
            names[place], places[place] = name, given[name]
        elif id(tensor) in tied:
            places.setdefault(place, tied[id(tensor)])
    return [(*place, value) for place, value in places.items()]


def _stand_in(name: str, value: Any, own: Tensor) -> Tensor:
    """The value as a tensor that may replace a module's own."""
    tensor = operand(value, None if isinstance(value, Tensor) else own.device)
    if tensor.shape != own.shape:
        raise ValueError(f"functional_call: {name!r} has shape {own.shape}, got {tensor.shape}")
    return Parameter.around(tensor) if isinstance(own, Parameter) else tensor


@contextmanager
def _standing_in(places: Places) -> Iterator[None]:
    # Module.__setattr__ would refuse this.
    before = [vars(module)[attribute] for module, attribute, _ in places]
    for module, attribute, value in places:
        vars(module)[attribute] = value
    try:
        yield
    finally:
        for (module, attribute, _), value in zip(places, before, strict=True):
            vars(module)[attribute] = value
