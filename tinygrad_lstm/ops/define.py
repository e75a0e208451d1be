"""What an op is: a forward rule and, for each input, a derivative rule.

    @op(x=lambda g, out: g * (1 - out * out))
    def tanh(xp, x: Array) -> Array:
        return xp.tanh(x)

The forward rule computes on plain arrays with the array module `xp` (or, if its first parameter is called `backend`,
with the whole backend). Its parameters annotated `Array` take tensors; `Sequence[Array]` takes a list of them; all
others are settings, and pass through as they are.

A derivative rule is named after the input to which it gives the gradient. It says what it needs by the names of its own
parameters, and only that is kept for the way back: `g` (the gradient of the output), any parameter of the forward rule,
`out` (its output), `x_shape` (the shape of input `x`, without keeping `x`), and `F`, which holds every op by name, and
as `F(my_op)` any other. It is written once for two uses: `backward` runs it on plain arrays, with `F` the forward rules
of the array's backend; with `create_graph` it runs on Tensors, with `F` the ops themselves, and so is recorded in turn.
"""

import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar

import numpy as np

from ..autograd import MODE, Increment, Node, Pick, Rows, has_nan, user_line
from ..backends.base import Array
from ..device import Device, device_of, get_device
from ..tensor import DEFAULT_FLOAT, Tensor, as_tensor

__all__ = ["Op", "composite", "op"]

P = ParamSpec("P")
R = TypeVar("R")

Rule = Callable[..., Any]
Promotion = Literal["common", "float"]

_registry: dict[str, "Op[Any]"] = {}
_ALIASES = {"axis": "dim", "keepdims": "keepdim"}
_NUMBERS = frozenset({float, int, bool})


class Functions:
    """Every op by name: the forward rules bound to a device, or for None the ops on Tensors."""

    def __init__(self, device: Device | None) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Callable[..., Any]:
        found = _registry.get(name)
        if found is None:
            raise AttributeError(f"there is no op named {name!r}")
        function = self(found)
        setattr(self, name, function)
        return function

    def __call__(self, op: "Op[Any]") -> Callable[..., Any]:
        """The function for an op that has no name here: one of the user's own."""
        return op if self._device is None else functools.partial(op.forward, op.context(self._device))


_on_tensors = Functions(None)
_on_arrays = functools.cache(Functions)


def _parameters(rule: Rule) -> list[str]:
    return list(inspect.signature(rule).parameters)


class _Plan:
    """What the rules of the inputs in `wanted` ask for, and how it is handed to them.

    Their arguments are picked from the pool `(g, out, F, *arguments of the op, *shapes of its inputs)`.
    """

    def __init__(self, owner: "Op[Any]", wanted: Sequence[int]) -> None:
        self._places = {"g": 0, "out": 1, "F": 2}
        self._places |= {name: 3 + k for k, name in enumerate(owner.names)}
        self._places |= {f"{owner.names[slot]}_shape": 3 + owner.arity + k for k, slot in enumerate(owner.slots)}
        self.wanted = [(k, owner.rules[k], self._picker(owner.rules[k])) for k in wanted]
        self.picks = {k: pick for k, _, pick in self.wanted}
        self.special: dict[int, Callable[[Sequence[Any], Node], Any]] = {}
        into = [owner.into[k] for k in wanted if k in owner.into]
        for k in wanted:
            if k in owner.into:
                self.special[k] = functools.partial(_increment, k, owner.into[k], self._picker(owner.into[k]))
            elif k in owner.by_rows:
                rule = owner.rules[k]
                self.special[k] = functools.partial(_rows, rule, self._picker(rule), _count_rows(rule))
        rules = [owner.rules[k] for k in wanted]
        asked = {name for rule in (*rules, *into) for name in _parameters(rule)}
        self.kept = [slot for slot in owner.slots if owner.names[slot] in asked]
        self.dropped = [slot for slot in owner.slots if slot not in self.kept]
        self.keeps_out = "out" in asked
        self.keeps_shapes = bool(into) or any(name.endswith("_shape") for name in asked)
        self.keeps = bool(self.kept) or self.keeps_out

    def _picker(self, rule: Rule) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
        places = [self._places[name] for name in _parameters(rule) if name != "buffer"]
        if len(places) == 1:
            return lambda pool: (pool[places[0]],)
        pick: Callable[[Sequence[Any]], tuple[Any, ...]] = operator.itemgetter(*places)
        return pick


