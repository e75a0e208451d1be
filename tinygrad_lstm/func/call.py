"""One call of a function that is differentiated."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np

from tinygrad_lstm.backends.dtypes import FLOAT64, is_float
from tinygrad_lstm.backends.scoped import Scoped

from .._tensor import Tensor, as_tensor, tensor
from ..autograd import grad as gradients_of
from ..creation import ones_like, zeros, zeros_like
from ..device import Device, device_of, get_device
from ..graph import GraphNode, Leaf, ancestors
from ..mode import Switch, enable_grad, mode
from ..ops.shape import stack
from .trees import aligned, leaves, mapped

Argnums = int | tuple[int, ...]

_ACTIVE = Scoped("nodes of arguments", frozenset[GraphNode]())
"""The nodes of the tensors that replace arguments in the current calls."""


class Call:
    """A call of a function with tensors instead of its arguments; `inputs` are the tensors to differentiate in."""

    def __init__(
        self, name: str, function: Callable[..., Any], argnums: Argnums, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        self._name = name
        self._function = function
        self._kwargs = kwargs
        self._records = mode().value.recording
        numbers: Sequence[Any] = argnums if isinstance(argnums, tuple | list) else [argnums]
        chosen = [_position(name, k, len(args)) for k in numbers]
        self._argument = tuple(args[k] for k in chosen) if numbers is argnums else args[chosen[0]]
        self._place = _common_place(args)
        with enable_grad():
            self._stand_ins = {k: mapped(self._input, args[k]) for k in chosen}
        self.inputs: list[Tensor] = list(leaves([self._stand_ins[k] for k in chosen]))
        self.others = {k: mapped(_wrapped, value) for k, value in enumerate(args) if k not in chosen}

    def run(self, others: dict[int, Any] | None = None) -> Self:
        """Calls the function. `others`, by position, replace the arguments that are not differentiated in."""
        given = self._stand_ins | (self.others if others is None else others)
        own = {value._graph_node() for value in self.inputs} - _ACTIVE.value
        with enable_grad(), _ACTIVE.set_to(_ACTIVE.value | own):
            self._result = self._function(*(given[k] for k in range(len(given))), **self._kwargs)
        if any(value._version is not None and value._version.written >= 0 for value in self.inputs):
            raise RuntimeError(
                f"{self._name}: the function changed an argument in place; it must change a .clone() of it"
            )
        self._outputs = [self._output(value) for value in leaves(self._result)]
        self._in_graph = self._reaches_further(own)
        return self

    def _input(self, value: Any) -> Tensor:
        if isinstance(value, Tensor) and value.requires_grad:
            return value.clone()
        dtype = FLOAT64 if type(value) is float else getattr(value, "dtype", None)
        if dtype is None or not is_float(dtype):
            given = type(value).__name__ if dtype is None else f"{dtype} {type(value).__name__}"
            raise TypeError(
                f"{self._name}: expected floats, or an array or Tensor of them, to differentiate in, got {given}"
            )
        return tensor(value, dtype, None if isinstance(value, Tensor) else self._place, requires_grad=True)

    def _output(self, value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            raise TypeError(f"{self._name}: the function returned a {type(value).__name__}; it must return a Tensor")
        if not is_float(value.dtype):
            raise TypeError(f"{self._name}: the function returned a Tensor of {value.dtype}; it must return floats")
        return value

    def _reaches_further(self, own: set[GraphNode]) -> bool:
        """Whether the outputs depend on tensors besides the inputs in which the caller may differentiate."""
        holds_tensors = any(isinstance(value, Tensor) for value in leaves(self._argument))
        if not self._records or not (holds_tensors or _ACTIVE.value):
            return False
        nodes = ancestors(output._graph_node() for output in self._outputs if output.requires_grad)
        return any(
            node in _ACTIVE.value or (holds_tensors and isinstance(node, Leaf) and node not in own) for node in nodes
        )

    def one(self) -> Tensor:
        """The gradient of a scalar function's output with respect to itself."""
        if len(self._outputs) != 1 or self._outputs[0].size != 1:
            shapes = " and ".join(str(output.shape) for output in self._outputs) or "nothing"
            raise ValueError(
                f"{self._name}: the function returned {shapes}; it must return a scalar, or use func.jacobian"
            )
        (output,) = self._outputs
        return ones_like(output)

    def value(self) -> Any:
        """The result of the function, in the kind of the arguments.

        Results without a graph are copies: derivatives may be computed after the caller has changed them in place.
        """
        return self._as_result(
            output if self._in_graph and output.requires_grad else output.detach().clone() for output in self._outputs
        )

    def _as_result(self, tensors: Iterable[Tensor]) -> Any:
        """A tensor for each output, nested as the function returned them, in the kind of the arguments."""
        kinds = list(leaves(self._argument))
        like = next((kind for kind in kinds if type(kind) is not float), 0.0)
        like = next((kind for kind in kinds if isinstance(kind, Tensor)), like)
        found = iter(tensors)
        return mapped(lambda _: _as_kind(next(found), like), self._result)

    def like_argument(self, tensors: Iterable[Tensor]) -> Any:
        """A tensor for each input, nested as the argument, each in the kind of its input."""
        found = iter(tensors)
        return mapped(lambda kind: _as_kind(next(found), kind), self._argument)

    def gradients(self, grad_outputs: Sequence[Tensor], retain_graph: bool = True) -> Any:
        """The gradient of the weighted outputs in the argument."""
        return self.like_argument(self.walk(grad_outputs, retain_graph))

    def walk(self, grad_outputs: Sequence[Tensor], retain_graph: bool = True) -> list[Tensor]:
        """The gradient of the weighted outputs in each of the inputs."""
        records = self._records_product(grad_outputs)
        return _gradients(self._outputs, self.inputs, grad_outputs, retain_graph or records, records)

    def _records_product(self, weights: Sequence[Tensor]) -> bool:
        """Whether the caller may differentiate a product of the Jacobian and these weights."""
        return mode().value.recording and (self._in_graph or any(weight.requires_grad for weight in weights))

    def pull(self, cotangent: Any) -> Any:
        """The gradient of (cotangent · outputs) in the argument."""
        given = aligned(self._name, cotangent, self._result, "the function returned")
        return self.gradients(self._weights(given, self._outputs, "an output"))

    def push(self, tangent: Any) -> Any:
        """The derivative of the outputs along the tangent: the Jacobian times it."""
        given = aligned(self._name, tangent, self._argument, "the primals are")
        weights = self._weights(given, self.inputs, "an argument")
        cotangents, pulled = self._transposed
        return self._as_result(_gradients(pulled, cotangents, weights, True, self._records_product(weights)))

    @functools.cached_property
    def _transposed(self) -> tuple[list[Tensor], list[Tensor]]:
        """Cotangents v of the outputs, and v times the Jacobian, recorded so that it can be differentiated in v.

        Only the graph is used, not the values: v is zero, so that nothing overflows, and a NaN, which is zero times an
        infinite derivative, is not an error.
        """
        cotangents = [zeros_like(output, requires_grad=True) for output in self._outputs]
        with Switch(anomaly=False), np.errstate(invalid="ignore"):
            return cotangents, _gradients(self._outputs, self.inputs, cotangents, True, True)

    def _weights(self, given: Iterable[Any], tensors: Sequence[Tensor], what: str) -> list[Tensor]:
        """The given values as tensors of the same shapes, dtypes and devices as these."""
        weights = []
        for value, like in zip(given, tensors, strict=True):
            weight = like._matching(value)
            if weight.shape != like.shape:
                raise ValueError(f"{self._name}: {what} has shape {like.shape}, got {weight.shape}")
            weights.append(weight)
        return weights

    def jacobian(self) -> Any:
        """The gradient of each element of each output: one array for each output and input."""
        outputs = iter(self._outputs)
        return mapped(lambda _: self._jacobian_of(next(outputs)), self._result)

    def _jacobian_of(self, output: Tensor) -> Any:
        whole = stacked(self._rows(output), output.size, self.inputs)
        shaped = (rows.reshape((*output.shape, *like.shape)) for rows, like in zip(whole, self.inputs, strict=True))
        return self.like_argument(shaped)

    def _rows(self, output: Tensor) -> Iterator[list[Tensor]]:
        """The gradients of the elements of the output, one after the other."""
        records = self._records_product([])
        for k in range(output.size):
            weight = zeros(output.size, dtype=output.dtype, device=output.device)
            weight[k] = 1
            yield _gradients([output], self.inputs, [weight.reshape(output.shape)], True, records)


