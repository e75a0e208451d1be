"""The calls of recurrent cells and layers in a traced run: recorded first, then made into `LayerTrace`s."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray

from .._tensor import Tensor, as_tensor
from ..autograd import grad
from ..creation import zeros_like
from ..graph import Node, next_number
from ..mode import Tracer, enable_grad, mode, no_grad
from ..nn import Module
from ..nn.names import joined
from ..observing import SteppedLayer
from .layers import LayerTrace
from .through_time import SavedLayer

__all__ = ["Calls", "on_host", "read_only"]


def on_host(tensor: Tensor) -> HostArray:
    """A copy of the values as a NumPy array."""
    return np.array(tensor.device.backend.to_host(tensor._array))


def read_only(array: HostArray) -> HostArray:
    """The array, made read-only."""
    array.flags.writeable = False
    return array


class Calls(Tracer):
    """Records what the cells and layers of a model compute, by their names in the model."""

    def __init__(self, model: Module) -> None:
        self._names = {module: name for name, module in model.named_modules()}
        self._calls: dict[str, list[_Call]] = {}
        self._at: _Time | None = None  # the current step of the innermost sequence

    def __bool__(self) -> bool:
        """Whether any call was recorded."""
        return bool(self._calls)

    def see_step(self, cell: Module, kind: str, x: Tensor, before: Mapping[str, Tensor], gates: Any) -> None:
        """Records a step.

        Raises:
            ValueError: the step's values lack a state, or one of them is not of shape (B, ...).
            TypeError: `gates` is not a NamedTuple.
        """
        if not hasattr(gates, "_asdict"):
            raise TypeError(
                f"show_step: expected a NamedTuple of what {type(cell).__name__} computed, got {type(gates).__name__}"
            )
        values: dict[str, Tensor] = gates._asdict()
        for name, value in values.items():
            if value.ndim < 2 or len(value) != len(x):
                raise ValueError(
                    f"show_step: expected gates and states of shape ({len(x)}, ...), but {name!r} of "
                    f"{type(cell).__name__} has shape {value.shape}"
                )
        if missing := [state for state in before if state not in values]:
            raise ValueError(
                f"show_step: the states before are {', '.join(before)}, but the gates of {type(cell).__name__} are "
                f"{', '.join(values)}; put {', '.join(missing)} among them"
            )
        states = {name: _snapshot(state) for name, state in before.items()}
        name = self._name(cell) or self._unused("cell")
        self._record_step(_CellStep(name, next_number(), values, kind, _snapshot(x), states, self._at, cell))

    def see_layer(
        self,
        network: Module,
        place: str,
        layer: Callable[[Sequence[Tensor]], tuple[Tensor, ...]],
        operands: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Runs a layer and records it. Under `no_grad` its outputs are not part of a graph."""
        with enable_grad():
            outputs = layer(_requiring_gradient(operands))
        node = outputs[0]._graph_node().parents[0]
        assert isinstance(node, Node)  # the op that made the outputs
        name, saved = self._place(network, place), SavedLayer.of(node)
        named = dict(zip(("out", *saved.after), outputs, strict=True))
        self._record(_Layer(name, node.number, named, operands, saved))
        return outputs if mode().value.recording else tuple(output.detach() for output in outputs)

    def see_steps(self, network: Module, layer: SteppedLayer, step: Callable[..., Any]) -> Callable[..., Any]:
        """A step that also records its arguments and what it computes."""
        name = self._place(network, layer.place)

        def recorded(net_x: Tensor, *states: Tensor) -> Any:
            assert self._at is not None  # `run_scan` takes the steps
            before = dict(zip(layer.states, map(_snapshot, states), strict=True))
            gates = step(net_x, *states)
            x = _snapshot(layer.x.detach()[self._at.t])
            call = _LayerStep(name, next_number(), gates._asdict(), layer.kind, x, before, self._at, layer)
            self._record_step(call)
            return gates

        return recorded

    def see_sequence(
        self, step: Callable[..., Any], T: int, lengths: HostArray | None, reverse: bool
    ) -> Callable[..., Any]:
        """The step, during which `_at` is its time."""
        times = iter(range(T)[::-1] if reverse else range(T))
        first: dict[str, int] = {}

        def timed(*arguments: Any) -> Any:
            t, around = next(times), self._at
            self._at = _Time(t, reverse, None if lengths is None else t < lengths, first)
            try:
                return step(*arguments)
            finally:
                self._at = around

        return timed

    def traced(self, loss: Tensor | None) -> tuple[LayerTrace, ...]:
        """What was computed and, with a loss, its gradients. The calls of one layer or cell are concatenated over time.

        Raises:
            RuntimeError: the model changed an output of a cell or layer, or an operand of a layer, in place.
            ValueError: the loss does not depend on anything that was computed; calls of one layer differ in batch size.
        """
        for call in self._all():
            call.check_unchanged()
        if loss is not None:
            self._differentiate(loss)
        return tuple(_joined(calls) for calls in self._calls.values())

    def _differentiate(self, loss: Tensor) -> None:
        """Sets the gradients of every call."""
        outputs = [value for call in self._all() for value in call.outputs.values() if value.requires_grad]
        found: Sequence[Tensor | None] = ()
        if outputs and loss.requires_grad:
            found = grad(loss, outputs, allow_unused=True)
        gradients = {id(value): gradient for value, gradient in zip(outputs, found) if gradient is not None}
        if not gradients:
            raise ValueError(
                "trace: the loss does not depend on what the recurrent parts computed; make it of the model's output"
            )
        for call in self._all():
            call.gradients = {
                name: gradients[id(value)] if id(value) in gradients else zeros_like(value)
                for name, value in call.outputs.items()
            }

    def _all(self) -> list["_Call"]:
        return [call for calls in self._calls.values() for call in calls]

    def _record(self, call: "_Call") -> None:
        self._calls.setdefault(call.name, []).append(call)

    def _record_step(self, call: "_Step") -> None:
        """Records a step, in the order of the sequence."""
        calls = self._calls.setdefault(call.name, [])
        backward = call.at is not None and call.at.reverse
        calls.insert(call.at.first.setdefault(call.name, len(calls)) if call.at and backward else len(calls), call)

    def _name(self, module: Module) -> str:
        """The module's dotted name, or one made from its class's name if it is not part of the model."""
        if module not in self._names:
            self._names[module] = self._unused(type(module).__name__.lower())
        return self._names[module]

    def _place(self, network: Module, place: str) -> str:
        """The dotted name of a layer of a network."""
        return joined(self._name(network), place)

    def _unused(self, name: str) -> str:
        """This name, with a number if a module has it already."""
        taken = set(self._names.values())
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        return next(name for name in names if name not in taken)


