"""How recurrent cells and layers show what they compute, to whoever looks; if nobody does, it costs next to nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tinygrad_lstm.backends.base import HostArray

from ._tensor import Tensor
from .mode import mode
from .nn import Module

__all__ = ["SteppedLayer", "show_layer", "show_step", "show_steps"]

G = TypeVar("G", bound=tuple[Tensor, ...])


def show_step(cell: Module, kind: str, x: Tensor, before: Mapping[str, Tensor], gates: G) -> G:
    """Shows a step of a cell to a `trace`, and gives back its gates.

    A cell of your own whose method `gates(x, state)` calls this is traced as the built-in ones are.

    Args:
        cell: the module whose step it is.
        kind: what the trace calls it; the name of one of `KINDS` says that it has that kind's gates and equations.
        x: the step's input (B, I).
        before: the states before the step by name, h first, each (B, H).
        gates: a NamedTuple of what the step computed, the states after it among them, each (B, H).

    Raises:
        ValueError: (in `trace`) a state before the step is not among what it computed; something of that is not (B, ·).
        TypeError: (in `trace`) what it computed is no NamedTuple.

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


def show_layer(
    network: Module,
    place: str,
    layer: Callable[[Sequence[Tensor]], tuple[Tensor, ...]],
    operands: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """The outputs of a layer, which is one op of these operands.

    Shows it to a `trace`, at a place in the network such as "l0_reverse".
    """
    tracer = mode().value.tracer
    if tracer is None:
        return layer(operands)
    return tracer.see_layer(network, place, layer, operands)


@dataclass(frozen=True)
class SteppedLayer:
    """A layer of a network that goes step by step, in one direction, instead of as one op.

    Attributes:
        place: where in the network it is, such as "l0_reverse".
        kind: the name of the one of `KINDS` whose gates and states it has.
        options: by name, what it computes otherwise than a plain layer of that kind.
        parameters: by name.
        x: the inputs (T, B, I).
        states: the names of the states, h first.
        lengths: how many steps each sequence has; None for T each.
        reverse: whether time runs from the end.
    """

    place: str
    kind: str
    options: Mapping[str, Any]
    parameters: Mapping[str, Tensor]
    x: Tensor
    states: Sequence[str]
    lengths: HostArray | None
    reverse: bool


def show_steps(network: Module, layer: SteppedLayer, step: Callable[..., G]) -> Callable[..., G]:
    """The step of a layer, `step(t, *states)`, which gives a NamedTuple of gates and states.

    For a `trace`, one that shows it what each step computes.
    """
    tracer = mode().value.tracer
    return step if tracer is None else tracer.see_steps(network, layer, step)
