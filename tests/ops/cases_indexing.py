"""Cases of ops/indexing.py."""

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st
from ops.case import SEEDS, Drawn, HostArray, Shape, a_dim, case, nonzero, shapes, unary

import tinygrad_lstm as tg


def places(length: int, shape: Shape) -> st.SearchStrategy[HostArray]:
    return hnp.arrays(np.int64, shape, elements=st.integers(-length, length - 1))


@st.composite
def gathered(draw: st.DrawFn, called: str) -> Drawn:
    shape = draw(shapes(0, 3, smallest=1))
    lengths = [draw(st.integers(0, length)) for length in shape or (1,)]
    dim = draw(a_dim(tuple(lengths)))
    lengths[dim] = draw(st.integers(0, 4))
    index = draw(places((shape or (1,))[dim], tuple(lengths)))
    return Drawn([nonzero(np.random.default_rng(draw(SEEDS)), shape)], {"dim": dim, called: index})


def gather(x: HostArray, dim: int, index: HostArray) -> HostArray:
    others = np.indices(index.shape, sparse=True)
    x = np.atleast_1d(x)
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
    shape = draw(shapes(0, smallest=1))
    dim = draw(a_dim(shape or (1,)))
    index = draw(places(shape[dim], (draw(st.integers(0, 4)),)) if shape else places(1, (1,)))
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
for name in ("take_along_axis", "take_along_dim"):
    case(
        name,
        lambda x, indices, dim: np.take_along_axis(x, indices, dim),
        taken_along(),
        lambda x, indices, dim, name=name: getattr(tg, name)(x, here(x, indices), dim),
        out="same",
    )
case(
    "index_select",
    lambda x, dim, index: np.take(x, index, dim) if x.ndim else x,
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
