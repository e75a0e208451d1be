"""The walk back over a graph: the gradients of its leaves from those of its ends."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import FLOAT16, FLOAT32
from tinygrad_lstm.backends.sums import BLOCK

from .device import Device
from .graph import LEAF, PICK, GraphNode, ancestors
from .mode import Replayed, Switch, mode


@dataclass(frozen=True, slots=True)
class Increment:
    """A gradient that is zero but for a part: `add` adds it into a buffer such as `make_zeros` makes."""

    make_zeros: Callable[[], Array]
    add: Callable[[Array], None]


@dataclass(frozen=True, slots=True)
class Rows:
    """A gradient `rule(*arguments)` that is a sum over the rows of the first `joined` arguments.

    Of several, the sum is the rule applied once to all their rows: a weight that is used at every step of a sequence
    gets its gradient as one large product. `node` is whose rule it is.
    """

    rule: Callable[..., Array]
    arguments: tuple[Any, ...]
    joined: int
    node: GraphNode


# Rows that are taken together: enough for a product at full speed, few enough not to hold a long sequence's memory.
_ENOUGH_ROWS = 1024


def _sum_of_rows(parts: list[Rows], concatenate: Callable[[list[Array]], Array]) -> Iterable[Array]:
    """The gradients that the parts stand for, those of one rule taken together."""
    by_rule: dict[Any, list[Rows]] = {}
    for part in parts:
        by_rule.setdefault(part.rule, []).append(part)
    for rule, group in by_rule.items():
        first = group[0]
        arguments: Sequence[Any] = first.arguments
        if len(group) > 1:
            columns = [list(column) for column in zip(*(part.arguments for part in group), strict=True)]
            arguments = [*map(concatenate, columns[: first.joined]), *first.arguments[first.joined :]]
        try:
            gradient = rule(*arguments)
        except Exception as error:
            tell_op(error, first.node)
            raise
        yield gradient


def tell_op(error: Exception, node: GraphNode) -> None:
    """Notes on an error that a derivative rule raised the op whose rule it is."""
    error.add_note(f"in the derivative of op {node.describe()}")


def _leading_to(targets: set[GraphNode], order: Sequence[GraphNode]) -> set[GraphNode]:
    """The nodes of `order` from which a target can be reached."""
    leading = set(targets)
    for node in reversed(order):
        if any(parent in leading for parent in node.parents):
            leading.add(node)
    return leading


def walk(
    roots: Sequence[tuple[GraphNode, Any]],
    targets: set[GraphNode] | None,
    retain_graph: bool,
    create_graph: bool,
) -> dict[GraphNode, Any]:
    """The gradients that reach the targets, or every leaf where `targets` is None, given those of the roots.

    Gradients are arrays, or Tensors with `create_graph`. Nothing that the user can see is changed.
    """
    order = ancestors(node for node, _ in roots)
    needed = None if targets is None else _leading_to(targets, order)
    if needed is not None:
        order = [node for node in order if node in needed]
    _check_alive(order, needed)

    gradients: dict[GraphNode, Any] = {}
    rows: dict[GraphNode, list[Rows]] = {}
    owned: set[GraphNode] = set()  # whose gradient is an array made here, that may be added to in place
    halves: set[GraphNode] = set()  # whose float16 gradients are added up in float32
    additions: dict[GraphNode, int] = {}
    blocks: dict[GraphNode, Any] = {}  # of long sums, what earlier blocks of gradients add up to
    result: dict[GraphNode, Any] = {}
    anomaly = mode().value.anomaly

    def receive_rows(node: GraphNode) -> None:
        on.move(node.device)
        for g in _sum_of_rows(rows.pop(node), node.device.xp.concatenate):
            receive(node, g)

    def widened(node: GraphNode, g: Any) -> Any:
        if g.dtype != FLOAT16:
            return g
        halves.add(node)
        if g.ndim and not create_graph:
            owned.add(node)
        return g.astype(FLOAT32)

    def end_block(node: GraphNode) -> None:
        block = gradients.pop(node)
        owned.discard(node)
        blocks[node] = blocks[node] + block if node in blocks else block

    def receive(node: GraphNode, g: Any) -> None:
        before = gradients.get(node)
        if node.device is not on.device:
            on.move(node.device)
        if isinstance(g, Increment):
            if node not in owned:
                gradients[node] = g.make_zeros() if before is None else before.copy()
                owned.add(node)
            gradients[node] = widened(node, gradients[node])
            g.add(gradients[node])
        elif before is None:
            gradients[node] = g
            return
        else:
            before = widened(node, before)
            if node in owned:
                before += g
                gradients[node] = before
            else:
                gradients[node] = before + g
                # NumPy gives scalars, not arrays, for 0-d sums; Tensors are part of a graph.
                if g.ndim and not create_graph:
                    owned.add(node)
        number = additions[node] = additions.get(node, 0) + 1
        if number % BLOCK == 0:
            end_block(node)

    with _Walking(create_graph), _Devices() as on:
        for node, g in roots:
            if needed is None or node in needed:
                receive(node, g)
        for node in order:
            if rows and node in rows:
                receive_rows(node)
            if blocks and node in blocks:
                if node in gradients:
                    end_block(node)
                gradients[node] = blocks.pop(node)
            g = gradients.pop(node, None)
            if g is None:
                continue
            if node.device is not on.device:
                on.move(node.device)
            if g.__class__ is not node.device.array_type and not create_graph and g.__class__ is not dict:
                g = node.device.backend.as_array(g)  # rules may give NumPy's scalars, which cannot be written to
            if halves and node in halves:
                g = g.astype(np.float16)
            if node.hooks:
                for _, hook in sorted(node.hooks.items()):
                    g = hook(g)
                owned.discard(node)  # it may be the hook's own by now
            if node.op is LEAF if targets is None else node in targets:
                # What is given out must be no array that someone else holds.
                result[node] = g.clone() if create_graph else g if node in owned else g.copy()
                if not _goes_on(node, needed):
                    continue
            if node.op is PICK:
                gradients.setdefault(node.parents[0], {})[node.index] = g  # type: ignore[arg-type, attr-defined]
                continue
            for parent, gradient in node.op.pull(node, g, needed, create_graph):
                if anomaly:
                    _check_gradient(node, g, gradient, parent.device)
                if gradient.__class__ is Rows:
                    waiting = rows.setdefault(parent, [])
                    waiting.append(gradient)
                    if len(waiting) * len(gradient.arguments[0]) >= _ENOUGH_ROWS:
                        receive_rows(parent)
                else:
                    if node.op.gives_own and not create_graph and parent not in gradients:
                        owned.add(parent)
                        gradients[parent] = gradient
                    else:
                        receive(parent, gradient)
            if node.keeps and not retain_graph:
                _free(node)
    return result


def _check_alive(order: Sequence[GraphNode], needed: set[GraphNode] | None) -> None:
    """Raises if a node that gradients go on from was freed."""
    for node in order:
        if node.freed and _goes_on(node, needed):
            raise RuntimeError(
                f"backward: what op {node.describe()} kept was freed by an earlier backward; "
                "pass retain_graph=True to that one to walk the same graph again"
            )


class _Walking(Switch):
    """Within it, ops record only to create a graph. After it, checkpointed calls that ran again for the walk forget."""

    def __init__(self, create_graph: bool) -> None:
        self._replayed: list[Replayed] = []
        super().__init__(recording=create_graph, replayed=self._replayed)

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        for call in self._replayed:
            call.forget()


class _Devices:
    """Makes one device after the other the current one; explains that it has no memory left."""

    __slots__ = ("_entered", "device")

    def __init__(self) -> None:
        self.device: Device | None = None
        self._entered: AbstractContextManager[object] | None = None

    def move(self, device: Device) -> None:
        """Makes this the current device."""
        self._leave()
        self.device = device
        if device.switch is not None:
            self._entered = device.switch()
            self._entered.__enter__()

    def _leave(self) -> None:
        if self._entered is not None:
            self._entered.__exit__(None, None, None)
            self._entered = None

    def __enter__(self) -> "_Devices":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._leave()
        if isinstance(error, MemoryError) and self.device is not None:
            raise self.device.out_of_memory("backward", error)


def _free(node: Any) -> None:
    node.saved, node.out, node.freed = None, None, True


def _goes_on(node: GraphNode, needed: set[GraphNode] | None) -> bool:
    """Whether gradients go on from the node to its parents."""
    return bool(node.parents) and (needed is None or any(parent in needed for parent in node.parents))


def _check_gradient(node: GraphNode, g: Any, gradient: Any, device: Device) -> None:
    incoming = g.values() if isinstance(g, dict) else (g,)
    if (
        not isinstance(gradient, Increment | Rows)
        and has_nan(gradient, device)
        and not any(has_nan(part, node.device) for part in incoming)
    ):
        raise FloatingPointError(f"detect_anomaly: the derivative of op {node.describe()} made a NaN")


def has_nan(values: Any, device: Device) -> bool:
    """Whether an array on the device, or a Tensor there, holds a NaN; reads a value on the host."""
    with device.current():
        array = getattr(values, "_array", values)
        found = device.backend.as_array((array != array).any())
    return bool(device.backend.to_host(found))
