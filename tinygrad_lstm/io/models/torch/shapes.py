"""The shapes and dtypes of inputs, which TorchScript does not have, from the layers that use them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

from .... import nn
from ...._tensor import Tensor
from ..ports import Port
from .values import GraphStep, Ref, flat

__all__ = ["ports_of"]

Shape = tuple[int | str, ...] | None
DEEPEST = 50

_SAME = {
    *("abs", "dropout", "relu", "relu_", "sigmoid", "tanh", "gelu", "silu", "elu", "leaky_relu", "hardtanh", "mish"),
    *("contiguous", "detach", "clone"),
}
_WITH_NUMBERS = {"add", "sub", "mul", "div", "add_", "sub_", "mul_", "div_", "pow"}
_SAME_LAYERS = (nn.Dropout, nn.LayerNorm, nn.Identity, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.LeakyReLU, nn.SiLU)


@dataclass(frozen=True)
class _Users:
    steps: Sequence[GraphStep]
    contents: Mapping[Ref, tuple[str, nn.Module | Tensor]]
    known: dict[Ref, tuple[Shape, str]] = field(default_factory=dict)
    by_input: dict[Ref, list[GraphStep]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for step in self.steps:
            for ref in step.inputs:
                self.by_input.setdefault(ref, []).append(step)


def ports_of(
    steps: Sequence[GraphStep],
    contents: Mapping[Ref, tuple[str, nn.Module | Tensor]],
    inputs: Sequence[Ref],
    names: Sequence[str],
    known: Sequence[Port] = (),
) -> list[Port]:
    """The inputs, with the shapes and dtypes that the first layers need; the batch and the time are free.

    Args:
        steps, contents, inputs: those of the graph.
        names: the inputs' names.
        known: the inputs as the file has them: lengths that are free there get the name that is found here.
    """
    users = _Users(steps, contents)
    found = [Port(name, *_needed(users, ref, 0)) for ref, name in zip(inputs, names, strict=True)]
    if known:
        return _renamed(known, found)
    times = sum("time" in (port.shape or ()) for port in found)
    return found if times < 2 else [_with_names(port, {"time": f"time_of_{port.name}"}) for port in found]


def _renamed(known: Sequence[Port], found: Sequence[Port]) -> list[Port]:
    """The known inputs, whose free lengths have the names that were found; the only one is the batch otherwise."""
    names: dict[str, str] = {}
    free: set[str] = set()
    for own, port in zip(known, found, strict=True):
        free.update(length for length in own.shape or () if isinstance(length, str))
        if own.shape is not None and port.shape is not None and len(own.shape) == len(port.shape):
            pairs = zip(own.shape, port.shape, strict=True)
            names |= {before: after for before, after in pairs if isinstance(before, str) and isinstance(after, str)}
    if len(free) == 1:
        names = {**dict.fromkeys(free, "batch"), **names}
    return [_with_names(port, names) for port in known]


def _with_names(port: Port, names: Mapping[str, str]) -> Port:
    if port.shape is None:
        return port
    shape = [names.get(length, length) if isinstance(length, str) else length for length in port.shape]
    return Port(port.name, tuple(shape), port.dtype)


def _needed(users: _Users, ref: Ref, depth: int) -> tuple[Shape, str]:
    """The shape and the dtype that the users of a value need, as far as is known."""
    if ref not in users.known:
        users.known[ref] = None, ""
        dtype = ""
        for step in users.by_input.get(ref, ()) if depth < DEEPEST else ():
            shape, own = _by_step(users, step, ref, depth)
            dtype = dtype or own
            users.known[ref] = shape, dtype
            if shape is not None:
                break
    return users.known[ref]


def _by_step(users: _Users, step: GraphStep, ref: Ref, depth: int) -> tuple[Shape, str]:
    first, *others = step.args or (None,)
    layer = users.contents[first][1] if isinstance(first, Ref) and first in users.contents else None
    if isinstance(layer, nn.Module):
        return _by_layer(users, layer, others, step, ref, depth)
    if first is not ref:
        return None, ""
    if step.op in _SAME or (step.op in _WITH_NUMBERS and isinstance(others[0], int | float)):
        return _needed(users, step.outputs[0], depth + 1)
    if step.op in ("transpose", "permute", "unsqueeze"):
        shape, dtype = _needed(users, step.outputs[0], depth + 1)
        return _moved(step.op, others, shape), dtype
    return None, ""


def _by_layer(
    users: _Users, layer: nn.Module, args: Sequence[Any], step: GraphStep, ref: Ref, depth: int
) -> tuple[Shape, str]:
    dtype = next((str(parameter.dtype) for parameter in layer.parameters()), "")
    is_input = bool(args) and args[0] is ref
    match layer:
        case LSTM() | GRU() | RNN():
            if is_input:
                outer: tuple[str, str] = ("batch", "time") if layer.batch_first else ("time", "batch")
                return (*outer, layer.input_size), dtype
            rows, sizes = layer.num_layers * (2 if layer.bidirectional else 1), [*layer.state_sizes.values()]
            at = [each is ref for each in flat(args[1:2])]
            return ((rows, "batch", sizes[at.index(True)]) if True in at[: len(sizes)] else None), dtype
        case LSTMCell() | GRUCell() | RNNCell():
            return ("batch", layer.input_size if is_input else layer.hidden_size), dtype
        case nn.Conv1d() | nn.ConvTranspose1d():
            return ("batch", layer.in_channels, "time"), dtype
        case nn.Conv2d():
            return ("batch", layer.in_channels, "height", "width"), dtype
        case nn.Embedding():
            shape, _ = _needed(users, step.outputs[0], depth + 1)
            return (None if shape is None else shape[:-1]), "int64"
        case nn.Linear():
            shape, _ = _needed(users, step.outputs[0], depth + 1)
            return (None if shape is None else (*shape[:-1], layer.in_features)), dtype
    if isinstance(layer, _SAME_LAYERS):
        return _needed(users, step.outputs[0], depth + 1)
    return None, ""


def _moved(op: str, args: Sequence[Any], after: Shape) -> Shape:
    """The shape before an op that moves dimensions."""
    if after is None or not all(isinstance(each, int) for each in flat(args)):
        return None
    dims = [dim + len(after) if dim < 0 else dim for dim in flat(args)]
    shape = list(after)
    if any(not 0 <= dim < len(shape) for dim in dims):
        return None
    match op, dims:
        case "unsqueeze", [dim]:
            del shape[dim]
        case "transpose", [a, b]:
            shape[a], shape[b] = shape[b], shape[a]
        case "permute", _ if sorted(dims) == list(range(len(shape))):
            for k, dim in enumerate(dims):
                shape[dim] = after[k]
        case _:
            return None
    return tuple(shape)
