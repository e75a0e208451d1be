"""Every public op of the tensor families, each with how to call it, draw its inputs, and compute it with NumPy.

A case holds what differs between ops; `test_ops.py` holds what is true of all.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

import tinygrad_lstm as tg

HostArray = np.ndarray[Any, Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Drawn:
    """What one example of an op is called with: float64 arrays, then settings by name."""

    arrays: list[HostArray]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One op.

    Attributes:
        name: its public name.
        reference: the same function of NumPy arrays, with the op's own settings.
        drawn: its inputs.
        call: the op on tensors; by default `tg.<name>(*tensors, **settings)`.
        differentiable: whether it has a derivative.
        out: the result's dtype: "same" as the input's, "float" (float32 of integers), or a dtype's name.
        ints: whether it takes integers.
        bools: whether it takes bool.
        variant: tells several cases of one op apart.
    """

    name: str
    reference: Callable[..., Any]
    drawn: st.SearchStrategy[Drawn]
    call: Callable[..., Any]
    differentiable: bool = True
    out: str = "float"
    ints: bool = True
    bools: bool = True
    variant: str = ""

    @property
    def called_plainly(self) -> bool:
        """Whether it is called as `tg.<name>(*tensors, **settings)`."""
        return self.call is getattr(tg, self.name)

    def __str__(self) -> str:
        return f"{self.name}-{self.variant}" if self.variant else self.name


CASES: list[Case] = []


def case(
    name: str,
    reference: Callable[..., Any],
    drawn: st.SearchStrategy[Drawn],
    call: Callable[..., Any] | None = None,
    **options: Any,
) -> None:
    CASES.append(Case(name, reference, drawn, call or getattr(tg, name), **options))


# -- values: each domain keeps away from where its ops have no derivative ----------------------------------------------

Domain = Callable[[np.random.Generator, Shape], HostArray]


def nonzero(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.uniform(0.2, 2, shape) * rng.choice([-1, 1], shape))


def positive(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.uniform(0.3, 3, shape))


def above_minus_one(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.uniform(-0.6, 2, shape))


def above_one(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.uniform(1.2, 4, shape))


def inside_one(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.uniform(-0.9, 0.9, shape))


def between_integers(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.integers(-3, 3, shape) + rng.uniform(0.1, 0.4, shape))


def distinct(rng: np.random.Generator, shape: Shape) -> HostArray:
    """No two values closer than 0.05, none nearer to 0 than 0.02."""
    size = math.prod(shape)
    return (rng.permutation(size) * 0.05 - size * 0.025 + 0.02).reshape(shape)


def distinct_of_halves(rng: np.random.Generator, shape: Shape) -> HostArray:
    """Numbers that no divisor divides, not nearly."""
    return rng.integers(-8, 8, shape) / 2 + 0.25


def some_divisors(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.choice([-2.0, -1.0, 1.0, 1.5, 3.0], shape))


def some_equal(rng: np.random.Generator, shape: Shape) -> HostArray:
    return rng.integers(-1, 2, shape).astype(np.float64)


SEEDS = st.integers(0, 2**32 - 1)


def shapes(least: int = 0, most: int = 4, side: int = 3, smallest: int = 0) -> st.SearchStrategy[Shape]:
    return hnp.array_shapes(min_dims=least, max_dims=most, min_side=smallest, max_side=side)


@st.composite
def unary(
    draw: st.DrawFn,
    domain: Domain = nonzero,
    settings: Callable[[Shape], st.SearchStrategy[dict[str, Any]]] = lambda shape: st.just({}),
    least: int = 0,
    smallest: int = 0,
) -> Drawn:
    """One array, and settings that may depend on its shape."""
    shape = draw(shapes(least, smallest=smallest))
    rng = np.random.default_rng(draw(SEEDS))
    return Drawn([domain(rng, shape)], draw(settings(shape)))