def _snapshot(given: Any) -> Tensor:
    """A copy, since the model may change the tensor in place before the next step."""
    return as_tensor(given).detach().clone()


def _requiring_gradient(operands: Sequence[Tensor]) -> Sequence[Tensor]:
    """The operands, at least one of which requires a gradient: an op saves gates and states only for derivatives."""
    if any(operand.requires_grad for operand in operands):
        return operands
    *others, bias = operands
    return [*others, bias.detach().requires_grad_()]


@dataclass(frozen=True)
class _Time:
    """A step of a sequence.

    Attributes:
        t: its number.
        reverse: whether the steps are taken from the last to the first.
        active: which sequences have not ended, (B,); None for all.
        first: by the name of a cell or layer, the index of the sequence's first recorded call.
    """

    t: int
    reverse: bool
    active: HostArray | None
    first: dict[str, int]


@dataclass
class _Call(ABC):
    """A call of a layer or cell.

    Attributes:
        name: the name of the layer or cell.
        number: the graph's node number at the time of the call.
        outputs: the tensors that it returned, by name; gradients are computed for these.
        gradients: their gradients; empty without a loss.
    """

    name: str
    number: int
    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor] = field(default_factory=dict, init=False)

    @property
    def shown(self) -> Sequence[Tensor]:
        """The tensors that must not change: the outputs, and operands that were not copied."""
        return tuple(self.outputs.values())

    @abstractmethod
    def parameters(self) -> dict[str, HostArray]:
        """The parameters, named as those of a layer."""

    @abstractmethod
    def traced(self) -> LayerTrace:
        """The call as a trace, without parameters."""

    def check_unchanged(self) -> None:
        """Raises if a shown tensor was changed in place since the call."""
        for tensor in self.shown:
            if tensor._version is not None and tensor._version.written > self.number:
                raise RuntimeError(
                    f"trace: a tensor of shape {tensor.shape} that {self.name!r} returned, or computed with, was "
                    "changed in place later; change a .clone() of it instead"
                )


