"""The graph that operations record.

A `Node` is one recorded application of an op; its parents are the nodes that made the op's inputs. Nodes are numbered
in the order in which they are made, so decreasing numbers are a reverse topological order: walks need no recursion.
"""

import itertools
import linecache
import operator
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from tinygrad_lstm.backends import base

from .device import Device
from .mode import mode

_FLOORS = Path(base.__file__).parents[1]  # holds backends and models: the package once installed, or the checkout
OWN_CODE = tuple(f"{place}{os.sep}" for place in (Path(__file__).parent, _FLOORS / "backends", _FLOORS / "models"))

Parents = Sequence["GraphNode | None"]


class Derivative:
    """What a node does in a backward pass.

    By default it keeps and computes nothing. (The walk itself serves leaves and picks.)

    Attributes:
        op: the op whose derivative it is, or what stands in for one: `name` is how messages call it.
        keeps: whether its nodes hold arrays, which the walk lets go of.
        fresh: whether the gradients on arrays are arrays that nobody else holds.
    """

    op: Any
    keeps = fresh = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.op = self

    def pull(self, node: Any, g: Any, parents: Parents) -> Iterable[Any]:
        """The gradient for each parent, given that of the output: arrays. None where the parent is None."""
        return ()

    def pull_recorded(self, node: Any, g: Any, parents: Parents) -> Iterable[Any]:
        """The same on Tensors, which are part of a graph in turn."""
        return ()

    def only_for(self, parents: Parents) -> "Derivative":
        """The derivative for some of the parents; the others are None."""
        return self


_LEAF, _PICK = Derivative("leaf"), Derivative("pick")

_numbers = itertools.count()


sees_gradient: list[Callable[[Any], None]] = []
"""Called with a tensor before the library sets its `grad`, in any thread. Changed while `setting_gradient` is held."""

setting_gradient = threading.RLock()  # what is collected meanwhile may set one, too
if hasattr(os, "register_at_fork"):  # a fork while a different thread holds it would leave it held forever
    os.register_at_fork(
        before=setting_gradient.acquire,
        after_in_parent=setting_gradient.release,
        after_in_child=setting_gradient.release,
    )


def set_gradient(tensor: Any, gradient: Any) -> None:
    """Sets the `grad` of a tensor."""
    with setting_gradient:
        for see in sees_gradient:
            see(tensor)
        tensor.grad = gradient


def next_number() -> int:
    """The number of the next node, or the time of a write in place."""
    return next(_numbers)


@dataclass(slots=True)
class Extras:
    """What few nodes have.

    Attributes:
        hooks: functions of the gradient, called in the order of their numbers.
        origin: the line of the user's code that applied the op.
        version: when the output was written to.
        kept_at: when the node got what it keeps, if later than it was made.
        after_walk: called at the end of a walk over the node.
    """

    hooks: dict[float, Callable[[Any], Any]] = field(default_factory=dict)
    origin: str | None = None
    version: Any = None
    kept_at: int | None = None
    after_walk: Callable[[], None] | None = None


class GraphNode:
    """A place in the graph: a `Node`, a `Leaf` or a `Pick`."""

    __slots__ = ("__weakref__", "derivative", "device", "extras", "number", "parents", "step")

    step: tuple[int, int]  # set by `declare_step` only: the loop, and when the step began that made this node
    saved: Any = ()
    derivative: Derivative
    device: Device
    extras: Extras | None
    number: int
    parents: Parents

    @property
    def op(self) -> Any:
        """What made the node."""
        return self.derivative.op

    def with_extras(self) -> Extras:
        """The node's extras, made at first use."""
        if self.extras is None:
            self.extras = Extras()
        return self.extras

    def describe(self) -> str:
        """The op's name, and where it was called if that is known."""
        origin = self.extras and self.extras.origin
        return f"{self.op.name!r}" + (f" (called at {origin})" if origin else "")


