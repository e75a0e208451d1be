"""Recurrent layers in ONNX: one LSTM, GRU or RNN node for both directions of each, or else a Scan of its steps."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import INT64

from ...kinds import KINDS
from ...lengths import Size
from ...ops import recurrent
from ...programs.program import Call, Constant, Loop, Operand
from ..recurrent import gates_reordered, recurrent_bias
from .activations import in_onnx
from .graph import Graph, Input, value_info
from .ops import at_indices, write, writes

__all__ = ["write"]

_SCAN = inspect.unwrap(recurrent.run_scan)
_NODES_OWN = {"peephole", "reset_after", "nonlinearity", "activations"}  # the options that ONNX's nodes have


@dataclass(frozen=True)
class _Layer:
    """A layer in one direction that can be an ONNX node."""

    kind: str
    x: Operand
    states: Sequence[Operand]
    parameters: Mapping[str, Operand]
    options: Mapping[str, Any]
    lengths: Operand | None
    reverse: bool

    def pairs_with(self, other: "_Layer") -> bool:
        """Whether the other layer is the opposite direction of this one."""
        alike = (self.kind, self.options, self.reverse) == (other.kind, other.options, not other.reverse)
        same_size = self.parameters["weight_hh"].shape == other.parameters["weight_hh"].shape
        return alike and same_size and self.x is other.x and self.lengths is other.lengths


def _layer_of(call: Call) -> _Layer | None:
    """The layer of a call, if it can be a node."""
    if call.function is not _SCAN or call.arguments[1] is None:
        return None
    _, (kind, options, (names, parameters), x), _, states, lengths, reverse = call.arguments
    if not options.keys() <= _NODES_OWN or None in _functions(kind, options):
        return None
    return _Layer(kind, x, states, dict(zip(names, parameters, strict=True)), options, lengths, reverse)


@writes(recurrent.step_mask)
def _step_mask(g: Graph, lengths: Operand, T: Size, device: Any) -> str:
    step = g.node("Range", np.array(0), g.number(T, np.int64), np.array(1))
    numbers = g.node("Unsqueeze", _checked(g, lengths, T), np.array([0, 2]))
    return g.node("Less", g.node("Unsqueeze", step, np.array([1, 2])), numbers)


def _checked(g: Graph, lengths: Operand, T: Size) -> str:
    """The lengths of sequences as int64; running the graph raises if one is not from 0 to T."""
    after_last = g.node("Add", g.number(T, np.int64), g.number(1, np.int64))
    return at_indices(g, g.node("Range", np.array(0), after_last, np.array(1)), g.cast(lengths, np.int64))


@writes(recurrent.run_scan)
def _stepped(
    g: Graph, loop: Loop, described: Any, T: Size, states: Sequence[Operand], lengths: Operand | None, reverse: bool
) -> list[str]:
    layer = _layer_of(g.call)
    return _scan(g, loop, T, states, lengths, reverse) if layer is None else _node(g, layer)


# -- a node ------------------------------------------------------------------------------------------------------------


def _node(g: Graph, layer: _Layer) -> list[str]:
    """Writes a layer, together with its opposite direction if there is one."""
    found = _other_direction(g, layer)
    layers = [layer] if found is None else [layer, found[1]]
    place = g.call.place or layer.kind
    per_direction = [_arrays(each, place) for each in layers]
    arrays = {
        role: g.array(np.stack([own[role] for own in per_direction]), f"{place}.{role}") for role in per_direction[0]
    }
    states = [_initial(g, operands) for operands in zip(*(each.states for each in layers), strict=True)]
    wide_lengths = None if layer.lengths is None else _checked(g, layer.lengths, layer.x.shape[0])
    lengths = None if wide_lengths is None else g.cast(wide_lengths, np.int32, INT64)
    out, *finals = g.several(
        1 + len(states),
        layer.kind,
        layer.x,
        *(arrays[role] for role in ("W", "R", "B")),
        lengths,
        *states,
        arrays.get("P"),
        node_name=g.unique(place),
        hidden_size=len(per_direction[0]["R"][0]),
        direction="bidirectional" if len(layers) == 2 else "reverse" if layer.reverse else "forward",
        **_attributes(layer, len(layers)),
    )
    if wide_lengths is not None:  # onnxruntime returns zeros as the states of an empty sequence
        empty = g.node("Unsqueeze", g.node("Equal", wide_lengths, np.array(0)), np.array([0, 2]))
        finals = [
            final if state is None else g.node("Where", empty, state, final)
            for final, state in zip(finals, states, strict=True)
        ]
    number = len(layers)
    per_result = [g.unbound(out, 1, number), *(g.unbound(final, 0, number) for final in finals)]
    first, *second = zip(*per_result, strict=True)
    if found is not None:
        for value, result in zip(found[0].results, second[0], strict=True):
            g.note(value, result)
    return list(first)


def _other_direction(g: Graph, layer: _Layer) -> tuple[Call, _Layer] | None:
    """The opposite direction of a layer, if its inputs were written already."""
    for call in g.calls:
        if g.call.place and call.place == f"{g.call.place}_reverse" and not g.has(call.results[0]):
            other = _layer_of(call)
            if other is not None and layer.pairs_with(other) and all(g.has(state) for state in other.states):
                return call, other
    return None


def _arrays(layer: _Layer, place: str) -> dict[str, HostArray]:
    """ONNX's arrays of one direction: W, R, B, and P of an LSTM with peepholes.

    Raises:
        ValueError: one depends on an input.
    """
    own: dict[str, HostArray] = {}
    for role, parameter in layer.parameters.items():
        array = parameter.array if isinstance(parameter, Constant) else None
        if array is None:
            raise ValueError(
                f"export_onnx: {role} of {place!r} depends on an input; in ONNX a layer's weights are fixed"
            )
        own[role] = array
    kind = KINDS[layer.kind]
    own["bias_hh"] = recurrent_bias(kind, own)
    order = kind.order(kind.orders["onnx"])
    own = {role: gates_reordered(kind, role, array, kind.letters, order) for role, array in own.items()}
    arrays = {"W": own["weight_ih"], "R": own["weight_hh"], "B": np.concatenate([own["bias"], own["bias_hh"]])}
    return {**arrays, "P": own["peephole"]} if "peephole" in own else arrays


def _initial(g: Graph, states: Sequence[Operand]) -> Input:
    """The initial states of each direction; None for zeros, ONNX's default."""
    if all(isinstance(state, Constant) and not any(array.any() for array in state.arrays) for state in states):
        return None
    return g.joined([g.unsqueezed(state, 0) for state in states], 0)


