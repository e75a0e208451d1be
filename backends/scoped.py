"""Values that `with` blocks change for a thread or an asyncio task, however the blocks overlap."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Generic, TypeVar

__all__ = ["Block", "Scoped"]

T = TypeVar("T")


class Layer(Generic[T]):
    """The value within a block, on top of the layer of the block around it; the lowest is on top of itself."""

    __slots__ = ("__weakref__", "below", "block", "value")

    def __init__(self, below: "Layer[T] | None", block: "Block[T]", value: T) -> None:
        self.below = self if below is None else below
        self.block = block
        self.value = value


class Block(Generic[T]):
    """A `with` block that was entered.

    Attributes:
        change: gives the value within the block, from that outside it.
        token: resets the variable, but only in the context in which the block was entered.
        ended: whether the block was left in another context than its own.
    """

    __slots__ = ("change", "ended", "token")

    def __init__(self, change: Callable[[T], T]) -> None:
        self.change = change
        self.token: Token[Layer[T]]
        self.ended = False


class Scoped(Generic[T]):
    """A value of the current thread or asyncio task, which `with` blocks change.

    A block that is left takes back its own change and no other, so blocks may end in any order, as those in generators
    do. A task begins with the blocks in which it was created, and keeps them; a thread begins with none. A block that
    is left in another context than its own, as when the event loop closes an asynchronous generator, ends everywhere.

    Args:
        name: for debuggers.
        default: the value outside all blocks.

    Attributes:
        top: returns the current layer, whose `value` is the current value: the quickest way to read it.
    """

    def __init__(self, name: str, default: T) -> None:
        lowest = Layer(None, Block[T](lambda value: value), default)
        self._variable: ContextVar[Layer[T]] = ContextVar(name, default=lowest)
        self._layers: set[weakref.ref[Layer[T]]] = set()  # all that are in use, in any context
        self.top = self._variable.get

    @property
    def value(self) -> T:
        """The current value."""
        return self.top().value

    @contextmanager
    def set_to(self, value: T) -> Iterator[None]:
        """Within it, this is the value."""
        block = self.enter(lambda _: value)
        try:
            yield
        finally:
            self.leave(block)

    def enter(self, change: Callable[[T], T]) -> Block[T]:
        """Begins a block, which the caller has to `leave`."""
        below = self.top()
        while below.block.ended:
            below = below.below
        block = Block(change)
        block.token = self._variable.set(self._layer(below, block))
        return block

    def leave(self, block: Block[T]) -> None:
        """Ends a block."""
        top, token = self.top(), block.token
        del block.token  # which refers to the context, and so to the block
        try:
            self._variable.reset(token)
        except ValueError:  # this is another context than the block's
            self._end_everywhere(block)
            return
        # Now the variable is as before the block; but other blocks may have been entered or left since.
        rest = top.below if top.block is block else self._without(top, block)
        if self.top() is not rest:
            self._variable.set(rest)

    def is_within(self, block: Block[T]) -> bool:
        """Whether the current context is within the block."""
        layer = self.top()
        while layer.block is not block and layer.below is not layer:
            layer = layer.below
        return layer.block is block

    def _layer(self, below: Layer[T], block: Block[T]) -> Layer[T]:
        layer = Layer(below, block, block.change(below.value))
        self._layers.add(weakref.ref(layer, self._layers.discard))
        return layer

    def _without(self, layer: Layer[T], block: Block[T]) -> Layer[T]:
        """The layers of all blocks but one."""
        above = []
        while layer.block is not block:
            if not layer.block.ended:
                above.append(layer.block)
            layer = layer.below
        layer = layer.below
        for kept in reversed(above):
            layer = self._layer(layer, kept)
        return layer

    def _end_everywhere(self, block: Block[T]) -> None:
        """Takes a block's change from all layers, in place, as no context can set another's variable."""
        block.ended = True
        for reference in self._layers.copy():
            layer = reference()
            if layer is not None:
                layer.value = _computed(layer)


def _computed(layer: Layer[T]) -> T:
    """A layer's value, by the blocks that have not ended."""
    changes = []
    while layer.below is not layer:
        if not layer.block.ended:
            changes.append(layer.block.change)
        layer = layer.below
    value = layer.value
    for change in reversed(changes):
        value = change(value)
    return value
