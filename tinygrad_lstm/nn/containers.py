"""Modules that contain modules or parameters, in lists, dicts and sequences."""

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Self

from .._tensor import Tensor
from ..ops import flatten
from .module import Module
from .parameter import Parameter

__all__ = ["Flatten", "Identity", "ModuleDict", "ModuleList", "ParameterList", "Sequential"]


class ModuleList(Module):
    """A list of modules, which are registered under the names "0", "1" and so on.

    >>> from tinygrad_lstm import nn
    >>> layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
    >>> len(layers), layers[-1].in_features
    (3, 4)
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> Self:
        """Adds a module at the end.

        Raises:
            TypeError: it is not a module.
        """
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: expected a Module, got {type(module).__name__}")
        setattr(self, str(len(self)), module)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int) -> Module:
        return list(self.children())[index]


class ModuleDict(Module):
    """Modules by name, in the order in which they were set.

    >>> from tinygrad_lstm import nn
    >>> heads = nn.ModuleDict({"words": nn.Linear(4, 9), "tags": nn.Linear(4, 3)})
    >>> [name for name, _ in heads.named_parameters()]
    ['words.weight', 'words.bias', 'tags.weight', 'tags.bias']
    >>> heads["tags"].out_features, "verbs" in heads
    (3, False)
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Sets modules by name."""
        for name, module in dict(modules).items():
            self[name] = module

    def keys(self) -> KeysView[str]:
        """The names."""
        return dict(self.named_children()).keys()

    def values(self) -> ValuesView[Module]:
        """The modules."""
        return dict(self.named_children()).values()

    def items(self) -> ItemsView[str, Module]:
        """The names with their modules."""
        return dict(self.named_children()).items()

    def pop(self, name: str) -> Module:
        """Removes a module and returns it."""
        module = self[name]
        del self[name]
        return module

    def __getitem__(self, name: str) -> Module:
        if name not in self:
            raise KeyError(f"ModuleDict: there is no module {name!r}; the names are {', '.join(self) or 'none'}")
        module: Module = vars(self)[name]
        return module

    def __setitem__(self, name: Any, module: Any) -> None:
        """Sets a module.

        Raises:
            TypeError: it is not a module, or the name is not a string.
            KeyError: the name is empty, contains a dot, or is that of an attribute of every `ModuleDict`.
        """
        if not isinstance(module, Module) or not isinstance(name, str):
            raise TypeError(
                f"ModuleDict: expected a string and a Module, got {type(name).__name__} and {type(module).__name__}"
            )
        if not name or "." in name or (name not in self and hasattr(self, name)):
            raise KeyError(f"ModuleDict: {name!r} cannot be a name: it is empty, contains a dot, or is an attribute")
        setattr(self, name, module)

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and isinstance(vars(self).get(name), Module)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


class ParameterList(Module):
    """A list of parameters, which are registered under the names "0", "1" and so on. Tensors become parameters.

    >>> import tinygrad_lstm as tg
    >>> rates = tg.nn.ParameterList([tg.ones(2), tg.zeros(3)])
    >>> [name for name, _ in rates.named_parameters()], rates[-1].shape
    (['0', '1'], (3,))
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self.extend(values)

    def extend(self, values: Iterable[Any]) -> Self:
        """Adds parameters at the end."""
        for value in values:
            self.append(value)
        return self

    def append(self, value: Any) -> Self:
        """Adds a parameter at the end."""
        setattr(self, str(len(self)), value if isinstance(value, Parameter) else Parameter(value))
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Parameter]:
        return (value for value in vars(self).values() if isinstance(value, Parameter))

    def __getitem__(self, index: int) -> Parameter:
        return list(self)[index]

    def extra_repr(self) -> str:
        return ", ".join(str(parameter.shape) for parameter in self)


class Identity(Module):
    """Returns its input. It accepts and ignores any settings, so that it can replace any layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """Flattens the dimensions from `start_dim` to `end_dim`, by default all but the first.

    Raises:
        IndexError: in `forward`, a dimension is out of range.
        ValueError: in `forward`, `start_dim` comes after `end_dim`.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Tensor) -> Tensor:
        return flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Function(Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


class Sequential(ModuleList):
    """Modules, or functions of one tensor. Each one is called with the output of the one before.

    A recurrent layer returns a tuple, from which a function takes the part for the next module:
    `Sequential(LSTM(3, 5), lambda given: given[0], Linear(5, 1))`.

    Raises:
        TypeError: one of them cannot be called; in `forward`, one returns a tuple that the next does not accept.

    >>> import tinygrad_lstm as tg
    >>> model = tg.nn.Sequential(tg.nn.Linear(3, 8), tg.tanh, tg.nn.Linear(8, 1))
    >>> model(tg.ones(5, 3)).shape
    (5, 1)
    """

    def __init__(self, *steps: Module | Callable[[Any], Any]) -> None:
        for step in steps:
            if not callable(step):
                raise TypeError(f"Sequential: expected modules or functions, got {type(step).__name__}")
        super().__init__(step if isinstance(step, Module) else Function(step) for step in steps)

    def forward(self, x: Any) -> Any:
        before: Module | None = None
        for k, module in enumerate(self):
            try:
                x = module(x)
            except (TypeError, AttributeError) as error:
                if before is None or not isinstance(x, tuple):
                    raise
                raise TypeError(
                    f"Sequential: module {k - 1} ({type(before).__name__}) returns a tuple of {len(x)}, on which "
                    f"module {k} ({type(module).__name__}) fails; put a function between them that takes a part of it, "
                    f"such as lambda given: given[0] ({error})"
                ) from error
            before = module
        return x