@st.composite
def several(draw: st.DrawFn, *domains: Domain, apart: bool = False) -> Drawn:
    """Arrays that broadcast against each other; `apart`: of different values everywhere."""
    drawn = draw(hnp.mutually_broadcastable_shapes(num_shapes=len(domains), max_dims=4, min_side=0, max_side=3))
    rng = np.random.default_rng(draw(SEEDS))
    arrays = [domain(rng, shape) for domain, shape in zip(domains, drawn.input_shapes, strict=True)]
    if apart:
        arrays[0] = np.where(np.abs(arrays[0] * 4 % 1 - 0.5) < 0.3, np.round(arrays[0]), np.round(arrays[0]) + 1)
        arrays[1] = np.round(arrays[1]) + rng.choice([-0.4, 0.4], arrays[1].shape)
    return Drawn(arrays)


def settings(**strategies: st.SearchStrategy[Any]) -> Callable[[Shape], st.SearchStrategy[dict[str, Any]]]:
    """Settings that do not depend on the shape; each may be left out."""
    return lambda shape: st.fixed_dictionaries({}, optional=strategies)


def a_dim(shape: Shape) -> st.SearchStrategy[int]:
    return st.integers(-len(shape), len(shape) - 1)


def some_dims(shape: Shape) -> st.SearchStrategy[Any]:
    """An int, a tuple of ints or None, negative ones among them."""
    if not shape:
        return st.sampled_from([None, ()])
    several_dims = st.sets(st.integers(0, len(shape) - 1)).flatmap(
        lambda dims: st.tuples(*[st.sampled_from([d, d - len(shape)]) for d in sorted(dims)])
    )
    return st.none() | a_dim(shape) | several_dims


def reduced(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={"dim": some_dims(shape), "keepdim": st.booleans()})


def along(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"dim": a_dim(shape)})


# -- elementwise -------------------------------------------------------------------------------------------------------


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def erf(x: Any) -> Any:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def selu(x: Any) -> Any:
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))


def glu(x: Any) -> Any:
    a, b = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return a * sigmoid(b)


def pair_of_rows(length: int, seed: int) -> Drawn:
    rng = np.random.default_rng(seed)
    return Drawn([nonzero(rng, (length,)), nonzero(rng, (length,))])


def gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


BOUNDS = settings(min=st.sampled_from([None, -1.1, -0.1]), max=st.sampled_from([None, 0.1, 1.1]))
EXPONENTS = st.fixed_dictionaries({"y": st.sampled_from([-2, -1.5, -1, 0, 0.5, 1, 2, 2.5, 3])})
SLOPES = st.sampled_from([0.0, 0.01, 0.5])

