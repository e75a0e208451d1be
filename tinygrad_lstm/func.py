"""Derivatives of plain functions over plain arrays.

Each function here takes a function and gives back another one, to be called with the same arguments. The arguments may
be NumPy or CuPy arrays, Python floats (computed with in float64), Tensors, or tuples, lists and dicts of these; the
function itself is given Tensors in place of all arrays, and computes with `tg` ops.

What comes back is of the kind that was given: arrays for arrays, floats for floats, Tensors for Tensors. Since Tensors
stay part of the graph, transformed functions nest: `grad(grad(f))`, or `tg.grad` over what `func.grad` gave. Arrays and
floats carry no graph, but inside the function of another transformation: there, what depends on its arguments comes
back as a Tensor.

`argnums` says which positional arguments to differentiate in: an int, or a tuple of ints, for which the derivative is
a tuple as well. The `.grad` of no tensor is touched.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import FLOAT64, is_float
from tinygrad_lstm.backends.scoped import Scoped

from ._tensor import Tensor, as_tensor, tensor
from .autograd import grad as gradients_of
from .creation import ones_like, zeros, zeros_like
from .device import Device, device_of, get_device
from .graph import GraphNode, Leaf, ancestors
from .mode import enable_grad, mode, no_grad
from .ops.shape import stack

__all__ = ["grad", "hessian", "hvp", "jacobian", "value_and_grad", "vjp"]

Argnums = int | tuple[int, ...]


def grad(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The gradient of a scalar function: of the shape, dtype and structure of the argument.

    Raises:
        ValueError: (when called) the function gives more than one element, or `argnums` names no argument.
        TypeError: (when called) the argument is not of floats, or the function gives no Tensor of floats.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> tg.func.grad(lambda x: (x**3).sum())(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> tg.func.grad(tg.func.grad(lambda x: x**3))(2.0)
    12.0
    """

    @functools.wraps(function, updated=())
    def gradient(*args: Any, **kwargs: Any) -> Any:
        call = _Call("grad", function, argnums, args, kwargs)
        return call.gradients([call.one()], retain_graph=False)

    return gradient


def value_and_grad(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., tuple[Any, Any]]:
    """The pair of a scalar function's value and its gradient; see `grad`.

    >>> import tinygrad_lstm as tg
    >>> tg.func.value_and_grad(lambda x, y: x * y, argnums=(0, 1))(2.0, 3.0)
    (6.0, (3.0, 2.0))
    """

    @functools.wraps(function, updated=())
    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        call = _Call("value_and_grad", function, argnums, args, kwargs)
        gradient = call.gradients([call.one()], retain_graph=False)
        return call.value(), gradient

    return value_and_gradient


def vjp(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., tuple[Any, Callable[[Any], Any]]]:
    """The pair of a function's value, of any shape and structure, and of `pull`.

    `pull(v)`, for a `v` of the value's shape and structure, gives v times the Jacobian: the gradient of (v · value), of
    the shape and structure of the argument. It can be called any number of times.

    Raises:
        ValueError: (of `pull`) v has not the value's shape or structure.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> value, pull = tg.func.vjp(lambda x: x * x)(np.array([1.0, 2.0]))
    >>> value, pull(np.array([1.0, 10.0]))
    (array([1., 4.]), array([ 2., 40.]))
    """

    @functools.wraps(function, updated=())
    def value_and_pull(*args: Any, **kwargs: Any) -> tuple[Any, Callable[[Any], Any]]:
        call = _Call("vjp", function, argnums, args, kwargs)
        return call.value(), call.pull

    return value_and_pull


