"""LSTM, GRU and RNN nodes: as networks with parameters, or as functions of weights that depend on the inputs.

Reference: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models import Recurrent
from tinygrad_lstm.models.base import Network
from tinygrad_lstm.models.cells import parts_of, state_of_parts
from tinygrad_lstm.models.networks import NETWORKS

from .... import ops
from ...._scan import scan
from ...._tensor import Tensor, as_tensor
from ....creation import arange, zeros
from ....nn import Module
from ...contents import FileLayer
from ...errors import ContentError
from ...file_layers import network_of
from ...onnx.nodes import WEIGHTS, NodeSettings
from ..body import plain_array
from ..rules import Value
from .cells import Equations, NodeCell, equations_of

__all__ = ["QUANTIZED_LSTM", "SCALES", "FunctionalCall", "NetworkCall", "dequantized", "network_for"]

QUANTIZED_LSTM = ("com.microsoft", "DynamicQuantizeLSTM")
"""The domain and name of the LSTM node of onnxruntime's quantization."""

SCALES = ("W_scale", "W_zero_point", "R_scale", "R_zero_point")
"""Its further inputs."""


def dequantized(arrays: Mapping[str, HostArray]) -> dict[str, HostArray]:
    """The weights of an LSTM, given those of a `DynamicQuantizeLSTM`, which are transposed, and their scales.

    Inputs and states are not rounded here, as they are there.

    Raises:
        ContentError: a weight, scale or zero point is not known, or is of a wrong shape.
    """
    found = {role: arrays[role] for role in WEIGHTS if role in arrays}
    for role in ("W", "R"):
        parts = [arrays.get(name) for name in (role, f"{role}_scale", f"{role}_zero_point")]
        if any(part is None for part in parts):
            raise ContentError(f"a {role} whose values, scale and zero point the file does not determine")
        weight, scale, zero = (np.asarray(part) for part in parts)
        if weight.ndim != 3 or any(each.shape not in (weight.shape[:1], weight.shape[::2]) for each in (scale, zero)):
            raise ContentError(f"{role} of shape {weight.shape} with scales {scale.shape} and zero points {zero.shape}")
        scale, zero = (each.reshape(len(weight), 1, -1) for each in (scale, zero))
        found[role] = ((weight.astype(scale.dtype) - zero.astype(scale.dtype)) * scale).transpose(0, 2, 1)
    return found


def network_for(settings: NodeSettings, weights: Mapping[str, HostArray]) -> Module:
    """The network of a node: an LSTM, GRU or RNN if they have its settings, or else a `Recurrent` of general cells.

    A network of one direction runs forward; see `NetworkCall`.

    Args:
        weights: the arrays W, R and, if the node has them, B and P.

    Raises:
        ContentError: arrays are missing, or of wrong shapes or dtypes.
    """
    activations = settings.activations
    general = activations is None or settings.clip is not None or settings.input_forget
    layer = FileLayer(
        settings.kind,
        "onnx",
        [{role: role for role in weights}],
        bidirectional=settings.directions == 2,
        reset_after=settings.reset_after,
        activations=() if general or activations is None else activations,
        batch_first=settings.batch_first,
    )
    try:
        found = network_of(weights, layer)
    except ValueError as error:
        raise ContentError(str(error)) from error
    if settings.hidden_size not in (None, found.hidden_size):
        raise ContentError(f"hidden_size is {settings.hidden_size}, but R is of shape {weights['R'].shape}")
    if not general:
        network: Module = NETWORKS[settings.kind].of_found(found)
        return network
    places = ("l0", "l0_reverse")[: settings.directions]
    own = [
        {name.removesuffix(f"_{place}"): array for name, array in found.parameters.items() if name.endswith(place)}
        for place in places
    ]
    cells = [NodeCell(*each) for each in zip(equations_of(settings), own, strict=True)]
    return Recurrent((cells[0], cells[1]) if len(cells) == 2 else cells[0], batch_first=settings.batch_first)


