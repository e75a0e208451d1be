"""The steps of LSTM, GRU and RNN nodes with all settings that ONNX has, as their equations.

Reference: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models.cells import GRUGates, LSTMGates, RNNGates

from .... import ops
from ...._tensor import Tensor, tensor
from ....creation import zeros
from ....nn import Module, Parameter
from ....observing import show_step
from ...onnx.nodes import Function, NodeSettings

__all__ = ["Equations", "NodeCell", "equations_of"]

_FUNCTIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "elu": lambda x, alpha, beta: ops.elu(x, alpha),
    "hardsigmoid": lambda x, alpha, beta: ops.clamp(alpha * x + beta, 0.0, 1.0),
    "leakyrelu": lambda x, alpha, beta: ops.leaky_relu(x, alpha),
    "relu": lambda x, alpha, beta: ops.relu(x),
    "scaledtanh": lambda x, alpha, beta: alpha * ops.tanh(beta * x),
    "sigmoid": lambda x, alpha, beta: ops.sigmoid(x),
    "softplus": lambda x, alpha, beta: ops.softplus(x),
    "softsign": lambda x, alpha, beta: ops.softsign(x),
    "tanh": lambda x, alpha, beta: ops.tanh(x),
    "thresholdedrelu": lambda x, alpha, beta: ops.where(x > alpha, x, 0.0),
}


@dataclass(frozen=True)
class Equations:
    """The step of a node in one direction. W, U and b are a layer's `weight_ih`, `weight_hh` and `bias`.

    Attributes:
        kind: its name in `KINDS`.
        functions: the activation functions, in the node's order: f of the gates, g of the candidate, h of an LSTM's
            cell state.
        clip: sums are clamped to ±clip before f and g; None for no bound.
        input_forget: an LSTM's forget gate is 1 - i.
        reset_after: a GRU's reset gate comes after the product with U.
    """

    kind: str
    functions: tuple[Function, ...]
    clip: float | None = None
    input_forget: bool = False
    reset_after: bool = True

    def step(self, parameters: Mapping[str, Tensor], x: Tensor, *states: Tensor) -> LSTMGates | GRUGates | RNNGates:
        """The gates and states after an input x (B, I), given a layer's parameters, and the states before."""
        net_x = ops.linear(x, parameters["weight_ih"], parameters["bias"])
        step: Callable[..., LSTMGates | GRUGates | RNNGates] = getattr(self, f"_{KINDS[self.kind].op}")
        return step(parameters, net_x, *states)

    def _lstm(self, parameters: Mapping[str, Tensor], net_x: Tensor, h: Tensor, c: Tensor) -> LSTMGates:
        net_i, net_f, net_g, net_o = ops.chunk(net_x + ops.linear(h, parameters["weight_hh"]), 4, dim=-1)
        peephole = parameters.get("peephole")
        p_i, p_f, p_o = (0.0, 0.0, 0.0) if peephole is None else ops.chunk(peephole, 3, dim=0)
        i = self._of(0, net_i + p_i * c)
        f = 1.0 - i if self.input_forget else self._of(0, net_f + p_f * c)
        g = self._of(1, net_g)
        c = f * c + i * g
        o = self._of(0, net_o + p_o * c)
        h = o * self._of(2, c, clip=False)
        return LSTMGates(i, f, g, o, c, h)

    def _gru(self, parameters: Mapping[str, Tensor], net_x: Tensor, h: Tensor) -> GRUGates:
        x_r, x_z, x_n = ops.chunk(net_x, 3, dim=-1)
        U_r, U_z, U_n = ops.chunk(parameters["weight_hh"], 3, dim=0)
        r = self._of(0, x_r + ops.linear(h, U_r))
        z = self._of(0, x_z + ops.linear(h, U_z))
        if self.reset_after:
            n = self._of(1, x_n + r * ops.linear(h, U_n, parameters["bias_hn"]))
        else:
            n = self._of(1, x_n + ops.linear(r * h, U_n))
        return GRUGates(r, z, n, (1.0 - z) * n + z * h)

    def _rnn(self, parameters: Mapping[str, Tensor], net_x: Tensor, h: Tensor) -> RNNGates:
        return RNNGates(self._of(0, net_x + ops.linear(h, parameters["weight_hh"])))

    def _of(self, number: int, x: Tensor, *, clip: bool = True) -> Tensor:
        """An activation function of a sum."""
        function = self.functions[number]
        x = ops.clamp(x, -self.clip, self.clip) if clip and self.clip is not None else x
        return _FUNCTIONS[function.name](x, function.alpha, function.beta)


def equations_of(settings: NodeSettings) -> tuple[Equations, ...]:
    """The equations of each direction of a node."""
    return tuple(
        Equations(settings.kind, functions, settings.clip, settings.input_forget, settings.reset_after)
        for functions in settings.functions
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
        functions = ", ".join(map(str, equations.functions))
        parts = [str(self.input_size), str(self.hidden_size), f"{equations.kind} of {functions}"]
        parts += [f"clip={equations.clip:g}"] * (equations.clip is not None)
        parts += ["input_forget=True"] * equations.input_forget
        return ", ".join(parts)
