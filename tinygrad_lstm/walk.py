"""The walk back over a graph: the gradients of its leaves from those of its ends."""

import operator
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from .accumulate import Increment, RowSum, Total
from .device import Device
from .graph import GraphNode, Leaf, Node, Pick, ancestors
from .mode import Switch, mode

_SAVED = operator.attrgetter("saved")


def walk(
    roots: Sequence[tuple[GraphNode, Any]],
    targets: set[GraphNode] | None,
    retain_graph: bool,
    create_graph: bool,
) -> dict[GraphNode, Any]:
    """The gradients that reach the targets, or every leaf where `targets` is None, given those of the roots.

    Gradients are arrays, or Tensors with `create_graph`. Nothing that the user can see is changed.
    """
    order = ancestors([node for node, _ in roots])
    needed = None if targets is None else _leading_to(targets, order)
    if needed is not None:
        order = [node for node in order if node in needed]
        roots = [(node, g) for node, g in roots if node in needed]
    _check_alive(order, needed)
    if not create_graph:
        return _walk(order, roots, targets, needed, retain_graph, False)
    with Switch(recording=True):
        return _walk(order, roots, targets, needed, retain_graph, True)


def _walk(
    order: Sequence[GraphNode],
    roots: Sequence[tuple[GraphNode, Any]],
    targets: set[GraphNode] | None,
    needed: set[GraphNode] | None,
    retain_graph: bool,
    create_graph: bool,
) -> dict[GraphNode, Any]:
    gradients: dict[GraphNode, Any] = {}  # arrays or Tensors; a Total where several came; by parts at a Pick's parent
    result: dict[GraphNode, Any] = {}
    at_end: set[Callable[[], None]] = set()
    anomaly = mode().value.anomaly
    devices = _Devices()
    here: Device | None = None
    try:
        for root, given in roots:
            here = devices.move(root.device)
            if root in gradients:
                _add(gradients, root, given, not create_graph)
            else:
                gradients[root] = given
        for node in order:
            g = gradients.pop(node, None)
            if g is None:
                continue
            device = node.device
            if device is not here:
                here = devices.move(device)
            owned = False
            if g.__class__ is not device.array_type:
                if g.__class__ is Total:
                    g, owned = g.result(), g.owned
                if not create_graph and g.__class__ is not dict:
                    g = device.backend.as_array(g)  # rules may give NumPy's scalars, which cannot be written to
            if node.extras is not None:
                if node.extras.hooks:
                    g, owned = _hooked(node.extras.hooks, g), False  # it may be the hook's own by now
                if node.extras.after_walk is not None:
                    at_end.add(node.extras.after_walk)
            parents = node.parents
            derivative = node.derivative
            if node.__class__ is not Node or needed is not None:
                if (node.__class__ is Leaf) if targets is None else (node in targets):
                    # The array that is returned must not be held by anyone else.
                    result[node] = g.clone() if create_graph else g if owned else g.copy()
                    if not parents or not _goes_on(node, needed):
                        continue
                if node.__class__ is Pick:
                    parts = gradients.setdefault(parents[0], {})  # type: ignore[arg-type]
                    # With create_graph, a rule that asks for `out` gets picks of its own.
                    parts[node.index] = parts[node.index] + g if node.index in parts else g
                    continue
                if needed is not None:
                    parents = [parent if parent in needed else None for parent in parents]
                    derivative = derivative.only_for(parents)
            pull = derivative.pull_recorded if create_graph else derivative.pull
            for parent, gradient in zip(parents, pull(node, g, parents)):
                if gradient is None:
                    continue
                if anomaly:
                    gradient = _checked(node, g, gradient, parent)  # type: ignore[arg-type]
                if gradient.__class__ is device.array_type and parent not in gradients and not derivative.fresh:
                    gradients[parent] = gradient  # type: ignore[index]
                else:
                    if parent.device is not here:  # type: ignore[union-attr]
                        here = devices.move(parent.device)  # type: ignore[union-attr]
                    _add(gradients, parent, gradient, not create_graph, derivative.fresh)  # type: ignore[arg-type]
            if not retain_graph and node.derivative.keeps:
                node.saved = node.out = None  # type: ignore[attr-defined]
    except MemoryError as error:
        raise error if here is None else here.out_of_memory("backward", error)  # noqa: B904 (it has its cause)
    finally:
        devices.leave()
        for function in at_end:
            function()
    return result


def _add(gradients: dict[GraphNode, Any], node: GraphNode, g: Any, in_place: bool, fresh: bool = False) -> None:
    """Adds a gradient to what has come to the node."""
    before = gradients.get(node)
    if before is None:
        deferred = g.__class__ is Increment or g.__class__ is RowSum
        gradients[node] = total = Total(None if deferred else g, fresh and in_place and not deferred, in_place)
        if deferred:
            total.add(g)
        return
    if before.__class__ is not Total:
        before = gradients[node] = Total(before, False, in_place)
    before.add(g)


def _leading_to(targets: set[GraphNode], order: Sequence[GraphNode]) -> set[GraphNode]:
    """The nodes of `order` from which a target can be reached."""
    leading = set(targets)
    for node in reversed(order):
        if any(parent in leading for parent in node.parents):
            leading.add(node)
    return leading


def _goes_on(node: GraphNode, needed: set[GraphNode] | None) -> bool:
    """Whether gradients go on from the node to its parents."""
    return bool(node.parents) and (needed is None or any(parent in needed for parent in node.parents))


def _check_alive(order: Sequence[GraphNode], needed: set[GraphNode] | None) -> None:
    """Raises if a node that gradients go on from was freed."""
    if None not in map(_SAVED, order):
        return
    for node in order:
        if node.saved is None and _goes_on(node, needed):
            raise RuntimeError(
                f"backward: what op {node.describe()} kept was freed by an earlier backward; "
                "pass retain_graph=True to that one to walk the same graph again"
            )


def _hooked(hooks: dict[float, Callable[[Any], Any]], g: Any) -> Any:
    for _, hook in sorted(hooks.items()):
        g = hook(g)
    return g


def _checked(node: GraphNode, g: Any, gradient: Any, parent: GraphNode) -> Any:
    """The gradient that a rule gave of g, if the rule has not made a NaN in it."""
    if gradient.__class__ is Increment or gradient.__class__ is RowSum:
        gradient = gradient.array()
    incoming = g.values() if isinstance(g, dict) else (g,)
    if has_nan(gradient, parent.device) and not any(has_nan(part, node.device) for part in incoming):
        raise FloatingPointError(f"detect_anomaly: the derivative of op {node.describe()} made a NaN")
    return gradient


def has_nan(values: Any, device: Device) -> bool:
    """Whether an array on the device, or a Tensor there, holds a NaN; reads a value on the host."""
    with device.current():
        array = getattr(values, "_array", values)
        found = device.backend.as_array((array != array).any())
    return bool(device.backend.to_host(found))


class _Devices:
    """Makes one device after the other the current one."""

    __slots__ = ("_entered",)

    def __init__(self) -> None:
        self._entered: AbstractContextManager[object] | None = None

    def move(self, device: Device) -> Device:
        """Makes this the current device, and gives it back."""
        self.leave()
        if device.switch is not None:
            self._entered = device.switch()
            self._entered.__enter__()
        return device

    def leave(self) -> None:
        """Goes back to the device before the first."""
        if self._entered is not None:
            self._entered.__exit__(None, None, None)
            self._entered = None