def _gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Sequence[Tensor],
    retain_graph: bool,
    create_graph: bool,
) -> list[Tensor]:
    """The gradients of the weighted outputs in the inputs; zero for an input that no output depends on."""
    joined = [(output, g) for output, g in zip(outputs, grad_outputs, strict=True) if output.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if joined:
        found = gradients_of(
            [output for output, _ in joined],
            inputs,
            [g for _, g in joined],
            retain_graph=retain_graph,
            create_graph=create_graph,
            allow_unused=True,
        )
    return [zeros_like(like) if g is None else g for g, like in zip(found, inputs, strict=True)]


def stacked(rows: Iterable[Sequence[Tensor]], number: int, like: Sequence[Tensor]) -> list[Tensor]:
    """Stacks `number` rows, each a list of tensors like these, into one list of tensors (number, ·).

    Tensors that are not part of a graph are copied immediately.
    """
    whole = [zeros((number, *x.shape), dtype=x.dtype, device=x.device) for x in like]
    recorded: list[dict[int, Tensor]] = [{} for _ in like]
    for k, row in enumerate(rows):
        for part, parts, in_graph in zip(row, whole, recorded, strict=True):
            if part.requires_grad:
                in_graph[k] = part
            else:
                parts[k] = part
    return [
        stack([in_graph.get(k, parts[k]) for k in range(number)]) if in_graph else parts
        for parts, in_graph in zip(whole, recorded, strict=True)
    ]


def _position(name: str, argnum: Any, number: int) -> int:
    if not isinstance(argnum, int) or isinstance(argnum, bool):
        raise TypeError(f"{name}: argnums must be an int or a tuple of ints, got {argnum!r}")
    if not -number <= argnum < number:
        raise ValueError(f"{name}: argnums {argnum} names no argument; {number} positional arguments were given")
    return argnum % number


def _common_place(args: Sequence[Any]) -> Device:
    """The device of the arrays among the arguments, for numbers that are given with them."""
    places = (value.device if isinstance(value, Tensor) else device_of(value) for value in leaves(args))
    return next(filter(None, places), None) or get_device()


def _wrapped(value: Any) -> Any:
    """An array as a tensor; anything else unchanged."""
    return value if isinstance(value, Tensor) or device_of(value) is None else as_tensor(value)


def _as_kind(value: Tensor, like: Any) -> Any:
    """A result as a float, an array or a Tensor, as `like` is; always a Tensor if it is part of a graph."""
    if value.requires_grad or isinstance(like, Tensor):
        return value
    if type(like) is float and not value.shape:
        return value.item()
    return value.data[()] if isinstance(like, np.generic) else value.data
