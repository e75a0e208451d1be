"""How the gradients that come to one place of the graph are added up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import FLOAT16, FLOAT32
from tinygrad_lstm.backends.sums import BLOCK

from .graph import GraphNode, Node


@dataclass(frozen=True, slots=True)
class Increment:
    """A gradient of input k of a node that is mostly zeros: `rule(buffer, **arguments)` adds the rest into an array."""

    rule: Callable[..., None]
    arguments: Mapping[str, Any]
    node: Node
    k: int

    def zeros(self) -> Array:
        """A new array into which it can be added."""
        return self.node.device.xp.zeros(self.node.input_shape(self.k), self.node.dtype)

    def add(self, buffer: Array) -> None:
        """Adds it into an array."""
        try:
            self.rule(buffer=buffer, **self.arguments)
        except Exception as error:
            tell_op(error, self.node)
            raise


@dataclass(frozen=True, slots=True)
class RowSum:
    """A gradient `rule(**rows, **others)` that is a sum over the rows of the arrays in `rows`.

    Several are added up by applying the rule once to all their rows: a weight that is used at every step of a sequence
    gets its gradient as one large product. `node` is whose rule it is.
    """

    rule: Callable[..., Array]
    rows: Mapping[str, Array]
    others: Mapping[str, Any]
    node: GraphNode

    @property
    def key(self) -> Any:
        """Equal for sums that can be computed as one. Settings may differ; those that cannot be compared do."""
        try:
            key = self.rule, tuple(self.others.values())
            hash(key)
        except TypeError:
            return self.rule, id(self)
        return key

    @property
    def length(self) -> int:
        """The number of rows."""
        return len(next(iter(self.rows.values())))


def sum_of_rows(parts: Sequence[RowSum]) -> Array:
    """The sum of gradients by the same rule."""
    first, rows = parts[0], parts[0].rows
    if len(parts) > 1:
        concatenate = first.node.device.xp.concatenate
        rows = {name: concatenate([part.rows[name] for part in parts]) for name in rows}
    try:
        return first.rule(**rows, **first.others)
    except Exception as error:
        tell_op(error, first.node)
        raise


def tell_op(error: Exception, node: GraphNode) -> None:
    """Notes on an error that a derivative rule raised the op whose rule it is."""
    error.add_note(f"in the derivative of op {node.describe()}")


# Rows that are taken together: enough for a product at full speed, few enough not to hold a long sequence's memory.
_ENOUGH_ROWS = 1024


class Total:
    """The sum of the gradients that have come to a node so far.

    Gradients are added in place only into arrays that were made here. float16 is added up in float32, long sums by
    blocks; see `backends/sums.py`.

    Attributes:
        owned: whether the sum is an array that nobody else holds.
    """

    __slots__ = ("_additions", "_blocks", "_half", "_in_place", "_rows", "_value", "owned")

    def __init__(self, value: Any, in_place: bool) -> None:
        self._value = value
        self.owned = False
        self._in_place = in_place  # false of Tensors, which are part of a graph
        self._additions = 0
        self._blocks: Any = None
        self._half = False
        self._rows: dict[Any, list[RowSum]] = {}

    def add(self, g: Any, fresh: bool = False) -> None:
        """Adds a gradient: an array, which nobody else holds if it is `fresh`, a Tensor, an Increment or a RowSum."""
        if g.__class__ is RowSum:
            waiting = self._rows.setdefault(g.key, [])
            waiting.append(g)
            if len(waiting) * g.length >= _ENOUGH_ROWS:
                self._add_rows()
            return
        if g.__class__ is Increment:
            if not self.owned:
                before, self._value, self.owned = self._value, g.zeros(), True
                if before is not None:
                    self._value += before
            self._widen()
            g.add(self._value)
        elif self._value is None:
            self._value, self.owned = g, fresh and self._in_place
            return
        else:
            self._widen()
            if self.owned:
                self._value += g
            else:
                self._value = self._value + g
                self.owned = self._in_place and self._value.ndim > 0  # a NumPy scalar cannot be written to
        self._additions += 1
        if self._additions % BLOCK == 0:
            self._end_block()

    def result(self) -> Any:
        """The sum of all."""
        if self._rows:
            self._add_rows()
        if self._blocks is not None:
            if self._value is not None:
                self._end_block()
            self._value, self.owned = self._blocks, self._in_place
        return self._value.astype(FLOAT16) if self._half else self._value

    def _add_rows(self) -> None:
        rows, self._rows = self._rows, {}
        for parts in rows.values():
            self.add(sum_of_rows(parts))

    def _widen(self) -> None:
        if self._value.dtype == FLOAT16:
            self._value = self._value.astype(FLOAT32)
            self._half, self.owned = True, self._in_place

    def _end_block(self) -> None:
        block, self._value, self.owned = self._value, None, False
        self._blocks = block if self._blocks is None else self._blocks + block
