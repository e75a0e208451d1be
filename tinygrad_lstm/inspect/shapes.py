"""The shapes and dtypes of the values in a graph, as far as its nodes record them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from .._tensor import Tensor
from ..graph import GraphNode, Leaf, Node, Pick
from ..ops.operation import Op

__all__ = ["Value", "inputs_of", "value_of"]

Shape = tuple[int, ...]


class Value(NamedTuple):
    """What is known of a value: its shape and dtype, or its number if it is a Python number."""

    shape: Shape | None = None
    dtype: Any = None
    number: float | None = None


def value_of(node: GraphNode) -> Value:
    """A node's value; nothing is known of a leaf that was freed, or of an op with several outputs."""
    if isinstance(node, Node):
        return Value() if node.parts else Value(node.shape, node.dtype)
    if isinstance(node, Pick):
        (made_by,) = node.parents
        return Value(*made_by.parts[node.index])  # type: ignore[union-attr]
    tensor = node.tensor() if isinstance(node, Leaf) else None
    return Value() if tensor is None else Value(tensor.shape, tensor.dtype)


def inputs_of(node: GraphNode) -> list[Value]:
    """The inputs of a node, including those that do not require a gradient."""
    noted = getattr(node, "shapes", None)
    known = isinstance(node, Node) and isinstance(node.op, Op)
    # None are recorded if all are equal to the output's shape.
    shapes: Sequence[Shape | None] = noted or [node.shape if known else None] * len(node.parents)  # type: ignore[attr-defined]
    return [
        _constant(kept, shape) if parent is None else value_of(parent)
        for parent, kept, shape in zip(node.parents, _saved(node), shapes, strict=True)
    ]


def _constant(kept: Any, shape: Shape | None) -> Value:
    if isinstance(kept, Tensor):
        return Value(kept.shape, kept.dtype)
    return Value(shape) if kept is None else Value((), None, kept)


def _saved(node: GraphNode) -> Sequence[Any]:
    """For each input of a node the tensor or number that was saved, or None."""
    nothing = [None] * len(node.parents)
    if not isinstance(node, Node) or not isinstance(node.op, Op) or node.saved is None:
        return nothing
    saved = [value for name, value in zip(node.op.names, node.saved) if name in node.op.inputs]
    return (saved[0] if node.op.sequence else saved) or nothing
