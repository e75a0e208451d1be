"""What an op is: a forward rule and, for each input, a derivative rule.

    @op(x=lambda g, out: g * (1 - out * out))
    def tanh(xp, x: Array) -> Array:
        return xp.tanh(x)

The forward rule computes on plain arrays with the array module `xp` (or, if its first parameter is called `backend`,
with the whole backend). Its parameters annotated `Array` take tensors; `Sequence[Array]` takes a list of them; all
others are settings, and pass through as they are.

A derivative rule is named after the input whose gradient it computes. The names of its own parameters say what it
needs, and only that is kept for the backward pass:

- `g`: the gradient of the output,
- any parameter of the forward rule,
- `out`: the output,
- `x_shape`: the shape of input `x`, without keeping `x`,
- `F`: every op by name, and as `F(my_op)` any user-defined op.

A rule is written once for two uses. `backward` runs it on plain arrays, and `F` has the forward rules of the array's
device. With `create_graph` it runs on Tensors, `F` has the ops themselves, and so the rule is recorded in turn.

Two kinds of rules say more: `OverRows` is a sum over rows, and `AddsInto` adds a gradient that is mostly zeros.

A function that prepares its arguments for an op has the op's name without `_op`: `stack` calls `stack_op`, which rules
call as `F.stack_op`.

A fused op runs as one kernel of a backend. Its `composed` twin is a function of other ops that computes the same.

    @op(composed=in_other_ops, inputs=lambda backend, g, inputs, saved, needs_grad: backend.fused_backward(...))
    def fused(backend, inputs: Sequence[Array], saving: bool):
        return backend.fused_forward(...)  # the output, or a tuple of outputs; and what the rule will find as `saved`

Its one rule runs on plain arrays only, and returns the gradients of all inputs, or None where `needs_grad` is false.
With `create_graph` the twin is differentiated instead. `saving` says whether a backward pass may follow.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from .._tensor import Tensor, operand
from ..tracer_hooks import shown_whole
from .calling import caller
from .one_pass import OnePass
from .operation import ALIASES, INPUT, MISSING, Op, Promotion
from .rules import Rule

__all__ = ["add_method", "composite", "op", "shown_whole"]

P = ParamSpec("P")
R = TypeVar("R")


def op(
    *,
    promotion: Promotion | None = None,
    broadcasts: bool = False,
    view: bool | Callable[..., bool] = False,
    method: bool | str = False,
    composed: Callable[..., Any] | None = None,
    fresh: bool = False,
    also: dict[str, Callable[..., Tensor]] | None = None,
    one_pass: bool = False,
    name: str | None = None,
    **rules: Rule,
) -> Callable[[Callable[Concatenate[Any, P], Any]], Callable[P, Tensor]]:
    """Makes an op of a forward rule, given a derivative rule for each input that has one; see this module's text.

    Args:
        promotion: "common" brings the inputs to one dtype, as NumPy 2 does but that integers never widen a float;
            "float" does too, and makes integers float32; None leaves them as they are.
        broadcasts: the inputs broadcast against each other, so that a rule may give the gradient in the output's shape:
            it is summed to the input's.
        view: the output may share memory with the first input; or a function of the arguments that says whether.
        method: the op is a method of Tensor as well, under its own or the given name.
        composed: of a fused op, the function of other ops that computes the same; see this module's text.
        fresh: the rule of a fused op returns a new array for each input, never `g` or an array that it keeps. These
            gradients are not copied.
        also: keywords that the op takes beside its parameters, such as torch's `dtype`: for each, a function of the
            op, the keyword's value and all arguments in their places, which computes the result.
        one_pass: the op is elementwise, and large tensors of one shape are computed in one pass; see `one_pass.py`.
        name: the op's name in messages, where it is different from the forward rule's.
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

    def define(forward: Callable[Concatenate[Any, P], Any]) -> Callable[P, Tensor]:
        made = Op(forward, name or forward.__name__, rules, promotion, broadcasts, view, composed, fresh, also or {})
        fast = OnePass(caller(made), made.name) if one_pass else None
        call = functools.update_wrapper(caller(made, fast), forward)
        call.op, call.__signature__, made.call = made, made.signature, call  # type: ignore[attr-defined]
        call.one_pass = fast  # type: ignore[attr-defined]
        del call.__wrapped__
        if method:
            setattr(Tensor, method if isinstance(method, str) else forward.__name__, call)
        return call

    return define


def composite(function: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Makes a function of ops take arrays, numbers, `input=`, `axis=` and `keepdims=`; and makes it a Tensor method."""

    own = inspect.unwrap(function).__code__.co_varnames

    @functools.wraps(function)
    def call(x: Any = MISSING, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs:
            for alias, name in ALIASES.items():
                if alias in kwargs and alias not in own:
                    if name in kwargs:
                        raise TypeError(f"{function.__name__}: {alias}= is another name for {name}=; give one")
                    kwargs[name] = kwargs.pop(alias)
            if x is MISSING:
                x = kwargs.pop(INPUT if INPUT in kwargs else own[0], MISSING)
        if not isinstance(x, Tensor):
            if x is MISSING:
                raise TypeError(f"{function.__name__}: the first argument, {own[0]}, is missing")
            x = operand(x)
        return function(x, *args, **kwargs)

    setattr(Tensor, function.__name__, call)
    return call


def add_method(name: str, function: Callable[..., Any]) -> None:
    """Makes a function a method of Tensor only; it has this name in tracebacks and in the documentation."""
    function.__name__, function.__qualname__, function.__module__ = name, f"Tensor.{name}", Tensor.__module__
    setattr(Tensor, name, function)
