"""Cases of ops/sorting.py and ops/cumulative.py."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from ops.case import SEEDS, Drawn, HostArray, Shape, a_dim, along, case, distinct, nonzero, shapes, some_equal, unary

import tinygrad_lstm as tg


def a_dim_or_0d(shape: Shape) -> st.SearchStrategy[int]:
    return a_dim(shape or (1,))


def sorting(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={"dim": a_dim_or_0d(shape), "descending": st.booleans()})


def order(x: HostArray, dim: int = -1, descending: bool = False) -> HostArray:
    """The indices of sorted elements; equal ones keep their order."""
    if not x.size:
        return np.zeros(x.shape, np.int64)
    lines = np.moveaxis(np.atleast_1d(x), dim, -1)
    found = np.array([
        sorted(range(lines.shape[-1]), key=lambda k: -line[k] if descending else line[k])
        for line in lines.reshape(-1, lines.shape[-1]).astype(np.float64)
    ], np.int64)  # fmt: skip
    return np.moveaxis(found.reshape(lines.shape), -1, dim).reshape(x.shape)


def sort(x: HostArray, dim: int = -1, descending: bool = False) -> HostArray:
    return np.take_along_axis(np.atleast_1d(x), np.atleast_1d(order(x, dim, descending)), dim).reshape(x.shape)


def first_k(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    return a_dim(shape).flatmap(
        lambda dim: st.fixed_dictionaries(
            {"k": st.integers(0, shape[dim]), "dim": st.just(dim), "largest": st.booleans()}
        )
    )


def topk(x: HostArray, k: int, dim: int, largest: bool) -> HostArray:
    return np.take(sort(x, dim, largest), range(k), dim)


def searched(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={"dim": st.none() | a_dim_or_0d(shape), "keepdim": st.booleans()})


def median(x: HostArray, dim: int | None = None, keepdim: bool = False) -> HostArray:
    axis = dim if x.ndim else None
    return np.quantile(x, 0.5, axis, method="lower", keepdims=keepdim)


def some_quantiles(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    fractions = st.floats(0, 1, width=16)
    return st.fixed_dictionaries(
        {"q": fractions | st.lists(fractions, max_size=3)},
        optional={
            "dim": st.none() | a_dim_or_0d(shape),
            "keepdim": st.booleans(),
            "interpolation": st.sampled_from(["linear", "lower", "higher", "midpoint"]),
        },
    )


def quantile(
    x: HostArray, q: Any, dim: int | None = None, keepdim: bool = False, interpolation: str = "linear"
) -> HostArray:
    return np.quantile(x, np.asarray(q), dim if x.ndim else None, method=interpolation, keepdims=keepdim)


@st.composite
def a_sequence_and_values(draw: st.DrawFn) -> Drawn:
    rng = np.random.default_rng(draw(SEEDS))
    in_rows = draw(st.booleans())
    lead = draw(shapes(0, 2)) if in_rows else ()
    sequence = np.sort(rng.integers(-3, 4, (*lead, draw(st.integers(0, 4)))), -1)
    shape = (*lead, draw(st.integers(0, 4))) if in_rows else draw(shapes(0, 3))
    return Drawn([sequence / 2, rng.integers(-4, 5, shape) / 2], draw(st.sampled_from([{}, {"right": True}])))


def searchsorted(sequence: HostArray, values: HostArray, right: bool = False) -> HostArray:
    side = "right" if right else "left"
    if sequence.ndim == 1:
        return np.asarray(np.searchsorted(sequence, values, side))
    found = [np.searchsorted(sequence[lead], values[lead], side) for lead in np.ndindex(values.shape[:-1])]
    return np.array(found, np.int64).reshape(values.shape)


def steps_of(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={"n": st.integers(0, 3), "dim": a_dim(shape)})


def diff(x: HostArray, n: int = 1, dim: int = -1) -> HostArray:
    return np.diff(x, n, dim)


def values_of(result: Any) -> Any:
    return getattr(result, "values", result)


def some_zeros(rng: np.random.Generator, shape: Shape) -> HostArray:
    return nonzero(rng, shape) * (rng.random(shape) < 0.8)


case("sort", sort, unary(distinct, sorting), lambda x, **options: tg.sort(x, **options).values, out="same")
case("argsort", order, unary(some_equal, sorting), out="int64", differentiable=False)
case("topk", topk, unary(distinct, first_k, least=1), lambda x, **options: tg.topk(x, **options).values, out="same")
for name in ("median", "nanmedian"):
    case(
        name,
        median,
        unary(distinct, searched, smallest=1),
        lambda x, function=name, **options: values_of(getattr(tg, function)(x, **options)),
        out="same",
    )
case("quantile", quantile, unary(distinct, some_quantiles, smallest=1), bools=False)
case("searchsorted", searchsorted, a_sequence_and_values(), out="int64", differentiable=False, ints=False)
case(
    "bucketize",
    lambda x, right: np.digitize(x, [-1.0, 0.0, 0.5], right=not right),
    unary(some_equal, lambda shape: st.fixed_dictionaries({"right": st.booleans()})),
    lambda x, right: tg.bucketize(x, tg.tensor([-1.0, 0.0, 0.5], x.dtype, x.device), right=right),
    out="int64",
    differentiable=False,
    ints=False,
)
case("cumsum", lambda x, dim: np.cumsum(x, axis=dim), unary(settings=along, least=1), out="sum")
case("cumprod", lambda x, dim: np.cumprod(x, axis=dim), unary(some_zeros, along, least=1), out="sum")
case("logcumsumexp", lambda x, dim: np.logaddexp.accumulate(x, dim), unary(settings=along, least=1))
for name, extreme in (("cummax", np.maximum), ("cummin", np.minimum)):
    case(
        name,
        lambda x, dim, extreme=extreme: extreme.accumulate(x, dim),
        unary(distinct, along, least=1),
        lambda x, dim, function=name: getattr(tg, function)(x, dim).values,
        out="same",
    )
case("diff", diff, unary(settings=steps_of, least=1), out="same", bools=False)
case(
    "diff",
    lambda x, **options: diff(x > 0, **options),
    unary(some_equal, steps_of, least=1),
    lambda x, **o: tg.diff(x > 0, **o),
    out="bool",
    variant="bool",
    differentiable=False,
)
