"""The values in an ONNX graph that are known from the file: constants, and what is computed from them.

Exporters store a layer's weights as initializers or Constant nodes, or compute them from these when the model runs,
with Slice, Concat, Unsqueeze and similar ops. These ops are evaluated (`evaluation`), in limited memory.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..errors import shown
from .evaluation import EVALUATED, KEEPING, NEEDED, Attributes, filling
from .protos import domain_of

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["Depends", "Filled", "Length", "Lengths", "Term", "Unknown", "Value", "Values", "results_of"]


class Depends(enum.IntEnum):
    """What of the model's inputs a tensor depends on."""

    NOTHING = 0
    LENGTHS = 1
    VALUES = 2


@dataclass(frozen=True)
class Unknown:
    """A tensor whose values the file does not determine: the reason, as it follows "a tensor that"."""

    reason: str


@dataclass(eq=False, slots=True)
class Term:
    """A named tensor in a graph.

    Attributes:
        name: its name.
        depends: what of the model's inputs it depends on.
        stored: the values if the file has them, or why they are not known; None for the output of a node.
        node, inputs, output: the node that computes it, the node's inputs (None for omitted ones), and the index of the
            output.
        read_as: its name among the file's arrays, if it was read.
    """

    name: str
    depends: Depends = Depends.NOTHING
    stored: HostArray | Unknown | None = None
    node: "NodeProto | None" = None
    inputs: "Sequence[Term | None]" = ()
    output: int = 0
    read_as: str | None = None


OF_SHAPES = ("Shape", "Size", "EyeLike", "RandomNormalLike", "RandomUniformLike")
"""The ops that use only the shapes of their inputs."""


def results_of(node: "NodeProto", inputs: Sequence[Term | None], depends: Depends = Depends.NOTHING) -> list[Term]:
    """The outputs of a node.

    Args:
        depends: what of the model's inputs the graphs within the node depend on.
    """
    depends = max(depends, max((term.depends for term in inputs if term is not None), default=Depends.NOTHING))
    if domain_of(node.domain) == "" and node.op_type in OF_SHAPES:
        depends = min(depends, Depends.LENGTHS)
    return [Term(name, depends, None, node, inputs, number) for number, name in enumerate(node.output)]


@dataclass(frozen=True)
class Length:
    """The length of a tensor along a dimension."""

    of: Term
    dim: int


@dataclass(frozen=True)
class Filled:
    """A tensor whose elements are all the same number; its shape depends on the model's inputs, or is not known."""

    number: float | Length


@dataclass(frozen=True)
class Lengths:
    """The lengths of a tensor, in a vector."""

    of: Term


Value: TypeAlias = HostArray | Filled | Lengths | Unknown


class _OutOfMemoryError(Exception):
    """Evaluated constants would take too much memory."""


