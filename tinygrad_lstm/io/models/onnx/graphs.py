"""The structure of ONNX graphs: the order of nodes, names in nested graphs, attributes, and functions.

Reference: onnx.proto.
"""

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from ...errors import ContentError, shown
from ...onnx.constants import Term
from ...onnx.protos import domain_of, subgraphs
from ...onnx.tensors import array_of

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto

__all__ = ["Frame", "attribute_value", "label", "ordered", "resolved", "title_of"]

MOST_NESTED = 100
MOST_NAMED = 8  # the most names in one message

Scope: TypeAlias = ChainMap[str, Term | None]
"""The values of a graph by their names in the file, and those of the graphs around it; None for a function's input that
is left out."""


@dataclass(frozen=True)
class Frame:
    """Where nodes are: in a graph, or in a function that a node calls.

    Attributes:
        scope: the values that nodes can use.
        opsets: the version of the operators of each domain.
        attributes: those that the function is called with, by name.
        calls: the functions around it, the outermost first.
        depth: the number of graphs and functions around it.
    """

    scope: Scope
    opsets: Mapping[str, int]
    attributes: "Mapping[str, AttributeProto]" = field(default_factory=dict)
    calls: tuple[str, ...] = ()
    depth: int = 0

    def inner(self) -> "Frame":
        """The frame of a graph within a node.

        Raises:
            ContentError: the graphs are nested too deeply.
        """
        return self._deeper(Frame(self.scope.new_child(), self.opsets, self.attributes, self.calls, self.depth + 1))

    def called(
        self, function: "FunctionProto", given: "Mapping[str, Term | None]", attributes: "Mapping[str, AttributeProto]"
    ) -> "Frame":
        """The frame of a function's nodes.

        Raises:
            ContentError: functions are nested too deeply, or the function calls itself.
        """
        name = label(function.domain, function.name)
        if name in self.calls:
            raise ContentError(f"the function {shown(name)} calls itself")
        opsets = {domain_of(each.domain): each.version for each in function.opset_import}
        defaults = {each.name: each for each in function.attribute_proto}
        return self._deeper(
            Frame(
                ChainMap(dict(given)),
                {**self.opsets, **opsets},
                {**defaults, **attributes},
                (*self.calls, name),
                self.depth + 1,
            )
        )

    @staticmethod
    def _deeper(frame: "Frame") -> "Frame":
        if frame.depth > MOST_NESTED:
            raise ContentError(f"graphs and functions are nested more than {MOST_NESTED} deep")
        return frame


def label(domain: str, op: str) -> str:
    """The name of an op with its domain, if it is not ONNX's own."""
    domain = domain_of(domain)
    return f"{domain}.{op}" if domain else op


def _needs(node: "NodeProto") -> set[str]:
    """The names that a node uses, also those that graphs within it take from outside."""
    needed = set(node.input)
    for graph in subgraphs(node):
        needed |= _free(graph)
    return needed - {""}


def _free(graph: "GraphProto") -> set[str]:
    """The names that a graph takes from outside."""
    own = {each.name for each in (*graph.input, *graph.initializer)}
    used = {each.name for each in graph.output}
    for node in graph.node:
        own.update(node.output)
        used |= _needs(node)
    return used - own


def ordered(
    nodes: "Sequence[NodeProto]", known: Mapping[str, Any], outputs: Iterable[str], where: str = "the graph"
) -> "list[NodeProto]":
    """The nodes that outputs depend on, in an order in which each uses only results of earlier ones: the file's, if
    possible.

    Args:
        nodes: in any order.
        known: the values from outside, by name.
        outputs: the names of the outputs.
        where: what has the nodes, for messages.

    Raises:
        ContentError: two nodes compute a value, values are missing, or nodes depend on each other in a cycle.
    """
    makers: dict[str, int] = {}
    for number, node in enumerate(nodes):
        for name in node.output:
            if name and makers.setdefault(name, number) != number:
                raise ContentError(f"two nodes have the output {shown(name)}")
    needs: dict[int, list[int]] = {}
    missing: dict[str, str] = {}

    def makers_of(names: Iterable[str], user: str) -> list[int]:
        for name in names:
            if name not in makers and name not in known:
                missing.setdefault(name, user)
        return sorted({makers[name] for name in names if name in makers})

    found: list[int] = []
    open_, done = set[int](), set[int]()
    pending = makers_of(list(outputs), "an output")[::-1]
    while pending:
        number = pending[-1]
        if number in done:
            pending.pop()
        elif number in open_:
            open_.remove(number)
            done.add(number)
            found.append(pending.pop())
        else:
            open_.add(number)
            needs[number] = makers_of(sorted(_needs(nodes[number])), title_of(nodes[number]))
            for needed in needs[number]:
                if needed in open_:
                    raise ContentError(f"a cycle: {title_of(nodes[needed])} depends on its own results")
            pending += [needed for needed in needs[number] if needed not in done]
    if missing:
        named = ", ".join(f"{shown(name)} (of {user})" for name, user in list(missing.items())[:MOST_NAMED])
        more = f", and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        raise ContentError(f"{where} uses tensors that are not there: {named}{more}")
    if all(needed < number for number, own in needs.items() for needed in own):
        found.sort()
    return [nodes[number] for number in found]


def title_of(node: "NodeProto") -> str:
    name = node.name or next(filter(None, node.output), "")
    return f"the node {shown(name)}" if name else f"a node {shown(node.op_type)}"


def resolved(node: "NodeProto", given: "Mapping[str, AttributeProto]") -> "NodeProto":
    """A node of a function, with the attributes that the function is called with."""
    if not any(each.ref_attr_name for each in node.attribute):
        return node
    from onnx import NodeProto

    whole = NodeProto()
    whole.CopyFrom(node)
    del whole.attribute[:]
    for each in node.attribute:
        source = given.get(each.ref_attr_name) if each.ref_attr_name else each
        if source is not None:
            whole.attribute.add().CopyFrom(source)
            whole.attribute[-1].name = each.name
    return whole


def attribute_value(attribute: "AttributeProto") -> Any:
    """The value of an attribute: a number, a string, a list of these, an array, or a graph.

    Raises:
        ContentError: it is damaged, or is of a type that ops here do not have.
    """
    match attribute.type:
        case attribute.FLOAT:
            return attribute.f
        case attribute.INT:
            return attribute.i
        case attribute.STRING:
            return _decoded(attribute.name, attribute.s)
        case attribute.TENSOR:
            return array_of(attribute.name, attribute.t)
        case attribute.FLOATS:
            return list(attribute.floats)
        case attribute.INTS:
            return list(attribute.ints)
        case attribute.STRINGS:
            return [_decoded(attribute.name, each) for each in attribute.strings]
        case attribute.GRAPH:
            return attribute.g
        case attribute.TYPE_PROTO:
            return attribute.tp
    raise ContentError(f"the attribute {shown(attribute.name)} is of a type that is not supported")


def _decoded(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ContentError(f"the attribute {shown(name)} is not UTF-8") from error
