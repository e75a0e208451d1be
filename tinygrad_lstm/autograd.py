"""The graph that operations record, and the walk back over it.

A `Node` is one recorded application of an op; its parents are the nodes that made the op's inputs. Nodes are numbered
in the order in which they are made, so decreasing numbers are a reverse topological order: the walk needs no recursion.
"""

import functools
import inspect
import itertools
import operator
import os
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from .backends import base
from .backends.base import Array
from .device import Device

if TYPE_CHECKING:
    from .tensor import Tensor

__all__ = ["detect_anomaly", "enable_grad", "grad", "no_grad"]

P = ParamSpec("P")
R = TypeVar("R")

_FLOORS = Path(base.__file__).parents[1]  # holds backends and models: the package once installed, or the checkout
_OWN_CODE = tuple(f"{place}{os.sep}" for place in (Path(__file__).parent, _FLOORS / "backends", _FLOORS / "models"))


class Region(Protocol):
    """A stretch of the program that takes part in what is recorded within it."""

    def admit(self, node: "GraphNode") -> None:
        """Takes note of a new node."""

    def check(self, name: str, inputs: Iterable[Any]) -> None:
        """Raises if an op of that name must not be given these inputs."""


class Observer(Protocol):
    """What recurrent cells and layers show themselves to, as they compute; see `observing`."""

    def see_step(self, cell: Any, kind: str, x: "Tensor", before: "Mapping[str, Tensor]", gates: Any) -> None:
        """A cell has made a step."""

    def see_layer(
        self,
        network: Any,
        place: str,
        layer: "Callable[[Sequence[Tensor]], tuple[Tensor, ...]]",
        operands: "Sequence[Tensor]",
    ) -> "tuple[Tensor, ...]":
        """A network is to run a whole layer as one op of these operands: runs it, and gives its outputs."""

    def see_steps(self, network: Any, layer: Any, step: Callable[..., Any]) -> Callable[..., Any]:
        """A network is to go through a layer step by step: gives the step to take, which shows what it computes."""


class Recorder(Protocol):
    """What notes the ops of a run as they are applied, to write the run down elsewhere."""

    def see_op(self, op: Any, arguments: Sequence[Any], result: Any) -> None:
        """An op has given this result, a Tensor or a tuple of them."""

    def see_call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """A function made of ops is called: calls it, and gives its result; may note it in place of its ops."""

    def see_copy(self, source: Any, copied: Array) -> None:
        """An array of integers or bool was copied, outside of an op, from an array or a Tensor."""

    def see_read(self, tensor: "Tensor") -> None:
        """The values of a Tensor are read as numbers of Python's."""


class _Mode(threading.local):
    """How this thread records; each thread begins anew.

    Attributes:
        recording: whether ops record.
        anomaly: whether NaNs are looked for.
        region: the checkpointed call that takes part.
        observer: what recurrent cells and layers show themselves to.
        recorder: what notes every op.
        watched: whether anomaly, region or recorder is set, and ops must leave their short cuts.
        before: what the switches that are entered have to put back.
        restored: the checkpointed calls that were run again for the walk that is under way.
    """

    def __init__(self) -> None:
        self.recording = True
        self.anomaly = False
        self.region: Region | None = None
        self.observer: Observer | None = None
        self.recorder: Recorder | None = None
        self.watched = False
        self.before: list[Any] = []
        self.restored: list[Any] = []


MODE = _Mode()


