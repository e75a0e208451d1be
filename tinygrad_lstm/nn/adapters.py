"""The weights of a model that can have adapters, and the modules that own them."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tinygrad_lstm.backends.dtypes import is_float

from .module import Module
from .parameter import Parameter

__all__ = ["ADAPTABLE", "Weight", "adaptable_by_name", "weights_of"]

ADAPTABLE = "weight that can be adapted"


@dataclass
class Weight:
    """A parameter and the modules that own it: several, if it is tied.

    Attributes:
        names: its dotted names in the model.
        owners: the modules that own it, each with its name in that module.
    """

    parameter: Parameter
    names: list[str]
    owners: list[tuple[Module, str]]

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    @property
    def can_be_adapted(self) -> bool:
        """Whether it is a matrix that all of its modules read with `adapted`."""
        return (
            self.parameter.ndim == 2
            and is_float(self.parameter.dtype)
            and all(any(fnmatchcase(name, own) for own in module.adaptable) for module, name in self.owners)
        )

    @property
    def adapters(self) -> list[Any]:
        """The adapter in each of its modules, or None."""
        return [vars(module).get(f"{name}_lora") for module, name in self.owners]


def weights_of(caller: str, model: Module) -> list[Weight]:
    """All parameters, each once.

    Raises:
        TypeError: `model` is not a Module.
    """
    if not isinstance(model, Module):
        raise TypeError(f"{caller}: expected a Module, got {type(model).__name__}")
    modules = dict(model.named_modules(remove_duplicate=False))
    found: dict[int, Weight] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        path, _, own = name.rpartition(".")
        weight = found.setdefault(id(parameter), Weight(parameter, [], []))
        weight.names.append(name)
        if (modules[path], own) not in weight.owners:
            weight.owners.append((modules[path], own))
    return list(found.values())


def adaptable_by_name(caller: str, model: Module) -> dict[str, Weight]:
    """The weights that can be adapted, under all of their names."""
    return {name: weight for weight in weights_of(caller, model) if weight.can_be_adapted for name in weight.names}
