"""What an LSTM, GRU or RNN node of an ONNX file computes, or why it is not supported.

Reference: https://onnx.ai/onnx/operators/
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float, is_integer

from ...kinds import KINDS, Activation
from ..contents import FileLayer
from ..errors import shown
from .activations import is_known, of_node
from .constants import Depends, Filled, Length, Lengths, Term, Unknown, Values

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["NodeSettings", "WEIGHTS", "is_default", "layer_of", "settings_of"]

MOST_NAMED = 4  # the most attributes in one message
DIRECTIONS = ("forward", "reverse", "bidirectional")

INPUTS = ("X", "W", "R", "B", "sequence_lens")  # then the initial states and, if the kind has peepholes, P
WEIGHTS = ("W", "R", "B", "P")
INITIAL = "initial_"

# The attributes that a node may have, and the names of their types.
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


@dataclass(frozen=True)
class NodeSettings:
    """What the attributes of an LSTM, GRU or RNN node say.

    Attributes:
        kind: its name in `KINDS`.
        direction: "forward", "reverse" or "bidirectional".
        by_direction: the activation functions of each direction: f of the gates, g of the candidate, h of an LSTM's
            cell state.
        clip: the bound of the sums before activation functions; None for no bound.
        input_forget: whether the forget gate is 1 - the input gate.
        reset_after: whether a GRU's reset gate comes after the product with the recurrent weights.
        batch_first: whether inputs are (B, T, I).
        hidden_size: H, if the node has it.
        strange: in words, attributes that are unknown or invalid.
    """

    kind: str
    direction: str
    by_direction: tuple[tuple[Activation, ...], ...]
    clip: float | None
    input_forget: bool
    reset_after: bool
    batch_first: bool
    hidden_size: int | None
    strange: tuple[str, ...]

    @property
    def directions(self) -> int:
        """The number of directions."""
        return 2 if self.direction == "bidirectional" else 1

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of a node's inputs, in order."""
        table = KINDS[self.kind]
        return (*INPUTS, *(f"{INITIAL}{state}" for state in table.state_names), *("P",) * ("peephole" in table.options))

    @property
    def activations(self) -> tuple[Activation, ...] | None:
        """The activation functions of every direction; None if they differ."""
        first, *others = self.by_direction
        return None if any(other != first for other in others) else first


def settings_of(node: "NodeProto", kind: str) -> NodeSettings:
    """The settings of an LSTM, GRU or RNN node, or one with the same attributes."""
    table = KINDS[kind]
    attributes, strange = _attributes(node)
    direction = _text(attributes.get("direction", b"forward"))
    if direction not in DIRECTIONS:
        strange.append(f"the direction {shown(direction)}")
    layout = attributes.get("layout", 0)
    if layout not in (0, 1):
        strange.append(f"the layout {layout}")
    directions = 2 if direction == "bidirectional" else 1
    names = [_text(name).lower() for name in attributes.get("activations", ())]
    names = names or [*table.onnx_activations] * directions
    each = len(table.onnx_activations)
    if len(names) != each * directions or not all(map(is_known, names)):
        strange.append(f"the activations {shown(', '.join(names))}")
        names = [*table.onnx_activations] * directions
    activations, incomplete = of_node(
        names, attributes.get("activation_alpha", ()), attributes.get("activation_beta", ())
    )
    strange += [f"the activation {name} without alpha or beta" for name in incomplete]
    return NodeSettings(
        kind,
        direction,
        tuple(activations[start : start + each] for start in range(0, len(activations), each)),
        attributes.get("clip") or None,
        bool(attributes.get("input_forget")),
        "reset_after" not in table.options or bool(attributes.get("linear_before_reset")),
        layout == 1,
        attributes.get("hidden_size"),
        tuple(strange),
    )


def layer_of(
    node: "NodeProto", inputs: "Sequence[Term | None]", values: Values, read: Callable[[Term], str]
) -> FileLayer:
    """The layer of a node.

    States and lengths that depend on the model's inputs are arguments of a network's call, so they are ignored.

    Args:
        node: an LSTM, GRU or RNN node.
        inputs: the node's inputs, None for omitted ones.
        values: the values of the file's terms.
        read: adds a term to the file's arrays, and returns its name among them; or raises a ValueError.
    """
    settings = settings_of(node, node.op_type)
    unsupported = [*settings.strange]
    given = {role: term for role, term in zip(settings.inputs, inputs, strict=False) if term is not None}
    if any(inputs[len(settings.inputs) :]):
        unsupported.append("more inputs than such a node has")
    roles, unknown = _weights(given, values, read)
    unsupported += unknown
    table, activations = KINDS[settings.kind], settings.activations
    relu = "nonlinearity" in table.options and activations == ("relu",)
    if activations is None:
        unsupported.append(f"activations that differ by direction: {' and '.join(map(str, settings.by_direction))}")
    if settings.clip is not None:
        unsupported.append(f"sums clipped at {settings.clip:g}")
    if settings.input_forget:
        unsupported.append("coupled input and forget gates")
    if settings.hidden_size is not None and "R" in roles:
        shape = np.shape(values.of(given["R"]))  # type: ignore[arg-type]
        if shape[-1:] != (settings.hidden_size,):
            unsupported.append(f"a hidden_size of {settings.hidden_size} beside an R of shape {shape}")
    return FileLayer(
        settings.kind,
        "onnx",
        [roles],
        reverse=settings.direction == "reverse",
        bidirectional=settings.directions == 2,
        reset_after=settings.reset_after,
        nonlinearity="relu" if relu else "tanh",
        activations=() if relu or activations in (None, table.onnx_activations) else activations,
        batch_first=settings.batch_first,
        unsupported=[*unsupported, *_fixed_inputs(given, values, 1 if settings.batch_first else 0)],
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


def is_default(role: str, given: Mapping[str, Term], values: Values, batch_first: bool) -> bool:
    """Whether the lengths or an initial state of a node are known to be a network's defaults: all steps, or zeros."""
    term = given[role]
    if term.depends == Depends.VALUES:
        return False
    time = 1 if batch_first else 0
    allowed = _ZEROS if role.startswith(INITIAL) else Filled(Length(given["X"], time))
    return not _fixed(term, allowed, values)


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
