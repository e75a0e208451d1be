"""Values that `with` blocks change for a thread or an asyncio task. The blocks may overlap in any way."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Generic, TypeVar

__all__ = ["Block", "Scoped"]

T = TypeVar("T")


class Layer(Generic[T]):
    """The value in a block. `below` is the layer of the enclosing block; the lowest layer is its own `below`."""

    __slots__ = ("__weakref__", "below", "block", "value")

    def __init__(self, below: "Layer[T] | None", block: "Block[T]", value: T) -> None:
        self.below = self if below is None else below
        self.block = block
        self.value = value


class Block(Generic[T]):
    """A `with` block that was entered.

    Attributes:
        change: returns the value in the block, given the value outside it.
        token: resets the variable, but only in the context in which the block was entered.
        ended: whether the block was left in a different context.
    """

    __slots__ = ("change", "ended", "token")

    def __init__(self, change: Callable[[T], T]) -> None:
        self.change = change
        self.token: Token[Layer[T]]
        self.ended = False


class Scoped(Generic[T]):
    """A value of the current thread or asyncio task, which `with` blocks change.

    The end of a block reverts only its own change, so blocks may end in any order, as those in generators do. A task
    starts with the blocks in which it was created, and keeps them; a thread starts with none. If a block is left in a
    different context, as when the event loop closes an asynchronous generator, it ends in all contexts.

    Args:
        name: for debuggers.
        default: the value outside all blocks.

    Attributes:
        top: returns the current layer, whose `value` is the current value. This is the quickest way to read it.
    """

    def __init__(self, name: str, default: T) -> None:
        lowest = Layer(None, Block[T](lambda value: value), default)
        self._variable: ContextVar[Layer[T]] = ContextVar(name, default=lowest)
        self._layers: set[weakref.ref[Layer[T]]] = set()  # all layers in use, in all contexts
        self.top = self._variable.get

    @property
    def value(self) -> T:
        """The current value."""
        return self.top().value

    @contextmanager
    def set_to(self, value: T) -> Iterator[None]:
        """Sets the value in a `with` block."""
        block = self.enter(lambda _: value)
        try:
            yield
        finally:
            self.leave(block)

    def enter(self, change: Callable[[T], T]) -> Block[T]:
        """Enters a block, which the caller must `leave`."""
        below = self.top()
        while below.block.ended:
            below = below.below
        block = Block(change)
        block.token = self._variable.set(self._layer(below, block))
        return block

    def leave(self, block: Block[T]) -> None:
        """Leaves a block."""
        top, token = self.top(), block.token
        del block.token  # the token refers to the context, and so to the block
        try:
            self._variable.reset(token)
        except ValueError:  # the current context is not the block's
            self._end_everywhere(block)
            return
        # The variable is reset to before the block; but other blocks may have been entered or left since.
        rest = top.below if top.block is block else self._without(top, block)
        if self.top() is not rest:
            self._variable.set(rest)

    def is_within(self, block: Block[T]) -> bool:
        """Whether the current context is in the block."""
        layer = self.top()
        while layer.block is not block and layer.below is not layer:
            layer = layer.below
        return layer.block is block

    def _layer(self, below: Layer[T], block: Block[T]) -> Layer[T]:
        layer = Layer(below, block, block.change(below.value))
        self._layers.add(weakref.ref(layer, self._layers.discard))
        return layer

    def _without(self, layer: Layer[T], block: Block[T]) -> Layer[T]:
        """The layers of all blocks except one."""
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
        """Reverts a block's change in all layers, in place, as a context cannot set a different context's variable."""
        block.ended = True
        for reference in self._layers.copy():
            layer = reference()
            if layer is not None:
                layer.value = _computed(layer)


def _computed(layer: Layer[T]) -> T:
    """A layer's value, from the blocks that have not ended."""
    changes = []
    while layer.below is not layer:
        if not layer.block.ended:
            changes.append(layer.block.change)
        layer = layer.below
    value = layer.value
    for change in reversed(changes):
        value = change(value)
    return value