@dataclass
class _Step(_Call):
    """A step: its kind, its input, the states before, and its place in a sequence, if it is part of one."""

    kind: str
    x: Tensor
    before: dict[str, Tensor]
    at: _Time | None

    def traced(self) -> LayerTrace:
        """The step as a layer with T = 1."""
        active = None if self.at is None else self.at.active
        active = np.ones(self.x.shape[0], bool) if active is None else active

        def step(tensor: Tensor) -> HostArray:
            values = on_host(tensor)
            values[~active] = 0
            return values.reshape(1, len(active), math.prod(values.shape[1:]))

        def steps(tensors: Mapping[str, Tensor]) -> dict[str, HostArray]:
            return {name: step(tensor) for name, tensor in tensors.items()}

        return LayerTrace(
            name=self.name,
            kind=self.kind,
            reverse=self.at is not None and self.at.reverse,
            inputs=step(self.x),
            values=steps(self.outputs),
            gradients=steps(self.gradients),
            before=steps(self.before),
            parameters={},
            going=active[None],
        )


@dataclass
class _CellStep(_Step):
    """A step of a cell."""

    cell: Module

    def parameters(self) -> dict[str, HostArray]:
        with no_grad():
            parameters: dict[str, Tensor] = getattr(self.cell, "layer_parameters", dict)()
            return {name: on_host(parameter) for name, parameter in parameters.items()}


@dataclass
class _LayerStep(_Step):
    """A step of a layer that runs step by step."""

    layer: SteppedLayer

    @property
    def shown(self) -> Sequence[Tensor]:
        return *self.layer.parameters.values(), *self.outputs.values()

    def parameters(self) -> dict[str, HostArray]:
        return {name: on_host(parameter) for name, parameter in self.layer.parameters.items()}

    def traced(self) -> LayerTrace:
        return replace(super().traced(), options=self.layer.options)


@dataclass
class _Layer(_Call):
    """A layer that ran as one op: what the op saved for its derivative has all gates and states."""

    operands: Sequence[Tensor]
    saved: SavedLayer

    @property
    def shown(self) -> Sequence[Tensor]:
        x, *others = self.operands
        parameters = others[len(self.outputs) - 1 :]  # the initial states come before them, and the op copied these
        return x, *parameters, *self.outputs.values()

    def parameters(self) -> dict[str, HostArray]:
        return {name: np.array(array) for name, array in self._on_host(self.saved.parameters).items()}

    def traced(self) -> LayerTrace:
        """All steps."""
        saved = self.saved.masked()
        given = [gradient._array for gradient in self.gradients.values()]
        return LayerTrace(
            name=self.name,
            kind=saved.kind,
            reverse=saved.reverse,
            inputs=np.array(saved.device.backend.to_host(saved.x)),
            values=self._on_host(saved.values),
            gradients=self._on_host(saved.gradients(*given)) if given else {},
            before=self._on_host(saved.before),
            parameters={},
            going=np.arange(len(saved.x))[:, None] < saved.sequence_lengths,
        )

    def _on_host(self, arrays: Mapping[str, Array]) -> dict[str, HostArray]:
        return {name: self.saved.device.backend.to_host(array) for name, array in arrays.items()}


def _joined(calls: Sequence[_Call]) -> LayerTrace:
    """The calls of one layer or cell, concatenated over time.

    Raises:
        ValueError: their batches differ.
    """
    parts = [call.traced() for call in calls]
    first = parts[0]
    batches = {part.shape[1] for part in parts}
    if len(batches) > 1:
        raise ValueError(
            f"trace: {first.name!r} was called with batches of {', '.join(map(str, sorted(batches)))} sequences; trace "
            "calls of one size"
        )

    def joined(arrays: Sequence[HostArray]) -> HostArray:
        return read_only(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))

    def by_name(field: str) -> dict[str, HostArray]:
        columns: list[dict[str, HostArray]] = [getattr(part, field) for part in parts]
        return {name: joined([column[name] for column in columns]) for name in columns[0]}

    return LayerTrace(
        name=first.name,
        kind=first.kind,
        reverse=first.reverse,
        inputs=joined([part.inputs for part in parts]),
        values=by_name("values"),
        gradients=by_name("gradients"),
        before=by_name("before"),
        parameters={name: read_only(array) for name, array in calls[0].parameters().items()},
        going=joined([part.going for part in parts]),
        options=first.options,
    )
