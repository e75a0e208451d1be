"""The graph that operations record.

A `Node` is one recorded application of an op; its parents are the nodes that made the op's inputs. Nodes are numbered
in the order in which they are made, so decreasing numbers are a reverse topological order: walks need no recursion.
"""

import itertools
import linecache
import operator
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tinygrad_lstm.backends import base

from .device import Device
from .mode import mode

if TYPE_CHECKING:
    from ._tensor import Tensor

_FLOORS = Path(base.__file__).parents[1]  # holds backends and models: the package once installed, or the checkout
_OWN_CODE = tuple(f"{place}{os.sep}" for place in (Path(__file__).parent, _FLOORS / "backends", _FLOORS / "models"))


class Version:
    """When an array that a tensor shares with its views was last written to, in node numbers.

    Attributes:
        written: the last time at all.
        recorded: the last time with the graph noting it, after which older views are out of date.
        maker: the node whose output the array is, if any: it is told, since it may have kept it.
        in_graph: whether one of the tensors requires a gradient, or did: arrays handed out are read-only then.
    """

    __slots__ = ("in_graph", "maker", "recorded", "written")

    def __init__(self, maker: "GraphNode | None", in_graph: bool = True) -> None:
        self.maker = maker
        self.in_graph = in_graph
        self.written = -1
        self.recorded = -1


class Operation(Protocol):
    """What made a node: gives the gradients of a node's inputs from that of its output.

    Attributes:
        name: the op's name in messages.
        gives_own: whether the gradients are arrays that nobody else holds.
    """

    name: str
    gives_own: bool

    def pull(
        self, node: Any, g: Any, needed: "set[GraphNode] | None", create_graph: bool
    ) -> "Iterable[tuple[GraphNode, Any]]":
        """The node of each input that gradients go on to, with its gradient."""


_numbers = itertools.count()


def next_number() -> int:
    """The number of the next node, or the time of a write in place."""
    return next(_numbers)


class GraphNode:
    """A place in the graph: a `Node`, or one of the two kinds that the walk serves itself, a `Leaf` or a `Pick`."""

    __slots__ = ("__weakref__", "device", "hooks", "number", "op", "origin", "parents", "step")

    step: tuple[int, int]  # set by `declare_step` only: the loop, and when the step began that made this node

    hooks: dict[float, Callable[[Any], Any]] | None
    keeps = False  # whether it holds arrays, which are freed once walked
    freed = False

    def __init__(self, op: Operation, parents: "Sequence[GraphNode | None]", device: Device) -> None:
        self.op = op
        self.parents = parents
        self.device = device
        self.hooks = None
        self.origin: str | None = None
        self.number = next(_numbers)

    def describe(self) -> str:
        """The op's name, and where it was called if that is known."""
        return f"{self.op.name!r}" + (f" (called at {self.origin})" if self.origin else "")


def declare_step(loop: object, began: int, result: Any) -> None:
    """Notes that a step of a loop gave this result, for drawings: see `inspect.graph`.

    Args:
        loop: what runs again in each step, such as a module.
        began: the `next_number()` when the step began.
        result: a Tensor, or a tuple that begins with one; anything else is ignored.
    """
    try:
        node = result._node
    except AttributeError:
        if isinstance(result, tuple) and result:
            declare_step(loop, began, result[0])
        return
    if node is not None and node.number > began:
        node.step = id(loop), began


def watch(node: GraphNode) -> None:
    """Does with a new node what the current mode asks for."""
    now = mode().value
    if now.anomaly:
        node.origin = user_line()
    if now.region is not None:
        now.region.admit(node)


class Node(GraphNode):
    """One recorded application of an op.

    Attributes:
        shape, dtype: those of the output that was `made`, of an op that has one.
        parts: the shape and dtype of each output, of an op that has several.
        plan: what the op notes for all applications of this kind.
        saved: the arguments, without the tensors that no derivative rule asks for.
        out: the output, if a rule asks for it; with its `version`, once someone writes to it or a walk records it.
        shapes: those of the inputs, if they are needed.
        kept_at: when it got what it keeps, which must not be written to since: as it was made, or in a checkpoint's
            second run.
    """

    shape: tuple[int, ...] | None
    parts: list[tuple[tuple[int, ...], Any]] | None

    __slots__ = ("dtype", "freed", "keeps", "kept_at", "out", "parts", "plan", "saved", "shape", "shapes", "version")

    def __init__(
        self,
        op: Operation,
        parents: Sequence[GraphNode | None],
        device: Device,
        made: Any,
        plan: Any = None,
        saved: Any = (),
        out: Any = None,
        shapes: Any = None,
    ) -> None:
        GraphNode.__init__(self, op, parents, device)
        if made.__class__ is tuple:
            self.shape, self.dtype = None, None
            self.parts = [(part.shape, part.dtype) for part in made]
        else:
            self.shape, self.dtype = made.shape, made.dtype
            self.parts = None
        self.plan = plan
        self.saved = saved
        self.out = out
        self.shapes = shapes
        self.kept_at = self.number
        self.keeps = plan is not None and plan.keeps
        self.freed = False
        self.version: Version | None = None

    def output_version(self) -> Version:
        """When the output was last written to."""
        if self.version is None:
            self.version = Version(None)
        return self.version


class Leaf(GraphNode):
    """The end of a path: a tensor that no op made, into which gradients flow."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: "Tensor") -> None:
        super().__init__(LEAF, (), tensor.device)
        self.tensor = weakref.ref(tensor)


class Pick(GraphNode):
    """One of the outputs of an op that has several."""

    __slots__ = ("index",)

    def __init__(self, made_by: Node, index: int) -> None:
        GraphNode.__init__(self, PICK, (made_by,), made_by.device)
        self.index = index


class _WithoutRule:
    """Stands for the op of nodes that the walk itself serves."""

    gives_own = False

    def __init__(self, name: str) -> None:
        self.name = name

    def pull(
        self, node: Any, g: Any, needed: set[GraphNode] | None, create_graph: bool
    ) -> Iterable[tuple[GraphNode, Any]]:
        """Nothing: the walk hands the gradient on."""
        return ()


LEAF, PICK = _WithoutRule("leaf"), _WithoutRule("pick")


def user_line() -> str:
    """The innermost line outside this package that led here, as `file:line: code`."""
    frame = sys._getframe()
    while frame.f_code.co_filename.startswith(_OWN_CODE) and frame.f_back is not None:
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
