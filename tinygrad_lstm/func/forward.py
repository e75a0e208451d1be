"""Derivatives along a direction: Jacobian-vector products.

The backward pass computes v·J, which is linear in v. If it is recorded, a second backward pass over its graph computes
its derivative in v, which is J. So an op needs no additional rule, and the results can be differentiated again.
"""

from collections.abc import Callable, Sequence
from typing import Any

from .call import Call

__all__ = ["jvp", "linearize"]


def jvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The pair of `function(*primals)` and its derivative along the tangents, the Jacobian times them.

    Both have the shape and structure of the function's result. The cost is one run of the function and two backward
    passes, for any number of inputs and outputs. An infinite derivative in a branch that `where` masks makes no NaN,
    unlike in `grad`. Hooks of tensors are called as in `grad`.

    Args:
        primals: a tuple of the function's arguments, all of floats.
        tangents: the direction in which each argument changes, of the same shape and structure.

    Raises:
        ValueError: the tangents do not have the shapes and the structure of the primals.
        TypeError: the primals or tangents are not tuples, a primal is not a float, or the function does not return
            float Tensors.

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

    `push(*tangents)` returns the derivative along the tangents, as `jvp` does. It can be called repeatedly: the
    function runs once, and each call is one backward pass. `push` keeps the function's graph in memory.

    Raises:
        ValueError, TypeError: as for `jvp`; those about tangents are raised by `push`.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> value, push = tg.func.linearize(lambda x: x * x, np.array([1.0, 2.0]))
    >>> value, push(np.array([1.0, 0.0])), push(np.array([0.0, 1.0]))
    (array([1., 4.]), array([2., 0.]), array([0., 4.]))
    """
    call = Call("linearize", function, tuple(range(len(primals))), primals, {}).run()
    return call.value(), lambda *tangents: call.push(tangents)
