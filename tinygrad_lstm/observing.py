"""By what recurrent cells and layers show their values to a tracer; almost free if there is none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ._tensor import Tensor
from .mode import mode
from .nn import Module

__all__ = ["ShownLayer", "show_step"]

G = TypeVar("G", bound=tuple[Tensor, ...])


@dataclass(frozen=True, eq=False)
class ShownLayer:
    """A layer of a network, in one direction.

    Attributes:
        network: the network.
        place: the layer's place in it, such as "l0_reverse".
        kind: the name in `KINDS` of its kind, which has its gates and states.
        options: by name, the options in which it differs from a plain layer of this kind.
        parameters: the parameters by name.
        x: the inputs (T, B, I).
    """

    network: Module
    place: str
    kind: str
    options: Mapping[str, Any]
    parameters: Mapping[str, Tensor]
    x: Tensor

    def layer_parameters(self) -> Mapping[str, Tensor]:
        """The parameters by name."""
        return self.parameters


def show_step(cell: Module | ShownLayer, kind: str, x: Tensor, before: Mapping[str, Tensor], gates: G) -> G:
    """Shows a step of a cell to a `trace`, and returns its gates.

    A user-defined cell whose method `gates(x, state)` calls this is traced like the built-in ones. It then chooses the
    names and the order of what is shown.

    Args:
        cell: the module of the step, or the layer of a network.
        kind: the name in the trace. The name of one of `KINDS` means that the cell has its gates and equations.
        x: the step's input (B, I).
        before: the states before the step by name, h first, each (B, H) or (B, ...).
        gates: a NamedTuple of the values that the step computed, with the states after it, of such shapes.

    Raises:
        ValueError: (in `trace`) a state before the step is missing from `gates`, or a value in it is not (B, ...).
        TypeError: (in `trace`) `gates` is not a NamedTuple.

    >>> from typing import NamedTuple
    >>> import tinygrad_lstm as tg
    >>> class Leaky(NamedTuple):
    ...     a: tg.Tensor
    ...     h: tg.Tensor
    >>> class LeakyCell(tg.nn.Module):
    ...     def __init__(self, size):
    ...         self.gate = tg.nn.Linear(2 * size, size)
    ...
    ...     def gates(self, x, h):
    ...         a = tg.sigmoid(self.gate(tg.concat([h, x], dim=-1)))
    ...         return tg.inspect.show_step(self, "leaky", x, {"h": h}, Leaky(a, h + a * (x - h)))
    ...
    ...     def forward(self, x, h):
    ...         return self.gates(x, h).h
    >>> traced = tg.inspect.trace(LeakyCell(3), tg.ones(7, 2, 3), state=tg.zeros(2, 3))
    >>> traced[0].a.shape
    (7, 2, 3)
    """
    tracer = mode().value.tracer
    if tracer is not None:
        tracer.see_step(cell, kind, x, before, gates)
    return gates
