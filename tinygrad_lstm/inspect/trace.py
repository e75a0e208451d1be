"""`trace`: runs a model once and returns every gate and state of its recurrent parts, and the gradients of a loss."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import numpy as np

from .. import ops
from ..autograd import Node, Switch, enable_grad, grad
from ..backends.base import Array, HostArray
from ..creation import zeros_like
from ..nn import Module
from ..ops.recurrent import going
from ..tensor import Tensor, operand
from .layers import LayerTrace, Trace
from .through_time import SavedLayer

__all__ = ["trace", "trace_memory"]

_log = logging.getLogger(__name__)


def trace(
    model: Module,
    x: Any,
    state: Any = None,
    lengths: Any = None,
    loss: Callable[[Any], Tensor] | None = None,
    *,
    max_bytes: int = 4 * 2**30,
) -> Trace:
    """Runs a model, and returns what its recurrent parts computed: every gate and state at every step.

    The model runs as it always does, on its fused layers, in the mode in which it is (`eval()` first, where dropout
    should not drop), and its results are the same to the bit. It costs one forward pass, and with a loss one backward
    pass. No `.grad` is touched. Several calls of one layer or cell within the model are joined in time.

    Args:
        model: a cell, an LSTM, a GRU, an RNN, a CharLM, or a module of yours with any of these in it. A cell goes
            through the steps of an x of three dimensions, (T, B, I), one by one.
        x: what the model takes: an array or a tensor.
        state: handed to the model as its second argument, if given.
        lengths: handed to the model as `lengths=`, if given.
        loss: a function of the model's output, or of the first of its outputs (the `out` of an LSTM, the logits of a
            CharLM), that gives a scalar; with it, the trace has gradients.
        max_bytes: how much the trace may take; `trace_memory` says it beforehand, and so does the log.

    Returns:
        A `Trace`, whose arrays are NumPy's, in the model's dtype, wherever it runs.

    Raises:
        ValueError: nothing recurrent has run; the loss is no scalar; the arguments do not fit the model.
        MemoryError: the trace would take more than `max_bytes`.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM
    >>> traced = tg.inspect.trace(LSTM(3, 5, num_layers=2), tg.ones(7, 2, 3), loss=lambda out: out[-1].sum())
    >>> [layer.name for layer in traced]
    ['l0', 'l1']
    >>> traced["l1"].f.shape, traced["l1"].gradients["c"].shape
    ((7, 2, 5), (7, 2, 5))
    >>> traced["l0"].forget_product(start=0, end=6).shape
    (2, 5)
    """
    x = operand(x)
    _check_memory(trace_memory(model, x, gradients=loss is not None), max_bytes)
    seen, numbers = _Observer(model), None if lengths is None else np.asarray(operand(lengths).numpy())
    with enable_grad(), _requiring_gradients(model):
        with Switch("observer", seen):
            given = _unrolled(model, x, state, numbers) if _is_cell(model) else _called(model, x, state, lengths)
        if not seen.calls:
            raise ValueError(
                f"trace: nothing recurrent has run in this {type(model).__name__}; expected at least one step of a "
                "cell, an LSTM, a GRU or an RNN"
            )
        output = given[0] if isinstance(given, tuple | list) else given
        value = None if loss is None else _scalar(loss(output))
        if value is not None:
            seen.differentiate(value)
    layers = tuple(_joined([call.traced() for call in calls]) for calls in seen.calls.values())
    if numbers is not None and _is_cell(model):
        layers = (_ended(layers[0], numbers), *layers[1:])
    return Trace(
        model=repr(model).partition("\n")[0].partition("  ")[0],
        layers=layers,
        inputs=_on_host(x),
        output=_on_host(output) if isinstance(output, Tensor) else None,
        loss=None if value is None else float(value.item()),
        lengths=numbers,
    )


def trace_memory(model: Module, x: Any, gradients: bool = False) -> int:
    """How many bytes the arrays (T, B, ·) of a trace will take, before it is made.

    Counted are the built-in cells and networks in the model, each run once over the steps of x, whose first two
    dimensions are taken for time and batch.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM
    >>> tg.inspect.trace_memory(LSTM(3, 5), tg.ones(7, 2, 3))  # 7 · 2 · (3 inputs + 6 · 5 gates and states) · 4 bytes
    1848
    """
    shape = np.shape(x._array if isinstance(x, Tensor) else x)
    rows = math.prod(shape[:1] if _is_cell(model) and len(shape) == 2 else shape[:2])
    total = 0
    for module in model.modules():
        sizes: Callable[[], Sequence[tuple[int, int]]] | None = getattr(module, "layer_sizes", None)
        if sizes is not None:
            width = next(module.parameters()).dtype.itemsize
            shown = len(module.SHOWN) * (2 if gradients else 1)  # type: ignore[attr-defined]
            total += rows * width * sum(I + shown * H for I, H in sizes())
    return total


def _check_memory(expected: int, allowed: int) -> None:
    _log.info("a trace will take %.1f MB", expected / 1e6)
    if expected > allowed:
        raise MemoryError(
            f"trace: it would take {expected:,} bytes, and max_bytes is {allowed:,}; give fewer steps or sequences, or "
            "a larger max_bytes"
        )


def _is_cell(model: Module) -> bool:
    return callable(getattr(model, "gates", None))


def _called(model: Module, x: Tensor, state: Any, lengths: Any) -> Any:
    takes = signature(model.forward).parameters
    if lengths is not None and "lengths" not in takes and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        raise ValueError(f"trace: this {type(model).__name__} takes no lengths; leave them out")
    arguments = (x,) if state is None else (x, state)
    return model(*arguments) if lengths is None else model(*arguments, lengths=lengths)


def _unrolled(cell: Module, x: Tensor, state: Any, lengths: HostArray | None) -> Tensor:
    """The outputs of a cell for each step of x, (T, B, H)."""
    if x.ndim not in (2, 3) or not len(x):
        raise ValueError(f"trace: expected an input of shape (time, batch, size) or (batch, size), got {x.shape}")
    x = x if x.ndim == 3 else x.unsqueeze(0)
    masks: Sequence[Tensor | None] = [None] * len(x)
    if lengths is not None:
        masks = ops.unbind(going(_checked(lengths, x), len(x), x.device), 0)
    outputs = []
    for step, mask in zip(ops.unbind(x, 0), masks):
        stepped = cell(step) if state is None else cell(step, state)
        h = stepped[0] if isinstance(stepped, tuple) else stepped
        outputs.append(h if mask is None else ops.where(mask, h, 0.0))
        state = stepped if mask is None else _kept(mask, stepped, state)
    return ops.stack(outputs)


def _kept(mask: Tensor, new: Any, old: Any) -> Any:
    """The new states of the sequences that are going; the others keep theirs."""
    if isinstance(new, tuple):
        return tuple(_kept(mask, part, None if old is None else old[k]) for k, part in enumerate(new))
    return ops.where(mask, new, 0.0 if old is None else old)


def _checked(lengths: HostArray, x: Tensor) -> HostArray:
    T, B = x.shape[:2]
    if lengths.shape != (B,) or lengths.dtype.kind not in "iu" or (B and not 0 <= lengths.min() <= lengths.max() <= T):
        raise ValueError(f"trace: expected {B} lengths, integers from 0 to {T}, got {lengths.dtype} {lengths}")
    return lengths


@contextmanager
def _requiring_gradients(model: Module) -> Iterator[None]:
    """Within it, frozen parameters require gradients too: what a layer keeps is kept for these alone."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad = True
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad = False


