"""Dropout within recurrent layers, in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinygrad_lstm.models import GRU, LSTM
from tinygrad_lstm.models.activations import function_of
from tinygrad_lstm.models.cells import GRUGates, RNNGates, gru_step, lstm_step, state_of_parts

from .... import ops
from ...._scan import scan
from ...._tensor import Tensor
from ....creation import zeros
from ....observing import ShownLayer, show_step
from ..shared.noise import kept

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
        weights, B = network.layer_parameters(place), len(x)
        number = len(weights["weight_ih"]) // network.hidden_size if self.by_gate else 1
        of_inputs = [kept(x, self.inputs, (B, x.shape[2])) for _ in range(number)]
        of_states = [kept(x, self.states, (B, network.hidden_size)) for _ in range(number)]
        options = {**network.options, "dropout": self.inputs, "recurrent_dropout": self.states}
        layer = ShownLayer(network, place, network.KIND, options, weights, x.transpose(0, 1))

        def step(x_t: Tensor, states: Any) -> Any:
            before = states if isinstance(states, tuple) else (states,)
            net_x = _products([x_t * each for each in of_inputs], weights["weight_ih"]) + weights["bias"]
            gates = _gates(network, weights, net_x, [before[0] * each for each in of_states], before)
            show_step(layer, network.KIND, x_t, dict(zip(network.STATES, before, strict=True)), gates)
            return state_of_parts([getattr(gates, name) for name in network.STATES])

        start = state or [zeros(B, network.hidden_size, dtype=x.dtype, device=x.device) for _ in network.STATES]
        turned = None if mask is None else mask.transpose(0, 1)
        out, final = scan(step, layer.x, state_of_parts(start), mask=turned, reverse=reverse)
        return out.transpose(0, 1), list(final) if isinstance(final, tuple) else [final]


def _gates(
    network: Any, weights: Mapping[str, Tensor], net_x: Tensor, dropped: Sequence[Tensor], before: Sequence[Tensor]
) -> Any:
    """The gates of a step, and the states after it.

    Args:
        network: an LSTM, GRU or RNN.
        weights: the parameters of its layer, by name.
        net_x: the W·x + b of the gates.
        dropped: the hidden state without the elements that are dropped, for all gates or for each.
        before: the states before the step.
    """
    activations, weight_hh = list(map(function_of, network.activations)), weights["weight_hh"]
    if isinstance(network, GRU) and not network.reset_after:
        return _reset_before(net_x, before[0], dropped, weight_hh, activations)
    net_h = _products(dropped, weight_hh)
    if isinstance(network, LSTM):
        return lstm_step(net_x + net_h, before[1], activations)
    if isinstance(network, GRU):
        return gru_step(net_x, net_h, weights["bias_hn"], before[0], activations)
    return RNNGates(activations[0](net_x + net_h))


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
) -> GRUGates:
    """The step of a GRU whose reset gate comes before the product, as of `variants.GRUResetBefore`."""
    gate, candidate = activations
    of_r, of_z, of_n = dropped if len(dropped) == 3 else [dropped[0]] * 3
    x_r, x_z, x_n = ops.chunk(net_x, 3, dim=-1)
    weight_r, weight_z, weight_n = ops.chunk(weight_hh, 3, dim=0)
    r, z = gate(x_r + ops.linear(of_r, weight_r)), gate(x_z + ops.linear(of_z, weight_z))
    n = candidate(x_n + ops.linear(r * of_n, weight_n))
    return GRUGates(r, z, n, n + z * (h - n))
