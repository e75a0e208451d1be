"""The variants of recurrent layers, with steps written as their equations, given a layer's parameters by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor

from .cells import Activations, GRUGates, LSTMGates

__all__ = [
    "GRUResetBefore",
    "LSTMNorm",
    "LSTMVariant",
    "Plain",
    "Variant",
]

LSTMNorm = Literal["cell", "output"]
Parameters: TypeAlias = Mapping[str, Tensor]


class Variant(Protocol):
    """A layer in one direction, which `scan` unrolls."""

    def inputs(self, x: Tensor) -> Tensor:
        """The part of the gates that depends on the inputs (..., I) of one step or of all: (..., gates · H)."""

    @property
    def step(self) -> Callable[..., Any]:
        """`step(net_x, *states)` returns the gates and states (B, ·) of a step, given `inputs` and states before."""


class Plain:
    """A layer whose step is that of its cell, except for the activation functions.

    Args:
        parameters: the layer's parameters.
        step: `step(parameters, activations, net_x, *states)`.
        activations: the functions.
    """

    def __init__(self, parameters: Parameters, step: Callable[..., Any], activations: Activations) -> None:
        self._parameters = parameters
        self.step = partial(step, parameters, activations)

    def inputs(self, x: Tensor) -> Tensor:
        return ops.linear(x, self._parameters["weight_ih"], self._parameters["bias"])


class LSTMVariant:
    """An LSTM with peepholes, layer normalization, a projection, coupled gates, other activations, or several of these.

    LN is a normalization to mean 0 and variance 1, over all gates of a product. Terms in brackets are present only with
    the option. The `activations` are in place of σ, of the candidate's tanh, and of the last tanh:

        net = [LN](W·x) [⊙ norm_ih] + [LN](U·h) [⊙ norm_hh] + b
        f  = σ(net_f [+ p_f ⊙ c])         with coupled gates: f = 1 - i
        i  = σ(net_i [+ p_i ⊙ c])
        c̃  = tanh(net_C)
        c' = f ⊙ c + i ⊙ c̃               with layer_norm="cell": c' = LN(f ⊙ c + i ⊙ c̃) ⊙ norm_c + bias_c
        o  = σ(net_o [+ p_o ⊙ c'])
        h' = o ⊙ tanh(c')                 with layer_norm="output": h' = o ⊙ tanh(LN(c') ⊙ norm_c + bias_c)
        h' = W_hr·h'                      with proj_size

    Peepholes: Gers, Schraudolph & Schmidhuber 2002. Projection: Sak, Senior & Beaufays 2014. Layer normalization: Ba,
    Kiros & Hinton 2016, who do not normalize the cell state itself ("output").
    """

    def __init__(
        self,
        parameters: Parameters,
        layer_norm: LSTMNorm | None,
        activations: Activations = (ops.sigmoid, ops.tanh, ops.tanh),
        *,
        coupled: bool = False,
    ) -> None:
        self.gate, self.candidate, self.output = activations
        self.layer_norm = layer_norm
        self.coupled = coupled
        self.weight_ih, self.weight_hh = parameters["weight_ih"], parameters["weight_hh"]
        self.bias = parameters["bias"]
        self.weight_hr = parameters.get("weight_hr")
        peephole = parameters.get("peephole")
        self.peepholes = None if peephole is None else ops.chunk(peephole, 3, dim=0)  # p_i, p_f, p_o
        self.norm_ih, self.norm_hh = parameters.get("norm_ih"), parameters.get("norm_hh")
        self.norm_c, self.bias_c = parameters.get("norm_c"), parameters.get("bias_c")

    def inputs(self, x: Tensor) -> Tensor:
        if self.norm_ih is None:
            return ops.linear(x, self.weight_ih, self.bias)
        return self._normalized(ops.linear(x, self.weight_ih, None), self.norm_ih, self.bias)

    def step(self, net_x: Tensor, h: Tensor, c: Tensor) -> LSTMGates:
        net_h = ops.linear(h, self.weight_hh, None)
        if self.norm_hh is not None:
            net_h = self._normalized(net_h, self.norm_hh)
        net_i, net_f, net_g, net_o = ops.chunk(net_x + net_h, 4, dim=-1)  # each (B, H)
        if self.peepholes is not None:
            p_i, p_f, p_o = self.peepholes
            net_f = net_f + p_f * c
            net_i = net_i + p_i * c
        i = self.gate(net_i)
        f = 1.0 - i if self.coupled else self.gate(net_f)
        g = self.candidate(net_g)
        c = f * c + i * g
        if self.layer_norm == "cell":
            c = self._normalized(c, self.norm_c, self.bias_c)
        if self.peepholes is not None:
            net_o = net_o + p_o * c
        o = self.gate(net_o)
        seen = self._normalized(c, self.norm_c, self.bias_c) if self.layer_norm == "output" else c
        h = o * self.output(seen)
        if self.weight_hr is not None:
            h = ops.linear(h, self.weight_hr, None)  # (B, P)
        return LSTMGates(i, f, g, o, c, h)

    def _normalized(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """LN(x) ⊙ weight + bias."""
        return ops.layer_norm(x, x.shape[-1], weight, bias, eps=1e-5)


class GRUResetBefore:
    """A GRU whose reset gate comes before the product with U_n (Cho et al. 2014), as in ONNX by default.

    The `activations` are in place of σ and of tanh:

        r  = σ(W_r·x + U_r·h + b_r)
        z  = σ(W_z·x + U_z·h + b_z)
        n  = tanh(W_n·x + U_n·(r ⊙ h) + b_n)
        h' = (1 - z) ⊙ n + z ⊙ h
    """

    def __init__(self, parameters: Parameters, activations: Activations = (ops.sigmoid, ops.tanh)) -> None:
        self.gate, self.candidate = activations
        self.weight_ih, self.bias = parameters["weight_ih"], parameters["bias"]
        H = parameters["weight_hh"].shape[1]
        self.weight_rz, self.weight_n = ops.split(parameters["weight_hh"], [2 * H, H], dim=0)

    def inputs(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight_ih, self.bias)

    def step(self, net_x: Tensor, h: Tensor) -> GRUGates:
        x_r, x_z, x_n = ops.chunk(net_x, 3, dim=-1)  # each (B, H)
        h_r, h_z = ops.chunk(ops.linear(h, self.weight_rz, None), 2, dim=-1)
        r = self.gate(x_r + h_r)
        z = self.gate(x_z + h_z)
        n = self.candidate(x_n + ops.linear(r * h, self.weight_n, None))
        h = n + z * (h - n)  # equals (1 - z) ⊙ n + z ⊙ h, with one product less
        return GRUGates(r, z, n, h)
