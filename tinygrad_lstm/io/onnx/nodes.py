"""What an LSTM, GRU or RNN node of an ONNX file computes, or why it is not supported.

Reference: https://onnx.ai/onnx/operators/
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float, is_integer

from ...kinds import KINDS
from ..contents import FileLayer
from ..errors import shown
from .constants import Depends, Filled, Length, Lengths, Term, Unknown, Values

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["layer_of"]

MOST_NAMED = 4  # the most attributes in one message
DIRECTIONS = ("forward", "reverse", "bidirectional")

INPUTS = ("X", "W", "R", "B", "sequence_lens")  # then the initial states and, if the kind has peepholes, P
WEIGHTS = ("W", "R", "B", "P")
INITIAL = "initial_"

# The attributes that a node may have, and the names of their types. The activations here ignore activation_alpha and
# activation_beta.
ATTRIBUTES = {
    "activation_alpha": "FLOATS",
    "activation_beta": "FLOATS",
    "activations": "STRINGS",
    "clip": "FLOAT",
    "direction": "STRING",
    "hidden_size": "INT",
    "input_forget": "INT",
    "layout": "INT",
    "linear_before_reset": "INT",
    "output_sequence": "INT",  # in old versions, whether all steps are an output: a network always returns them
}


def layer_of(
    kind: str, node: "NodeProto", inputs: "Sequence[Term | None]", values: Values, read: Callable[[Term], str]
) -> FileLayer:
    """The layer of a node.

    States and lengths that depend on the model's inputs are arguments of a network's call, so they are ignored.

    Args:
        kind: the node's kind.
        inputs: the node's inputs, None for omitted ones.
        values: the values of the file's terms.
        read: adds a term to the file's arrays, and returns its name among them; or raises a ValueError.
    """
    table = KINDS[kind]
    known = (*INPUTS, *(f"{INITIAL}{state}" for state in table.state_names), *("P",) * ("peephole" in table.options))
    given = {role: term for role, term in zip(known, inputs, strict=False) if term is not None}
    attributes, unsupported = _attributes(node)
    if any(inputs[len(known) :]):
        unsupported.append("more inputs than such a node has")
    roles, unknown = _weights(given, values, read)
    unsupported += unknown
    direction = _text(attributes.get("direction", b"forward"))
    if direction not in DIRECTIONS:
        unsupported.append(f"the direction {shown(direction)}")
    bidirectional = direction == "bidirectional"
    standard = [*table.onnx_activations] * (1 + bidirectional)
    activations = [_text(name).lower() for name in attributes.get("activations", ())] or standard
    relu = "nonlinearity" in table.options and activations == ["relu"] * (1 + bidirectional)
    if not relu and activations != standard:
        unsupported.append(f"the activations {shown(', '.join(activations))}")
    if "clip" in attributes:
        unsupported.append(f"sums clipped at {attributes['clip']:g}")
    if attributes.get("input_forget"):
        unsupported.append("coupled input and forget gates")
    if "hidden_size" in attributes and "R" in roles:
        shape = np.shape(values.of(given["R"]))  # type: ignore[arg-type]
        if shape[-1:] != (attributes["hidden_size"],):
            unsupported.append(f"a hidden_size of {attributes['hidden_size']} beside an R of shape {shape}")
    layout = attributes.get("layout", 0)
    if layout not in (0, 1):
        unsupported.append(f"the layout {layout}")
    batch_first = layout == 1
    return FileLayer(
        kind,
        "onnx",
        [roles],
        reverse=direction == "reverse",
        bidirectional=bidirectional,
        reset_after="reset_after" not in table.options or bool(attributes.get("linear_before_reset")),
        nonlinearity="relu" if relu else "tanh",
        batch_first=batch_first,
        unsupported=[*unsupported, *_fixed_inputs(given, values, 1 if batch_first else 0)],
    )


def _weights(
    given: Mapping[str, Term], values: Values, read: Callable[[Term], str]
) -> tuple[dict[str, str], list[str]]:
    """The names of a node's weights by role, and, in words, those that the file does not contain."""
    roles: dict[str, str] = {}
    unknown = []
    for role in WEIGHTS:
        if role not in given:
            continue
        value = values.of(given[role])
        try:
            if isinstance(value, np.ndarray):
                roles[role] = read(given[role])
                continue
            reason = value.reason if isinstance(value, Unknown) else "has a shape that the file does not determine"
        except ValueError as error:
            reason = str(error)
        unknown.append(f"{'an' if role == 'R' else 'a'} {role} that {reason}")
    return roles, unknown


def _fixed_inputs(given: Mapping[str, Term], values: Values, time: int) -> Iterator[str]:
    """In words, the states and lengths that the file fixes and that are not a network's defaults.

    Args:
        time: the time dimension of the node's input.
    """
    all_steps = Filled(Length(given["X"], time)) if "X" in given else None
    states = [role for role in given if role.startswith(INITIAL)]
    for role, allowed in {"sequence_lens": all_steps, **dict.fromkeys(states, _ZEROS)}.items():
        if role in given and (reason := _fixed(given[role], allowed, values)):
            yield f"{role} {reason}"


_ZEROS = Filled(0)


def _fixed(term: Term, allowed: Filled | None, values: Values) -> str:
    """Describes an input that the file fixes and that a network's call would need as an argument; or "".

    Args:
        allowed: the network's default values.
    """
    if term.depends == Depends.VALUES:
        return ""
    value = values.of(term)
    zeros = values.number(term) == 0 or (isinstance(value, np.ndarray) and not value.size)
    if zeros if allowed is _ZEROS else isinstance(value, Filled) and value == allowed:
        return ""
    fixed = value.reason if isinstance(value, Unknown) else f"the file fixes to {_summary(value)}"
    return (
        f"that {fixed} ({shown(term.name)}; make the network from only the arrays W, R and B, and pass these values "
        "in each call)"
    )


def _summary(value: Filled | Lengths | HostArray) -> str:
    """A short description of a tensor."""
    if isinstance(value, Lengths):
        return "the lengths of a tensor"
    if isinstance(value, Filled):
        return "the length of a tensor" if isinstance(value.number, Length) else f"{value.number:g} everywhere"
    numeric = is_float(value.dtype) or is_integer(value.dtype)
    range_ = f", from {value.min():g} to {value.max():g}" if value.size and numeric else ""
    return f"{value.dtype} of shape {value.shape}{range_}"


def _attributes(node: "NodeProto") -> tuple[dict[str, Any], list[str]]:
    """A node's attributes by name and, in words, those that are unknown or of a wrong type."""
    from onnx import AttributeProto, helper

    attributes: dict[str, Any] = {}
    strange = []
    for each in node.attribute:
        kind = AttributeProto.AttributeType.Name(each.type)
        if each.ref_attr_name:
            strange.append(f"the attribute {shown(each.name)} of the function that it is in")
        elif ATTRIBUTES.get(each.name) != kind or each.name in attributes:
            strange.append(f"the attribute {shown(each.name)} of type {kind}")
        else:
            attributes[each.name] = helper.get_attribute_value(each)
    return attributes, strange[:MOST_NAMED]


def _text(text: bytes) -> str:
    return text.decode(errors="replace")
