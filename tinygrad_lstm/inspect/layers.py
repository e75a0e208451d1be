"""What a trace holds, and what is computed from it: norms, saturation, products of forget gates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..html import preformatted, table
from ..kinds import KINDS
from .data_path import Part

__all__ = ["LayerTrace", "Saturation", "Trace"]


class Saturation(NamedTuple):
    """For each unit (H,), the share of steps at which a gate was nearly closed, `below`, or nearly open, `above`."""

    below: HostArray
    above: HostArray


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """What one layer computed in one direction: NumPy arrays (T, B, H), in the order of the sequence.

    Each of `values` is also an attribute: `layer.f` is `layer.values["f"]`. Past a sequence's length all values are
    zero. Of a state that is a matrix, the elements of each sequence are one row. The arrays are read-only, since some
    share memory: change a copy.

    Attributes:
        name: its name in the model: "lstm.l0", "l1_reverse", "cell".
        kind: its name in `KINDS`, or the kind that a user-defined cell states.
        options: its settings that differ from a plain layer of its kind, by name.
        reverse: whether it runs from the last step to the first.
        inputs: its inputs, (T, B, I).
        values: i, f, g (the candidate), o, c, h of an LSTM; r, z, n, h of a GRU; h of an RNN. With an LSTM's
            proj_size h is (T, B, P).
        gradients: the gradient of each value, under the same name; empty without a loss.
        before: the states before each step, by name, of the same shapes as in `values`.
        parameters: copies of weight_ih, weight_hh, bias (bias_hn of a GRU, and those of options), rows in the gates'
            order; empty for a user-defined cell.
        going: whether each step lies within its sequence's length, (T, B).
        equations: those of a step as Python code, as `program` shows them, for a layer with options, or a cell in
            `Recurrent` or `scan` whose kind is not in `KINDS`. A state h after the step is called next_h.
        data_path: the parts of a drawing of these equations, for the page.
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
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    equations: tuple[str, ...] = field(default=(), repr=False)
    data_path: tuple[Part, ...] = field(default=(), repr=False)

    def __getattr__(self, name: str) -> HostArray:
        values: dict[str, HostArray] = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}; this layer's values are {', '.join(values)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, B, H), where H is the number of units: for an LSTM with proj_size, that of its cell states."""
        T, B, H = self.before[self.memory].shape
        return T, B, H

    @property
    def memory(self) -> str:
        """The last state, which is the layer's memory: c of an LSTM, h of a GRU or an RNN."""
        return [*self.before][-1]

    def named(self, value: str) -> str:
        """A value's name with its meaning: "forget gate f"; only its name for a user-defined cell."""
        meaning = KINDS[self.kind].meanings.get(value) if self.kind in KINDS else None
        return f"{meaning} {value}" if meaning else value

    @property
    def described(self) -> str:
        """The kind, with the options in parentheses: "LSTM(peephole=True)"."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.kind}({settings})" if settings else self.kind

    @property
    def gates(self) -> tuple[str, ...]:
        """The names of the gates with values from 0 to 1; of a user-defined cell, all values that are not states."""
        if self.kind in KINDS:
            return KINDS[self.kind].shares
        return tuple(name for name in self.values if name not in self.before)

    @property
    def keeps(self) -> tuple[str, str] | None:
        """The gate that multiplies a state from step to step, and that state; None if no single gate does.

        With layer_norm="cell", the normalization of the cell state changes it as well.
        """
        if self.kind not in KINDS or self.options.get("layer_norm") == "cell":
            return None
        return KINDS[self.kind].keeps

    @property
    def nbytes(self) -> int:
        """The memory of the arrays (T, B, ·), at most."""
        named = (self.values, self.gradients, self.before)
        return self.inputs.nbytes + sum(array.nbytes for arrays in named for array in arrays.values())

    def gradient_norms(self, name: str) -> HostArray:
        """The norm over the units of a value's gradient: (T, B).

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

        It is the product of the forget gates of the steps computed after `start`, up to and including `end`: the part
        of ∂c_end/∂c_start along the cell state, without the paths through the gates. For a GRU it is the product of z,
        for h. A sequence that ends between the two steps keeps its state from there on.

        Raises:
            ValueError: a step is out of range, or `end` comes before `start`; a new call of the layer with a different
                initial state began between the two; the layer has no such gate.
        """
        if self.keeps is None:
            raise ValueError(
                f"forget_product: this {self.described} has no single gate that multiplies its state at each step"
            )
        gate, state = self.keeps
        T, B, _ = self.shape
        if not (0 <= start < T and 0 <= end < T):
            raise ValueError(f"forget_product: expected steps from 0 to {T - 1}, got {start} and {end}")
        if (end > start) if self.reverse else (end < start):
            order = "runs from the end, so its later steps have lower numbers" if self.reverse else "runs forward"
            raise ValueError(f"forget_product: step {end} comes before step {start}; the layer {order}")
        first, last = (T - 1 - start, T - 1 - end) if self.reverse else (start, end)
        going, factors, before, after = (
            array[::-1] if self.reverse else array  # in the order of computation
            for array in (self.going, self.values[gate], self.before[state], self.values[state])
        )
        # For each sequence its last active step so far; -1 for none.
        latest = np.maximum.accumulate(np.where(going, np.arange(T)[:, None], -1), axis=0)
        steps, earlier = slice(first + 1, last + 1), latest[first:last]
        carried = np.isclose(before[steps], after[earlier, np.arange(B)], rtol=0, atol=0, equal_nan=True).all(axis=2)
        if not (carried | ~going[steps] | (earlier < 0)).all():
            raise ValueError(
                f"forget_product: between steps {start} and {end} the layer began anew, with another state than it had "
                "come to; choose steps of one call of it"
            )
        product: HostArray = np.where(going[steps, :, None], factors[steps].astype(np.float64), 1).prod(axis=0)
        return product

    def saturation(self, name: str, low: float = 0.1, high: float = 0.9) -> Saturation:
        """For each unit, the shares of steps at which a gate was below `low` and above `high` (Karpathy et al. 2015).

        Raises:
            ValueError: the layer has no such gate.
        """
        if name not in self.gates:
            raise ValueError(
                f"saturation: {name!r} is not a gate of this {self.kind}; its gates are "
                f"{', '.join(self.gates) or 'none'}"
            )
        steps = self.values[name][self.going]  # (steps, H)
        number = max(len(steps), 1)
        return Saturation((steps < low).sum(axis=0) / number, (steps > high).sum(axis=0) / number)

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        return _table([self])


@dataclass(frozen=True, eq=False)
class Trace:
    """What a model computed on one input. `trace[0]` and `trace["lstm.l0"]` are its layers. Arrays are read-only.

    Attributes:
        model: the model's class and settings.
        layers: in the order of computation.
        inputs: the model's input.
        output: the model's output, or the first of several; None if that is not a tensor.
        loss: the loss; None without one.
        lengths: the number of steps of each sequence (B,); None if all have T.
        batch_first: whether a network in the model has `batch_first=True`. The arrays of layers are (T, B, ·) in any
            case.
        all_inputs: all tensors and arrays that the model was given, by the names of its parameters.
        all_outputs: all tensors that it returned, by their names in a named tuple or dict, or else "output",
            "output_1", ...
    """

    model: str
    layers: tuple[LayerTrace, ...]
    inputs: HostArray = field(repr=False)
    output: HostArray | None = field(repr=False)
    loss: float | None
    lengths: HostArray | None = field(repr=False)
    batch_first: bool = False
    all_inputs: Mapping[str, HostArray] = field(default_factory=dict, repr=False)
    all_outputs: Mapping[str, HostArray] = field(default_factory=dict, repr=False)

    def __getitem__(self, which: int | str) -> LayerTrace:
        if not isinstance(which, str):
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
        """The memory of the layers' arrays (T, B, ·), at most."""
        return sum(layer.nbytes for layer in self.layers)

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        return f"{preformatted(self.model + loss)}\n{_table(self.layers)}"