case("neg", np.negative, unary(), out="same", bools=False)
case("abs", np.abs, unary(), out="same")
case("sign", np.sign, unary(), out="same", bools=False)
case("floor", np.floor, unary(between_integers), out="same")
case("round", np.round, unary(between_integers), out="same", bools=False)
case("ceil", np.ceil, unary(between_integers), out="same")
case("trunc", np.trunc, unary(between_integers), out="same")
case("square", np.square, unary(), out="same", bools=False)
case("clamp", lambda x, min=None, max=None: np.clip(x, min, max), unary(distinct, BOUNDS), out="same", ints=False)
case("clone", np.copy, unary(), out="same")
case("exp", np.exp, unary())
case("expm1", np.expm1, unary())
case("log", np.log, unary(positive))
case("log1p", np.log1p, unary(above_minus_one), ints=False)
case("sqrt", np.sqrt, unary(positive))
case("rsqrt", lambda x: 1 / np.sqrt(x), unary(positive))
case("reciprocal", lambda x: 1 / x, unary())
case("log2", np.log2, unary(positive))
case("log10", np.log10, unary(positive))
case(
    "nan_to_num",
    np.nan_to_num,
    unary(settings=settings(nan=st.just(-1.5), posinf=st.just(3.0), neginf=st.just(-2.0))),
    out="same",
)
case("sin", np.sin, unary())
case("cos", np.cos, unary())
case("tan", np.tan, unary(inside_one), ints=False)
case("asin", np.arcsin, unary(inside_one), ints=False)
case("acos", np.arccos, unary(inside_one), ints=False)
case("atan", np.arctan, unary())
case("sinh", np.sinh, unary())
case("cosh", np.cosh, unary())
case("asinh", np.arcsinh, unary())
case("acosh", np.arccosh, unary(above_one))
case("atanh", np.arctanh, unary(inside_one), ints=False)
case("tanh", np.tanh, unary())
case("sigmoid", sigmoid, unary())
case(
    "softplus",
    lambda x, beta=1.0, threshold=20.0: np.where(x * beta > threshold, x, np.log1p(np.exp(x * beta)) / beta),
    unary(settings=settings(beta=st.sampled_from([0.5, 3.0]), threshold=st.just(10.0))),
)
case("logsigmoid", lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))), unary(), bools=False)
case("relu", lambda x: np.maximum(x, 0), unary(), out="same", bools=False)
case(
    "leaky_relu",
    lambda x, negative_slope=0.01: np.where(x > 0, x, x * negative_slope),
    unary(settings=settings(negative_slope=SLOPES)),
)
case(
    "elu",
    lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    unary(settings=settings(alpha=st.sampled_from([0.5, 1.0, 2.0]))),
)
case("silu", lambda x: x * sigmoid(x), unary())
case("gelu", gelu, unary(settings=settings(approximate=st.sampled_from(["none", "tanh"]))))
case("mish", lambda x: x * np.tanh(np.log1p(np.exp(x))), unary())
case("selu", selu, unary())
case(
    "prelu",
    lambda x, weight: np.where(x > 0, x, x * weight),
    st.builds(pair_of_rows, st.integers(1, 4), SEEDS),
    lambda x, weight: tg.prelu(x.reshape(1, -1), weight).reshape(-1),
    out="same",
    bools=False,
)
case(
    "hardtanh",
    lambda x, min_val=-1.0, max_val=1.0: np.clip(x, min_val, max_val),
    unary(distinct, settings(min_val=st.just(-0.31), max_val=st.just(0.51))),
    ints=False,
)
case("relu6", lambda x: np.clip(x, 0, 6), unary(distinct), bools=False)
case("hardsigmoid", lambda x: np.clip((x + 3) / 6, 0, 1), unary())
case("softsign", lambda x: x / (1 + np.abs(x)), unary())
case("glu", glu, unary(least=1).filter(lambda drawn: drawn.arrays[0].shape[-1] == 2))
case("erf", erf, unary())
case("isnan", np.isnan, unary(), out="bool", differentiable=False)
case("isinf", np.isinf, unary(), out="bool", differentiable=False)
case("isfinite", np.isfinite, unary(), out="bool", differentiable=False)
case("logical_not", np.logical_not, unary(some_equal), out="bool", differentiable=False)
case(
    "astype",
    lambda x, dtype: x.astype(np.float64),
    unary(settings=lambda shape: st.just({"dtype": "float64"})),
    out="float64",
)

case("add", np.add, several(nonzero, nonzero), out="same")
case("sub", np.subtract, several(nonzero, nonzero), out="same", bools=False)
case("mul", np.multiply, several(nonzero, nonzero), out="same")
case("div", np.true_divide, several(nonzero, nonzero))
case("pow", np.power, several(positive, positive), out="same", bools=False)
case("pow", lambda x, y: x**y, unary(positive, lambda shape: EXPONENTS), ints=False, variant="number")
case("pow", lambda x: 1.5**x, unary(), lambda x: 1.5**x, variant="of-number")
case("floor_divide", np.floor_divide, several(distinct_of_halves, some_divisors), out="same", bools=False)
case("remainder", np.remainder, several(distinct_of_halves, some_divisors), out="same", bools=False)
case("atan2", np.arctan2, several(nonzero, nonzero))
case("hypot", np.hypot, several(nonzero, nonzero))
case("logaddexp", np.logaddexp, several(nonzero, nonzero))
case("maximum", np.maximum, several(nonzero, nonzero, apart=True), out="same")
case("minimum", np.minimum, several(nonzero, nonzero, apart=True), out="same")
case("lerp", lambda x, y, w: x + w * (y - x), several(nonzero, nonzero, nonzero), out="same", bools=False)
case(
    "where",
    lambda c, x, y: np.where(c > 0, x, y),
    several(nonzero, nonzero, nonzero),
    lambda c, x, y: tg.where(c > 0, x, y),
    out="same",
)
for _name, _function in {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}.items():
    case(_name, _function, several(some_equal, some_equal), out="bool", differentiable=False)
