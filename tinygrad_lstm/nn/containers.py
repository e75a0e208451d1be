"""Modules that contain a list of modules: `Sequential` and `ModuleList`."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from .module import Module

__all__ = ["ModuleList", "Sequential"]


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
