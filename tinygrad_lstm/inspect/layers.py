"""What a trace holds, and what can be read off it: norms, saturation, how much the forget gates let through."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..backends.base import HostArray

__all__ = ["LayerTrace", "Saturation", "Trace"]

# Of each kind the gate that multiplies the state on its way to the next step.
_KEEPS = {"LSTM": ("f", "c"), "GRU": ("z", "h")}


class Saturation(NamedTuple):
    """For each unit (H,), in which share of the steps a gate was nearly shut, `below`, or nearly open, `above`."""

    below: HostArray
    above: HostArray


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """What one layer, in one direction, computed: NumPy arrays (T, B, H), in the order of the sequence.

    Each of `values` is an attribute as well: `layer.f` is `layer.values["f"]`. Past a sequence's length all is zero.

    Attributes:
        name: where in the model it is: "lstm.l0", "l1_reverse", "cell".
        kind: "LSTM", "GRU", "RNN"; or what a cell of the user's calls itself.
        reverse: whether time ran from the end.
        inputs: what came in, (T, B, I).
        values: i, f, g (the candidate), o, c, h of an LSTM; r, z, n, h of a GRU; h of an RNN.
        gradients: ∂L/∂ each of the values, of the same names and shapes; empty without a loss.
        before: the states before each step, (T, B, H).
        parameters: weight_ih, weight_hh, bias (and bias_hn of a GRU), rows in the gates' order; empty for a cell of the
            user's.
        going: whether each sequence is going at each step, (T, B).
    """

    name: str
    kind: str
    reverse: bool
    inputs: HostArray = field(repr=False)
    values: dict[str, HostArray] = field(repr=False)
    gradients: dict[str, HostArray] = field(repr=False)
    before: dict[str, HostArray] = field(repr=False)
    parameters: dict[str, HostArray] = field(repr=False)
    going: HostArray = field(repr=False)

    def __getattr__(self, name: str) -> HostArray:
        values: dict[str, HostArray] = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}; this layer's values are {', '.join(values)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, B, H)."""
        T, B, H = self.values["h"].shape
        return T, B, H

    @property
    def gates(self) -> tuple[str, ...]:
        """The names of the gates, which lie between 0 and 1."""
        return {"LSTM": ("i", "f", "o"), "GRU": ("r", "z"), "RNN": ()}.get(
            self.kind, tuple(name for name in self.values if name not in self.before)
        )

    @property
    def nbytes(self) -> int:
        """The memory of the arrays (T, B, ·)."""
        return sum(array.nbytes for array in (self.inputs, *self.values.values(), *self.gradients.values()))

    def gradient_norms(self, name: str) -> HostArray:
        """‖∂L/∂·‖ of a value, over the units: (T, B).

        Raises:
            ValueError: the trace was made without a loss, or the layer has no such value.
        """
        if not self.gradients:
            raise ValueError("gradient_norms: this trace has no gradients; give trace() a loss")
        if name not in self.gradients:
            raise ValueError(f"gradient_norms: there is no {name!r}; there are {', '.join(self.gradients)}")
        norms: HostArray = np.linalg.norm(self.gradients[name].astype(np.float64), axis=2)
        return norms

    def forget_product(self, start: int, end: int) -> HostArray:
        """∏f, the share of the cell state after step `start` that is still in it after step `end`: (B, H), float64.

        It is the product of the forget gates of the steps computed after `start`, up to and with `end`: what
        ∂c_end/∂c_start is along the cell state itself, without the ways through the gates. Of a GRU it is the product
        of z, for h.

        Raises:
            ValueError: a step is not there, or `end` comes before `start`; the layer has no such gate.
        """
        gate = self.values[self._keeping()[0]]
        T = len(gate)
        if not (0 <= start < T and 0 <= end < T):
            raise ValueError(f"forget_product: expected steps from 0 to {T - 1}, got {start} and {end}")
        if (end > start) if self.reverse else (end < start):
            order = "runs from the end, so its later steps have lower numbers" if self.reverse else "runs forward"
            raise ValueError(f"forget_product: step {end} comes before step {start}; the layer {order}")
        steps = slice(end, start) if self.reverse else slice(start + 1, end + 1)
        product: HostArray = np.where(self.going[steps, :, None], gate[steps].astype(np.float64), 1).prod(axis=0)
        return product

    def saturation(self, name: str, low: float = 0.1, high: float = 0.9) -> Saturation:
        """In which shares of the steps a gate was below `low` and above `high` (Karpathy et al. 2015), by unit.

        Raises:
            ValueError: the layer has no such gate.
        """
        if name not in self.gates:
            raise ValueError(
                f"saturation: {name!r} is no gate of this {self.kind}; its gates are {', '.join(self.gates) or 'none'}"
            )
        steps = self.values[name][self.going]  # (steps, H)
        return Saturation((steps < low).mean(axis=0), (steps > high).mean(axis=0))

    def _keeping(self) -> tuple[str, str]:
        """The gate that a state is multiplied with from step to step, and the state."""
        if self.kind not in _KEEPS:
            raise ValueError(
                f"forget_product: a {self.kind} has no gate that its state is multiplied with at each step"
            )
        return _KEEPS[self.kind]


@dataclass(frozen=True, eq=False)
class Trace:
    """What a model computed on one input; `trace[0]`, `trace["lstm.l0"]` are its layers.

    Attributes:
        model: the model's class and settings.
        layers: in the order of computation.
        inputs: what the model was given.
        output: what it gave; of several outputs the first; None if that is no tensor.
        loss: the loss; None without one.
        lengths: the steps of each sequence (B,); None if all have T.
    """

    model: str
    layers: tuple[LayerTrace, ...]
    inputs: HostArray = field(repr=False)
    output: HostArray | None = field(repr=False)
    loss: float | None
    lengths: HostArray | None = field(repr=False)

    def __getitem__(self, which: int | str) -> LayerTrace:
        if isinstance(which, int):
            return self.layers[which]
        for layer in self.layers:
            if layer.name == which:
                return layer
        raise KeyError(f"no layer {which!r}; there are {', '.join(layer.name for layer in self.layers)}")

    def __iter__(self) -> Iterator[LayerTrace]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def nbytes(self) -> int:
        """The memory of the layers' arrays (T, B, ·)."""
        return sum(layer.nbytes for layer in self.layers)
