"""The gradients of every state and gate at every step, for a layer that ran as one op.

The op's derivative returns the gradient of the inputs: that of each step's W·x + U·h + b, times W. With U in place of W
it returns what each step contributes to the gradient of the hidden state before it. So the op's own kernels run back
through time, and the equations of a step are computed for all steps at once. Sizes: T steps, batch B, hidden size H.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray

from ..device import Device
from ..graph import Node
from ..kinds import KINDS, kind_of_op
from ..ops.recurrent import step_mask

__all__ = ["OUTPUTS", "SavedLayer"]

Arrays = dict[str, Array]


@dataclass(frozen=True)
class SavedLayer:
    """A layer that ran as one op, with what the op saved for its derivative.

    Attributes:
        kind: its name in `KINDS`.
        device: the device that it ran on.
        operands, saved, lengths, reverse: as in `ops.recurrent` and the backend's protocol.
        before, after: the states before and after each step (T, B, H), by name, h first.
        gates: the gates (T, B, H) that are not states, by name, in the order of the weights' rows.
        rest: what else the op saved, by name: for a GRU q = U_n·h + b_hn (T, B, H).
    """

    kind: str
    device: Device
    operands: Sequence[Array]
    saved: Any
    lengths: HostArray | None
    reverse: bool
    before: Arrays
    after: Arrays
    gates: Arrays
    rest: Arrays

    @classmethod
    def of(cls, node: Node) -> "SavedLayer":
        """The layer that a node of the graph records."""
        kind = kind_of_op(node.op.name)
        assert kind is not None
        (operands, _, lengths, reverse), saved = node.saved, node.out
        x, h, *_ = arrays = [tensor._array for tensor in operands]
        T, H = len(x), h.shape[1]
        rest = dict(zip(kind.saved, saved, strict=True))
        states = {state: rest.pop(state) for state in kind.state_names}  # each (T + 1, B, H)
        gates = rest.pop("gates", None)
        return cls(
            kind=kind.name,
            device=node.device,
            operands=arrays,
            saved=saved,
            lengths=lengths,
            reverse=reverse,
            before={state: hs[1:] if reverse else hs[:T] for state, hs in states.items()},
            after={state: hs[:T] if reverse else hs[1:] for state, hs in states.items()},
            gates={} if gates is None else {gate: gates[:, :, kind.rows(gate, H)] for gate in kind.letters},
            rest=rest,
        )

    @property
    def x(self) -> Array:
        """The inputs (T, B, I)."""
        return self.operands[0]

    @property
    def parameters(self) -> Arrays:
        """The parameters by name."""
        names = [weight.name for weight in KINDS[self.kind].weights_with({})]
        return dict(zip(names, self.operands[1 + len(self.after) :], strict=True))

    @property
    def values(self) -> Arrays:
        """Gates and states by name, (T, B, H)."""
        found = {**self.gates, **self.after}
        return {name: found[name] for name in KINDS[self.kind].values}

    @property
    def sequence_lengths(self) -> HostArray:
        """The number of steps of each sequence, (B,)."""
        T, B = self.x.shape[:2]
        return np.full(B, T) if self.lengths is None else self.lengths

    def masked(self) -> "SavedLayer":
        """The layer with zeros past each sequence's length, where values are undefined."""
        if self.lengths is None:
            return self

        def masked(arrays: Arrays) -> Arrays:
            return {name: self._masked(array) for name, array in arrays.items()}

        with self.device.current():
            before, after, gates, rest = map(masked, (self.before, self.after, self.gates, self.rest))
            return replace(self, before=before, after=after, gates=gates, rest=rest)

    def gradients(self, g_out: Array, *g_states: Array) -> Arrays:
        """The gradients of all values, from those of the outputs (T, B, H) and of the states after the last step.

        The layer must be `masked()`.
        """
        with self.device.current():
            return _GRADIENTS[self.kind](self, self._masked(g_out), g_states)

    def gradient_times(self, g_out: Array, g_states: Sequence[Array], weight: Array) -> Array:
        """The gradient of each step's W·x, times this weight: the op's derivative with the weight in place of W."""
        _, *others = self.operands
        others[len(self.after)] = weight
        unread = self.device.xp.empty((*g_out.shape[:2], weight.shape[1]), g_out.dtype)  # in place of x
        derivative = getattr(self.device.backend, f"{KINDS[self.kind].op}_backward")
        needed = [True] + [False] * len(others)
        found = derivative((g_out, *g_states), (unread, *others), self.saved, self.lengths, self.reverse, needed)
        return found[0]

    def shifted(self, values: Array, last: Any) -> Array:
        """For each step the value at the step computed after it; for each sequence's last step, `last`."""
        moved = self.device.xp.empty_like(values)
        if self.reverse:
            moved[1:], moved[0] = values[:-1], last
        else:
            moved[:-1], moved[-1] = values[1:], last
            if self.lengths is not None:
                is_last = np.arange(len(values))[:, None, None] == self.lengths[:, None] - 1
                moved = self.device.xp.where(self.device.backend.from_host(is_last), last, moved)
        return self._masked(moved)

    def accumulated(self, own: Array, factor: Array, last: Array) -> Array:
        """Each step's `own` gradient plus the next step's accumulated gradient times the next step's factor: (T, B, H).

        It begins with the gradient `last` (B, H) of the state after each sequence's last step.
        """
        xp, T = self.device.xp, len(own)
        found, active = xp.empty_like(own), self._active
        for t in range(T) if self.reverse else range(T - 1, -1, -1):
            xp.add(own[t], last, out=found[t])
            carried = factor[t] * found[t]
            last = carried if active is None else xp.where(active[t], carried, last)
        return self._masked(found)

    @cached_property
    def _active(self) -> Array | None:
        """Whether each step lies within its sequence, (T, B, 1); None if all do."""
        return None if self.lengths is None else step_mask(self.lengths, len(self.x), self.device)._array

    def _masked(self, values: Array) -> Array:
        """The values (T, B, H), with zeros past each sequence's length."""
        xp = self.device.xp
        return values if self._active is None else xp.where(self._active, values, xp.zeros((), values.dtype))


