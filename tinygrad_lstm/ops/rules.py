"""Derivative rules: what they may ask for, and the code that asks and runs them.

For each op, and each set of its inputs that require a gradient, a function `pull` is written. It takes from a node
just what the rules of these inputs ask for, by the names of their parameters.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .._tensor import Tensor
from ..accumulate import Increment, RowSum, tell_op
from ..autograd import grad
from ..device import Device
from ..graph import Derivative, Node, Parents, Pick
from ..in_place import output_version
from .source import by_own_names, compiled

__all__ = [
    "ON_TENSORS",
    "AddsInto",
    "Functions",
    "OpDerivative",
    "OverRows",
    "Rule",
    "asked_by",
    "function_of",
    "on_arrays",
]


@dataclass(frozen=True)
class OverRows:
    """A rule whose gradient is a sum over the rows of the arrays that `rows` names.

    Of an input that is used many times, as a weight is at each step of a sequence, all rows are then taken at once.
    """

    rule: Callable[..., Any]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class AddsInto:
    """A rule whose gradient is mostly zeros. On arrays, `add(buffer, ...)` adds it into an array of x's shape."""

    rule: Callable[..., Any]
    add: Callable[..., Any]


Rule = Callable[..., Any] | OverRows | AddsInto


def function_of(rule: Rule) -> Callable[..., Any]:
    """The function that computes the gradient."""
    return rule.rule if isinstance(rule, OverRows | AddsInto) else rule


def asked_by(function: Callable[..., Any]) -> list[str]:
    """The names by which a rule asks for what it needs."""
    return list(inspect.signature(function).parameters)