case("isclose", np.isclose, several(some_equal, some_equal), out="bool", differentiable=False)
for _name, _function in {
    "bitwise_and": np.logical_and,
    "bitwise_or": np.logical_or,
    "bitwise_xor": np.logical_xor,
}.items():
    case(
        _name,
        lambda x, y, function=_function: function(x > 0, y > 0),
        several(some_equal, some_equal),
        lambda x, y, name=_name: getattr(tg, name)(x > 0, y > 0),
        out="bool",
        differentiable=False,
    )
case(
    "bitwise_not",
    lambda x: x <= 0,
    unary(some_equal),
    lambda x: tg.bitwise_not(x > 0),
    out="bool",
    differentiable=False,
)


# -- reductions --------------------------------------------------------------------------------------------------------


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
case("max", reduction(np.max), unary(distinct, reduced, smallest=1), out="same")
case("min", reduction(np.min), unary(distinct, reduced, smallest=1), out="same")
case("logsumexp", logsumexp, unary(settings=reduced, smallest=1))
case("norm", norm, unary(settings=normed([0.5, 1, 1.5, 2, 3]), smallest=1), ints=False)
case("norm", norm, unary(distinct, settings=normed([math.inf]), smallest=1), variant="inf")
case("cumsum", lambda x, dim: np.cumsum(x, axis=dim), unary(settings=along, least=1), out="sum")
case("any", reduction(np.any), unary(some_equal, reduced), out="bool", differentiable=False)
case("all", reduction(np.all), unary(some_equal, reduced), out="bool", differentiable=False)
case("argmax", argument(np.argmax), unary(some_equal, searched, smallest=1), out="int64", differentiable=False)
case("argmin", argument(np.argmin), unary(some_equal, searched, smallest=1), out="int64", differentiable=False)


# -- shape -------------------------------------------------------------------------------------------------------------


