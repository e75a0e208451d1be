"""The mechanism behind `define.op`: how an op is called and recorded, and its derivative rules are run."""

import inspect
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import check_bounds, is_float, promoted_dtype

from .._tensor import Tensor, operand
from ..autograd import grad
from ..device import Device, device_of, get_device
from ..graph import GraphNode, Node, Pick, user_line, watch
from ..mode import Mode, enable_grad, mode
from ..tracing.lengths import Derived, plain
from ..walk import has_nan, tell_op
from .plan import ON_TENSORS, Plan, Rule, on_arrays, parameters_of

__all__ = ["Op"]

Promotion = Literal["common", "float"]

ALIASES = {"axis": "dim", "keepdims": "keepdim"}
NUMBERS = frozenset({float, int, bool})
_PLAIN = frozenset({TypeError, ValueError, IndexError, OverflowError})


class Op:
    """An operation on tensors: its rules, and what is known of them beforehand. `caller` makes it a function."""

    def __init__(
        self,
        forward: Callable[..., Any],
        name: str,
        rules: dict[str, Rule],
        into: dict[str, Rule],
        by_rows: Sequence[str],
        promotion: Promotion | None,
        broadcasts: bool,
        view: bool | Callable[..., bool],
        composed: Callable[..., Any] | None,
        trusted: bool,
    ) -> None:
        self.name = name
        self.forward = forward
        first, *parameters = inspect.signature(forward, eval_str=True).parameters.values()
        self.composed = composed
        if composed is not None:
            parameters.pop()  # `saving`, which the mechanism says
        self.names = [parameter.name for parameter in parameters]
        self.defaults = tuple(parameter.default for parameter in parameters)
        self.arity = len(parameters)
        self.wants_backend = first.name == "backend"
        self.sequence = any(parameter.annotation == Sequence[Array] for parameter in parameters)
        self.slots = [k for k, parameter in enumerate(parameters) if _takes_tensors(parameter.annotation)]
        self.promotion = promotion
        self.broadcasts = broadcasts
        self.view = view
        self.trusted = trusted
        self.gives_own = trusted and composed is not None  # the kernels of backends do
        self.signature = inspect.Signature(
            [p.replace(annotation=p.empty) if _takes_tensors(p.annotation) else p for p in parameters]
        )
        self._check(first.name, {**rules, **into})
        inputs = [self.names[slot] for slot in self.slots]
        self.rules = {inputs.index(name): rule for name, rule in rules.items()}
        self.into = {inputs.index(name): rule for name, rule in into.items()}
        self.by_rows = {inputs.index(name) for name in by_rows}
        self.only_inputs = len(self.slots) == self.arity and not self.sequence
        self._inputs: Callable[[Sequence[Any]], Sequence[Any]] = operator.itemgetter(*self.slots)
        if len(self.slots) == 1 and not self.sequence:
            self._inputs = tuple if self.arity == 1 else operator.itemgetter(slice(self.slots[0], self.slots[0] + 1))
        self._plans: dict[int, Plan] = {}

    def _check(self, first: str, rules: dict[str, Rule]) -> None:
        inputs = [self.names[slot] for slot in self.slots]
        if first not in ("xp", "backend"):
            raise TypeError(f"op {self.name!r}: the forward rule's first parameter is {first!r}; call it xp or backend")
        if not inputs or (self.sequence and len(inputs) > 1):
            raise TypeError(f"op {self.name!r}: annotate its inputs `Array`, or one of them alone `Sequence[Array]`")
        own = {"g", "out", "F", *(f"{name}_shape" for name in inputs)}
        if self.composed is not None:
            own |= {"saved", "backend", "wanted"}
        if taken := own.intersection(self.names):
            raise TypeError(
                f"op {self.name!r}: rename its parameter {min(taken)!r}, which rules know as something else"
            )
        known = {*own, "buffer", *self.names}
        for name, rule in rules.items():
            if name not in inputs:
                raise TypeError(f"op {self.name!r}: a rule for {name!r}, but its inputs are {', '.join(inputs)}")
            if unknown := set(parameters_of(rule)) - known:
                raise TypeError(f"op {self.name!r}: the rule for {name!r} asks for {', '.join(sorted(unknown))}")

    def __repr__(self) -> str:
        return f"<op {self.name}{self.signature}>"

    def context(self, device: Device) -> Any:
        """The first argument of the forward rule on that device."""
        return device.backend if self.wants_backend else device.xp

    def run(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The op's result on whatever it may be given."""
        arguments = args
        if kwargs or len(args) != self.arity:
            arguments = self._bind(args, kwargs)
        inputs = self._inputs(arguments)
        if self.sequence:  # a list of its own, which no one changes
            inputs = list(inputs)
            arguments = self._with(arguments, inputs)

        # One pass over the inputs: their arrays, their nodes, and whether they can be computed with as they are.
        device: Device | None = None
        dtype: Any = None
        fit = True
        wanting = 0  # a bit for each input that requires a gradient
        arrays: list[Any] = []
        parents: list[GraphNode | None] = []
        for value in inputs:
            wanting <<= 1
            parent = None
            if isinstance(value, Tensor):
                array = value._array
                arrays.append(array)
                if device is None:
                    device, dtype = value.device, array.dtype
                    if self.promotion is not None and not is_float(dtype):
                        fit = False
                elif value.device is not device:
                    raise self._mixed(inputs)
                elif array.dtype is not dtype:
                    fit = False
                if value._requires_grad:
                    wanting += 1
                    parent = value._node or value._graph_node()
                if value._viewed_at is not None:
                    value._check_current(self.name)
            else:
                arrays.append(value)
                if type(value) not in NUMBERS and value is not None:
                    fit = False
            parents.append(parent)
        if device is None or not fit:
            settled, device = self._settle(inputs, device)
            if any(new is not old for new, old in zip(settled, inputs)):
                return self.run(self._with(arguments, settled), {})

        if device.switch is None:
            return self._applied(device, arguments, inputs, arrays, wanting, parents)
        with device.switch():
            return self._applied(device, arguments, inputs, arrays, wanting, parents)

    def _applied(
        self,
        device: Device,
        arguments: Sequence[Any],
        inputs: Sequence[Any],
        arrays: list[Any],
        wanting: int,
        parents: list[GraphNode | None],
    ) -> Any:
        """The op's result on inputs of one device, with their arrays; recorded, if one of them wants a gradient."""
        values = arrays if self.only_inputs else self._with(arguments, arrays)
        now = mode().value
        if now.recorder is not None:
            values = plain(values)
        recorded = bool(wanting and self.rules and now.recording)
        kept: Any = None
        try:
            if self.composed is not None:
                out, kept = self.forward(device.backend, *values, recorded)
            else:
                out = kept = self.forward(device.backend if self.wants_backend else device.xp, *values)
        except MemoryError as error:
            raise device.out_of_memory(self.name, error)  # noqa: B904 (it has its cause)
        except Exception as error:
            self.explain(error, inputs)
            raise
        if not self.trusted:
            out = kept = self._checked_output(out, arrays)
        if now.watched:
            self._watch(now, inputs, arrays, out, device)

        node = None
        if recorded:
            node = self._node(self.plan(wanting, len(parents)), parents, device, arguments, arrays, out, kept)
            if now.watched:
                watch(node)
        if out.__class__ is device.array_type:
            result = Tensor._wrap(out, device, node)
            if self.view is not False and (self.view is True or self.view(*values)):
                inputs[0]._share_version(result)
        else:
            result = self._irregular(out, device, node, inputs)
        if now.recorder is not None:
            now.recorder.see_op(self, arguments, result)
        return result

    def _node(
        self,
        plan: Plan,
        parents: Sequence[GraphNode | None],
        device: Device,
        arguments: Sequence[Any],
        arrays: Sequence[Any],
        out: Any,
        kept: Any,
    ) -> Node:
        """The node of an application, with what the plan says to keep of it; `kept` is the output, or what a composed
        op saves instead."""
        saved = arguments
        if plan.dropped:
            saved = list(arguments)
            for slot in plan.dropped:
                saved[slot] = None
        shapes = None
        if plan.keeps_shapes or (self.broadcasts and _differ(arrays, out)):
            shapes = [getattr(array, "shape", ()) for array in arrays]
        return Node(self, parents, device, out, plan, saved, kept if plan.keeps_out else None, shapes)

    def _checked_output(self, out: Any, arrays: Sequence[Any]) -> Any:
        """What a forward rule of the user's gave, if it is fit to be an output."""
        if isinstance(out, list):
            raise TypeError(f"{self.name}: the forward rule gave a list; give a tuple for several outputs")
        return out.copy() if any(out is array for array in arrays) else out

    def _irregular(self, out: Any, device: Device, node: Node | None, inputs: Sequence[Any]) -> Any:
        """The result where the forward rule gave no array: several, or a scalar as NumPy does for 0-d arrays."""
        if not isinstance(out, tuple):
            return Tensor._wrap(device.backend.as_array(out), device, node)
        results = [
            Tensor._wrap(device.backend.as_array(part), device, node and Pick(node, k)) for k, part in enumerate(out)
        ]
        if node is not None and mode().value.watched:
            for result in results:
                watch(result._graph_node())
        if self.view:
            inputs[0]._share_version(*results)
        return tuple(results)

    def _bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Sequence[Any]:
        arguments = [*args, *self.defaults[len(args) :]]
        for given, value in kwargs.items():
            name = ALIASES.get(given, given)
            repeated = name != given and name in kwargs
            if name not in self.names or self.names.index(name) < len(args) or repeated:
                raise TypeError(f"{self.name}: unexpected or repeated argument {given!r}; it is {self!r}")
            arguments[self.names.index(name)] = value
        missing = any(value is inspect.Parameter.empty for value in arguments[len(args) :])
        if missing or len(arguments) != self.arity:
            raise TypeError(f"{self.name}: {len(args) + len(kwargs)} arguments do not fit; it is {self!r}")
        return arguments

    def _with(self, arguments: Sequence[Any], inputs: list[Any]) -> Sequence[Any]:
        """The arguments with these inputs in their places."""
        if self.only_inputs:
            return inputs
        placed = list(arguments)
        if self.sequence:
            placed[self.slots[0]] = inputs
        else:
            for slot, value in zip(self.slots, inputs):
                placed[slot] = value
        return placed

    def _settle(self, inputs: Sequence[Any], device: Device | None) -> tuple[list[Any], Device]:
        """The inputs as tensors of one device and, where the op promotes, one dtype; numbers beside them stay."""
        if device is None:
            owners = (device_of(value) for value in inputs)
            device = next((owner for owner in owners if owner is not None), None) or get_device()
            if all(_is_number(value) or value is None or isinstance(value, np.generic) for value in inputs):
                inputs = [None if value is None else operand(value, device) for value in inputs]
        settled: list[Any] = []
        traced = mode().value.recorder is not None
        for value in inputs:
            value = value.item() if isinstance(value, np.generic) else value
            if isinstance(value, Derived) and not traced:
                value = plain(value)
            if not isinstance(value, Tensor) and not _is_number(value) and value is not None:
                if device_of(value) not in (None, device):
                    raise self._mixed(inputs)
                try:
                    value = operand(value, device)
                except Exception as error:
                    self.explain(error, inputs)
                    raise
            settled.append(value)
        if self.promotion is not None:
            # Inputs without a rule, such as a condition, are not computed with.
            promoted = [self.sequence or not self.rules or k in self.rules for k in range(len(settled))]
            if not any(isinstance(value, Tensor) for value, takes_part in zip(settled, promoted) if takes_part):
                settled = [
                    operand(value, device) if takes_part and value is not None else value
                    for value, takes_part in zip(settled, promoted)
                ]
            operands = [value for value, takes_part in zip(settled, promoted, strict=True) if takes_part]
            dtype = promoted_dtype(
                (value.dtype for value in operands if isinstance(value, Tensor)),
                needs_float=self.promotion == "float" or any(isinstance(value, float) for value in operands),
            )
            for k, value in enumerate(settled):
                if promoted[k] and isinstance(value, Tensor):
                    settled[k] = value.to(dtype=dtype)
                elif promoted[k] and self.rules and type(value) is int:  # comparisons take any number
                    check_bounds(self.name, value, dtype)
        return settled, device

    def plan(self, wanting: int, number: int) -> Plan:
        """The plan for `number` inputs, which require a gradient where `wanting`, first input first, has a bit."""
        if self.sequence:
            wanting, number = 1, 1
        plan = self._plans.get(wanting)
        if plan is None:
            wanted = [k for k in range(number) if wanting >> (number - 1 - k) & 1 and k in self.rules]
            plan = self._plans[wanting] = Plan(self, wanted)
        return plan

    def pull(
        self, node: Node, g: Any, needed: set[GraphNode] | None, create_graph: bool
    ) -> Iterable[tuple[GraphNode, Any]]:
        """Each input's node with its gradient, given that of the output: arrays, or Tensors with `create_graph`."""
        plan, device, values, out = node.plan, node.device, node.saved, node.out
        F = None if not plan.asks_functions else ON_TENSORS if create_graph else on_arrays(device)
        if node.parts is not None:
            g = self._complete(node, g, create_graph)
        if plan.kept:
            values = self._unwrapped(node, values, create_graph)
        if plan.keeps_out:
            if node.version is not None and node.version.written >= 0:
                raise self._changed(node, "its output")
            if create_graph and self.composed is None:
                out = self._output(node, out)
        parents, shapes = node.parents, node.shapes
        if self.composed is not None:
            return self._pull_composed(node, g, values, needed, create_graph)
        if self.sequence:
            ((_, rule, pick),) = plan.wanted
            try:
                gradients = list(rule(*pick((g, out, F, *values, shapes))))
            except Exception as error:
                tell_op(error, node)
                raise
            if len(gradients) != len(parents):
                raise RuntimeError(
                    f"backward: the rule of op {self.name!r} gave {len(gradients)} gradients; expected {len(parents)}"
                )
            return [
                (parent, gradient if shapes is None else self._fitted(gradient, shapes[k], 0, device, create_graph))
                for k, (parent, gradient) in enumerate(zip(parents, gradients))
                if parent is not None and (needed is None or parent in needed)
            ]
        pool = (g, out, F, *values) if shapes is None else (g, out, F, *values, *shapes)
        pulled: list[tuple[GraphNode, Any]] = []
        for k, rule, pick in plan.wanted:
            parent = parents[k]
            if needed is not None and parent not in needed:
                continue
            if k in plan.special and not create_graph and not mode().value.anomaly:
                gradient = plan.special[k](pool, node)
            else:
                try:
                    gradient = rule(*pick(pool))
                except Exception as error:
                    tell_op(error, node)
                    raise
                if shapes is not None:
                    gradient = self._fitted(gradient, shapes[k], k, device, create_graph)
            pulled.append((parent, gradient))
        return pulled

    def _pull_composed(
        self, node: Node, g: Any, values: Sequence[Any], needed: set[GraphNode] | None, create_graph: bool
    ) -> Iterable[tuple[GraphNode, Any]]:
        """As `pull`, of an op with a composed twin: by its rule, or with `create_graph` by the twin's derivatives."""
        wanted = [parent is not None and (needed is None or parent in needed) for parent in node.parents]
        if create_graph:
            gradients = self._through_twin(values, g, wanted)
        else:
            ((_, rule, pick),) = node.plan.wanted
            try:
                gradients = rule(*pick((g, node.out, node.device.backend, *values, wanted)))
            except Exception as error:
                tell_op(error, node)
                raise
        return [(parent, gradient) for parent, gradient, asked in zip(node.parents, gradients, wanted) if asked]  # type: ignore[misc]

    def _through_twin(self, values: Sequence[Any], g: Any, wanted: Sequence[bool]) -> list[Any]:
        """The gradients of the inputs, as part of a graph: those of the composed function at the same inputs."""
        slot = self.slots[0]
        # Under a name of its own each input gets the gradient of its own place alone, wherever else it is used.
        inputs = [x.reshape(x.shape) if asked else x for x, asked in zip(values[slot], wanted)]
        arguments = list(values)
        arguments[slot] = inputs
        with enable_grad():
            outputs = self.composed(*arguments)  # type: ignore[misc]
        if not isinstance(outputs, tuple):
            outputs, g = (outputs,), (g,)
        pairs = [(out, part) for out, part in zip(outputs, g, strict=True) if out.requires_grad]
        asked_for = [x for x, asked in zip(inputs, wanted) if asked]
        found = iter(
            grad(
                [out for out, _ in pairs], asked_for, [part for _, part in pairs], create_graph=True, allow_unused=True
            )
        )
        gradients = [next(found) if asked else None for asked in wanted]
        return [
            ON_TENSORS.zeros_like(x) if asked and gradient is None else gradient
            for x, asked, gradient in zip(inputs, wanted, gradients)
        ]

    def _fitted(self, gradient: Any, shape: tuple[int, ...], k: int, device: Device, create_graph: bool) -> Any:
        """The gradient that a rule gave, summed to the shape of its input where that was broadcast."""
        given = getattr(gradient, "shape", None)
        if given == shape:
            return gradient
        if given is None or not self.broadcasts or len(given) < len(shape):
            raise RuntimeError(
                f"backward: the rule for {self.names[self.slots[k]]!r} of op {self.name!r} gave "
                f"{type(gradient).__name__ if given is None else f'a gradient of shape {given}'}; "
                f"expected a gradient of shape {shape}"
            )
        return (ON_TENSORS if create_graph else on_arrays(device)).sum_to(gradient, shape)

    def _output(self, node: Node, out: Any) -> Any:
        """The output that was kept, as a tensor of the graph, or as several."""
        several = isinstance(out, tuple)
        parts = [
            Tensor._wrap(node.device.backend.as_array(part), node.device, Pick(node, k) if several else node)
            for k, part in enumerate(out if several else (out,))
        ]
        for part in parts:
            part._version = node.output_version()
        return tuple(parts) if several else parts[0]

    def _unwrapped(self, node: Node, saved: Sequence[Any], create_graph: bool) -> Sequence[Any]:
        """What was saved, on arrays if no graph is made; raises if a tensor among it was changed since."""
        values = list(saved)
        for slot in node.plan.kept:
            value = values[slot]
            if isinstance(value, Tensor):
                if value._version is not None and value._version.written > node.kept_at:
                    raise self._changed(node, f"an input of shape {value.shape}")
                if not create_graph:
                    values[slot] = value._array
            elif isinstance(value, list):
                for part in value:
                    if isinstance(part, Tensor) and part._version is not None and part._version.written > node.kept_at:
                        raise self._changed(node, f"an input of shape {part.shape}")
                if not create_graph:
                    values[slot] = [part._array if isinstance(part, Tensor) else part for part in value]
        return values

    def _complete(self, node: Node, parts: dict[int, Any], create_graph: bool) -> tuple[Any, ...]:
        """The gradients of all outputs, zero for those that nothing came back for."""
        complete = []
        for k, (shape, dtype) in enumerate(node.parts or ()):
            g = parts.get(k)
            if g is None:
                g = node.device.xp.zeros(shape, dtype)
                g = Tensor._wrap(g, node.device) if create_graph else g
            complete.append(g)
        return tuple(complete)

    def _changed(self, node: Node, what: str) -> RuntimeError:
        return RuntimeError(
            f"backward: {what} that op {node.describe()} needs for its derivative was changed in place since; "
            "change a .clone() instead"
        )

    def _watch(self, now: Mode, inputs: Sequence[Any], arrays: Sequence[Any], out: Any, device: Device) -> None:
        if now.region is not None:
            now.region.check(self.name, inputs)
        if now.anomaly:
            self._check_forward(arrays, out, device)

    def _check_forward(self, arrays: Sequence[Any], out: Any, device: Device) -> None:
        made = out if isinstance(out, tuple) else (out,)
        given = [array for array in arrays if hasattr(array, "dtype")]
        if any(has_nan(part, device) for part in made) and not any(has_nan(array, device) for array in given):
            raise FloatingPointError(f"detect_anomaly: op {self.name!r} made a NaN at {user_line()}")

    def _describe(self, inputs: Sequence[Any]) -> str:
        return ", ".join(
            f"{value.dtype} {value.shape} on {value.device}" if isinstance(value, Tensor) else type(value).__name__
            for value in inputs
        )

    def explain(self, error: Exception, inputs: Sequence[Any]) -> None:
        """Tells of an error that the forward rule raised the op and its inputs: it stays the same object.

        The message of a plain error is all that it holds, and is added to; any other gets a note.
        """
        where = f"(inputs: {self._describe(inputs)})"
        if type(error) in _PLAIN and len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (f"{self.name}: {error.args[0].removeprefix(f'{self.name}: ')} {where}",)
        else:
            error.add_note(f"in op {self.name!r} {where}")

    def _mixed(self, inputs: Sequence[Any]) -> RuntimeError:
        devices = [value.device if isinstance(value, Tensor) else device_of(value) for value in inputs]
        names = " and ".join(dict.fromkeys(repr(str(device)) for device in devices if device is not None))
        return RuntimeError(
            f"{self.name}: inputs on {names}; move them to one device with .to(device) "
            f"(inputs: {self._describe(inputs)})"
        )


def _is_number(value: Any) -> bool:
    return type(value) in NUMBERS or isinstance(value, Derived)


def _takes_tensors(annotation: Any) -> bool:
    return annotation in (Array, Array | None, Sequence[Array])


def _differ(arrays: Sequence[Any], out: Array) -> bool:
    """Whether an input was broadcast."""
    shape = out.shape
    return any([getattr(array, "shape", ()) != shape for array in arrays])
