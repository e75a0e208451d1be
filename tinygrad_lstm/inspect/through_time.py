"""The gradients of every state and gate at every step, for a layer that ran as one op.

The op's derivative gives the gradient of the inputs: that of each step's W·x + U·h + b, times W. With U in W's place it
gives what each step sends back to the hidden state before it. So the op's own kernels go back through time; what is
left are the equations of a step, for all steps at once. Sizes: T steps, batch B, hidden size H.
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
from ..ops.recurrent import going

__all__ = ["OUTPUTS", "SavedLayer"]

Arrays = dict[str, Array]


@dataclass(frozen=True)
class SavedLayer:
    """A layer that ran as one op, by what the op has kept for its derivative.

    Attributes:
        kind: its name in `KINDS`.
        device: where it ran.
        operands, saved, lengths, reverse: as `ops.recurrent` and the backend's protocol have them.
        before, after: by name the states, h first, before and after each step (T, B, H).
        gates: by name the gates (T, B, H), in the order of the weights' rows; none that is a state.
        rest: what else the op has kept, by name: of a GRU q = U_n·h + b_hn (T, B, H).
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
    def ends(self) -> HostArray:
        """How many steps each sequence has, (B,)."""
        T, B = self.x.shape[:2]
        return np.full(B, T) if self.lengths is None else self.lengths

    def cut(self) -> "SavedLayer":
        """The layer with zeros past each sequence's length, where anything may stand."""
        if self.lengths is None:
            return self

        def cut(arrays: Arrays) -> Arrays:
            return {name: self._where_going(array) for name, array in arrays.items()}

        with self.device.current():
            before, after, gates, rest = map(cut, (self.before, self.after, self.gates, self.rest))
            return replace(self, before=before, after=after, gates=gates, rest=rest)

    def gradients(self, g_out: Array, *g_states: Array) -> Arrays:
        """The gradients of all values, given those of the outputs (T, B, H) and of the states after the last step.

        Of a layer that was cut.
        """
        with self.device.current():
            return _GRADIENTS[self.kind](self, self._where_going(g_out), g_states)

    def sent_back(self, g_out: Array, g_states: Sequence[Array], weight: Array) -> Array:
        """The gradient of each step's W·x, times this weight: by the op's derivative, with the weight in W's place."""
        _, *others = self.operands
        others[len(self.after)] = weight
        room = self.device.xp.empty((*g_out.shape[:2], weight.shape[1]), g_out.dtype)  # in x's place, never read
        derivative = getattr(self.device.backend, f"{KINDS[self.kind].op}_backward")
        wanted = [True] + [False] * len(others)
        found = derivative((g_out, *g_states), (room, *others), self.saved, self.lengths, self.reverse, wanted)
        return found[0]

    def from_next(self, sent: Array, last: Any) -> Array:
        """For each step what the one computed after it sent back; for each sequence's last step, `last`."""
        moved = self.device.xp.empty_like(sent)
        if self.reverse:
            moved[1:], moved[0] = sent[:-1], last
        else:
            moved[:-1], moved[-1] = sent[1:], last
            if self.lengths is not None:
                is_last = np.arange(len(sent))[:, None, None] == self.lengths[:, None] - 1
                moved = self.device.xp.where(self.device.backend.from_host(is_last), last, moved)
        return self._where_going(moved)

    def summed_back(self, own: Array, factor: Array, last: Array) -> Array:
        """Σ of what each step has of its `own` and of what the next has, times that one's factor: (T, B, H).

        It begins with what comes from outside after each sequence's `last` step (B, H).
        """
        xp, T = self.device.xp, len(own)
        found, going = xp.empty_like(own), self._going
        for t in range(T) if self.reverse else range(T - 1, -1, -1):
            xp.add(own[t], last, out=found[t])
            carried = factor[t] * found[t]
            last = carried if going is None else xp.where(going[t], carried, last)
        return self._where_going(found)

    @cached_property
    def _going(self) -> Array | None:
        """Whether each sequence is going at each step, (T, B, 1); None if all are."""
        return None if self.lengths is None else going(self.lengths, len(self.x), self.device)._array

    def _where_going(self, values: Array) -> Array:
        """The values (T, B, H), zero where a sequence is not going."""
        xp = self.device.xp
        return values if self._going is None else xp.where(self._going, values, xp.zeros((), values.dtype))


def _lstm_gradients(layer: SavedLayer, g_out: Array, g_states: Sequence[Array]) -> Arrays:
    gates = layer.gates
    i, f, g, o = gates["i"], gates["f"], gates["g"], gates["o"]
    tanh_c = layer.device.xp.tanh(layer.after["c"])
    g_h, g_c = g_states
    d_h = g_out + layer.from_next(layer.sent_back(g_out, g_states, layer.parameters["weight_hh"]), g_h)
    d_c = layer.summed_back(d_h * (o - layer.after["h"] * tanh_c), f, g_c)  # h = o·tanh(c), so ∂h/∂c = o - h·tanh(c)
    return {"i": d_c * g, "f": d_c * layer.before["c"], "g": d_c * i, "o": d_h * tanh_c, "c": d_c, "h": d_h}


def _gru_gradients(layer: SavedLayer, g_out: Array, g_states: Sequence[Array]) -> Arrays:
    xp, U = layer.device.xp, layer.parameters["weight_hh"]
    r, z, n = layer.gates["r"], layer.gates["z"], layer.gates["n"]
    H = U.shape[1]
    # The candidate's U·h is multiplied by r, unlike its W·x: its gradient is taken by itself, and then times r and U.
    weight = xp.zeros((3 * H, 2 * H), U.dtype)
    weight[: 2 * H, :H], weight[2 * H :, H:] = U[: 2 * H], xp.eye(H, dtype=U.dtype)
    sent = layer.sent_back(g_out, g_states, weight)
    d_net_n = sent[:, :, H:]
    to_h = sent[:, :, :H] + (d_net_n * r) @ U[2 * H :]
    d_h = layer.summed_back(g_out + layer.from_next(to_h, 0), z, g_states[0])
    return {"r": d_net_n * layer.rest["q"], "z": d_h * (layer.before["h"] - n), "n": d_h * (1 - z), "h": d_h}


def _rnn_gradients(layer: SavedLayer, g_out: Array, g_states: Sequence[Array]) -> Arrays:
    sent = layer.sent_back(g_out, g_states, layer.parameters["weight_hh"])
    return {"h": g_out + layer.from_next(sent, g_states[0])}


_GRADIENTS: dict[str, Callable[[SavedLayer, Array, Sequence[Array]], Arrays]] = {
    "LSTM": _lstm_gradients,
    "GRU": _gru_gradients,
    "RNN": _rnn_gradients,
}

OUTPUTS = {kind.op: ("out", *kind.state_names) for kind in KINDS.values()}
"""What the outputs of a layer are called, by its op's name."""
