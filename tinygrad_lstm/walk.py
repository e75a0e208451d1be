"""The walk back over a graph: the gradients of its leaves from those of its ends."""

import operator
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from .accumulate import Total
from .device import Device
from .graph import GraphNode, Leaf, Node, Pick, ancestors
from .mode import Switch, mode

_SAVED = operator.attrgetter("saved")


def walk(
    roots: Sequence[tuple[GraphNode, Any]],
    targets: set[GraphNode] | None,
    retain_graph: bool,
    create_graph: bool,
    on_leaf: Callable[[Leaf, Any], None] | None = None,
) -> dict[GraphNode, Any]:
    """The gradients that reach the targets, or every leaf where `targets` is None, given those of the roots.

    Gradients are arrays, or Tensors with `create_graph`. Nothing that the user can see is changed. With `on_leaf`, a
    leaf's gradient is known as soon as its last part has come, and the function is called with both.
    """
    if create_graph and not mode().value.recording:
        with Switch(recording=True):
            return walk(roots, targets, retain_graph, create_graph, on_leaf)
    order = ancestors([node for node, _ in roots])
    if on_leaf is not None:
        order = _leaves_early(order)
    leading: set[GraphNode] = set()
    needed = None
    if targets is not None:
        leading = _leading_to(targets, order)
        needed = targets | leading
        order = [node for node in order if node in needed]
    _check_alive(order if targets is None else [node for node in order if node in leading])
    gradients: dict[GraphNode, Any] = {}  # arrays or Tensors; a Total where several came; by parts at a Pick's parent
    result: dict[GraphNode, Any] = {}
    at_end: set[Callable[[], None]] = set()
    anomaly = mode().value.anomaly
    has_nans: set[GraphNode] = set()  # the nodes to which a NaN came
    current = _CurrentDevice()
    try:
        for root, given in roots:
            if needed is None or root in needed:
                current.switch(root.device)
                if root in gradients:
                    _add(gradients, root, given, not create_graph)
                else:
                    gradients[root] = given
                if anomaly and has_nan(given, root.device):
                    has_nans.add(root)
        for node in order:
            g = gradients.pop(node, None)
            if g is None:
                continue
            device = node.device
            if device is not current.device:
                current.switch(device)
            owned = False  # whether g is an array that nobody else holds
            if g.__class__ is not device.array_type:
                if g.__class__ is Total:
                    g, owned = g.result(), g.owned
                    if anomaly:
                        _check_sum(node, g, has_nans)
                if not create_graph and g.__class__ is not dict:
                    g = device.backend.as_array(g)  # rules may give NumPy's scalars, which cannot be written to
            if node.extras is not None:
                for _, hook in sorted(node.extras.hooks.items()):
                    g, owned = hook(g), False  # it may be the hook's own by now
                if node.extras.after_walk is not None:
                    at_end.add(node.extras.after_walk)
            parents = node.parents
            derivative = node.derivative
            if node.__class__ is not Node or needed is not None:
                if (node.__class__ is Leaf) if targets is None else (node in targets):
                    # The array that is returned must not be held by anyone else.
                    result[node] = g.clone() if create_graph else g if owned else g.copy()
                    if on_leaf is not None:
                        on_leaf(node, result[node])  # type: ignore[arg-type]  # there are no targets then
                    if node not in leading:
                        continue
                if node.__class__ is Pick:
                    _add_part(gradients, node, g)
                    continue
                if needed is not None:
                    parents = [parent if parent in needed else None for parent in parents]
                    derivative = derivative.only_for(parents)
            pull = derivative.pull_recorded if create_graph else derivative.pull
            for parent, gradient in zip(parents, pull(node, g, parents)):
                if gradient is None:
                    continue
                if anomaly:
                    gradient = _checked(node, g, gradient, parent, has_nans)  # type: ignore[arg-type]
                if gradient.__class__ is device.array_type and parent not in gradients and not derivative.fresh:
                    gradients[parent] = gradient  # type: ignore[index]
                else:
                    if parent.device is not current.device:  # type: ignore[union-attr]
                        current.switch(parent.device)  # type: ignore[union-attr]
                    _add(gradients, parent, gradient, not create_graph, derivative.fresh)  # type: ignore[arg-type]
            if not retain_graph and node.derivative.keeps:
                node.saved = node.out = None  # type: ignore[attr-defined]
    except MemoryError as error:
        raise current.out_of_memory(error)  # noqa: B904 (it has its cause)
    finally:
        current.leave()
        for function in at_end:
            function()
    return result