def _table(layers: Sequence[LayerTrace]) -> str:
    """For each gate its mean and saturation; for each gate and state its gradient norms at the first and last step."""
    header = ["layer: kind, T × B × H", "", "mean", "below 0.1", "above 0.9"]
    if any(layer.gradients for layer in layers):
        header += ["‖∂L/∂·‖ at first step", "at last step"]
    return table(header, [row for layer in layers for row in _rows(layer)], left=2)


def _rows(layer: LayerTrace) -> Iterator[list[str]]:
    label = f"{layer.name}: {layer.described}, {' × '.join(map(str, layer.shape))}"
    for name in (*layer.gates, *layer.before):
        row = [label, name, "", "", ""]
        if name in layer.gates and layer.going.any():
            mean = layer.values[name][layer.going].mean(dtype=np.float64)
            row[2:] = [f"{mean:.2f}", *(f"{share.mean():.0%}" for share in layer.saturation(name))]
        yield row + [f"{norm:.1e}" for norm in _end_norms(layer, name)]
        label = ""


def _end_norms(layer: LayerTrace, name: str) -> list[float]:
    """The norms of a gradient at the first and at the last step, each the mean over the sequences."""
    going = layer.going[:, layer.going.any(axis=0)]
    if not (layer.gradients and going.size):
        return []
    norms = layer.gradient_norms(name)[:, layer.going.any(axis=0)]
    ends = going.argmax(axis=0), len(going) - 1 - going[::-1].argmax(axis=0)
    return [float(norms[end, np.arange(len(end))].mean()) for end in ends]
