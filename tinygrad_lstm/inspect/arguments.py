"""The arguments with which a trace runs a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter, Signature
from itertools import zip_longest
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor, as_tensor
from ..nn import Module
from .calls import on_host, read_only

__all__ = ["Arguments", "named_outputs"]

_SHORT = ("x", "state")
"""Names by which the first and the second argument can be given to every model."""


@dataclass(frozen=True)
class Arguments:
    """The arguments of a model.

    Attributes:
        positional, named: as they are given to the model. Arrays of floats are tensors; so is the first argument.
        names: the parameter names of all that are given, in order.
    """

    positional: tuple[Any, ...]
    named: Mapping[str, Any]
    names: tuple[str, ...]

    @classmethod
    def of(cls, model: Module, takes: Signature, inputs: Sequence[Any], named: Mapping[str, Any]) -> "Arguments":
        """The arguments of a call with these inputs by position and by name, of which None is left out.

        Args:
            takes: the parameters of the call.

        Raises:
            ValueError: there is none, or the model does not take them.
        """
        positional, named = [*inputs], {name: value for name, value in named.items() if value is not None}
        while positional and positional[-1] is None:
            positional.pop()
        own = [name for name, each in takes.parameters.items() if each.kind == Parameter.POSITIONAL_OR_KEYWORD]
        takes_all = len(own) < len(takes.parameters)
        for place, name in enumerate(_SHORT):
            if name in named and name not in own and not takes_all and len(positional) == place:
                positional.append(named.pop(name))
        own = list(getattr(model, "input_names", own))
        by_place = [name for name, _ in zip_longest(own[: len(positional)], positional, fillvalue="argument")]
        names = (*by_place, *named)
        if not names:
            raise ValueError(f"trace: expected the inputs of the {type(model).__name__}, got none")
        try:
            takes.bind(*positional, **named)
        except TypeError as error:
            raise ValueError(
                f"trace: {type(model).__name__}.forward({', '.join(takes.parameters)}) cannot be given "
                f"{' and '.join([*_SHORT[: len(positional)], *named])}: {error}"
            ) from error
        values = [_as_tensor(value, is_first=k == 0) for k, value in enumerate((*positional, *named.values()))]
        count = len(positional)
        return cls(tuple(values[:count]), dict(zip(named, values[count:], strict=True)), names)

    @property
    def first(self) -> Tensor:
        """The first argument."""
        x: Tensor = self.by_name[self.names[0]]
        return x

    @property
    def by_name(self) -> dict[str, Any]:
        """All arguments by name."""
        return dict(zip(self.names, (*self.positional, *self.named.values()), strict=True))

    def copied(self) -> "Arguments":
        """The arguments with copies of the tensors of floats, which require gradients.

        So what a model computes is recorded, also if its weights are not parameters.
        """
        named = {name: _copied(value) for name, value in self.named.items()}
        return replace(self, positional=tuple(map(_copied, self.positional)), named=named)

    def arrays(self) -> dict[str, HostArray]:
        """The tensors and arrays, on the host, by name."""
        return {
            name: read_only(on_host(as_tensor(value)))
            for name, value in self.by_name.items()
            if isinstance(value, Tensor | np.ndarray)
        }


def named_outputs(output: Any) -> dict[str, HostArray]:
    """The tensors among a model's outputs, on the host, by the names that the model gives them, or "output"."""
    if isinstance(output, Mapping):
        named = dict(output)
    elif hasattr(output, "_asdict"):
        named = output._asdict()
    else:
        several = output if isinstance(output, tuple | list) else [output]
        named = {f"output_{k}" if k else "output": each for k, each in enumerate(several)}
    return {str(name): read_only(on_host(each)) for name, each in named.items() if isinstance(each, Tensor)}


def _as_tensor(value: Any, *, is_first: bool) -> Any:
    return as_tensor(value) if is_first or (isinstance(value, np.ndarray) and is_float(value.dtype)) else value


def _copied(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    leaf = value.detach()
    leaf.requires_grad = is_float(value.dtype)
    return leaf.clone()