def _functions(kind: str, options: Mapping[str, Any]) -> list[tuple[str, tuple[float, ...]] | None]:
    """The activation functions of a layer, as `in_onnx` returns them."""
    options = {**KINDS[kind].options, **options}
    return list(map(in_onnx, (options["nonlinearity"],) if "nonlinearity" in options else options["activations"]))


def _attributes(layer: _Layer, directions: int) -> dict[str, Any]:
    options = {**KINDS[layer.kind].options, **layer.options}
    attributes: dict[str, Any] = {}
    if "reset_after" in options:
        attributes["linear_before_reset"] = int(options["reset_after"])
    functions = [each for each in _functions(layer.kind, layer.options) if each is not None] * directions
    names = [name for name, _ in functions]
    if [name.lower() for name in names] != [*KINDS[layer.kind].onnx_activations] * directions:
        attributes["activations"] = names
        for k, attribute in enumerate(("activation_alpha", "activation_beta")):
            if found := [numbers[k] for _, numbers in functions if len(numbers) > k]:
                attributes[attribute] = found
    return attributes


# -- a step at a time --------------------------------------------------------------------------------------------------


def _scan(
    g: Graph, loop: Loop, T: Size, states: Sequence[Operand], lengths: Operand | None, reverse: bool
) -> list[str]:
    """Writes a scan, with its step as an inner graph."""
    if not loop.items:
        raise ValueError(
            "export_onnx: a step takes no element of a sequence; take one apart with tg.unbind before the steps, and "
            "use of its elements that of the step"
        )
    place, body = g.call.place or "step", g.inner()
    inputs = [body.input(value, "step") for value in (*loop.before, *loop.items)]
    sequences = [(g.name(unbound.arguments[0]), int(unbound.arguments[1])) for unbound in loop.items.values()]
    write(body, loop.calls)
    after: list[Input] = list(loop.after)
    out = after[0]
    if lengths is not None:  # outside of its length a sequence keeps its states, and its outputs are zeros
        mask = body.unique("going")
        inputs.append(helper.make_tensor_value_info(mask, TensorProto.BOOL, [None, 1]))
        sequences.append((_step_mask(g, lengths, T, None), 0))
        masks = [_of_rank(body, mask, len(old.shape)) for old in loop.before]
        after = [body.node("Where", *parts) for parts in zip(masks, after, loop.before, strict=True)]
        out = body.node("Where", masks[0], out, np.zeros((), loop.before[0].dtype))
    kinds = [*loop.before, loop.before[0]]
    outputs = [value_info(body.node("Identity", name), like) for name, like in zip([*after, out], kinds, strict=True)]
    *finals, outs = g.several(
        len(outputs),
        "Scan",
        *states,
        *(name for name, _ in sequences),
        node_name=g.unique(place),
        body=body.finished(place, inputs, outputs),
        num_scan_inputs=len(sequences),
        scan_input_axes=[dim for _, dim in sequences],
        scan_input_directions=[int(reverse)] * len(sequences),
        scan_output_directions=[int(reverse)],
    )
    return [outs, *finals]


def _of_rank(g: Graph, mask: str, rank: int) -> str:
    """A mask (B, 1) for states with this number of dimensions."""
    if rank == 2:
        return mask
    if rank == 1:
        return g.node("Squeeze", mask, np.array([1]))
    return g.node("Unsqueeze", mask, np.arange(2, rank))
