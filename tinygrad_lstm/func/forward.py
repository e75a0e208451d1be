"""Derivatives along a direction: Jacobian-vector products.

The walk back computes v·J, which is linear in v. If it is recorded, a second walk, over its own graph, gives its
derivative in v, which is J. So an op needs no further rule for this, and what comes out can be differentiated again.
"""

from collections.abc import Callable, Sequence
from typing import Any

from .call import Call

__all__ = ["jvp", "linearize"]


def jvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The pair of `function(*primals)` and its derivative along the tangents, the Jacobian times them.

    Both are of the shape and structure of what the function gives. The cost is one run of the function and two walks,
    however many inputs and outputs there are. An infinite derivative in a branch that `where` masks makes no NaN, as it
    does in `grad`. Hooks of tensors take part as they do in `grad`.

    Args:
        primals: a tuple of the function's arguments, all of floats.
        tangents: for each argument the direction in which it changes, of its shape and structure.

    Raises:
        ValueError: the tangents have not the shapes or the structure of the primals.
        TypeError: the primals or tangents are no tuples, a primal is not of floats, or the function gives something
            other than Tensors of floats.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> tg.func.jvp(lambda x, y: x * y, (np.array([1.0, 2.0]), 3.0), (np.array([1.0, 0.0]), 10.0))
    (array([3., 6.]), array([13., 20.]))
    >>> tg.func.jvp(tg.func.grad(lambda x: x**3), (2.0,), (1.0,))  # the second derivative
    (12.0, 12.0)
    """
    for role, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple | list):
            raise TypeError(f"jvp: {role} must be a tuple, with an entry for each argument, got {type(given).__name__}")
    call = Call("jvp", function, tuple(range(len(primals))), primals, {}).run()
    return call.value(), call.push(tangents)


def linearize(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """The pair of `function(*primals)` and of `push`, its derivative there.

    `push(*tangents)` gives the derivative along the tangents, as `jvp` does. It can be called any number of times: the
    function runs once, and each call is one walk. The function's graph stays in memory as long as `push` does.

    Raises:
        ValueError, TypeError: as `jvp`; those about tangents when `push` is called.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> value, push = tg.func.linearize(lambda x: x * x, np.array([1.0, 2.0]))
    >>> value, push(np.array([1.0, 0.0])), push(np.array([0.0, 1.0]))
    (array([1., 4.]), array([2., 0.]), array([0., 4.]))
    """
    call = Call("linearize", function, tuple(range(len(primals))), primals, {}).run()
    return call.value(), lambda *tangents: call.push(tangents)
