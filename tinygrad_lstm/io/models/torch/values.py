"""The values of a program's names while its graph is built, and the steps that compute them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ....nn import Module

__all__ = ["Applied", "GraphStep", "Ref", "Slot", "call_layer", "flat"]


@dataclass(eq=False)
class Ref:
    """A value that is known when the model runs.

    Attributes:
        label: the name in the program, if it has one.
        is_zeros: whether it is known to be zeros.
        base: the tensor whose memory it may share.
    """

    label: str = ""
    is_zeros: bool = False
    base: "Ref | None" = None


@dataclass(frozen=True)
class Slot:
    """The place of a step's argument."""

    number: int


@dataclass(frozen=True)
class Applied:
    """A function of some values, the other arguments of which are known."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, *values: Any) -> Any:
        args = [_filled(each, values) for each in self.args]
        return self.function(*args, **{name: _filled(each, values) for name, each in self.kwargs.items()})


def _filled(template: Any, values: Sequence[Any]) -> Any:
    if isinstance(template, Slot):
        return values[template.number]
    if isinstance(template, list):
        return [_filled(each, values) for each in template]
    return tuple([_filled(each, values) for each in template]) if type(template) is tuple else template


def call_layer(layer: Module, *args: Any) -> Any:
    """What a layer returns, nested tuples as one tuple."""
    result = layer(*args)
    return tuple(flat(result)) if isinstance(result, tuple) else result


def flat(values: Iterable[Any]) -> list[Any]:
    """The values in nested tuples and lists, in order."""
    return [each for value in values for each in (flat(value) if isinstance(value, list | tuple) else [value])]


@dataclass(eq=False)
class GraphStep:
    """A step of a model while it is built; `args` are all arguments, of which `inputs` are the variable ones."""

    op: str
    function: Callable[..., Any]
    inputs: list[Ref]
    outputs: list[Ref]
    settings: str
    origin: str
    args: tuple[Any, ...]