class _CurrentDevice:
    """Makes one device after the other the current one."""

    device: Device | None = None
    _context: AbstractContextManager[object] | None = None

    def switch(self, device: Device) -> None:
        """Makes a device the current one in place of the one before."""
        if self._context is not None:
            self.leave()
        self._context = device.current()
        self._context.__enter__()
        self.device = device

    def leave(self) -> None:
        """Makes the device current that was so at first."""
        context, self._context = self._context, None
        if context is not None:
            context.__exit__(None, None, None)

    def out_of_memory(self, error: MemoryError) -> MemoryError:
        """The error to raise if the memory of the device is full."""
        return error if self.device is None else self.device.out_of_memory("backward", error)


def _add(gradients: dict[GraphNode, Any], node: GraphNode, g: Any, in_place: bool, fresh: bool = False) -> None:
    """Adds a gradient to what has come to the node."""
    total = gradients.get(node)
    if total.__class__ is not Total:
        total = gradients[node] = Total(total, in_place)
    total.add(g, fresh)


def _add_part(gradients: dict[GraphNode, Any], pick: Pick, g: Any) -> None:
    """Adds the gradient of one of an op's results to those of the others, at the op's node."""
    parts = gradients.setdefault(pick.parents[0], {})  # type: ignore[arg-type]
    # With create_graph, a rule that asks for `out` gets picks of its own.
    parts[pick.index] = parts[pick.index] + g if pick.index in parts else g


def _leaves_early(order: Sequence[GraphNode]) -> list[GraphNode]:
    """The same order, except that each leaf follows the last node that it is a parent of."""
    backwards: list[GraphNode] = []
    placed: set[GraphNode] = set()
    for node in reversed(order):
        if node.__class__ is not Leaf:
            leaves = [each for each in dict.fromkeys(node.parents) if each.__class__ is Leaf and each not in placed]
            backwards += [*leaves, node]
            placed.update(leaves)
    return [*(node for node in order if node.__class__ is Leaf and node not in placed), *reversed(backwards)]


def _leading_to(targets: set[GraphNode], order: Sequence[GraphNode]) -> set[GraphNode]:
    """The nodes of `order` from whose parents a target can be reached."""
    leading: set[GraphNode] = set()
    for node in reversed(order):
        if any(parent in targets or parent in leading for parent in node.parents):
            leading.add(node)
    return leading


def _check_alive(nodes: Sequence[GraphNode]) -> None:
    """Raises if a node was freed."""
    if None in map(_SAVED, nodes):
        freed = next(node for node in nodes if node.saved is None)
        raise RuntimeError(
            f"backward: what op {freed.describe()} kept was freed by an earlier backward; "
            "pass retain_graph=True to that one to walk the same graph again"
        )


def _check_sum(node: GraphNode, g: Any, has_nans: set[GraphNode]) -> None:
    """Raises if gradients that were not NaNs sum to one."""
    if node not in has_nans and has_nan(g, node.device):
        raise FloatingPointError(
            f"detect_anomaly: the gradients that several ops gave of {node.describe()} sum to a NaN"
        )


def _checked(node: GraphNode, g: Any, gradient: Any, parent: GraphNode, has_nans: set[GraphNode]) -> Any:
    """The gradient that a rule gave of g, if the rule has not made a NaN in it."""
    total = Total(None, in_place=True)
    total.add(gradient)
    gradient = total.result()
    if has_nan(gradient, parent.device):
        incoming = g.values() if isinstance(g, dict) else (g,)
        if not any(has_nan(part, node.device) for part in incoming):
            raise FloatingPointError(f"detect_anomaly: the derivative of op {node.describe()} made a NaN")
        has_nans.add(parent)
    return gradient


def has_nan(values: Any, device: Device) -> bool:
    """Whether an array on the device, or a Tensor there, holds a NaN; reads a value on the host."""
    with device.current():
        array = getattr(values, "_array", values)
        found = device.backend.as_array((array != array).any())
    return bool(device.backend.to_host(found))