class Functions:
    """Every op by name: the forward rules bound to a device, or for None the ops on Tensors.

    Attributes:
        families: the modules that define ops, which `ops` sets.
    """

    families: Sequence[Any] = ()

    def __init__(self, device: Device | None) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Callable[..., Any]:
        for family in self.families:
            found: Any = vars(family).get(name)
            if hasattr(found, "op"):
                function = self(found)
                setattr(self, name, function)
                return function
        raise AttributeError(f"there is no op named {name!r}")

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function for an op that has no name here: a user-defined one."""
        if self._device is None:
            return function
        op = function.op  # type: ignore[attr-defined]
        return functools.partial(op.forward, op.context(self._device))


ON_TENSORS = Functions(None)


def on_arrays(device: Device) -> Functions:
    """The forward rules of that device."""
    found: Functions = device.functions or Functions(device)
    device.functions = found
    return found


class OpDerivative(Derivative):
    """The rules of the inputs of an op that require a gradient.

    Attributes:
        keep: the bits of the inputs for which a rule asks.
        keeps_out, keeps_shapes: whether the rules ask for the output, and for shapes of inputs.
    """

    def __init__(self, op: Any, needed: Sequence[str]) -> None:
        self.op = op
        self.fresh = op.fresh
        self._rules = {name: rule for name, rule in op.rules.items() if name in needed}
        asked: set[str] = set()
        for rule in self._rules.values():
            asked.update(asked_by(function_of(rule)), asked_by(rule.add) if isinstance(rule, AddsInto) else ())
        if op.composed is not None:  # the twin needs all arguments, and so may the kernel: what it saved is the output
            asked.update(op.names, ("out",))
        self._asked = asked
        self.keep = sum(op.bit(name) for name in op.inputs if name in asked)
        self.keeps_out = "out" in asked
        self.keeps_shapes = any(isinstance(rule, AddsInto) for rule in self._rules.values()) or not asked.isdisjoint(
            f"{name}_shape" for name in op.inputs
        )
        self.keeps = bool(self.keep) or self.keeps_out

    @functools.cached_property
    def pull(self) -> Callable[[Node, Any, Parents], Sequence[Any]]:
        """The gradient for each parent, given that of the output, on arrays."""
        return self._compiled(on_tensors=False)

    @functools.cached_property
    def pull_recorded(self) -> Callable[[Node, Any, Parents], Sequence[Any]]:
        """The same on Tensors."""
        return self._compiled(on_tensors=True)

    def only_for(self, parents: Parents) -> Derivative:
        """The derivative for some of the parents."""
        if self.op.sequence:
            return self
        needed = [name for name, parent in zip(self.op.inputs, parents) if parent is not None]
        derivative: Derivative = self.op.derivative(sum(map(self.op.bit, needed)))
        return derivative

    def _compiled(self, on_tensors: bool) -> Callable[..., Any]:
        op = self.op
        names = by_own_names(Increment, RowSum, Tensor, check_input, check_output, fitted, fitted_list, on_arrays)
        names |= by_own_names(output_tensors, tell_op, twin_gradients, whole)
        names |= {"F": ON_TENSORS, "_composed": op.composed}
        for name, rule in self._rules.items():
            names[f"_rule_{name}"] = function_of(rule)
            if isinstance(rule, AddsInto):
                names[f"_add_{name}"] = rule.add
        lines = ["def pull(_node, g, _parents):", *(f"    {line}" for line in self._lines(on_tensors))]
        name = f"{op.name}: derivative of {', '.join(self._rules)}{', recorded' * on_tensors}"
        return compiled(name, "\n".join(lines), names)

    def _lines(self, on_tensors: bool) -> Iterator[str]:
        op, asked = self.op, self._asked
        yield "_shapes = _node.shapes"
        for k, name in enumerate(op.names):
            if name in asked:
                yield f"{name} = _node.saved[{k}]"
            if name in asked and name in op.inputs:
                yield from _unwrapping(name, op.sequence, on_tensors)
        for k, name in enumerate(op.inputs):
            if f"{name}_shape" in asked:
                yield f"{name}_shape = {'_shapes' if op.sequence else f'_shapes[{k}]'}"
        if "out" in asked:
            yield "if _node.extras is not None: _check_output(_node)"
            yield "out = _output_tensors(_node)" if on_tensors and op.composed is None else "out = _node.out"
        if op.composed is not None:
            yield "saved, backend = out, _node.device.backend"
            yield "needs_grad = [_parent is not None for _parent in _parents]"
        if "F" in asked and not on_tensors:
            yield "F = _node.device.functions or _on_arrays(_node.device)"
        yield f"if g.__class__ is _dict: g = _whole(_node, g, {on_tensors})"
        yield "try:"
        for k, name in enumerate(op.inputs):
            if name in self._rules:
                yield f"    _gradient_{name} = {self._gradient(k, name, on_tensors)}"
        yield "except _Exception as _error:"
        yield "    _tell_op(_error, _node)"
        yield "    raise"
        if op.sequence:
            yield f"return _fitted_list(_node, _gradient_{op.inputs[0]}, _parents, {on_tensors})"
            return
        kind = "_Tensor" if on_tensors else "_node.device.array_type"
        later = () if on_tensors else (AddsInto, OverRows)  # which the walk computes
        for k, name in enumerate(op.inputs):
            if name in self._rules and not isinstance(self._rules[name], later):
                shape = f"(_node.shape if _shapes is None else _shapes[{k}])"
                yield f"if _gradient_{name}.__class__ is not {kind} or _gradient_{name}.shape != {shape}:"
                yield f"    _gradient_{name} = _fitted(_node, _gradient_{name}, {k}, {on_tensors})"
        yield f"return {', '.join(f'_gradient_{name}' if name in self._rules else 'None' for name in op.inputs)},"

    def _gradient(self, k: int, name: str, on_tensors: bool) -> str:
        """The call that gives the gradient of input k."""
        rule = self._rules[name]
        if self.op.composed is not None and on_tensors:
            return f"_twin_gradients(lambda {name}: _composed({', '.join(self.op.names)}), {name}, g, needs_grad)"
        if isinstance(rule, AddsInto) and not on_tensors:
            given = ", ".join(f"{other}={other}" for other in asked_by(rule.add) if other != "buffer")
            return f"_Increment(_add_{name}, _dict({given}), _node, {k})"
        given = asked_by(function_of(rule))  # type: ignore[assignment]
        if isinstance(rule, OverRows) and not on_tensors:
            rows = ", ".join(f"{other}={other}" for other in given if other in rule.rows)
            others = ", ".join(f"{other}={other}" for other in given if other not in rule.rows)
            return f"_RowSum(_rule_{name}, _dict({rows}), _dict({others}), _node)"
        return f"_rule_{name}({', '.join(given)})"


def _unwrapping(name: str, sequence: bool, on_tensors: bool) -> Iterator[str]:
    """Checks that a kept input was not written to since, and takes its array."""
    if sequence:
        yield f"for _each in {name}:"
        yield "    if _isinstance(_each, _Tensor) and _each._version is not None: _check_input(_node, _each)"
        if not on_tensors:
            yield f"{name} = [_each._array if _isinstance(_each, _Tensor) else _each for _each in {name}]"
        return
    yield f"if _isinstance({name}, _Tensor):"
    yield f"    if {name}._version is not None and {name}._version.written > _node.number: _check_input(_node, {name})"
    if not on_tensors:
        yield f"    {name} = {name}._array"


# -- what the written functions call -----------------------------------------------------------------------------------


def check_input(node: Node, x: Tensor) -> None:
    """Raises if an input that a node keeps was written to since."""
    if x._version is not None and x._version.written > node.kept_at:
        raise _changed(node, f"an input of shape {x.shape}")


def check_output(node: Node) -> None:
    """Raises if the output of a node was written to since."""
    if node.extras is not None and node.extras.version is not None and node.extras.version.written >= 0:
        raise _changed(node, "its output")


def _changed(node: Node, what: str) -> RuntimeError:
    return RuntimeError(
        f"backward: {what} that op {node.describe()} needs for its derivative was changed in place since; "
        "change a .clone() instead"
    )


def output_tensors(node: Node) -> Any:
    """The output that a node keeps, as a tensor of the graph, or as several."""
    several = isinstance(node.out, tuple)
    parts = [
        Tensor._wrap(node.device.backend.as_array(part), node.device, Pick(node, k, node.device) if several else node)
        for k, part in enumerate(node.out if several else (node.out,))
    ]
    for part in parts:
        part._version = output_version(node)
    return tuple(parts) if several else parts[0]


def whole(node: Node, parts: dict[int, Any], on_tensors: bool) -> tuple[Any, ...]:
    """The gradients of all outputs of a node, zero for those that nothing came back for."""
    complete = []
    for k, (shape, dtype) in enumerate(node.parts or ()):
        g = parts.get(k)
        if g is None:
            g = node.device.xp.zeros(shape, dtype)
            g = Tensor._wrap(g, node.device) if on_tensors else g
        complete.append(g)
    return tuple(complete)


def fitted(node: Node, gradient: Any, k: int, on_tensors: bool) -> Any:
    """The gradient that a rule gave for input k, summed to its shape where that was broadcast."""
    op = node.op
    expected = node.input_shape(k)
    shape = getattr(gradient, "shape", None)
    if not on_tensors and shape is not None:
        gradient = gradient._array if isinstance(gradient, Tensor) else node.device.backend.as_array(gradient)
    if shape == expected:
        return gradient
    if shape is None or not op.broadcasts or len(shape) < len(expected):
        raise RuntimeError(
            f"backward: the rule for {op.inputs[0 if op.sequence else k]!r} of op {op.name!r} gave "
            f"{type(gradient).__name__ if shape is None else f'a gradient of shape {shape}'}; "
            f"expected a gradient of shape {expected}"
        )
    return (ON_TENSORS if on_tensors else on_arrays(node.device)).sum_to(gradient, expected)


def fitted_list(node: Node, gradients: Sequence[Any], parents: Parents, on_tensors: bool) -> list[Any]:
    """The gradients that the rule of an op of a list gave, for the parents that want one."""
    gradients = list(gradients)
    if len(gradients) != len(parents):
        raise RuntimeError(
            f"backward: the rule of op {node.op.name!r} gave {len(gradients)} gradients; expected {len(parents)}"
        )
    return [
        None if parent is None else fitted(node, gradient, k, on_tensors)
        for k, (parent, gradient) in enumerate(zip(parents, gradients))
    ]


def twin_gradients(
    twin: Callable[[list[Any]], Any], inputs: Sequence[Any], g: Any, needs_grad: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of the inputs of a fused op, as part of a graph: those of its twin at the same inputs."""
    # A view of each input gets only the gradient of this use of it, even if the same tensor is used elsewhere.
    views = [x.reshape(x.shape) if needed else x for x, needed in zip(inputs, needs_grad, strict=True)]
    outputs = twin(views)
    outputs, parts = (outputs, g) if isinstance(outputs, tuple) else ((outputs,), (g,))
    pairs = [(out, part) for out, part in zip(outputs, parts, strict=True) if out.requires_grad]
    needed = [x for x, needed in zip(views, needs_grad) if needed]
    found = grad([out for out, _ in pairs], needed, [part for _, part in pairs], create_graph=True, allow_unused=True)
    gradients = iter([ON_TENSORS.zeros_like(x) if g is None else g for x, g in zip(needed, found)])
    return [next(gradients) if needed else None for needed in needs_grad]