def _increment(k: int, rule: Rule, pick: Callable[..., Any], pool: Sequence[Any], node: Node) -> Increment:
    arguments = pick(pool)
    make_zeros = functools.partial(node.device.xp.zeros, node.shapes[k], pool[0].dtype)
    return Increment(make_zeros, lambda buffer: rule(buffer, *arguments))


def _rows(rule: Rule, pick: Callable[..., Any], joined: int, pool: Sequence[Any], node: Node) -> Rows:
    return Rows(rule, pick(pool), joined)


def _count_rows(rule: Rule) -> int:
    """How many of a rule's first arguments have rows: all but the settings behind them."""
    names = _parameters(rule)
    return sum(name != "F" and not name.endswith("_shape") for name in names)


class Op(Generic[P]):
    """An operation on tensors, made by the decorator `op`; called like the function that it decorates, less `xp`."""

    def __init__(
        self,
        forward: Callable[..., Any],
        rules: dict[str, Rule],
        into: dict[str, Rule],
        by_rows: Sequence[str],
        promotion: Promotion | None,
        broadcasts: bool,
        view: bool | Callable[..., bool],
    ) -> None:
        functools.update_wrapper(self, forward)
        self.name = forward.__name__
        self.forward = forward
        first, *parameters = inspect.signature(forward, eval_str=True).parameters.values()
        self.names = [parameter.name for parameter in parameters]
        self.defaults = tuple(parameter.default for parameter in parameters)
        self.arity = len(parameters)
        self.wants_backend = first.name == "backend"
        self.sequence = any(parameter.annotation == Sequence[Array] for parameter in parameters)
        self.slots = [k for k, parameter in enumerate(parameters) if _takes_tensors(parameter.annotation)]
        self.promotion = promotion
        self.broadcasts = broadcasts
        self.view = view
        self.__signature__ = inspect.Signature(parameters)
        self._check(first.name, {**rules, **into})
        inputs = [self.names[slot] for slot in self.slots]
        self.rules = {inputs.index(name): rule for name, rule in rules.items()}
        self.into = {inputs.index(name): rule for name, rule in into.items()}
        self.by_rows = {inputs.index(name) for name in by_rows}
        self._plans: dict[tuple[bool, ...], _Plan] = {}

    def _check(self, first: str, rules: dict[str, Rule]) -> None:
        inputs = [self.names[slot] for slot in self.slots]
        if first not in ("xp", "backend"):
            raise TypeError(f"op {self.name!r}: the forward rule's first parameter is {first!r}; call it xp or backend")
        if not inputs or (self.sequence and len(inputs) > 1):
            raise TypeError(f"op {self.name!r}: annotate its inputs `Array`, or one of them alone `Sequence[Array]`")
        known = {"g", "out", "F", "buffer", *self.names, *(f"{name}_shape" for name in inputs)}
        for name, rule in rules.items():
            if name not in inputs:
                raise TypeError(f"op {self.name!r}: a rule for {name!r}, but its inputs are {', '.join(inputs)}")
            if unknown := set(_parameters(rule)) - known:
                raise TypeError(f"op {self.name!r}: the rule for {name!r} asks for {', '.join(sorted(unknown))}")

    def __repr__(self) -> str:
        return f"<op {self.name}{self.__signature__}>"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def context(self, device: Device) -> Any:
        """The first argument of the forward rule on that device."""
        return device.backend if self.wants_backend else device.xp

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        arguments: Sequence[Any] = args
        if kwargs or len(args) != self.arity:
            arguments = self._bind(args, kwargs)
        inputs = list(arguments[self.slots[0]]) if self.sequence else [arguments[slot] for slot in self.slots]

        # One pass over the inputs: their device, whether they are fit to be computed with, and whether to record.
        device: Device | None = None
        dtype: Any = None
        fit, records = True, False
        arrays = []
        for value in inputs:
            if isinstance(value, Tensor):
                array = value._array
                if device is None:
                    device, dtype = value.device, array.dtype
                    fit = fit and (dtype.kind == "f" or self.promotion is None)
                elif value.device is not device:
                    raise self._mixed(inputs)
                elif array.dtype is not dtype:
                    fit = False
                if value._requires_grad:
                    records = True
                if value._viewed_at is not None:
                    value._check_current(self.name)
                arrays.append(array)
            else:
                arrays.append(value)
                fit = fit and (type(value) in _NUMBERS or value is None)
        if device is None or not fit:
            inputs, device = self._settle(inputs, device)
            arrays = [value._array if isinstance(value, Tensor) else value for value in inputs]
            arguments = self._place(arguments, inputs)

        values = self._place(arguments, arrays)
        try:
            out = self.forward(device.backend if self.wants_backend else device.xp, *values)
        except (TypeError, ValueError, IndexError) as error:
            raise self._explained(error, inputs) from error
        if MODE.anomaly:
            self._check_forward(arrays, out)

        node = None
        if records and self.rules and MODE.recording:
            node = self._record(arguments, inputs, arrays, out, device)
        if isinstance(out, tuple):
            picks = [node if node is None else Pick(node, k) for k in range(len(out))]
            results = [self._result(part, device, pick, values, inputs) for part, pick in zip(out, picks, strict=True)]
            return tuple(results)  # type: ignore[return-value]
        return self._result(out, device, node, values, inputs)

    def _result(
        self, out: Array, device: Device, node: Node | None, values: Sequence[Any], inputs: Sequence[Any]
    ) -> Tensor:
        if out.__class__ is not device.array_type:
            out = device.backend.as_array(out)
        result = Tensor._wrap(out, device, node)
        if self.view is not False and (self.view is True or self.view(*values)):
            result._share_version(inputs[0])
        return result

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
        arguments = [*args, *self.defaults[len(args) :]]
        for name, value in kwargs.items():
            name = _ALIASES.get(name, name)
            if name not in self.names or self.names.index(name) < len(args):
                raise TypeError(f"{self.name}: unexpected or repeated argument {name!r}; it is {self!r}")
            arguments[self.names.index(name)] = value
        if len(arguments) != self.arity or inspect.Parameter.empty in arguments[len(args) :]:
            raise TypeError(f"{self.name}: {len(args) + len(kwargs)} arguments do not fit; it is {self!r}")
        return arguments

    def _place(self, arguments: Sequence[Any], inputs: list[Any]) -> list[Any]:
        """The arguments with these inputs in their slots."""
        if len(inputs) == self.arity and not self.sequence:
            return inputs
        placed = list(arguments)
        if self.sequence:
            placed[self.slots[0]] = inputs
        else:
            for slot, value in zip(self.slots, inputs, strict=True):
                placed[slot] = value
        return placed

    def _settle(self, inputs: Sequence[Any], device: Device | None) -> tuple[list[Any], Device]:
        """The inputs as tensors of one device and, where the op promotes, one dtype; numbers beside them stay."""
        if device is None:
            owners = (device_of(value) for value in inputs)
            device = next((owner for owner in owners if owner is not None), None) or get_device()
            if all(type(value) in _NUMBERS or value is None or isinstance(value, np.generic) for value in inputs):
                inputs = [None if value is None else as_tensor(value, device) for value in inputs]
        settled: list[Any] = []
        for value in inputs:
            value = value.item() if isinstance(value, np.generic) else value
            if not isinstance(value, Tensor) and type(value) not in _NUMBERS and value is not None:
                if device_of(value) not in (None, device):
                    raise self._mixed(inputs)
                value = as_tensor(value, device)
            settled.append(value)
        if self.promotion is not None:
            # Inputs without a rule, such as a condition, are not computed with.
            promoted = [self.sequence or not self.rules or k in self.rules for k in range(len(settled))]
            dtype = self._common_dtype(
                [value for value, takes_part in zip(settled, promoted, strict=True) if takes_part]
            )
            for k, value in enumerate(settled):
                if promoted[k] and isinstance(value, Tensor):
                    settled[k] = value.to(dtype=dtype)
        return settled, device

    def _common_dtype(self, inputs: Sequence[Any]) -> np.dtype[Any]:
        """NumPy's promotion, but integers never widen a float, and become float32 where a float is needed."""
        dtypes = [value.dtype for value in inputs if isinstance(value, Tensor)]
        floats = [dtype for dtype in dtypes if dtype.kind == "f"]
        if floats:
            return np.result_type(*floats)
        if self.promotion == "float" or any(isinstance(value, float) for value in inputs):
            return DEFAULT_FLOAT
        return np.result_type(*dtypes)

    def _record(
        self, arguments: Sequence[Any], inputs: Sequence[Any], arrays: list[Any], out: Any, device: Device
    ) -> Node:
        parents = tuple(
            [value._graph_node() if isinstance(value, Tensor) and value._requires_grad else None for value in inputs]
        )
        wanted = (True,) if self.sequence else tuple([parent is not None for parent in parents])
        plan = self._plan(wanted)
        saved = arguments
        if plan.dropped:
            saved = list(arguments)
            for slot in plan.dropped:
                saved[slot] = None
        shapes = None
        if plan.keeps_shapes:
            shapes = [_shape(array) for array in arrays]
        elif self.broadcasts:
            shape = _shape(out)
            for array in arrays:
                if _shape(array) != shape:
                    shapes = [_shape(array) for array in arrays]
                    break
        node = Node(self, parents, device, plan, saved, out if plan.keeps_out else None, shapes)
        if isinstance(out, tuple):
            node.parts = [(part.shape, part.dtype) for part in out]
        return node

    def _plan(self, wanted: tuple[bool, ...]) -> _Plan:
        plan = self._plans.get(wanted)
        if plan is None:
            plan = self._plans[wanted] = _Plan(self, [k for k, wants in enumerate(wanted) if wants and k in self.rules])
        return plan

    def pull(self, node: Node, g: Any, needed: set[Node] | None, create_graph: bool) -> Iterable[tuple[Node, Any]]:
        """Each input's node with its gradient, given that of the output: arrays, or Tensors with `create_graph`."""
        plan, device = node.plan, node.device
        F = _on_tensors if create_graph else _on_arrays(device)
        values, out = node.retained()
        if node.parts is not None:
            g = self._complete(node, g, create_graph)
        if plan.kept:
            values = self._unwrapped(node, values, create_graph)
        if plan.keeps_out:
            if node.overwritten:
                raise self._changed(node, "its output")
            if create_graph:
                out = Tensor._wrap(out, device, node)
        parents, shapes = node.parents, node.shapes
        if self.sequence:
            gradients = self.rules[0](*plan.picks[0]((g, out, F, *values, shapes)))
            return [
                (parent, gradient)
                for parent, gradient in zip(parents, gradients, strict=True)
                if parent is not None and (needed is None or parent in needed)
            ]
        pool = (g, out, F, *values) if shapes is None else (g, out, F, *values, *shapes)
        pulled: list[tuple[Node, Any]] = []
        for k, rule, pick in plan.wanted:
            parent = parents[k]
            if needed is not None and parent not in needed:
                continue
            if k in plan.special and not create_graph:
                gradient = plan.special[k](pool, node)
            else:
                gradient = rule(*pick(pool))
                if shapes is not None and gradient.shape != shapes[k]:
                    gradient = F.sum_to(gradient, shapes[k])
            pulled.append((parent, gradient))
        return pulled

    def _unwrapped(self, node: Node, saved: Sequence[Any], create_graph: bool) -> Sequence[Any]:
        """What was saved, on arrays if no graph is made; raises if a tensor among it was changed since."""
        values = list(saved)
        for slot in node.plan.kept:
            value = values[slot]
            if isinstance(value, Tensor):
                if value._version is not None and value._version.written > node.number:
                    raise self._changed(node, f"an input of shape {value.shape}")
                if not create_graph:
                    values[slot] = value._array
            elif isinstance(value, list):
                for part in value:
                    if isinstance(part, Tensor) and part._version is not None and part._version.written > node.number:
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

    def _check_forward(self, arrays: list[Any], out: Any) -> None:
        parts = out if isinstance(out, tuple) else (out,)
        if any(map(has_nan, parts)) and not any(has_nan(array) for array in arrays if hasattr(array, "dtype")):
            raise FloatingPointError(f"detect_anomaly: op {self.name!r} made a NaN at {user_line()}")

    def _describe(self, inputs: Sequence[Any]) -> str:
        return ", ".join(
            f"{value.dtype} {value.shape} on {value.device}" if isinstance(value, Tensor) else type(value).__name__
            for value in inputs
        )

    def _explained(self, error: Exception, inputs: Sequence[Any]) -> Exception:
        kind = next(
            kind for kind in (np.exceptions.AxisError, IndexError, TypeError, ValueError) if isinstance(error, kind)
        )
        return kind(f"{self.name}: {error} (inputs: {self._describe(inputs)})")

    def _mixed(self, inputs: Sequence[Any]) -> RuntimeError:
        devices = [value.device if isinstance(value, Tensor) else device_of(value) for value in inputs]
        names = " and ".join(dict.fromkeys(repr(str(device)) for device in devices if device is not None))
        return RuntimeError(
            f"{self.name}: inputs on {names}; move them to one device with .to(device) "
            f"(inputs: {self._describe(inputs)})"
        )


