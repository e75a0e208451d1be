"""Checkpoints: parts of a graph that keep nothing, and are run again when the walk reaches them."""

import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

from tinygrad_lstm.backends.scoped import Scoped

from .device import default_device, get_device
from .graph import Derivative, GraphNode, Node, Parents, next_number
from .mode import Switch, Tracer, mode
from .random import noted_draws, repeated_draws

__all__ = ["checkpoint"]

R = TypeVar("R")

SURROUNDINGS = Scoped[tuple[Callable[[], AbstractContextManager[Any]], ...]]("surroundings of checkpoints", ())
"""Makers of the context managers in which checkpointed calls are to run again, outermost first."""


def checkpoint(function: Callable[..., R], *args: Any) -> R:
    """`function(*args)`, without keeping what its gradient needs: the function runs again for that.

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
    if mode().value.tracer is not None:
        return function(*args)  # the call around this one keeps nothing either; or someone wants to see what is kept
    draws: list[Any] = []
    device, surroundings = get_device(), SURROUNDINGS.value

    def rerun() -> None:
        with repeated_draws(draws), default_device(device), ExitStack() as stack:
            for enter in surroundings:
                stack.enter_context(enter())
            function(*args)

    with Switch(tracer=_FirstRun(rerun)), noted_draws(draws):
        return function(*args)


class _FirstRun(Tracer):
    """A checkpointed call: its nodes keep nothing, and get it back from a second run of the call when walked."""

    sees_steps = False

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run
        self._begun = next_number()
        self._nodes: list[weakref.ref[GraphNode]] = []
        self._restored: dict[int, tuple[Any, Any, int]] = {}

    def see_node(self, node: GraphNode) -> None:
        """Notes a node of the first run, and takes from it what it kept."""
        if isinstance(node, Node) and node.derivative.keeps:
            node.derivative = _Restoring(node.derivative, self, len(self._nodes))
            node.saved, node.out = (), None
            node.with_extras().after_walk = self.forget
        self._nodes.append(weakref.ref(node))

    def restore(self, node: Node, index: int) -> None:
        """Gives the node of that index what it keeps, from the second run."""
        if index not in self._restored:
            replay = _SecondRun(self._begun)
            with Switch(recording=True, tracer=replay):
                self._run()
            self._adopt(replay.nodes)
        node.saved, node.out, node.with_extras().kept_at = self._restored.pop(index)

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
            if isinstance(node, Node) and node.derivative.keeps:
                _reroot(node.saved, stands_for)
                self._restored[index] = (node.saved, node.out, node.number)


class _Restoring(Derivative):
    """The derivative of a checkpointed node: gives back what the node kept, for as long as it is taken."""

    keeps = True

    def __init__(self, derivative: Derivative, run: _FirstRun, index: int) -> None:
        self.op = derivative.op
        self.fresh = derivative.fresh
        self._derivative = derivative
        self._first_run = run
        self._index = index

    def pull(self, node: Node, g: Any, parents: Parents) -> Iterable[Any]:
        """The gradients of the derivative that keeps something, on arrays."""
        return self._restored(self._derivative.pull, node, g, parents)

    def pull_recorded(self, node: Node, g: Any, parents: Parents) -> Iterable[Any]:
        """The same, as part of a graph."""
        return self._restored(self._derivative.pull_recorded, node, g, parents)

    def _restored(self, pull: Callable[..., Iterable[Any]], node: Node, g: Any, parents: Parents) -> Iterable[Any]:
        self._first_run.restore(node, self._index)
        try:
            return pull(node, g, parents)
        finally:
            node.saved, node.out = (), None

    def only_for(self, parents: Parents) -> "_Restoring":
        """The same, for some of the parents."""
        return _Restoring(self._derivative.only_for(parents), self._first_run, self._index)


def _reroot(saved: Any, stands_for: dict[int, GraphNode | None]) -> None:
    """Lets the tensors of a second run continue the graph of the first."""
    for value in saved:
        if isinstance(value, list | tuple):
            _reroot(value, stands_for)
        elif (node := getattr(value, "_node", None)) is not None and stands_for.get(id(node)) is not None:
            value._node = stands_for[id(node)]


class _SecondRun(Tracer):
    """Collects the nodes of the second run of a checkpointed call, whose first began at the time given."""

    sees_steps = False

    def __init__(self, first_begun: int) -> None:
        self._first_begun = first_begun
        self._begun = next_number()
        self.nodes: list[GraphNode] = []

    def see_node(self, node: GraphNode) -> None:
        """Notes a node of the second run."""
        self.nodes.append(node)

    def see_op(self, op: Any, arguments: Sequence[Any], result: Any) -> None:
        """Raises if an op is given what was written to between the beginnings of the two runs."""
        for argument in arguments:
            for value in argument if isinstance(argument, list) else (argument,):
                version = getattr(value, "_version", None)
                if version is not None and self._first_begun < version.written < self._begun:
                    raise RuntimeError(
                        f"checkpoint: an input of shape {value.shape} of op {op.name!r} was changed in place since the "
                        "call, so that the function cannot be run again; change a .clone() instead"
                    )
