"""PyTorch's recurrent ops, whose weights are a list: they become layers."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models.cells import state_of_parts
from tinygrad_lstm.models.networks import Nonlinearity

from .... import ops
from ...._tensor import Tensor, as_tensor
from ....nn import Module
from ...errors import ContentError
from .graph import Graph
from .layers import RESULTS, layer_of
from .values import Applied, Ref, call_layer

__all__ = ["Packed", "call_packed", "pack", "pad_packed", "recurrent_op"]

_OPS: dict[str, tuple[str, dict[str, str]]] = {
    op: (name, settings)
    for name, kind in KINDS.items()
    for op, settings in (
        [(f"{kind.op}_{each}", {"nonlinearity": each}) for each in get_args(Nonlinearity)]
        if "nonlinearity" in kind.options
        else [(kind.op, {})]
    )
}
"""The kind and the settings of each op."""


class Packed(NamedTuple):
    """A packed batch of sequences, as it is here: padded, with its lengths."""

    x: Tensor
    lengths: HostArray
    batch_first: bool


def recurrent_op(graph: Graph, op: str, args: Sequence[Any]) -> Any:
    """The results of a recurrent op: the outputs, and the last states; or of packing. None for other ops.

    Raises:
        ContentError: its arguments are invalid or not supported.
    """
    if op == "_pack_padded_sequence":
        return tuple(graph.step("pack", Applied(pack, tuple(args)), 2))
    if op == "_pad_packed_sequence" and len(args) == 5:
        packed, _, *others = args
        return tuple(graph.step("pad_packed", Applied(pad_packed, (packed, *others)), 2))
    if op.removesuffix(".input") not in _OPS:
        return None
    kind, own_settings = _OPS[op.removesuffix(".input")]
    run: Callable[..., Any] = call_layer
    match args:
        case [Ref() as x, state, list() as weights, bool(), int() as layers, p, _, bool() as both, bool() as first]:
            pass
        case [Ref() as x, Ref(), state, list() as weights, bool(), int() as layers, p, _, bool() as both]:
            run, first = call_packed, False
        case _:
            raise ContentError(f"it calls {op} with arguments that are not supported")
    states = list(state) if isinstance(state, list | tuple) else [state]
    names = _names(len(weights), layers, both, kind)
    arrays: dict[str, HostArray] = {}
    for name, weight in zip(names, weights, strict=True):
        own = graph.contents.get(weight)
        if own is None or not isinstance(own[1], Tensor):
            raise ContentError(f"it computes the weights of {op} when it runs")
        arrays[name] = own[1].detach().numpy()
    settings = {"batch_first": first, "dropout": p, "bias": "bias_ih_l0" in arrays, **own_settings}
    key = (kind, *settings.items(), *weights)
    if key not in graph.layers:
        layer = layer_of(kind, settings, arrays)
        if layer is None:
            raise ContentError(f"there is no {kind}")
        path = graph.contents[weights[0]][0].rpartition(".")[0] or kind.lower()
        graph.layers[key] = graph.add(path, layer)
    given: list[Any] = [graph.layers[key], x]
    if not all(isinstance(each, Ref) and each.is_zeros for each in states):
        given.append(state_of_parts(states))
    return tuple(graph.step(kind, Applied(run, tuple(given)), RESULTS[kind]))


def pack(x: Tensor, lengths: Any, batch_first: bool) -> tuple[Packed, HostArray]:
    """A packed batch, and the number of sequences at each step."""
    host = np.asarray(lengths.tolist() if isinstance(lengths, Tensor) else lengths)
    return Packed(x, host, batch_first), (host[:, None] > np.arange(host.max(initial=0))).sum(axis=0)


def call_packed(layer: Module, packed: Packed, *states: Any) -> Any:
    """What a recurrent layer returns for a packed batch, whose outputs are packed; nested tuples as one tuple."""
    first = bool(getattr(layer, "batch_first", False))
    x = packed.x if first == packed.batch_first else packed.x.transpose(0, 1)
    out, *others = call_layer(layer, x, *(states or (None,)), packed.lengths)
    return Packed(out, packed.lengths, first), *others


def pad_packed(
    packed: Packed, batch_first: bool = False, padding: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, HostArray]:
    """The padded outputs, and the lengths."""
    out = packed.x if packed.batch_first else packed.x.transpose(0, 1)  # (B, T, ...)
    T, longest = out.shape[1], int(packed.lengths.max(initial=0))
    wanted = longest if total_length is None or total_length < 0 else int(total_length)
    out = out[:, :wanted] if wanted <= T else ops.pad(out, (0, 0, 0, wanted - T))
    if padding:
        beyond = np.arange(wanted) >= packed.lengths[:, None]
        out = ops.masked_fill(out, as_tensor(beyond[:, :, None], out.device), padding)
    return (out if batch_first else out.transpose(0, 1)), packed.lengths


def _names(number: int, layers: int, both: bool, kind: str) -> list[str]:
    """The names of a number of weights, in PyTorch's order."""
    places = [f"l{layer}{end}" for layer in range(min(layers, number)) for end in ("", "_reverse")[: 1 + both]]
    roles = {2: "ih hh", 3: "ih hh hr", 4: "ih hh bih bhh", 5: "ih hh bih bhh hr"}
    each = number // max(len(places), 1)
    if each not in roles or each * len(places) != number:
        raise ContentError(f"damaged: {number} weights are not those of a {kind} of {layers} layers")
    names = [f"bias_{role[1:]}" if role.startswith("b") else f"weight_{role}" for role in roles[each].split()]
    return [f"{name}_{place}" for place in places for name in names]
