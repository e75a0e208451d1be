"""Dropout within recurrent layers, in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinygrad_lstm.models.activations import function_of
from tinygrad_lstm.models.cells import gru_step, lstm_step

from .... import ops
from ...._scan import scan
from ...._tensor import Tensor
from ....creation import zeros
from ..noise import kept

__all__ = ["Dropping", "dropping_of"]


@dataclass(frozen=True)
class Dropping:
    """Which elements a recurrent layer drops in training. They are the same at all steps of a sequence.

    Attributes:
        inputs: the probability for an element of the inputs, Keras's `dropout`.
        states: the probability for an element of the hidden state, before it is multiplied by a weight: Keras's
            `recurrent_dropout`.
        by_gate: whether each gate drops different elements.
    """

    inputs: float = 0.0
    states: float = 0.0
    by_gate: bool = False

    def __bool__(self) -> bool:
        return bool(self.inputs or self.states)

    @property
    def inputs_alone(self) -> bool:
        """Whether it is the same as a layer without dropout whose inputs are `dropped`."""
        return not self.states and not self.by_gate

    def dropped(self, x: Tensor) -> Tensor:
        """The inputs (B, T, I) without the elements that are dropped, which are the same for all gates."""
        return x * kept(x, self.inputs, (len(x), 1, x.shape[2]))

    def run(
        self,
        network: Any,
        place: str,
        x: Tensor,
        state: Sequence[Tensor] | None,
        mask: Tensor | None,
        reverse: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs a layer of one direction, and drops elements.

        Args:
            network: an LSTM, GRU or RNN.
            place: which of its layers: "l0" or "l0_reverse".
            x: the inputs (B, T, I).
            state: the initial states, each (B, H); zeros by default.
            mask: (B, T) bool; a step where it is false is skipped.
            reverse: whether the steps are taken from the last to the first.

        Returns:
            The outputs (B, T, H), and the final states, each (B, H).
        """
        weights, kind, B, H = network.layer_parameters(place), network.KIND, len(x), network.hidden_size
        number = len(weights["weight_ih"]) // H if self.by_gate else 1
        of_states = [kept(x, self.states, (B, H)) for _ in range(number)]
        nets = _products([self.dropped(x) for _ in range(number)], weights["weight_ih"]) + weights["bias"]
        activations, weight_hh = list(map(function_of, network.activations)), weights["weight_hh"]

        def step(net_x: Tensor, states: Any) -> Any:
            h = states[0] if kind == "LSTM" else states
            dropped = [h * each for each in of_states]
            if kind == "LSTM":
                gates = lstm_step(net_x + _products(dropped, weight_hh), states[1], activations)
                return gates.h, gates.c
            if kind == "RNN":
                return activations[0](net_x + _products(dropped, weight_hh))
            if network.reset_after:
                return gru_step(net_x, _products(dropped, weight_hh), weights["bias_hn"], h, activations).h
            return _reset_before(net_x, h, dropped, weight_hh, activations)

        start = [zeros(B, H, dtype=x.dtype, device=x.device) for _ in network.STATES] if state is None else list(state)
        before = tuple(start) if len(start) > 1 else start[0]
        turned = None if mask is None else mask.transpose(0, 1)
        out, final = scan(step, nets.transpose(0, 1), before, mask=turned, reverse=reverse)
        return out.transpose(0, 1), list(final) if isinstance(final, tuple) else [final]


def dropping_of(config: Mapping[str, Any], has_gates: bool) -> Dropping:
    """What a layer or cell with these settings drops."""
    states = float(config.get("recurrent_dropout") or 0.0)
    by_gate = has_gates and (states > 0 or config.get("implementation") == 1)
    return Dropping(float(config.get("dropout") or 0.0), states, by_gate)


def _products(parts: Sequence[Tensor], weight: Tensor) -> Tensor:
    """The products of a weight (gates · H, ·) with one input for all gates, or one for each: (..., gates · H)."""
    if len(parts) == 1:
        return ops.linear(parts[0], weight)
    products = [ops.linear(x, own) for x, own in zip(parts, ops.chunk(weight, len(parts), dim=0), strict=True)]
    return ops.cat(products, dim=-1)


def _reset_before(
    net_x: Tensor, h: Tensor, dropped: Sequence[Tensor], weight_hh: Tensor, activations: Sequence[Any]
) -> Tensor:
    """The next state of a GRU whose reset gate comes before the product, as of `variants.GRUResetBefore`."""
    gate, candidate = activations
    of_r, of_z, of_n = dropped if len(dropped) == 3 else [dropped[0]] * 3
    x_r, x_z, x_n = ops.chunk(net_x, 3, dim=-1)
    weight_r, weight_z, weight_n = ops.chunk(weight_hh, 3, dim=0)
    r, z = gate(x_r + ops.linear(of_r, weight_r)), gate(x_z + ops.linear(of_z, weight_z))
    n = candidate(x_n + ops.linear(r * of_n, weight_n))
    out: Tensor = n + z * (h - n)
    return out
