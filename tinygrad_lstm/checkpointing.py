"""Checkpoints: parts of a graph that keep nothing, and are run again when the walk reaches them."""

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

from tinygrad_lstm.backends.scoped import Scoped

from .device import default_device, get_device
from .graph import GraphNode, Node, Operation, next_number
from .mode import Switch, mode
from .random import noted_draws, repeated_draws

__all__ = ["checkpoint"]

R = TypeVar("R")

SURROUNDINGS = Scoped[tuple[Callable[[], AbstractContextManager[Any]], ...]]("surroundings of checkpoints", ())
"""Makers of the context managers in which checkpointed calls are to run again, outermost first."""


def checkpoint(function: Callable[..., R], *args: Any) -> R:
    """`function(*args)`, keeping nothing for the way back: the function runs again when its gradient is needed.

    Trades time for memory: a chain of n steps, checkpointed in runs of sqrt(n), needs O(sqrt(n)) of it. Random numbers
    repeat in the second run, whatever other threads draw. Checkpoints inside the function are part of it. Gradients
    of any order, and to tensors that the function reaches otherwise, are right.

    Raises:
        RuntimeError: when walked, if the second run does not record the same ops, or if a tensor that the function
            uses was changed in place since, by the function itself or after it.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor(0.5, requires_grad=True)
    >>> tg.checkpoint(lambda x: x.exp().sin(), x).backward()
    >>> round(x.grad.item(), 4)
    -0.1283
    """
    now = mode().value
    if now.region is not None or now.observer is not None:
        return function(*args)  # the call around this one keeps nothing either; or someone wants to see what is kept
    draws: list[Any] = []
    device, surroundings = get_device(), SURROUNDINGS.value

    def rerun() -> None:
        with repeated_draws(draws), default_device(device), ExitStack() as stack:
            for enter in surroundings:
                stack.enter_context(enter())
            function(*args)

    with Switch(region=_Region(rerun)), noted_draws(draws):
        return function(*args)


class _Region:
    """A checkpointed call: its nodes keep nothing, and get it back from a second run of the call when walked."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run
        self._begun = next_number()
        self._nodes: list[weakref.ref[GraphNode]] = []
        self._restored: dict[int, tuple[Any, Any, int]] = {}

    def admit(self, node: GraphNode) -> None:
        """Notes a node of the first run, and takes from it what it kept."""
        if isinstance(node, Node) and node.keeps:
            node.op, node.saved, node.out = _Replayed(node.op, self, len(self._nodes)), None, None
        self._nodes.append(weakref.ref(node))

    def check(self, name: str, inputs: Iterable[Any]) -> None:
        """Nothing: the first run may read what it will."""

    def restore(self, index: int) -> tuple[Any, Any, int]:
        """What the node of that index keeps: its arguments and its output, and when the second run kept them."""
        if index not in self._restored:
            replay = _Replay(self._begun)
            with Switch(recording=True, region=replay):
                self._run()
            self._adopt(replay.nodes)
            if (replayed := mode().value.replayed) is not None:
                replayed.append(self)
        return self._restored.pop(index)

    def forget(self) -> None:
        """Lets go of what the walk that is over did not ask for."""
        self._restored.clear()

    def _adopt(self, replayed: list[GraphNode]) -> None:
        originals = [reference() for reference in self._nodes]
        if len(originals) != len(replayed):
            raise RuntimeError(
                f"checkpoint: the function recorded {len(originals)} ops at first, but {len(replayed)} when run again; "
                "it must do the same each time it is called"
            )
        stands_for = {id(node): original for node, original in zip(replayed, originals, strict=True)}
        for index, (node, original) in enumerate(zip(replayed, originals, strict=True)):
            if original is None:
                continue
            if original.op.name != node.op.name:
                raise RuntimeError(
                    f"checkpoint: the function recorded op {original.op.name!r} at first, but {node.op.name!r} when "
                    "run again; it must do the same each time it is called"
                )
            if isinstance(node, Node) and node.keeps:
                _reroot(node.saved, stands_for)
                self._restored[index] = (node.saved, node.out, node.number)


class _Replayed:
    """The op of a checkpointed node: gives back what the node kept, for as long as its derivative is taken."""

    def __init__(self, op: Operation, region: _Region, index: int) -> None:
        self.name = op.name
        self.gives_own = op.gives_own
        self._op = op
        self._region = region
        self._index = index

    def pull(
        self, node: Any, g: Any, needed: set[GraphNode] | None, create_graph: bool
    ) -> Iterable[tuple[GraphNode, Any]]:
        node.saved, node.out, node.kept_at = self._region.restore(self._index)
        try:
            return self._op.pull(node, g, needed, create_graph)
        finally:
            node.saved, node.out = None, None


def _reroot(saved: Any, stands_for: dict[int, GraphNode | None]) -> None:
    """Lets the tensors of a second run continue the graph of the first."""
    for value in saved:
        if isinstance(value, list | tuple):
            _reroot(value, stands_for)
        elif (node := getattr(value, "_node", None)) is not None and stands_for.get(id(node)) is not None:
            value._node = stands_for[id(node)]


class _Replay:
    """Collects the nodes of the second run of a checkpointed call, whose first began at the time given."""

    def __init__(self, first_begun: int) -> None:
        self._first_begun = first_begun
        self._begun = next_number()
        self.nodes: list[GraphNode] = []

    def admit(self, node: GraphNode) -> None:
        """Notes a node of the second run."""
        self.nodes.append(node)

    def check(self, name: str, inputs: Iterable[Any]) -> None:
        """Raises if an op is given what was written to between the beginnings of the two runs."""
        for value in inputs:
            version = getattr(value, "_version", None)
            if version is not None and self._first_begun < version.written < self._begun:
                raise RuntimeError(
                    f"checkpoint: an input of shape {value.shape} of op {name!r} was changed in place since the call, "
                    "so that the function cannot be run again; change a .clone() instead"
                )
