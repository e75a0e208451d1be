"""Backpropagation through time that keeps what it passes: the gradients of every state and gate, at every step.

For a layer that ran as one op: the derivatives of the cell's equations, one step after the other, from the last that
was computed to the first. Sizes: T steps, batch B, hidden size H.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..autograd import Node
from ..backends.base import Array, HostArray
from ..device import Device
from ..ops.recurrent import going as going_of

__all__ = ["SavedLayer"]

Arrays = dict[str, Array]


@dataclass(frozen=True)
class SavedLayer:
    """A layer that ran as one op, by what the op has kept for its derivative.

    Attributes:
        kind: "LSTM", "GRU" or "RNN".
        device: where it ran.
        x: its inputs (T, B, I).
        parameters: by name, their rows in the order of `gates`.
        before, after: by name the states, h first, before and after each step (T, B, H).
        gates: by name the gates (T, B, H).
        rest: U_n·h + b_hn of a GRU (T, B, H); otherwise None.
        lengths: how many steps each sequence has; None for T each.
        reverse: whether time ran from the end.
    """

    kind: str
    device: Device
    x: Array
    parameters: Arrays
    before: Arrays
    after: Arrays
    gates: Arrays
    rest: Array | None
    lengths: HostArray | None
    reverse: bool

    @classmethod
    def of(cls, node: Node) -> "SavedLayer":
        """The layer that a node of the graph records."""
        name = node.op.name.upper()
        kind = _KINDS[name]
        (operands, _, lengths, reverse), saved = node.saved, node.out
        x, *others = (tensor._array for tensor in operands)
        T, H, number = len(x), others[0].shape[1], len(kind.states)
        states = dict(zip(kind.states, saved))  # each (T + 1, B, H)
        gates, rest = (*saved[number:], None, None)[:2]
        return cls(
            kind=name,
            device=node.device,
            x=x,
            parameters=dict(zip(kind.parameters, others[number:])),
            before={state: hs[1:] if reverse else hs[:T] for state, hs in states.items()},
            after={state: hs[:T] if reverse else hs[1:] for state, hs in states.items()},
            gates={gate: gates[:, :, k * H : (k + 1) * H] for k, gate in enumerate(kind.gates)},
            rest=rest,
            lengths=lengths,
            reverse=reverse,
        )

    @property
    def values(self) -> Arrays:
        """Gates and states by name, (T, B, H)."""
        return {**self.gates, **dict(reversed(self.after.items()))}

    def cut(self) -> "SavedLayer":
        """The layer with zeros past each sequence's length, where anything may stand."""
        if self.lengths is None:
            return self
        with self.device.current():
            going = self._going()

            def cut(arrays: Arrays) -> Arrays:
                return {name: self._where(going, array, 0) for name, array in arrays.items()}

            rest = None if self.rest is None else self._where(going, self.rest, 0)
            return replace(self, before=cut(self.before), after=cut(self.after), gates=cut(self.gates), rest=rest)

    def gradients(self, g_out: Array, *g_states: Array) -> Arrays:
        """The gradients of all values, given those of the outputs (T, B, H) and of the states after the last step."""
        with self.device.current():
            back, U, T = _KINDS[self.kind].back, self.parameters["weight_hh"], len(self.x)
            found = {name: self.device.xp.empty_like(array) for name, array in self.values.items()}
            going = self._going()
            for t in range(T) if self.reverse else range(T - 1, -1, -1):
                here = None if going is None else going[t]
                # What later steps send back, and what comes from the outputs.
                g_states = (g_states[0] + self._where(here, g_out[t], 0), *g_states[1:])
                gates, before, after = (
                    {name: array[t] for name, array in part.items()} for part in (self.gates, self.before, self.after)
                )
                rest = None if self.rest is None else self.rest[t]
                gradients, through = back(self.device.xp, U, gates, before, after, rest, *g_states)
                for name, gradient in gradients.items():
                    found[name][t] = self._where(here, gradient, 0)
                # A sequence that has ended, or in reverse not begun, keeps its states.
                g_states = tuple(self._where(here, new, old) for new, old in zip(through, g_states))
        return found

    def _going(self) -> Array | None:
        """Whether each sequence is going at each step, (T, B, 1); None if all are."""
        return None if self.lengths is None else going_of(self.lengths, len(self.x), self.device)._array

    def _where(self, going: Array | None, values: Array, otherwise: Any) -> Array:
        """The values of the sequences that are going; for the others, something else."""
        if going is None:
            return values
        return self.device.xp.where(going, values, otherwise).astype(values.dtype, copy=False)


# The way back through one step, of each kind: given U, the gates, the states before and after it, and the gradients of
# the states after it, the gradients of all that it computed, and of the states before it.


def _lstm_back(
    xp: Any, U: Array, gates: Arrays, before: Arrays, after: Arrays, rest: None, d_h: Array, d_c: Array
) -> tuple[Arrays, tuple[Array, ...]]:
    i, f, g, o = gates.values()
    tanh_c = xp.tanh(after["c"])
    d_c = d_c + d_h * o * (1 - tanh_c * tanh_c)
    d_i, d_f, d_g, d_o = d_c * g, d_c * before["c"], d_c * i, d_h * tanh_c
    d_net = xp.concatenate([d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g * g), d_o * o * (1 - o)], axis=1)
    return {"i": d_i, "f": d_f, "g": d_g, "o": d_o, "c": d_c, "h": d_h}, (d_net @ U, d_c * f)


def _gru_back(
    xp: Any, U: Array, gates: Arrays, before: Arrays, after: Arrays, rest: Array, d_h: Array
) -> tuple[Arrays, tuple[Array, ...]]:
    r, z, n = gates.values()
    d_z, d_n = d_h * (before["h"] - n), d_h * (1 - z)
    d_net_n = d_n * (1 - n * n)
    d_r = d_net_n * rest
    d_net = xp.concatenate([d_r * r * (1 - r), d_z * z * (1 - z), d_net_n * r], axis=1)
    return {"r": d_r, "z": d_z, "n": d_n, "h": d_h}, (d_h * z + d_net @ U,)


def _rnn_back(
    xp: Any, U: Array, gates: Arrays, before: Arrays, after: Arrays, rest: None, d_h: Array
) -> tuple[Arrays, tuple[Array, ...]]:
    return {"h": d_h}, ((d_h * (1 - after["h"] * after["h"])) @ U,)


class _Kind(NamedTuple):
    """Of a kind of layer the names of its states, gates and parameters, in order, and the way back through a step."""

    states: Sequence[str]
    gates: Sequence[str]
    parameters: Sequence[str]
    back: Callable[..., tuple[Arrays, tuple[Array, ...]]]


_PARAMETERS = ("weight_ih", "weight_hh", "bias")
_KINDS = {
    "LSTM": _Kind("hc", "ifgo", _PARAMETERS, _lstm_back),
    "GRU": _Kind("h", "rzn", (*_PARAMETERS, "bias_hn"), _gru_back),
    "RNN": _Kind("h", "", _PARAMETERS, _rnn_back),
}