@dataclass
class Values:
    """The values of terms, each computed once.

    Attributes:
        bytes_left: the memory that further results may take in total.
    """

    bytes_left: int
    _known: dict[Term, Value] = field(default_factory=dict)
    _numbers: dict[Term, float | Length | None] = field(default_factory=dict)
    _outputs: dict[int, Sequence[Value]] = field(default_factory=dict)  # by the identity of a node

    def of(self, term: Term) -> Value:
        """The value of a term. The traversal is iterative, since chains of nodes may be long."""
        pending = [term]
        while pending:
            each = pending[-1]
            if each in self._known:
                pending.pop()
            elif each.stored is not None:
                self._known[each] = each.stored
            elif each.depends == Depends.VALUES:
                self._known[each] = Unknown("depends on what the model is given")
            elif missing := [given for given in each.inputs if given is not None and given not in self._known]:
                pending += missing
            else:
                self._known[each] = self._computed(each)
        return self._known[term]

    def number(self, term: Term) -> float | Length | None:
        """The number that all elements of a term are; None if they differ, are not known, or there are none."""
        if term not in self._numbers:  # many nodes may take one large array
            value, number = self.of(term), None
            if isinstance(value, Filled):
                number = value.number
            elif isinstance(value, np.ndarray) and value.size and (value == value.flat[0]).all():
                number = value.flat[0].item()
            self._numbers[term] = number
        return self._numbers[term]

    def copied(self, term: Term) -> HostArray:
        """A writable copy of a term's array.

        Raises:
            ValueError: it would take too much memory.
        """
        array = self.of(term)
        assert isinstance(array, np.ndarray)
        try:
            self._take(array.nbytes)
        except _OutOfMemoryError as error:
            raise ValueError(str(error)) from error
        return array.copy()

    def _take(self, nbytes: int) -> None:
        self.bytes_left -= nbytes
        if self.bytes_left < 0:
            raise _OutOfMemoryError("takes too much memory, measured by the size of the file")

    def _computed(self, term: Term) -> Value:
        """The value of a node's output, whose inputs' values are known."""
        node = term.node
        assert node is not None
        if id(node) not in self._outputs:
            self._outputs[id(node)] = self._evaluated(node, term)
        outputs = self._outputs[id(node)]
        if term.output < len(outputs):
            return outputs[term.output]
        one_for_all = outputs[-1]
        return Unknown("no op returns") if isinstance(one_for_all, np.ndarray) else one_for_all

    def _evaluated(self, node: "NodeProto", term: Term) -> Sequence[Value]:
        """The values of the outputs of the term's node; one value for all if they are not known separately."""
        kind = node.op_type
        if domain_of(node.domain) or kind not in EVALUATED:
            return [Unknown(f"is made by the op {shown(kind)}, which is not evaluated")]
        inputs = [None if each is None else self._known[each] for each in term.inputs]
        try:
            attributes = _attributes(node)
            if any(each is None for each in inputs[: NEEDED[kind]]):
                raise ValueError("an input is left out")
            if all(each is None or isinstance(each, np.ndarray) for each in inputs):
                with np.errstate(all="ignore"):
                    made = EVALUATED[kind](self._take, attributes, *inputs)
                return made if isinstance(made, list) else [made]
            known_in_part = self._in_part(kind, attributes, term.inputs, inputs)
            unknown = next((each for each in inputs if isinstance(each, Unknown)), None)
            return [known_in_part or unknown or Unknown("depends on the lengths of what the model is given")]
        except (ArithmeticError, IndexError, MemoryError, TypeError, ValueError, _OutOfMemoryError) as error:
            return [Unknown(f"{shown(kind)} cannot make of the file's arrays: {shown(str(error))}")]

    def _in_part(
        self, kind: str, attributes: Attributes, terms: Sequence[Term | None], inputs: Sequence[Value | None]
    ) -> Value | None:
        """What is known of an output whose shape or values are not, such as if they depend on the inputs' lengths."""
        if kind == "Shape" and terms[0] is not None:
            return _lengths_at(terms[0], np.arange(_DIMENSIONS)[attributes.get("start", 0) : attributes.get("end")])
        if kind == "ConstantOfShape":
            return Filled(filling(attributes).item())
        if kind in ("Gather", "Slice") and isinstance(inputs[0], Lengths):
            if not all(each is None or isinstance(each, np.ndarray) for each in inputs[1:]):
                return None
            taken = EVALUATED[kind](lambda nbytes: None, attributes, np.arange(_DIMENSIONS), *inputs[1:])
            return _lengths_at(inputs[0].of, np.asarray(taken))
        if kind in KEEPING:
            first, *others = {
                None if each is None else self.number(each) for each in (terms if kind == "Concat" else terms[:1])
            }
            return None if first is None or others else Filled(first)
        return None


def _attributes(node: "NodeProto") -> dict[str, Any]:
    """A node's attributes for `evaluation`.

    Raises:
        ValueError: one is an attribute of the function that contains the node, or has no value.
    """
    from onnx import helper

    return {each.name: helper.get_attribute_value(each) for each in node.attribute} | {"outputs": len(node.output)}


_DIMENSIONS = 3
"""The number of dimensions of a recurrent layer's input, whose lengths are tracked."""


def _lengths_at(of: Term, dims: HostArray) -> Value | None:
    if dims.size == 1:
        return Filled(Length(of, dims.item()))
    return Lengths(of) if np.array_equal(dims, np.arange(_DIMENSIONS)) else None