class _Unary(Op[P]):
    """An op of one input and no settings, with a short cut for the common call: a float tensor, and nothing watched."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if kwargs or len(args) != 1 or MODE.watched or self.view is not False or self.sequence:
            return super().__call__(*args, **kwargs)
        x: Any = args[0]
        if not isinstance(x, Tensor) or (array := x._array).dtype.kind != "f":
            return super().__call__(*args, **kwargs)
        if x._viewed_at is not None:
            x._check_current(self.name)
        device = x.device
        out = self.forward(device.backend if self.wants_backend else device.xp, array)
        if out.__class__ is not device.array_type:
            out = device.backend.as_array(out)
        if not x._requires_grad or not MODE.recording or not self.rules:
            return Tensor._wrap(out, device)
        plan = self._plan(_ONE)
        shapes = [array.shape] if plan.keeps_shapes else None
        saved = args if plan.kept else _NOTHING
        node = Node(self, (x._node or x._graph_node(),), device, plan, saved, out if plan.keeps_out else None, shapes)
        return Tensor._wrap(out, device, node)


class _Binary(Op[P]):
    """An op of two inputs and no settings, with a short cut for two float tensors, or one and a number."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if kwargs or len(args) != 2 or MODE.watched or self.view is not False or len(self.slots) != 2:
            return super().__call__(*args, **kwargs)
        x: Any
        y: Any
        x, y = args
        if isinstance(x, Tensor):
            device, a, x_records = x.device, x._array, x._requires_grad
            dtype = a.dtype
            if x._viewed_at is not None:
                x._check_current(self.name)
            if isinstance(y, Tensor):
                b, y_records = y._array, y._requires_grad
                if y.device is not device or b.dtype is not dtype:
                    return super().__call__(*args, **kwargs)
                if y._viewed_at is not None:
                    y._check_current(self.name)
            elif type(y) in _NUMBERS:
                b, y_records = y, False
            else:
                return super().__call__(*args, **kwargs)
        elif isinstance(y, Tensor) and type(x) in _NUMBERS:
            device, a, b, x_records, y_records = y.device, x, y._array, False, y._requires_grad
            dtype = b.dtype
            if y._viewed_at is not None:
                y._check_current(self.name)
        else:
            return super().__call__(*args, **kwargs)
        if dtype.kind != "f":
            return super().__call__(*args, **kwargs)
        try:
            out = self.forward(device.backend if self.wants_backend else device.xp, a, b)
        except (TypeError, ValueError) as error:
            raise self._explained(error, args) from error
        if out.__class__ is not device.array_type:
            out = device.backend.as_array(out)
        if not (x_records or y_records) or not MODE.recording or not self.rules:
            return Tensor._wrap(out, device)
        plan = self._plan((x_records, y_records))
        saved = args
        if plan.dropped:
            saved = (x if 0 in plan.kept else None, y if 1 in plan.kept else None)
        shapes = None
        if self.broadcasts or plan.keeps_shapes:
            shape = out.shape
            x_shape, y_shape = a.shape if a is not x else (), b.shape if b is not y else ()
            if x_shape != shape or y_shape != shape or plan.keeps_shapes:
                shapes = [x_shape, y_shape]
        parents = (
            (x._node or x._graph_node()) if x_records else None,
            (y._node or y._graph_node()) if y_records else None,
        )
        node = Node(self, parents, device, plan, saved, out if plan.keeps_out else None, shapes)
        return Tensor._wrap(out, device, node)