@dataclass(frozen=True)
class NetworkCall:
    """A node as a function of its network, the inputs X, the lengths, and the initial states.

    Attributes:
        kind: its name in `KINDS`.
        reverse: whether its one direction runs from the end.
        batch_first: whether X, Y and the states have the batch first.
        outputs: the number of outputs: Y, and the final states.
    """

    kind: str
    reverse: bool
    batch_first: bool
    outputs: int

    def __call__(self, network: Any, x: Tensor, lengths: Value | None, *given: Tensor | None) -> Any:
        numbers = lengths if lengths is None or isinstance(lengths, Tensor) else plain_array(lengths)
        time = 1 if self.batch_first else 0
        dtype = next(network.parameters()).dtype
        x, initial = _in_dtype(x, dtype), [None if each is None else _in_dtype(each, dtype) for each in given]
        if self.reverse:
            x = _backward(x, numbers, time)
        D, states = 2 if network.bidirectional else 1, None
        if (like := next((each for each in initial if each is not None), None)) is not None:
            own = D, x.shape[1 - time], like.shape[-1]
            states = [
                zeros(*own, dtype=like.dtype, device=like.device) if each is None else self._inner(each)
                for each in initial
            ]
        out, final = network(x, None if states is None else _given_to(network, states), numbers)
        if self.reverse:
            out = _backward(out, numbers, time)
        if D == 1:
            y = ops.unsqueeze(out, 2 if self.batch_first else 1)
        else:
            split = out.reshape(*out.shape[:-1], D, out.shape[-1] // D)  # (T, B, D, H), or (B, T, D, H)
            y = split if self.batch_first else ops.transpose(split, 1, 2)
        results = [y, *(self._inner(each) for each in _returned_by(network, final))][: self.outputs]
        return results[0] if self.outputs == 1 else tuple(results)

    def _inner(self, state: Tensor) -> Tensor:
        """A state (D, B, H) of one that has the node's layout, and back."""
        return ops.transpose(state, 0, 1) if self.batch_first else state


def _in_dtype(x: Tensor, dtype: Any) -> Tensor:
    """In the dtype of a network's parameters: constants of the file keep theirs in `model.to(dtype=...)`."""
    return x if x.dtype == dtype else x.astype(dtype)


def _given_to(network: Any, states: Sequence[Tensor]) -> Any:
    """States (D, B, H) as a network takes them: a `Recurrent` those of each direction."""
    if isinstance(network, Network):
        return state_of_parts(states)
    directions = [state_of_parts([each[d] for each in states]) for d in range(states[0].shape[0])]
    return directions if len(directions) > 1 else directions[0]


def _returned_by(network: Any, final: Any) -> Sequence[Tensor]:
    """The states (D, B, H) that a network returned."""
    if isinstance(network, Network):
        return parts_of(final)
    directions = map(parts_of, final if isinstance(final, list) else [final])
    return [ops.stack(list(column)) for column in zip(*directions, strict=True)]


@dataclass(frozen=True)
class FunctionalCall:
    """A node as a function of X, the lengths, the initial states, and its weights.

    Attributes:
        equations: those of each direction.
        call: the node's layout and outputs.
        roles: the weights that it is given: W, R and perhaps B and P.
    """

    equations: tuple[Equations, ...]
    call: NetworkCall
    roles: tuple[str, ...]

    def __call__(self, x: Tensor, lengths: Value | None, *given: Any) -> Any:
        states = len(KINDS[self.call.kind].state_names)
        weights = dict(zip(self.roles, given[states:], strict=True))
        if wrong := [role for role, ndim in _NDIM.items() if role in weights and weights[role].ndim != ndim]:
            raise ValueError(f"{self.call.kind}: expected {wrong[0]} of {_NDIM[wrong[0]]} dimensions")
        layers = [_parameters(equations, weights, d) for d, equations in enumerate(self.equations)]
        return self.call(_Weighted(self.equations, layers, self.call.batch_first), x, lengths, *given[:states])


_NDIM = {"W": 3, "R": 3, "B": 2, "P": 2}


@dataclass(frozen=True)
class _Weighted:
    """A network of one layer, given its parameters in each direction."""

    equations: tuple[Equations, ...]
    layers: Sequence[Mapping[str, Tensor]]
    batch_first: bool

    @property
    def bidirectional(self) -> bool:
        return len(self.layers) > 1

    def parameters(self) -> Iterator[Tensor]:
        return (parameter for layer in self.layers for parameter in layer.values())

    def __call__(self, x: Tensor, state: Any, lengths: Any) -> tuple[Tensor, Any]:
        x = ops.transpose(x, 0, 1) if self.batch_first else x
        outputs, final = [], []
        for d, (equations, layer) in enumerate(zip(self.equations, self.layers, strict=True)):
            H = layer["weight_hh"].shape[1]
            start = state[d] if isinstance(state, list) else state
            if start is None:
                own = KINDS[equations.kind].state_names
                start = state_of_parts([zeros(x.shape[1], H, dtype=x.dtype, device=x.device) for _ in own])
            step = partial(_step, equations, layer)
            out, after = scan(step, x, start, lengths, reverse=d == 1)
            outputs.append(out)
            final.append(after)
        joined = ops.concat(outputs, dim=-1)
        return ops.transpose(joined, 0, 1) if self.batch_first else joined, final


def _step(equations: Equations, layer: Mapping[str, Tensor], x: Tensor, state: Any) -> Any:
    gates = equations.step(layer, x, *parts_of(state))
    return state_of_parts([getattr(gates, name) for name in KINDS[equations.kind].state_names])


def _parameters(equations: Equations, weights: Mapping[str, Tensor], d: int) -> dict[str, Tensor]:
    """The parameters of a layer in one direction, given W, R and perhaps B and P of all."""
    kind = KINDS[equations.kind]
    order = kind.order(kind.orders["onnx"])

    def ours(x: Tensor, gates: str) -> Tensor:
        """Rows in the order of gates here."""
        theirs = [gate for gate in order if gate in gates]
        parts = dict(zip(theirs, ops.chunk(x, len(theirs), dim=0), strict=True))
        return ops.concat([parts[gate] for gate in gates], dim=0)

    found = {"weight_ih": ours(weights["W"][d], kind.letters), "weight_hh": ours(weights["R"][d], kind.letters)}
    H = found["weight_hh"].shape[1]
    k = len(kind.gates)
    like = found["weight_hh"]
    both = weights["B"][d] if "B" in weights else zeros(2 * k * H, dtype=like.dtype, device=like.device)
    bias_ih, bias_hh = (ours(part, kind.letters) for part in ops.chunk(both, 2, dim=0))
    if "reset_after" in kind.options and equations.reset_after:
        found["bias_hn"] = bias_hh[(k - 1) * H :]
        bias_hh = ops.pad(bias_hh[: (k - 1) * H], (0, H))
    found["bias"] = bias_ih + bias_hh
    if "P" in weights:
        (peephole,) = (weight for weight in kind.weights if weight.option == "peephole")
        found["peephole"] = ours(weights["P"][d], peephole.gates)
    return found


def _backward(x: Tensor, lengths: Any, time: int) -> Tensor:
    """A sequence with the order of its steps reversed: of each sequence of the batch, the steps within its length."""
    if lengths is None:
        return ops.flip(x, time)
    T = x.shape[time]
    lengths = as_tensor(lengths, x.device).astype("int64")
    steps = arange(T, device=x.device)
    steps, lengths = (steps, lengths.reshape(-1, 1)) if time else (steps.reshape(-1, 1), lengths)
    index = ops.where(steps < lengths, lengths - 1 - steps, steps)
    return ops.take_along_dim(x, index.unsqueeze(-1), time)
