"""Cases of ops/shape.py."""

import itertools
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from ops.case import SEEDS, Drawn, HostArray, Shape, a_dim, along, case, nonzero, settings, shapes, some_dims, unary

import tinygrad_lstm as tg


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