def _lstm_gradients(layer: SavedLayer, g_out: Array, g_states: Sequence[Array]) -> Arrays:
    gates = layer.gates
    i, f, g, o = gates["i"], gates["f"], gates["g"], gates["o"]
    tanh_c = layer.device.xp.tanh(layer.after["c"])
    g_h, g_c = g_states
    d_h = g_out + layer.shifted(layer.gradient_times(g_out, g_states, layer.parameters["weight_hh"]), g_h)
    d_c = layer.accumulated(d_h * (o - layer.after["h"] * tanh_c), f, g_c)  # h = o·tanh(c), so ∂h/∂c = o - h·tanh(c)
    return {"i": d_c * g, "f": d_c * layer.before["c"], "g": d_c * i, "o": d_h * tanh_c, "c": d_c, "h": d_h}


def _gru_gradients(layer: SavedLayer, g_out: Array, g_states: Sequence[Array]) -> Arrays:
    xp, U = layer.device.xp, layer.parameters["weight_hh"]
    r, z, n = layer.gates["r"], layer.gates["z"], layer.gates["n"]
    H = U.shape[1]
    # The candidate's U·h is multiplied by r, unlike its W·x: its gradient is computed separately, then times r and U.
    weight = xp.zeros((3 * H, 2 * H), U.dtype)
    weight[: 2 * H, :H], weight[2 * H :, H:] = U[: 2 * H], xp.eye(H, dtype=U.dtype)
    sent = layer.gradient_times(g_out, g_states, weight)
    d_net_n = sent[:, :, H:]
    to_h = sent[:, :, :H] + (d_net_n * r) @ U[2 * H :]
    d_h = layer.accumulated(g_out + layer.shifted(to_h, 0), z, g_states[0])
    return {"r": d_net_n * layer.rest["q"], "z": d_h * (layer.before["h"] - n), "n": d_h * (1 - z), "h": d_h}


def _rnn_gradients(layer: SavedLayer, g_out: Array, g_states: Sequence[Array]) -> Arrays:
    sent = layer.gradient_times(g_out, g_states, layer.parameters["weight_hh"])
    return {"h": g_out + layer.shifted(sent, g_states[0])}


_GRADIENTS: dict[str, Callable[[SavedLayer, Array, Sequence[Array]], Arrays]] = {
    "LSTM": _lstm_gradients,
    "GRU": _gru_gradients,
    "RNN": _rnn_gradients,
}

OUTPUTS = {kind.op: ("out", *kind.state_names) for kind in KINDS.values()}
"""The names of a layer's outputs, by its op's name."""
