"""The steps of LSTM, GRU and RNN nodes with all settings that ONNX has.

Reference: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.kinds import KINDS, Activation
from tinygrad_lstm.models.activations import functions_of
from tinygrad_lstm.models.cells import Activations, gru_layer_step, rnn_layer_step
from tinygrad_lstm.models.variants import GRUResetBefore, LSTMVariant, Plain, Variant

from .... import ops
from ...._tensor import Tensor, tensor
from ....creation import zeros
from ....nn import Module, Parameter
from ....observing import show_step
from ...onnx.nodes import NodeSettings

__all__ = ["Equations", "NodeCell", "equations_of"]


@dataclass(frozen=True)
class Equations:
    """The step of a node in one direction.

    Attributes:
        kind: its name in `KINDS`.
        activations: the activation functions, in the node's order: f of the gates, g of the candidate, h of an LSTM's
            cell state.
        clip: sums are clamped to ±clip before f and g; None for no bound.
        input_forget: an LSTM's forget gate is 1 - i.
        reset_after: a GRU's reset gate comes after the product with U.
    """

    kind: str
    activations: tuple[Activation, ...]
    clip: float | None = None
    input_forget: bool = False
    reset_after: bool = True

    def step(self, parameters: Mapping[str, Tensor], x: Tensor, *states: Tensor) -> Any:
        """The gates and states after an input x (B, I), given a layer's parameters, and the states before."""
        functions = functions_of(self.activations)
        if self.clip is not None:
            functions[:2] = [_Clipped(function, self.clip) for function in functions[:2]]
        made: Callable[..., Variant] = getattr(self, f"_{KINDS[self.kind].op}")
        variant = made(parameters, functions)
        return variant.step(variant.inputs(x), *states)

    def _lstm(self, parameters: Mapping[str, Tensor], functions: Activations) -> Variant:
        return LSTMVariant(parameters, None, functions, coupled=self.input_forget)

    def _gru(self, parameters: Mapping[str, Tensor], functions: Activations) -> Variant:
        return (
            Plain(parameters, gru_layer_step, functions) if self.reset_after else GRUResetBefore(parameters, functions)
        )

    def _rnn(self, parameters: Mapping[str, Tensor], functions: Activations) -> Variant:
        return Plain(parameters, rnn_layer_step, functions)


@dataclass(frozen=True)
class _Clipped:
    """A function of numbers that are clamped to ±bound."""

    function: Callable[[Tensor], Tensor]
    bound: float

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(ops.clamp(x, -self.bound, self.bound))


def equations_of(settings: NodeSettings) -> tuple[Equations, ...]:
    """The equations of each direction of a node."""
    return tuple(
        Equations(settings.kind, activations, settings.clip, settings.input_forget, settings.reset_after)
        for activations in settings.by_direction
    )


class NodeCell(Module):
    """A cell with a node's equations.

    Args:
        equations: the equations.
        parameters: a layer's parameters, by name.
    """

    def __init__(self, equations: Equations, parameters: Mapping[str, HostArray]) -> None:
        self.equations = equations
        self.STATES = KINDS[equations.kind].state_names
        self.input_size = parameters["weight_ih"].shape[1]
        self.hidden_size = parameters["weight_hh"].shape[1]
        self._names = tuple(parameters)
        for name, array in parameters.items():
            setattr(self, name, Parameter(tensor(array)))

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """The states after an input x (B, I), given the states before; zeros by default."""
        if state is None:
            state = [zeros(len(x), self.hidden_size, dtype=x.dtype, device=x.device) for _ in self.STATES]
        states = state if isinstance(state, tuple | list) else (state,)
        gates: Any = self.equations.step({name: getattr(self, name) for name in self._names}, x, *states)
        gates = show_step(self, self.equations.kind, x, dict(zip(self.STATES, states, strict=True)), gates)
        after = tuple([getattr(gates, name) for name in self.STATES])
        return after if len(after) > 1 else after[0]

    def extra_repr(self) -> str:
        equations = self.equations
        functions = ", ".join(map(repr, equations.activations))
        parts = [str(self.input_size), str(self.hidden_size), f"{equations.kind} of {functions}"]
        parts += [f"clip={equations.clip:g}"] * (equations.clip is not None)
        parts += ["input_forget=True"] * equations.input_forget
        return ", ".join(parts)
