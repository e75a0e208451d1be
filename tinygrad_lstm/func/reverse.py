"""Reverse-mode derivatives: gradients, vector-Jacobian products, Jacobians and Hessians."""

import functools
from collections.abc import Callable
from typing import Any

from .call import Argnums, Call

__all__ = ["grad", "hessian", "hvp", "jacobian", "value_and_grad", "vjp"]


def grad(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The gradient of a scalar function, with the shape, dtype and structure of the argument.

    Raises:
        ValueError: (when called) the function returns more than one element, or `argnums` names no argument.
        TypeError: (when called) the argument is not a float, or the function does not return a float Tensor.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> tg.func.grad(lambda x: (x**3).sum())(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> tg.func.grad(tg.func.grad(lambda x: x**3))(2.0)
    12.0
    """

    @functools.wraps(function, updated=())
    def gradient(*args: Any, **kwargs: Any) -> Any:
        call = Call("grad", function, argnums, args, kwargs).run()
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
        call = Call("value_and_grad", function, argnums, args, kwargs).run()
        gradient = call.gradients([call.one()], retain_graph=False)
        return call.value(), gradient

    return value_and_gradient


def vjp(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., tuple[Any, Callable[[Any], Any]]]:
    """The pair of a function's value, of any shape and structure, and the function `pull`.

    `pull(v)`, for a `v` of the value's shape and structure, returns v times the Jacobian: the gradient of (v · value),
    with the shape and structure of the argument. It can be called any number of times.

    Raises:
        ValueError: (in `pull`) v does not have the value's shape and structure.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> value, pull = tg.func.vjp(lambda x: x * x)(np.array([1.0, 2.0]))
    >>> value, pull(np.array([1.0, 10.0]))
    (array([1., 4.]), array([ 2., 40.]))
    """

    @functools.wraps(function, updated=())
    def value_and_pull(*args: Any, **kwargs: Any) -> tuple[Any, Callable[[Any], Any]]:
        call = Call("vjp", function, argnums, args, kwargs).run()
        return call.value(), call.pull

    return value_and_pull


def jacobian(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The derivative of each output element in each input element: (*output shape, *argument shape).

    If the function returns a tuple, list or dict, the result is one of Jacobians. If the argument is a tuple, list or
    dict, or `argnums` is a tuple, each Jacobian is in turn one of arrays. Each output element takes one backward pass;
    if there are far fewer input elements, `linearize` computes the columns with fewer passes.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> tg.func.jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    @functools.wraps(function, updated=())
    def all_derivatives(*args: Any, **kwargs: Any) -> Any:
        call = Call("jacobian", function, argnums, args, kwargs).run()
        return call.jacobian()

    return all_derivatives


def hessian(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The second derivatives of a scalar function: (*argument shape, *argument shape).

    For a tuple of `argnums` it is a tuple of tuples: `[i][j]` is the derivative in argument i, then in argument j.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> tg.func.hessian(lambda x: x[0] * x[1])(np.array([1.0, 2.0]))
    array([[0., 1.],
           [1., 0.]])
    """
    return jacobian(grad(function, argnums), argnums)


def hvp(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The product of the Hessian and a vector, which is the last positional argument.

    `hvp(f)(x, v)` and v have the shape and structure of the argument x (tuples, for a tuple of `argnums`). It takes two
    backward passes, for any size.

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