class Node(GraphNode):
    """One recorded application of an op.

    Attributes:
        shape, dtype: those of the output; of an op with several outputs a tuple of each.
        saved: the arguments, without the tensors that no derivative rule asks for; None once freed.
        out: the output, or what a fused op saves instead, if a rule asks for it.
        shapes: those of the inputs, unless all are the output's.
    """

    __slots__ = ("dtype", "out", "saved", "shape", "shapes")

    shape: Any
    dtype: Any
    out: Any
    shapes: Any

    @property
    def parts(self) -> list[tuple[tuple[int, ...], Any]] | None:
        """The shape and dtype of each output, of an op with several."""
        return list(zip(self.shape, self.dtype)) if self.dtype.__class__ is tuple else None

    def input_shape(self, k: int) -> tuple[int, ...]:
        """The shape of input k."""
        shape: tuple[int, ...] = self.shape if self.shapes is None else self.shapes[k]
        return shape

    @property
    def kept_at(self) -> int:
        """When the node got what it keeps, which must not be written to since."""
        later = None if self.extras is None else self.extras.kept_at
        return self.number if later is None else later


_new = object.__new__


def record(
    derivative: Derivative,
    parents: Parents,
    device: Device,
    made: Any,
    saved: Sequence[Any] = (),
    out: Any = None,
    shapes: Sequence[tuple[int, ...]] | None = None,
) -> Node:
    """A new node, of an op that has `made` an array, or a tuple of several."""
    node = _new(Node)
    node.number = next(_numbers)
    node.derivative = derivative
    node.parents = parents
    node.device = device
    if made.__class__ is tuple:
        node.shape, node.dtype = tuple([part.shape for part in made]), tuple([part.dtype for part in made])
    else:
        node.shape, node.dtype = made.shape, made.dtype
    node.saved = saved
    node.out = out
    node.shapes = shapes
    node.extras = None
    return node


def watch(node: GraphNode) -> None:
    """Does with a new node what the current mode asks for."""
    now = mode().value
    if now.anomaly:
        node.with_extras().origin = user_line()
    if now.tracer is not None:
        now.tracer.see_node(node)


class Leaf(GraphNode):
    """The end of a path: a tensor that no op made, into which gradients flow."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Any) -> None:
        self.number = next(_numbers)
        self.derivative = _LEAF
        self.parents = ()
        self.device = tensor.device
        self.extras = None
        self.tensor = weakref.ref(tensor)


class Pick(GraphNode):
    """One of the outputs of an op that has several."""

    __slots__ = ("index",)

    def __init__(self, made_by: Node, index: int, device: Device) -> None:
        self.number = next(_numbers)
        self.derivative = _PICK
        self.parents = (made_by,)
        self.device = device
        self.extras = None
        self.index = index


def declare_step(loop: object, began: int, result: Any) -> None:
    """Notes that a step of a loop gave this result, for drawings: see `inspect.graph`.

    Args:
        loop: what runs again in each step, such as a module.
        began: the `next_number()` when the step began.
        result: a Tensor, or a tuple that begins with one; anything else is ignored.
    """
    while isinstance(result, tuple) and result:
        result = result[0]
    node = getattr(result, "_node", None)
    if node is not None and node.number > began:
        node.step = id(loop), began


def user_line(frame: FrameType | None = None) -> str:
    """The innermost line outside this package that led here, or to a frame, as `file:line: code`."""
    frame = sys._getframe() if frame is None else frame
    while frame.f_code.co_filename.startswith(OWN_CODE) and frame.f_back is not None:
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    return f"{file}:{line}: {linecache.getline(file, line, frame.f_globals).strip()}"


def ancestors(roots: Iterable[GraphNode]) -> list[GraphNode]:
    """All nodes from which the roots were made, each before its parents."""
    seen = set(roots)
    stack = list(seen)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=operator.attrgetter("number"), reverse=True)