def _scalar(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.size != 1 or value.dtype.kind != "f":
        described = f"{value.dtype} {value.shape}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ValueError(f"trace: the loss gave {described}; expected a scalar tensor, as .sum() or .mean() gives")
    if not value.requires_grad:
        raise ValueError("trace: the loss does not depend on the model's output; make it of what it is given, by ops")
    return value


class _Observer:
    """Notes what recurrent cells and layers show, by their names in the model."""

    def __init__(self, model: Module) -> None:
        self._names = {id(module): name for name, module in model.named_modules()}
        self.calls: dict[str, list[_Step | _Layer]] = {}

    def see_step(self, cell: Module, kind: str, x: Tensor, before: Mapping[str, Tensor], gates: Any) -> None:
        """Notes a step."""
        name = self._path(cell) or "cell"
        self.calls.setdefault(name, []).append(_Step(name, kind, cell, x, before, gates._asdict()))

    def see_layer(self, network: Module, place: str, outputs: tuple[Tensor, ...]) -> None:
        """Notes a layer."""
        path = self._path(network)
        name = f"{path}.{place}" if path else place
        node = outputs[0]._graph_node().parents[0]
        assert isinstance(node, Node)  # the op that has made the outputs
        self.calls.setdefault(name, []).append(_Layer(name, outputs, SavedLayer.of(node)))

    def differentiate(self, loss: Tensor) -> None:
        """Gives every call the gradients of what it computed."""
        calls = [call for of_name in self.calls.values() for call in of_name]
        found = iter(grad(loss, [tensor for call in calls for tensor in call.outputs], allow_unused=True))
        for call in calls:
            call.gradients = [
                zeros_like(tensor) if gradient is None else gradient for tensor, gradient in zip(call.outputs, found)
            ]

    def _path(self, module: Module) -> str:
        """The module's dotted name; its class's name if the model does not know it."""
        return self._names.get(id(module), type(module).__name__.lower())


@dataclass
class _Step:
    """A step of a cell."""

    name: str
    kind: str
    cell: Module
    x: Tensor
    before: Mapping[str, Tensor]
    gates: dict[str, Tensor]
    gradients: Sequence[Tensor] = ()

    @property
    def outputs(self) -> Sequence[Tensor]:
        """The tensors of which gradients are wanted."""
        return tuple(self.gates.values())

    def traced(self) -> LayerTrace:
        """The step as a layer with T = 1."""
        parameters = getattr(self.cell, "layer_parameters", dict)()
        inputs = _on_host(self.x)[None]
        return LayerTrace(
            name=self.name,
            kind=self.kind,
            reverse=False,
            inputs=inputs,
            values={name: _on_host(gate)[None] for name, gate in self.gates.items()},
            gradients={name: _on_host(gradient)[None] for name, gradient in zip(self.gates, self.gradients)},
            before={name: _on_host(state)[None] for name, state in self.before.items()},
            parameters={name: _on_host(parameter) for name, parameter in parameters.items()},
            going=np.ones(inputs.shape[:2], bool),
        )


@dataclass
class _Layer:
    """A layer that ran as one op: what it kept for its derivative holds all gates and states."""

    name: str
    outputs: tuple[Tensor, ...]
    saved: SavedLayer
    gradients: Sequence[Tensor] = ()

    def traced(self) -> LayerTrace:
        """The layer with all its steps."""
        saved = self.saved
        gradients = saved.gradients(*(gradient._array for gradient in self.gradients)) if self.gradients else {}

        def on_host(arrays: Mapping[str, Array]) -> dict[str, HostArray]:
            return {name: saved.device.backend.to_host(array) for name, array in arrays.items()}

        T, B = saved.x.shape[:2]
        ends = np.full(B, T) if saved.lengths is None else saved.lengths
        return LayerTrace(
            name=self.name,
            kind=saved.kind,
            reverse=saved.reverse,
            inputs=saved.device.backend.to_host(saved.x),
            values=on_host(saved.values()),
            gradients=on_host(gradients),
            before=on_host(saved.cut(saved.before)),
            parameters=on_host(saved.parameters),
            going=np.arange(T)[:, None] < ends,
        )


def _joined(parts: Sequence[LayerTrace]) -> LayerTrace:
    """The calls of one layer or cell, joined in time.

    Raises:
        ValueError: their batches differ.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    batches = {part.shape[1] for part in parts}
    if len(batches) > 1:
        raise ValueError(
            f"trace: {first.name!r} was called with batches of {', '.join(map(str, sorted(batches)))} sequences; trace "
            "calls of one size"
        )

    def joined(name: str) -> dict[str, HostArray]:
        columns = [getattr(part, name) for part in parts]
        return {key: np.concatenate([column[key] for column in columns]) for key in columns[0]}

    return replace(
        first,
        inputs=np.concatenate([part.inputs for part in parts]),
        values=joined("values"),
        gradients=joined("gradients"),
        before=joined("before"),
        going=np.concatenate([part.going for part in parts]),
    )


def _ended(layer: LayerTrace, lengths: HostArray) -> LayerTrace:
    """The layer with zeros past each sequence's length."""
    going = np.arange(layer.shape[0])[:, None] < lengths

    def cut(arrays: dict[str, HostArray]) -> dict[str, HostArray]:
        return {name: np.where(going[:, :, None], array, array.dtype.type(0)) for name, array in arrays.items()}

    return replace(
        layer, values=cut(layer.values), gradients=cut(layer.gradients), before=cut(layer.before), going=going
    )


def _on_host(tensor: Tensor) -> HostArray:
    return tensor.device.backend.to_host(tensor._array)
