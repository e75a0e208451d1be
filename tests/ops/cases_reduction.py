"""Cases of ops/reduction.py."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from ops.case import SEEDS, Drawn, Shape, a_dim, along, case, distinct, reduced, settings, shapes, some_equal, unary

import tinygrad_lstm as tg


def reduction(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    return lambda x, dim=None, keepdim=False: function(x, axis=dim, keepdims=keepdim, **fixed)


def argument(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, dim=None, keepdim=False: function(x, axis=dim, keepdims=keepdim)


def logsumexp(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return np.log(np.sum(np.exp(x), axis=dim, keepdims=keepdim))


def norm(x: Any, p: float = 2, dim: Any = None, keepdim: bool = False) -> Any:
    if p == math.inf:
        return np.max(np.abs(x), axis=dim, keepdims=keepdim)
    return np.sum(np.abs(x) ** p, axis=dim, keepdims=keepdim) ** (1 / p)


def normed(powers: Sequence[float]) -> Callable[[Shape], st.SearchStrategy[dict[str, Any]]]:
    return lambda shape: st.builds(lambda p, others: {"p": p, **others}, st.sampled_from(powers), reduced(shape))


def spread(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    """Settings of var and std, with at least two elements taken together."""

    def taken(dim: Any) -> int:
        dims = range(len(shape)) if dim is None else (dim,) if isinstance(dim, int) else dim
        return math.prod(shape[d] for d in dims)

    given = st.builds(lambda c, others: {**others, **c}, settings(correction=st.just(0))(shape), reduced(shape))
    return given.filter(lambda chosen: taken(chosen.get("dim")) > 1)


def searched(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    dim = st.none() | a_dim(shape) if shape else st.none()
    return st.fixed_dictionaries({}, optional={"dim": dim, "keepdim": st.booleans()})


def moments(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, dim=None, correction=1, keepdim=False: function(x, axis=dim, ddof=correction, keepdims=keepdim)


@st.composite
def some_spread(draw: st.DrawFn) -> Drawn:
    shape = draw(shapes(1, smallest=1).filter(lambda shape: math.prod(shape) > 1))
    return Drawn([distinct(np.random.default_rng(draw(SEEDS)), shape)], draw(spread(shape)))


case("sum", reduction(np.sum), unary(settings=reduced), out="sum")
case("prod", reduction(np.prod), unary(settings=reduced), out="sum")
case("mean", reduction(np.mean), unary(settings=reduced, smallest=1))
case("var", moments(np.var), some_spread())
case("std", moments(np.std), some_spread(), ints=False)
case("amax", reduction(np.max), unary(distinct, reduced, smallest=1), out="same")
case("amin", reduction(np.min), unary(distinct, reduced, smallest=1), out="same")
for name in ("max", "min"):
    function, numpys = getattr(tg, name), getattr(np, name)
    case(
        name,
        lambda x, dim, numpys=numpys: numpys(x, axis=dim),
        unary(distinct, along, least=1, smallest=1),
        call=lambda x, dim, function=function: function(x, dim).values,
        out="same",
    )
case("logsumexp", logsumexp, unary(settings=reduced, smallest=1))
case("norm", norm, unary(settings=normed([0.5, 1, 1.5, 2, 3]), smallest=1), ints=False)
case("norm", norm, unary(distinct, settings=normed([math.inf]), smallest=1), variant="inf")
case("any", reduction(np.any), unary(some_equal, reduced), out="bool", differentiable=False)
case("all", reduction(np.all), unary(some_equal, reduced), out="bool", differentiable=False)
case("argmax", argument(np.argmax), unary(some_equal, searched, smallest=1), out="int64", differentiable=False)
case("argmin", argument(np.argmin), unary(some_equal, searched, smallest=1), out="int64", differentiable=False)