def jacobian(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The derivative of each output element in each input element: (*output shape, *argument shape).

    Of a function that gives a tuple, list or dict, one of Jacobians; each of which, for an argument that is one, or for
    a tuple of `argnums`, is a tuple, list or dict of arrays in turn. One walk back is made for each output element.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> tg.func.jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    @functools.wraps(function, updated=())
    def all_derivatives(*args: Any, **kwargs: Any) -> Any:
        call = _Call("jacobian", function, argnums, args, kwargs)
        return call.jacobian()

    return all_derivatives


def hessian(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The second derivatives of a scalar function: (*argument shape, *argument shape).

    For a tuple of `argnums`, a tuple of tuples: [i][j] is the derivative in argument i, then j.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> tg.func.hessian(lambda x: x[0] * x[1])(np.array([1.0, 2.0]))
    array([[0., 1.],
           [1., 0.]])
    """
    return jacobian(grad(function, argnums), argnums)


def hvp(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The product of the Hessian and a vector, which is called for as the last positional argument.

    `hvp(f)(x, v)` is of the shape and structure of the argument x, as v must be (a tuple for a tuple of `argnums`): two
    walks, whatever the size.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> tg.func.hvp(lambda x: (x**3).sum())(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """

    @functools.wraps(function, updated=())
    def product(*args: Any, **kwargs: Any) -> Any:
        if len(args) < 2:
            raise TypeError("hvp: expected the function's arguments and then the vector, got too few arguments")
        _, pull = vjp(grad(function, argnums), argnums)(*args[:-1], **kwargs)
        return pull(args[-1])

    return product


_ACTIVE = Scoped("nodes of arguments", frozenset[GraphNode]())
"""The nodes of the tensors that stand for arguments in the calls under way."""


class _Call:
    """One call of a function, with tensors in place of its arguments; `inputs` are those to differentiate in."""

    def __init__(
        self, name: str, function: Callable[..., Any], argnums: Argnums, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        self._name = name
        self._records = mode().value.recording
        chosen = [_position(name, k, len(args)) for k in ([argnums] if isinstance(argnums, int) else argnums)]
        self._argument = args[chosen[0]] if isinstance(argnums, int) else tuple(args[k] for k in chosen)
        self._place = _common_place(args)
        with enable_grad():
            stands_in = {k: _mapped(self._input, args[k]) for k in chosen}
            self.inputs: list[Tensor] = list(_leaves([stands_in[k] for k in chosen]))
            own = {node for node in (value._graph_node() for value in self.inputs) if node not in _ACTIVE.value}
            with _ACTIVE.set_to(_ACTIVE.value | own):
                given = [stands_in.get(k, _mapped(_wrapped, value)) for k, value in enumerate(args)]
                self._result = function(*given, **kwargs)
        self._outputs = [self._output(value) for value in _leaves(self._result)]
        self._in_graph = self._reaches_further(own)

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
            raise TypeError(f"{self._name}: the function gave a {type(value).__name__}; it must give a Tensor")
        if not is_float(value.dtype):
            raise TypeError(f"{self._name}: the function gave a Tensor of {value.dtype}; it must give one of floats")
        return value

    def _reaches_further(self, own: set[GraphNode]) -> bool:
        """Whether the outputs depend on more than the inputs, in a way that the caller may differentiate."""
        holds_tensors = any(isinstance(value, Tensor) for value in _leaves(self._argument))
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
            raise ValueError(f"{self._name}: the function gave {shapes}; it must give a scalar, or use func.jacobian")
        (output,) = self._outputs
        return ones_like(output)

    def value(self) -> Any:
        """What the function gave, in the kind of the arguments."""
        outputs = (output if self._in_graph else output.detach() for output in self._outputs)
        kinds = list(_leaves(self._argument))
        like = next((kind for kind in kinds if type(kind) is not float), 0.0)
        like = next((kind for kind in kinds if isinstance(kind, Tensor)), like)
        return _mapped(lambda _: _as_kind(next(outputs), like), self._result)

    def gradients(self, grad_outputs: Sequence[Tensor], retain_graph: bool = True) -> Any:
        """The gradient of the (weighted) outputs in the argument."""
        found = iter(self._walk(self._outputs, grad_outputs, retain_graph))
        return _mapped(lambda like: _as_kind(next(found), like), self._argument)

    def _walk(
        self, outputs: Sequence[Tensor], grad_outputs: Sequence[Tensor], retain_graph: bool = True
    ) -> list[Tensor]:
        joined = [(output, g) for output, g in zip(outputs, grad_outputs, strict=True) if output.requires_grad]
        records = mode().value.recording and (self._in_graph or any(g.requires_grad for g in grad_outputs))
        found: Sequence[Tensor | None] = [None] * len(self.inputs)
        if joined:
            found = gradients_of(
                [output for output, _ in joined],
                self.inputs,
                [g for _, g in joined],
                retain_graph=retain_graph or records,
                create_graph=records,
                allow_unused=True,
            )
        return [zeros_like(like) if g is None else g for g, like in zip(found, self.inputs, strict=True)]

    def pull(self, cotangent: Any) -> Any:
        """The gradient of (cotangent · outputs) in the argument."""
        weights = []
        for weight, output in zip(_aligned(self._name, cotangent, self._result), self._outputs, strict=True):
            weight = output._matching(weight)
            if weight.shape != output.shape:
                raise ValueError(f"{self._name}: an output has shape {output.shape}, what was given {weight.shape}")
            weights.append(weight)
        return self.gradients(weights)

    def jacobian(self) -> Any:
        """The gradient of each element of each output, as one array for each output and input."""
        outputs = iter(self._outputs)
        return _mapped(lambda _: self._jacobian_of(next(outputs)), self._result)

    def _jacobian_of(self, output: Tensor) -> Any:
        rows = []
        for k in range(output.size):
            weight = zeros(output.size, dtype=output.dtype, device=output.device)
            weight[k] = 1
            rows.append(self._walk([output], [weight.reshape(output.shape)]))
        with enable_grad() if mode().value.recording and self._in_graph else no_grad():
            stacked = iter(
                [self._stacked(output, like, [row[k] for row in rows]) for k, like in enumerate(self.inputs)]
            )
        return _mapped(lambda like: _as_kind(next(stacked), like), self._argument)

    def _stacked(self, output: Tensor, like: Tensor, rows: list[Tensor]) -> Tensor:
        shape = (*output.shape, *like.shape)
        return stack(rows).reshape(shape) if rows else zeros(shape, dtype=like.dtype, device=like.device)


def _position(name: str, argnum: Any, number: int) -> int:
    if not isinstance(argnum, int) or isinstance(argnum, bool):
        raise TypeError(f"{name}: argnums must be an int or a tuple of ints, got {argnum!r}")
    if not -number <= argnum < number:
        raise ValueError(f"{name}: argnums {argnum} names no argument; {number} positional arguments were given")
    return argnum % number


def _common_place(args: Sequence[Any]) -> Device:
    """The device of the arrays among the arguments, on which numbers beside them are put."""
    places = (value.device if isinstance(value, Tensor) else device_of(value) for value in _leaves(args))
    return next(filter(None, places), None) or get_device()


def _wrapped(value: Any) -> Any:
    """An array as a tensor; anything else as it is."""
    return value if isinstance(value, Tensor) or device_of(value) is None else as_tensor(value)


def _as_kind(value: Tensor, like: Any) -> Any:
    """A result as a float, an array or a Tensor, as `like` is; a Tensor in any case where it is part of a graph."""
    if value.requires_grad or isinstance(like, Tensor):
        return value
    if type(like) is float and not value.shape:
        return value.item()
    return value.data[()] if isinstance(like, np.generic) else value.data


def _leaves(tree: Any) -> Iterator[Any]:
    """What the nested tuples, lists and dicts hold, in order."""
    if isinstance(tree, tuple | list | dict):
        parts = tree.values() if isinstance(tree, dict) else tree
        yield from itertools.chain.from_iterable(map(_leaves, parts))
    else:
        yield tree


def _aligned(name: str, tree: Any, like: Any) -> Iterator[Any]:
    """What `tree` holds where `like`, nested in the same way, holds its own."""
    if not isinstance(like, tuple | list | dict):
        yield tree
        return
    keys = like.keys() if isinstance(like, dict) else range(len(like))
    if (
        isinstance(like, dict) != isinstance(tree, dict)
        or not isinstance(tree, tuple | list | dict)
        or len(tree) != len(like)
    ):
        raise ValueError(f"{name}: expected a {type(like).__name__} of {len(like)} parts, as the function gave")
    for key in keys:
        yield from _aligned(name, tree[key], like[key])


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same nesting of tuples, lists and dicts, with each thing in it replaced."""
    if isinstance(tree, dict):
        return {key: _mapped(function, part) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [_mapped(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return function(tree)
