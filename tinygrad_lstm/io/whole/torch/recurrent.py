"""PyTorch's recurrent ops, whose weights are a list: they become layers."""

from collections.abc import Sequence
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from ...._tensor import Tensor
from ...errors import ContentError
from .layers import layer_of
from .values import Applied, Graph, Ref, call_layer

__all__ = ["recurrent_op"]

_KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}


def recurrent_op(graph: Graph, op: str, args: Sequence[Any]) -> tuple[Ref, ...] | None:
    """The results of a recurrent op: the outputs, and the last states. None for other ops.

    Raises:
        ContentError: its arguments are invalid or not supported.
    """
    kind = _KINDS.get(op.removesuffix(".input"))
    if kind is None:
        return None
    match args:
        case [
            Ref() as x,
            state,
            list() as weights,
            bool(),
            int() as layers,
            p,
            _,
            bool() as both,
            bool() as first,
        ]:
            pass
        case _:
            raise ContentError(f"it calls {op} with arguments that are not supported, such as a packed sequence")
    states = list(state) if isinstance(state, list | tuple) else [state]
    names = _names(len(weights), layers, both, kind)
    arrays: dict[str, HostArray] = {}
    for name, weight in zip(names, weights, strict=True):
        own = graph.contents.get(weight)
        if own is None or not isinstance(own[1], Tensor):
            raise ContentError(f"it computes the weights of {op} when it runs")
        arrays[name] = own[1].detach().numpy()
    path = graph.contents[weights[0]][0].rpartition(".")[0] or kind.lower()
    settings = {"batch_first": first, "dropout": p, "bias": "bias_ih_l0" in arrays}
    settings["nonlinearity"] = op.removeprefix("rnn_")
    key = (kind, *weights)
    if key not in graph.layers:
        layer = layer_of(kind, settings if kind == "RNN" else {**settings, "nonlinearity": None}, arrays)
        if layer is None:
            raise ContentError(f"there is no {kind}")
        graph.layers[key] = graph.add(path, layer)
    args_: list[Any] = [graph.layers[key], x]
    if not all(isinstance(each, Ref) and each.is_zeros for each in states):
        args_.append(tuple(states) if kind == "LSTM" else states[0])
    return tuple(graph.step(kind, Applied(call_layer, tuple(args_)), 3 if kind == "LSTM" else 2))


def _names(number: int, layers: int, both: bool, kind: str) -> list[str]:
    """The names of a number of weights, in PyTorch's order."""
    places = [f"l{layer}{end}" for layer in range(min(layers, number)) for end in ("", "_reverse")[: 1 + both]]
    roles = {2: "ih hh", 3: "ih hh hr", 4: "ih hh bih bhh", 5: "ih hh bih bhh hr"}
    each = number // max(len(places), 1)
    if each not in roles or each * len(places) != number:
        raise ContentError(f"damaged: {number} weights are not those of a {kind} of {layers} layers")
    names = [f"bias_{role[1:]}" if role.startswith("b") else f"weight_{role}" for role in roles[each].split()]
    return [f"{name}_{place}" for place in places for name in names]