_ONE = (True,)
_NOTHING = (None,)


def _takes_tensors(annotation: Any) -> bool:
    return annotation in (Array, Array | None, Sequence[Array])


def _shape(value: Any) -> tuple[int, ...]:
    return getattr(value, "shape", ())


def op(
    *,
    promotion: Promotion | None = None,
    broadcasts: bool = False,
    view: bool | Callable[..., bool] = False,
    method: bool | str = False,
    into: dict[str, Rule] | None = None,
    by_rows: Sequence[str] = (),
    **rules: Rule,
) -> Callable[[Callable[Concatenate[Any, P], Any]], Op[P]]:
    """Makes an op of a forward rule, given a derivative rule for each input that has one; see this module's text.

    Args:
        promotion: "common" brings the inputs to one dtype, as NumPy 2 does but that integers never widen a float;
            "float" does too, and makes integers float32; None leaves them as they are.
        broadcasts: the inputs broadcast against each other, so that a rule may give the gradient in the output's shape:
            it is summed to the input's.
        view: the output may share memory with the first input; or a function of the arguments that says whether.
        method: the op is a method of Tensor as well, under its own or the given name.
        into: for an input, a rule `(buffer, ...)` that adds the gradient into an array of the input's shape, used in
            place of the plain rule on arrays, where the gradient would be mostly zeros.
        by_rows: inputs whose gradient is a sum over the rows of what its rule takes, so that of an input used many
            times all rows can be taken at once. Such a rule takes arrays with rows first, shapes and `F` last.
        rules: for each input that has a derivative, its rule.

    Raises:
        TypeError: the forward rule has no input, or a rule is for no input or asks for a name that is not there.

    >>> import tinygrad_lstm as tg
    >>> @tg.op(x=lambda g, x: g * 3 * x * x)
    ... def cube(xp, x: tg.Array):
    ...     return x * x * x
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> cube(x).sum().backward()
    >>> x.grad
    tensor([ 3., 12.])
    """

    def define(forward: Callable[Concatenate[Any, P], Any]) -> Op[P]:
        kind = {1: _Unary, 2: _Binary}.get(len(inspect.signature(forward).parameters) - 1, Op)
        made: Op[P] = kind(forward, rules, into or {}, by_rows, promotion, broadcasts, view)
        if forward.__module__.startswith(__package__):
            _registry[made.name] = made
        if method:
            setattr(Tensor, method if isinstance(method, str) else made.name, made)
        return made

    return define


def composite(function: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Makes a function built of ops take arrays and numbers, and `axis=`, `keepdims=`; and makes it a Tensor method."""

    @functools.wraps(function)
    def call(x: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs:
            for alias in _ALIASES.keys() & kwargs.keys():
                kwargs[_ALIASES[alias]] = kwargs.pop(alias)
        return function(x if isinstance(x, Tensor) else as_tensor(x), *args, **kwargs)

    setattr(Tensor, function.__name__, call)
    return call
