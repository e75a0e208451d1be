"""What the cells of the atlas have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor
from tinygrad_lstm.nn import Parameter, init
from tinygrad_lstm.observing import show_step

from ..cells import FORGET_BIAS, Cell, Shapes, checked_state, state_of_parts

__all__ = ["AtlasCell"]


class AtlasCell(Cell):
    """A cell that is defined by the shapes of its parameters and the equations of one step.

    A subclass sets the class attributes and defines `step(x, *states)`, which returns the gates and the next states.

    Attributes:
        STATES: the names of the states, the output first.
        GATES: the NamedTuple of what a step computes: the gates, then the states, the output last.
        ROWS: the blocks of H rows of weight_ih, weight_hh and bias, a letter each, in order.
        KEEPS: the gate by which a cell remembers, if its bias starts at `FORGET_BIAS`.
    """

    STATES: ClassVar[tuple[str, ...]] = ("h",)
    GATES: ClassVar[Any]
    ROWS: ClassVar[str]
    KEEPS: ClassVar[str] = ""

    step: Callable[..., Any]

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        if self.KEEPS:
            start = self.ROWS.index(self.KEEPS) * hidden_size
            init.constant_(self.bias.detach()[start : start + hidden_size], FORGET_BIAS)

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        rows = len(cls.ROWS) * H
        return {"weight_ih": (rows, I), "weight_hh": (rows, H), "bias": (rows,)}

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """The next state after input x (B, I), given the state before, zeros by default.

        Several states are a tuple in the order of `STATES`, each (B, ...); a single one is a tensor.

        Raises:
            TypeError: x or a state has a different float dtype than the parameters.
            ValueError: x or a state has a different shape.
        """
        gates = self.gates(x, state)
        return state_of_parts([getattr(gates, name) for name in self.STATES])

    def gates(self, x: Tensor, state: Any = None) -> Any:
        """The same step, returning the gates and the next states as a NamedTuple."""
        states = checked_state(self, x, state)
        output, *others = zip(self.STATES, states)
        before = dict([output, *reversed(others)])  # a trace takes the last state, which is then c or C, for the memory
        return show_step(self, type(self).__name__.removesuffix("Cell"), x, before, self.step(x, *states))

    def input_nets(self, x: Tensor) -> tuple[Tensor, ...]:
        """W·x + b of each block of rows, (B, H)."""
        return ops.chunk(ops.linear(x, self.adapted("weight_ih"), self.bias), len(self.ROWS), dim=-1)

    def nets(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """W·x + U·h + b of each block of rows, (B, H)."""
        net = ops.linear(x, self.adapted("weight_ih"), self.bias) + ops.linear(h, self.adapted("weight_hh"))
        return ops.chunk(net, len(self.ROWS), dim=-1)

    def layer_parameters(self) -> dict[str, Tensor]:
        """The parameters by name, changed by their adapters."""
        return {name: self.adapted(name) for name, value in vars(self).items() if isinstance(value, Parameter)}

    def layer_sizes(self) -> list[tuple[int, dict[str, int]]]:
        """I, and the size of each gate and state, as a list of one layer."""
        states = {name: math.prod(shape) for name, shape in self.state_shapes().items()}
        return [(self.input_size, dict.fromkeys(self.GATES._fields, self.hidden_size) | states)]

    def extra_repr(self) -> str:
        """The sizes, and the options that differ from the defaults."""
        defaults = self.options()
        changed = [f"{name}={value!r}" for name, value in self._options.items() if value != defaults[name]]
        return ", ".join([str(self.input_size), str(self.hidden_size), *changed])
