"""Sequences that were computed as one op, as the ops of their steps, for drawings."""

from bisect import bisect
from collections.abc import Sequence

from ..graph import GraphNode, Leaf, Node, Pick, ancestors
from ..kinds import kind_of_op
from ..mode import Switch
from ..ops.sequence import is_sequence, unrolled

__all__ = ["with_steps"]


def with_steps(result: GraphNode) -> tuple[list[GraphNode], dict[GraphNode, GraphNode]]:
    """The nodes behind a result, in the order in which they were made, with the ops of steps instead of sequences.

    The steps are computed again. A sequence whose operands are freed stays one op.

    Returns:
        The nodes; and for each output of a sequence, the node that is there instead.
    """
    instead: dict[GraphNode, GraphNode] = {}
    nodes = ancestors([result])
    for node in nodes:
        if isinstance(node, Node) and _is_unrolled(node) and node.saved is not None:
            outputs = _steps_of(node)
            for pick in nodes:
                if isinstance(pick, Pick) and pick.parents[0] is node and outputs[pick.index] is not None:
                    instead[pick] = outputs[pick.index]  # type: ignore[assignment]
    if not instead:
        return nodes[::-1], instead
    found: dict[GraphNode, None] = {}
    stack = [instead.get(result, result)]
    while stack:
        node = stack.pop()
        if node not in found:
            found[node] = None
            stack += [instead.get(parent, parent) for parent in node.parents if parent is not None]
    return sorted(found, key=lambda node: node.number), instead


def _is_unrolled(node: Node) -> bool:
    """Whether a node is a sequence, and not a plain layer, which is drawn as one op of its name."""
    return is_sequence(node.op) and kind_of_op(node.op.name) is None


def _steps_of(node: Node) -> list[GraphNode | None]:
    """The nodes of a sequence's outputs, computed step by step; None for an output that requires no gradient.

    They have the sequence's parents, and numbers between the sequence's and the next.
    """
    operands, step, reverse = node.saved
    given = [operand.detach() for operand in operands]
    for tensor, parent in zip(given, node.parents, strict=True):
        tensor.requires_grad = parent is not None
    with Switch(recording=True, anomaly=False, tracer=None):
        outputs = unrolled(step.traced.program, given, reverse)
    parents = {tensor._graph_node(): parent for tensor, parent in zip(given, node.parents) if parent is not None}
    ends = [output._node for output in outputs]
    own = [each for each in ancestors([end for end in ends if end is not None])[::-1] if not isinstance(each, Leaf)]
    _renumber(own, node.number)
    for each in own:
        each.parents = tuple(parents.get(parent, parent) if parent is not None else None for parent in each.parents)
    return [None if end is None else parents.get(end, end) for end in ends]


def _renumber(nodes: Sequence[GraphNode], number: float) -> None:
    """Gives nodes numbers between this one and the next."""
    before, share = [node.number for node in nodes], 1 / (len(nodes) + 1)
    for k, node in enumerate(nodes):
        node.number = number + (k + 1) * share  # type: ignore[assignment]
        if hasattr(node, "step"):
            loop, began = node.step
            node.step = loop, number + (bisect(before, began) + 0.5) * share  # type: ignore[assignment]