def reshaped(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    size = math.prod(shape)
    chosen: list[Shape] = [shape, (size,), (1, size), shape[::-1], (*shape, 1)]
    if size:
        chosen += [(-1,), (-1, *shape[1:]), (1, -1)]
    return st.fixed_dictionaries({"shape": st.sampled_from(chosen)})


def flattened(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    n = len(shape)
    if not n:
        return st.just({})
    pairs = [(a, b) for a in range(-n, n) for b in range(-n, n) if a % n <= b % n]
    return st.just({}) | st.sampled_from(pairs).map(lambda pair: {"start_dim": pair[0], "end_dim": pair[1]})


def flatten(x: HostArray, start_dim: int = 0, end_dim: int = -1) -> HostArray:
    if not x.ndim:
        return x.reshape(1)
    first, last = start_dim % x.ndim, end_dim % x.ndim
    return x.reshape(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])


def squeeze(x: HostArray, dim: Any = None) -> HostArray:
    """NumPy's, that leaves longer dimensions be."""
    dims = range(x.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    return np.squeeze(x, tuple(d for d in dims if x.shape[d] == 1))


def permutations(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    n = len(shape)
    order = st.permutations(range(n)).flatmap(lambda dims: st.tuples(*[st.sampled_from([d, d - n]) for d in dims]))
    return st.fixed_dictionaries({"order": order})


def two_dims(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"dim0": a_dim(shape), "dim1": a_dim(shape)})


def stretched(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    """A shape that this one broadcasts to."""
    wider = st.tuples(*[st.integers(0, 3) if length == 1 else st.just(length) for length in shape])
    return st.builds(lambda lead, rest: {"shape": (*lead, *rest)}, st.sampled_from([(), (2,), (0,)]), wider)


def expanded(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    wider = st.tuples(*[st.integers(-1, 3) if length == 1 else st.sampled_from([length, -1]) for length in shape])
    return st.builds(lambda lead, rest: {"shape": (*lead, *rest)}, st.sampled_from([(), (2,)]), wider)


def expand(x: HostArray, shape: Shape) -> HostArray:
    extra = len(shape) - x.ndim
    return np.broadcast_to(x, [x.shape[d - extra] if length == -1 else length for d, length in enumerate(shape)])


def rolled(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    flat = st.fixed_dictionaries({"shifts": st.integers(-5, 5)})
    if not shape:
        return flat
    one = st.fixed_dictionaries({"shifts": st.integers(-5, 5), "dim": a_dim(shape)})
    two = st.fixed_dictionaries(
        {"shifts": st.tuples(st.integers(-5, 5), st.integers(-5, 5)), "dim": st.tuples(a_dim(shape), a_dim(shape))}
    )
    return flat | one | two


def padded(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    widths = st.integers(0, len(shape)).flatmap(lambda n: st.tuples(*[st.integers(0, 2)] * (2 * n)))
    return st.fixed_dictionaries({"pad": widths}, optional={"value": st.sampled_from([0.0, 1.5])})


def pad(x: HostArray, pad: Sequence[int], value: float = 0.0) -> HostArray:
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + [(a, b) for a, b in zip(pad[::2], pad[1::2], strict=True)][::-1]
    return np.pad(x, widths, constant_values=value) if widths else x


def split(x: HostArray, size_or_sizes: Any, dim: int = 0) -> list[HostArray]:
    length = x.shape[dim]
    if isinstance(size_or_sizes, int):
        ends = list(range(size_or_sizes, length, size_or_sizes))
    else:
        ends = list(itertools.accumulate(size_or_sizes))[:-1]
    return np.split(x, ends, dim)


@st.composite
def split_settings(draw: st.DrawFn, shape: Shape) -> dict[str, Any]:
    dim = draw(a_dim(shape))
    if draw(st.booleans()):
        return {"size_or_sizes": draw(st.integers(1, 4)), "dim": dim}
    ends = sorted(draw(st.lists(st.integers(0, shape[dim]), max_size=3)))
    return {"size_or_sizes": [b - a for a, b in itertools.pairwise([0, *ends, shape[dim]])], "dim": dim}


def chunk(x: HostArray, chunks: int, dim: int = 0) -> list[HostArray]:
    return split(x, max(-(-x.shape[dim] // chunks), 1), dim)


@st.composite
def joinable(draw: st.DrawFn) -> Drawn:
    """One to three arrays that differ in one dimension at most."""
    shape = list(draw(shapes(1)))
    dim = draw(a_dim(tuple(shape)))
    rng = np.random.default_rng(draw(SEEDS))
    arrays = []
    for length in draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)):
        shape[dim] = length
        arrays.append(nonzero(rng, tuple(shape)))
    return Drawn(arrays, {"dim": dim})


@st.composite
def stackable(draw: st.DrawFn) -> Drawn:
    shape = draw(shapes(0, 3))
    rng = np.random.default_rng(draw(SEEDS))
    arrays = [nonzero(rng, shape) for _ in range(draw(st.integers(1, 3)))]
    return Drawn(arrays, {"dim": draw(st.integers(-len(shape) - 1, len(shape)))})


def new_dim(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"dim": st.integers(-len(shape) - 1, len(shape))})


case(
    "reshape",
    lambda x, shape: x.reshape(shape),
    unary(settings=reshaped),
    lambda x, shape: tg.reshape(x, *shape),
    out="same",
)
case("flatten", flatten, unary(settings=flattened), out="same")
case(
    "squeeze",
    squeeze,
    unary(settings=lambda shape: st.fixed_dictionaries({}, optional={"dim": some_dims(shape)})),
    out="same",
)
case("unsqueeze", lambda x, dim: np.expand_dims(x, dim), unary(settings=new_dim), out="same")
case(
    "permute",
    lambda x, order: np.transpose(x, order),
    unary(settings=permutations),
    lambda x, order: tg.permute(x, order),
    out="same",
)
for _name in ("swapaxes", "transpose"):
    case(_name, lambda x, dim0, dim1: np.swapaxes(x, dim0, dim1), unary(settings=two_dims, least=1), out="same")
case(
    "flip",
    lambda x, dim=None: np.flip(x, dim),
    unary(settings=lambda shape: st.fixed_dictionaries({}, optional={"dim": some_dims(shape)})),
    out="same",
)
case("roll", lambda x, shifts, dim=None: np.roll(x, shifts, dim), unary(settings=rolled), out="same")
case(
    "broadcast_to",
    lambda x, shape: np.broadcast_to(x, shape),
    unary(settings=stretched),
    lambda x, shape: tg.broadcast_to(x, shape),
    out="same",
)
case("expand", expand, unary(settings=expanded), lambda x, shape: tg.expand(x, *shape), out="same")
case(
    "repeat",
    lambda x, times: np.tile(x, times),
    unary(
        settings=lambda shape: st.fixed_dictionaries(
            {"times": st.lists(st.integers(0, 2), min_size=len(shape), max_size=len(shape) + 1).map(tuple)}
        )
    ),
    lambda x, times: tg.repeat(x, *times),
    out="same",
)
case("pad", pad, unary(settings=padded), out="same", ints=False)
case(
    "tril",
    lambda x, diagonal=0: np.tril(x, diagonal),
    unary(settings=settings(diagonal=st.integers(-3, 3)), least=2),
    out="same",
)
case(
    "triu",
    lambda x, diagonal=0: np.triu(x, diagonal),
    unary(settings=settings(diagonal=st.integers(-3, 3)), least=2),
    out="same",
)
for _name in ("cat", "concat", "concatenate"):
    case(
        _name,
        lambda *arrays, dim: np.concatenate(arrays, dim),
        joinable(),
        lambda *tensors, _name=_name, **settings: getattr(tg, _name)(tensors, **settings),
        out="same",
    )
case(
    "stack",
    lambda *arrays, dim: np.stack(arrays, dim),
    stackable(),
    lambda *tensors, **settings: tg.stack(tensors, **settings),
    out="same",
)
case("split", split, unary(settings=split_settings, least=1), out="same")
case(
    "chunk",
    chunk,
    unary(settings=lambda s: st.fixed_dictionaries({"chunks": st.integers(1, 4), "dim": a_dim(s)}), least=1),
    out="same",
)
case(
    "unbind",
    lambda x, dim: [np.take(x, k, dim) for k in range(x.shape[dim])],
    unary(settings=along, least=1),
    out="same",
)


# -- indexing (every NumPy index: test_indexing.py) --------------------------------------------------------------------


def places(length: int, shape: Shape) -> st.SearchStrategy[HostArray]:
    return hnp.arrays(np.int64, shape, elements=st.integers(-length, length - 1))


@st.composite
def gathered(draw: st.DrawFn, called: str) -> Drawn:
    shape = draw(shapes(1, 3, smallest=1))
    dim = draw(a_dim(shape))
    lengths = [draw(st.integers(0, length)) for length in shape]
    lengths[dim] = draw(st.integers(0, 4))
    index = draw(places(shape[dim], tuple(lengths)))
    return Drawn([nonzero(np.random.default_rng(draw(SEEDS)), shape)], {"dim": dim, called: index})


def gather(x: HostArray, dim: int, index: HostArray) -> HostArray:
    others = np.indices(index.shape, sparse=True)
    return x[tuple(index if d == dim % x.ndim else other for d, other in enumerate(others))]


@st.composite
def taken_along(draw: st.DrawFn) -> Drawn:
    shape = draw(shapes(1, 3, smallest=1))
    dim = draw(a_dim(shape))
    lengths = [draw(st.sampled_from([1, length])) for length in shape]
    lengths[dim] = draw(st.integers(0, 4))
    index = draw(places(shape[dim], tuple(lengths)))
    return Drawn([nonzero(np.random.default_rng(draw(SEEDS)), shape)], {"indices": index, "dim": dim})


@st.composite
def selected(draw: st.DrawFn) -> Drawn:
    shape = draw(shapes(1, smallest=1))
    dim = draw(a_dim(shape))
    index = draw(places(shape[dim], (draw(st.integers(0, 4)),)))
    return Drawn([nonzero(np.random.default_rng(draw(SEEDS)), shape)], {"dim": dim, "index": index})


@st.composite
def embedded(draw: st.DrawFn) -> Drawn:
    rows, width = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    ids = draw(hnp.arrays(np.int64, draw(shapes(0, 3)), elements=st.integers(0, rows - 1)))
    return Drawn([nonzero(np.random.default_rng(draw(SEEDS)), (rows, width))], {"ids": ids})


@st.composite
def masked(draw: st.DrawFn) -> Drawn:
    shape = draw(shapes())
    mask = draw(hnp.arrays(np.bool_, tuple(draw(st.sampled_from([1, length])) for length in shape)))
    return Drawn([nonzero(np.random.default_rng(draw(SEEDS)), shape)], {"mask": mask, "value": 1.5})


def here(x: Any, value: HostArray) -> Any:
    """An index or mask on x's device."""
    return tg.tensor(value, device=x.device)


case(
    "getitem",
    lambda x: x[..., 0, ::-1],
    unary(least=2, smallest=1),
    lambda x: tg.getitem(x, (..., 0, slice(None, None, -1))),
    out="same",
)
case(
    "gather",
    gather,
    gathered("index"),
    lambda x, dim, index: tg.gather(x, dim, here(x, index)),
    out="same",
)
case(
    "take_along_axis",
    lambda x, indices, dim: np.take_along_axis(x, indices, dim),
    taken_along(),
    lambda x, indices, dim: tg.take_along_axis(x, here(x, indices), dim),
    out="same",
)
case(
    "index_select",
    lambda x, dim, index: np.take(x, index, dim),
    selected(),
    lambda x, dim, index: tg.index_select(x, dim, here(x, index)),
    out="same",
)
case(
    "embedding",
    lambda weight, ids: weight[ids],
    embedded(),
    lambda weight, ids: tg.embedding(here(weight, ids), weight),
    ints=False,
)
case(
    "masked_fill",
    lambda x, mask, value: np.where(mask, value, x),
    masked(),
    lambda x, mask, value: tg.masked_fill(x, here(x, mask), value),
)


# -- linear algebra ----------------------------------------------------------------------------------------------------


@st.composite
def multiplied(draw: st.DrawFn) -> Drawn:
    n, k, m = (draw(st.integers(0, 3)) for _ in range(3))
    leading = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, min_side=0, max_side=3)).input_shapes
    x_shape = (k,) if draw(st.integers(0, 3)) == 0 else (*leading[0], n, k)
    y_shape = (k,) if draw(st.integers(0, 3)) == 0 else (*leading[1], k, m)
    rng = np.random.default_rng(draw(SEEDS))
    return Drawn([nonzero(rng, x_shape), nonzero(rng, y_shape)])


@st.composite
def affine(draw: st.DrawFn) -> Drawn:
    lead, i, o = draw(shapes(0, 3)), draw(st.integers(0, 3)), draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(SEEDS))
    arrays = [nonzero(rng, (*lead, i)), nonzero(rng, (o, i))]
    return Drawn(arrays + [nonzero(rng, (o,))] * draw(st.booleans()))


EQUATIONS = [
    "i->i",
    "ij->ji",
    "ij->",
    "ij->i",
    "ii->i",
    "ii",
    "iij->j",
    "i,i->",
    "i,j->ij",
    "ij,jk",
    "ij,jk->ik",
    "bij,bjk->bik",
    "ij,kj->k",
    "ij,jk,kl->il",
    "i,ij,j",
    "ij,k->i",
    "...i,...i->...",
    "...ij,...jk",
    "i...,j->...ij",
]


@st.composite
def contracted(draw: st.DrawFn) -> Drawn:
    equation = draw(st.sampled_from(EQUATIONS))
    lengths = {letter: draw(st.integers(0, 3)) for letter in "bijkl"}
    lead = draw(shapes(0, 2))
    rng = np.random.default_rng(draw(SEEDS))
    arrays = []
    for term in equation.partition("->")[0].split(","):
        before, dots, after = term.partition("...")
        shape = [lengths[letter] for letter in before] + list(lead if dots else ()) + [lengths[c] for c in after]
        arrays.append(nonzero(rng, tuple(shape)))
    return Drawn(arrays, {"equation": equation})


case("matmul", np.matmul, multiplied(), out="same")
case("linear", lambda x, weight, bias=0.0: x @ weight.T + bias, affine(), ints=False)
case("outer", np.outer, several(nonzero, nonzero), out="same")
case(
    "einsum",
    lambda *arrays, equation: np.einsum(equation, *arrays),
    contracted(),
    lambda *tensors, equation: tg.einsum(equation, *tensors),
    out="same",
    bools=False,
)
