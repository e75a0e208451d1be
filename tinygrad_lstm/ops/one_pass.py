"""Elementwise functions of large tensors in one pass over memory, forward and backward, on devices that can do so.

The function is run once on small tensors, which records the ops that it applies, and their derivative. The backend
makes code of both: one loop that computes all of a function element by element. Each op alone would read its inputs
from memory, and write its result there. Gradients of higher order differentiate the function's ops.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, NamedTuple, ParamSpec

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.emit.program import BATCH

from .._tensor import Tensor
from ..mode import mode
from .calling import MANY, caller
from .operation import MISSING, Op

__all__ = ["OnePass", "one_pass"]

P = ParamSpec("P")

_MOST = 16  # combinations of settings, dtypes and needs that are compiled of a function; all others use its ops
_SETTINGS = frozenset({bool, float, int, str, type(None)})


class OnePass:
    """An elementwise function, in one pass.

    Args:
        function: the function, of tensors and settings.
        name: its name, which the graph shows.
    """

    __slots__ = "_call", "_function", "_made", "name"

    def __init__(self, function: Callable[..., Tensor], name: str) -> None:
        self._function, self.name = function, name
        self._made: dict[Any, Any] = {}
        self._call = caller(Op(_forward, name, {"inputs": _rule}, None, False, False, _composed, True))

    def __call__(self, *arguments: Any, **named: Any) -> Tensor | None:
        """The function's result; None if it cannot be computed in one pass, and nothing has been done."""
        now = mode().value
        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        array, device = tensors[0]._array, tensors[0].device
        likes = [(each._array.shape, each._array.dtype, each.device) for each in tensors]
        if now.watched or likes.count(likes[0]) != len(likes):
            return None
        make = device.backend.one_pass(array.dtype)
        if make is None:
            return None
        given = [(name, each) for name, each in (*enumerate(arguments), *named.items()) if not isinstance(each, Tensor)]
        if len(given) + len(tensors) != len(arguments) + len(named):
            return None
        settings = tuple([(name, type(each), each) for name, each in given])
        if not all([kind in _SETTINGS for _, kind, _ in settings]):
            return None
        needs = tuple([now.recording and each._node is not None for each in tensors])
        key = settings, needs, array.dtype, device
        found = self._made.get(key, MISSING)
        if found is MISSING:
            if len(self._made) >= _MOST:
                return None
            found = self._made[key] = self._traced(arguments, named, tensors, needs, make)
        return None if found is None else self._call(tensors, found)

    def _traced(
        self,
        arguments: Sequence[Any],
        named: dict[str, Any],
        tensors: Sequence[Tensor],
        needs: Sequence[bool],
        make: Callable[..., Any],
    ) -> "_Made | None":
        from ..tracing.run import Like, UntraceableError
        from ..tracing.step import TracedStep, derivative_of

        are_tensors = [isinstance(each, Tensor) for each in arguments]
        settings = [None if is_one else each for is_one, each in zip(are_tensors, arguments)]  # it keeps no tensor

        def composed(inputs: Sequence[Tensor]) -> Tensor:
            given = iter(inputs)
            placed = [next(given) if is_one else each for is_one, each in zip(are_tensors, settings)]
            return self._function(*placed, **named)

        likes = [Like((BATCH,), each.dtype, each.device, needed) for each, needed in zip(tensors, needs)]
        try:
            program = TracedStep(lambda inputs, states, others: (composed(inputs),), likes, [], []).program
            derivative = derivative_of(program, tensors[0].device, needs) if any(needs) else None
        except UntraceableError:  # the function's own call raises the error, if there is one
            return None
        gradients = [] if derivative is None else zip(needs, derivative.gradients)
        if program.captured or any(needed and gradient is None for needed, gradient in gradients):
            return None
        kernels = make(program, derivative)
        return None if kernels is None else _Made(composed, kernels, needs)


class _Made(NamedTuple):
    """What computes a function of tensors with certain settings.

    Attributes:
        composed: its ops.
        kernels: the functions of the backend.
        needs: for each tensor, whether `kernels.backward` computes its gradient.
    """

    composed: Callable[[Sequence[Tensor]], Tensor]
    kernels: Any
    needs: Sequence[bool]


def _composed(inputs: Sequence[Tensor], made: _Made) -> Tensor:
    return made.composed(inputs)


def _forward(backend: Any, inputs: Sequence[Array], made: _Made, saving: bool) -> tuple[Array, Any]:
    (out,) = made.kernels.forward(inputs)
    return out, ()


def _rule(g: Array, inputs: Sequence[Array], made: _Made, needs_grad: Sequence[bool]) -> list[Array | None]:
    g = g.astype(inputs[0].dtype, copy=False)  # the rule of a user-defined op may have changed it
    computed = iter(made.kernels.backward([g, *inputs]))
    gradients = [next(computed) if is_one else None for is_one in made.needs]
    return [gradient if needed else None for gradient, needed in zip(gradients, needs_grad)]


def one_pass(function: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Lets an elementwise function of tensors of one shape and dtype, and of settings, run in one pass if it can.

    Tensors are given in their places, the first one among them. The function must not broadcast.
    """
    fast = OnePass(function, function.__name__.lstrip("_"))

    @functools.wraps(function)
    def call(x: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if x._array.size >= MANY:
            result = fast(x, *args, **kwargs)
            if result is not None:
                return result
        return function(x, *args, **kwargs)

    call.one_pass = fast  # type: ignore[attr-defined]
    return call