class Switch:
    """Sets one field of the thread's mode; as a context manager or a decorator, nested at will."""

    def __init__(self, field: str, value: Any) -> None:
        self._field = field
        self._value = value

    def __enter__(self) -> None:
        MODE.before.append(getattr(MODE, self._field))
        self._set(self._value)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._set(MODE.before.pop())

    def _set(self, value: Any) -> None:
        setattr(MODE, self._field, value)
        MODE.watched = MODE.anomaly or MODE.region is not None or MODE.recorder is not None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function):
            raise TypeError(
                f"{type(self).__name__}: {function.__name__} is a generator, which runs after its call; "
                "use a with block inside it"
            )

        @functools.wraps(function)
        def switched(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return switched


class no_grad(Switch):  # noqa: N801
    """Within it, operations record nothing, in this thread.

    >>> import tinygrad_lstm as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> with tg.no_grad():
    ...     print((x * 2).requires_grad)
    False
    """

    def __init__(self) -> None:
        super().__init__("recording", False)


class enable_grad(Switch):  # noqa: N801
    """Within it, operations record again, inside a `no_grad`."""

    def __init__(self) -> None:
        super().__init__("recording", True)


class detect_anomaly(Switch):  # noqa: N801
    """Within it, the first NaN that an op makes, forward or backward, raises.

    The error names the forward op and the line of the user's code that called it. Slower: every result is read.

    Raises:
        FloatingPointError: an op without a NaN in its inputs, or a derivative without one in its incoming gradient,
            made one.
    """

    def __init__(self) -> None:
        super().__init__("anomaly", True)


class Version:
    """When an array that a tensor shares with its views was last written to, in node numbers.

    Attributes:
        written: the last time at all.
        recorded: the last time with the graph noting it, after which older views are out of date.
        maker: the node whose output the array is, if any: it is told, since it may have kept it.
    """

    __slots__ = ("maker", "recorded", "written")

    def __init__(self, maker: "GraphNode | None") -> None:
        self.maker = maker
        self.written = -1
        self.recorded = -1


@dataclass(frozen=True, slots=True)
class Increment:
    """A gradient that is zero but for a part: `add` adds it into a buffer such as `make_zeros` makes."""

    make_zeros: Callable[[], Array]
    add: Callable[[Array], None]


@dataclass(frozen=True, slots=True)
class Rows:
    """A gradient `rule(*arguments)` that is a sum over the rows of the first `joined` arguments.

    Of several, the sum is the rule applied once to all their rows: a weight that is used at every step of a sequence
    gets its gradient as one large product.
    """

    rule: Callable[..., Array]
    arguments: tuple[Any, ...]
    joined: int


# Rows that are taken together: enough for a product at full speed, few enough not to hold a long sequence's memory.
_ENOUGH_ROWS = 1024


def _sum_of_rows(parts: list[Rows], concatenate: Callable[[list[Array]], Array]) -> Iterable[Array]:
    """The gradients that the parts stand for, those of one rule taken together."""
    by_rule: dict[Any, list[Rows]] = {}
    for part in parts:
        by_rule.setdefault(part.rule, []).append(part)
    for rule, group in by_rule.items():
        first = group[0]
        if len(group) == 1:
            yield rule(*first.arguments)
            continue
        columns = [list(column) for column in zip(*(part.arguments for part in group), strict=True)]
        yield rule(*map(concatenate, columns[: first.joined]), *first.arguments[first.joined :])


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

    __slots__ = ("__weakref__", "device", "hooks", "number", "op", "origin", "parents")

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


def watch(node: GraphNode) -> None:
    """Does with a new node what the thread's mode asks for."""
    if MODE.anomaly:
        node.origin = user_line()
    if MODE.region is not None:
        MODE.region.admit(node)


class Node(GraphNode):
    """One recorded application of an op.

    Attributes:
        shape, dtype: those of the output that was `made`, of an op that has one.
        parts: the shape and dtype of each output, of an op that has several.
        plan: what the op notes for all applications of this kind.
        saved: the arguments, without the tensors that no derivative rule asks for.
        out: the output, if a rule asks for it; with its `version`, once someone writes to it or a walk records it.
        shapes: those of the inputs, if they are needed.
    """

    shape: tuple[int, ...] | None
    parts: list[tuple[tuple[int, ...], Any]] | None

    __slots__ = ("dtype", "freed", "keeps", "out", "parts", "plan", "saved", "shape", "shapes", "version")

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
        super().__init__(_LEAF, (), tensor.device)
        self.tensor = weakref.ref(tensor)


class Pick(GraphNode):
    """One of the outputs of an op that has several."""

    __slots__ = ("index",)

    def __init__(self, made_by: Node, index: int) -> None:
        GraphNode.__init__(self, _PICK, (made_by,), made_by.device)
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


_LEAF, _PICK = _WithoutRule("leaf"), _WithoutRule("pick")


def user_line() -> str:
    """The innermost line outside this package that led here, as `file:line: code`."""
    stack = traceback.extract_stack()
    for frame in reversed(stack):
        if not frame.filename.startswith(_OWN_CODE):
            return f"{frame.filename}:{frame.lineno}: {frame.line}"
    frame = stack[0]
    return f"{frame.filename}:{frame.lineno}: {frame.line}"


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
    result: dict[GraphNode, Any] = {}
    anomaly = MODE.anomaly

    def receive_rows(node: GraphNode) -> None:
        on.move(node.device)
        for g in _sum_of_rows(rows.pop(node), node.device.xp.concatenate):
            receive(node, g)

    def receive(node: GraphNode, g: Any) -> None:
        before = gradients.get(node)
        if node.device is not on.device:
            on.move(node.device)
        if isinstance(g, Increment):
            if node not in owned:
                gradients[node] = g.make_zeros() if before is None else before.copy()
                owned.add(node)
            g.add(gradients[node])
        elif before is None:
            gradients[node] = g
        elif node in owned:
            before += g
        else:
            gradients[node] = before + g
            # NumPy gives scalars, not arrays, for 0-d sums; Tensors are part of a graph.
            if g.ndim and not create_graph:
                owned.add(node)

    with Switch("recording", create_graph), _forgetting(), _Devices() as on:
        for node, g in roots:
            if needed is None or node in needed:
                receive(node, g)
        for node in order:
            if rows and node in rows:
                receive_rows(node)
            g = gradients.pop(node, None)
            if g is None:
                continue
            if node.device is not on.device:
                on.move(node.device)
            if g.__class__ is not node.device.array_type and not create_graph and g.__class__ is not dict:
                g = node.device.backend.as_array(g)  # rules may give NumPy's scalars, which cannot be written to
            if node.hooks:
                for _, hook in sorted(node.hooks.items()):
                    g = hook(g)
                owned.discard(node)  # it may be the hook's own by now
            if node.op is _LEAF if targets is None else node in targets:
                # What is given out must be no array that someone else holds.
                result[node] = g.clone() if create_graph else g if node in owned else g.copy()
                if not _goes_on(node, needed):
                    continue
            if node.op is _PICK:
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


@contextmanager
def _forgetting() -> Iterator[None]:
    before = len(MODE.restored)  # a walk may run within another
    try:
        yield
    finally:
        while len(MODE.restored) > before:
            MODE.restored.pop().forget()


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


def backward(
    outputs: "Sequence[Tensor]",
    grads: Sequence[Any] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: "Tensor | Iterable[Tensor] | None" = None,
) -> None:
    """Adds to `.grad` of every leaf, or of `inputs` alone, the gradient of the outputs; see `Tensor.backward`."""
    wanted = None if inputs is None else _as_list(inputs)
    targets = None if wanted is None else _target_nodes(wanted, "backward")
    roots = _roots(outputs, grads, create_graph, "backward")
    found = walk(roots, targets, create_graph if retain_graph is None else retain_graph, create_graph)
    receivers = [(node, node.tensor()) for node in found if isinstance(node, Leaf)]
    if wanted is not None:
        receivers = [(tensor._graph_node(), tensor) for tensor in wanted if tensor._graph_node() in found]
    gradients = [
        (tensor, _checked(found[node], tensor, create_graph, "backward"))
        for node, tensor in receivers
        if tensor is not None and tensor.requires_grad
    ]
    for tensor, g in gradients:
        tensor.grad = g if tensor.grad is None else tensor.grad + g


def grad(
    outputs: "Tensor | Iterable[Tensor]",
    inputs: "Tensor | Iterable[Tensor]",
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> "tuple[Tensor, ...]":
    """The gradients of (the sum of) the outputs with respect to the inputs; no `.grad` is touched.

    Args:
        outputs: one tensor or several, from which the walk starts.
        inputs: one tensor or several, leaves or not.
        grad_outputs: for each output the gradient of some scalar, of its shape; 1 for one-element outputs.
        retain_graph: keep what the graph kept, so that it can be walked again; by default as `create_graph`.
        create_graph: record the walk itself, so that the gradients can be differentiated in turn.
        allow_unused: give None for an input from which no output was made, instead of raising.

    Returns:
        A tuple with a gradient for each input.

    Raises:
        RuntimeError: an output or input requires no gradient; an output is no scalar and has no `grad_outputs`; an
            input was not used; the graph was freed; a value that a derivative needs was changed in place.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> (first,) = tg.grad(x**3, x, create_graph=True)
    >>> (second,) = tg.grad(first, x)
    >>> first.item(), second.item()
    (27.0, 18.0)
    """
    wanted, given = _as_list(inputs), _as_list(outputs)
    grads = grad_outputs
    if grads is not None and not isinstance(grads, list | tuple):
        grads = [grads]
    targets = _target_nodes(wanted, "grad")
    roots = _roots(given, grads, create_graph, "grad")
    found = walk(roots, targets, create_graph if retain_graph is None else retain_graph, create_graph)
    results: list[Any] = []
    for k, tensor in enumerate(wanted):
        g = found.get(tensor._graph_node())
        if g is None and not allow_unused:
            raise RuntimeError(
                f"grad: input {k} (shape {tensor.shape}) was not used to make the outputs; "
                "pass allow_unused=True to get None for it"
            )
        results.append(None if g is None else _checked(g, tensor, create_graph, "grad"))
    return tuple(results)


def _as_list(tensors: "Tensor | Iterable[Tensor]") -> list[Any]:
    return [tensors] if hasattr(tensors, "_graph_node") else list(tensors)


def _checked(g: Any, tensor: "Tensor", is_tensor: bool, asked: str) -> "Tensor":
    """The gradient as a tensor, if it can be that of `tensor`: rules of ops defined elsewhere may be wrong."""
    if g.shape != tensor.shape or g.dtype != tensor.dtype:
        raise RuntimeError(
            f"{asked}: a {tensor.dtype} tensor of shape {tensor.shape} would get a {g.dtype} gradient of shape "
            f"{g.shape}; correct the derivative rule of an op on the way"
        )
    return g if is_tensor else tensor._wrap(tensor.device.backend.as_array(g), tensor.device)


def _target_nodes(tensors: "Sequence[Tensor]", asked: str) -> set[GraphNode]:
    for k, tensor in enumerate(tensors):
        if not tensor.requires_grad:
            raise RuntimeError(f"{asked}: input {k} (shape {tensor.shape}) does not require a gradient")
    return {tensor._graph_node() for tensor in tensors}


def _roots(
    outputs: "Sequence[Tensor]", grads: Sequence[Any] | None, create_graph: bool, asked: str
) -> list[tuple[GraphNode, Any]]:
    if grads is not None and len(grads) != len(outputs):
        raise ValueError(f"{asked}: {len(outputs)} outputs, but {len(grads)} gradients for them; give one for each")
    roots = []
    for k, output in enumerate(outputs):
        if not output.requires_grad:
            raise RuntimeError(
                f"{asked}: output {k} (shape {output.shape}) requires no gradient: it was made from nothing that does, "
                "or under no_grad"
            )
        output._check_current(asked)
        given = None if grads is None else grads[k]
        if given is None:
            if output.size != 1:
                raise RuntimeError(
                    f"{asked}: output {k} has shape {output.shape}; only a one-element output needs no gradient given"
                )
            with output.device.current():
                given = output._wrap(output.device.xp.ones(output.shape, output.dtype), output.device)
        else:
            given = output._matching(given)
            if given.shape != output.shape:
                raise ValueError(f"{asked}: output {k} has shape {output.shape}, its gradient {given.shape}")
        roots.append((output._graph_node(), given if create_graph else given._array))
    return roots
