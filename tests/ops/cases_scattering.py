"""Cases of ops/scattering.py."""

import math
from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st
from ops.case import SEEDS, Drawn, HostArray, Shape, a_dim, case, nonzero, shapes
from ops.cases_indexing import here, places

import tinygrad_lstm as tg


def drawn_like(draw: st.DrawFn, *lengths: Shape) -> list[HostArray]:
    rng = np.random.default_rng(draw(SEEDS))
    return [nonzero(rng, shape) for shape in lengths]


@st.composite
def scattered(draw: st.DrawFn) -> Drawn:
    """An index that is at most as long as x in the other dimensions; a src that is at least as long as the index."""
    shape = draw(shapes(0, 3, smallest=1))
    if not shape:
        return Drawn(drawn_like(draw, (), ()), {"dim": draw(st.sampled_from([0, -1])), "index": np.array(0)})
    dim = draw(a_dim(shape))
    lengths = [draw(st.integers(0, length)) for length in shape]
    lengths[dim] = draw(st.integers(0, 5))
    longer = tuple([length + draw(st.integers(0, 1)) for length in lengths])
    index = draw(places(shape[dim], tuple(lengths)))
    return Drawn(drawn_like(draw, shape, longer), {"dim": dim, "index": index})


@st.composite
def slices(draw: st.DrawFn, one_value: bool = False, **more: st.SearchStrategy[Any]) -> Drawn:
    """A 1-D index, and a source with its length at `dim`."""
    shape = draw(shapes(1, 3, smallest=1))
    dim = draw(a_dim(shape))
    index = draw(places(shape[dim], (draw(st.integers(0, 5)),)))
    source = [*shape]
    source[dim] = len(index)
    others = {name: draw(strategy) for name, strategy in more.items()}
    return Drawn(drawn_like(draw, shape, () if one_value else tuple(source)), {"dim": dim, "index": index} | others)


@st.composite
def flat(draw: st.DrawFn) -> Drawn:
    shape = draw(shapes(0, 3, smallest=1))
    index = draw(places(math.prod(shape), draw(shapes(0, 2))))
    source = draw(st.sampled_from([index.shape, (index.size,), (1, index.size)]))
    return Drawn(drawn_like(draw, shape, source), {"index": index, "accumulate": draw(st.booleans())})


@st.composite
def taken(draw: st.DrawFn) -> Drawn:
    shape = draw(shapes(0, 3, smallest=1))
    return Drawn(drawn_like(draw, shape), {"index": draw(places(math.prod(shape), draw(shapes(0, 3))))})


@st.composite
def put_at_indices(draw: st.DrawFn) -> Drawn:
    """Index arrays that broadcast, of some of the first dimensions, or a mask."""
    shape = draw(shapes(1, 3, smallest=1))
    number = draw(st.integers(0, len(shape)))
    together = draw(shapes(1, 2))
    indices: list[HostArray] = [draw(places(length, together)) for length in shape[:number]]
    indices = indices or [draw(hnp.arrays(np.bool_, shape[:1]))]
    target = np.zeros(shape)[tuple(indices)].shape
    values = tuple([draw(st.sampled_from([1, length])) for length in target])[draw(st.integers(0, len(target))) :]
    settings = {"indices": tuple(indices), "accumulate": draw(st.booleans())}
    return Drawn(drawn_like(draw, shape, values), settings)


@st.composite
def masked(draw: st.DrawFn, broadcasts: bool) -> Drawn:
    """A mask that broadcasts to x; with `broadcasts`, both may."""
    shape = draw(shapes())
    mask = draw(hnp.arrays(np.bool_, tuple([draw(st.sampled_from([1, length])) for length in shape])))
    if broadcasts:
        return Drawn(drawn_like(draw, shape[draw(st.integers(0, len(shape))) :]), {"mask": mask})
    number = int(np.broadcast_to(mask, shape).sum())
    return Drawn(drawn_like(draw, shape, (number + draw(st.integers(0, 2)),)), {"mask": mask})


@st.composite
def ids(draw: st.DrawFn) -> Drawn:
    number = draw(st.integers(1, 4))
    drawn = draw(hnp.arrays(np.int64, draw(shapes()), elements=st.integers(0, number - 1)))
    return Drawn(drawn_like(draw, ()), {"ids": drawn, "num_classes": number})


# -- the same with NumPy -----------------------------------------------------------------------------------------------


def changed(x: HostArray, index: Any, values: HostArray, adds: bool) -> HostArray:
    """A copy of x. float16 is added up in float32, and rounded once."""
    wide = np.array(x, np.float32 if adds and x.dtype == np.float16 else x.dtype)
    with np.errstate(all="ignore"):
        if adds:
            # NumPy 2.4 reads beyond the end of values that broadcast.
            np.add.at(wide, index, np.broadcast_to(values, wide[index].shape))
        else:
            wide[index] = values
        return wide.astype(x.dtype)


def scatter(adds: bool) -> Callable[..., HostArray]:
    def reference(x: HostArray, src: HostArray, dim: int, index: HostArray) -> HostArray:
        if not x.ndim:
            return changed(x, (), src, adds)
        others = np.indices(index.shape, sparse=True)
        at = tuple(index if d == dim % x.ndim else other for d, other in enumerate(others))
        return changed(x, at, src[tuple([slice(length) for length in index.shape])], adds)

    return reference


def along(adds: bool) -> Callable[..., HostArray]:
    def reference(x: HostArray, source: HostArray, dim: int, index: HostArray, alpha: int = 1) -> HostArray:
        return changed(x, (*(slice(None),) * (dim % x.ndim), index), source if alpha == 1 else -source, adds)

    return reference


def put(x: HostArray, source: HostArray, index: HostArray, accumulate: bool) -> HostArray:
    return changed(x.reshape(-1), index, source.reshape(index.shape), accumulate).reshape(x.shape)


def masked_scatter(x: HostArray, source: HostArray, mask: HostArray) -> HostArray:
    wide = np.broadcast_to(mask, x.shape)
    return changed(x, wide, source[: wide.sum()], False)


def of_arrays(name: str, argument: str = "index") -> Callable[..., Any]:
    """The op on tensors, with its index or mask on their device, before the values."""

    def call(x: Any, *values: Any, **settings: Any) -> Any:
        given = {argument: here(x, settings.pop(argument))}
        first = {"dim": settings.pop("dim")} if "dim" in settings else {}
        return getattr(tg, name)(x, *first.values(), *given.values(), *values, **settings)

    return call


for name, adds in {"scatter": False, "scatter_add": True}.items():
    case(name, scatter(adds), scattered(), of_arrays(name), out="same")
case("index_add", along(True), slices(alpha=st.sampled_from([1, -1])), of_arrays("index_add"), out="same", bools=False)
case("index_copy", along(False), slices(), of_arrays("index_copy"), out="same")
case("index_fill", along(False), slices(one_value=True), of_arrays("index_fill"), out="same")
case("take", lambda x, index: x.reshape(-1)[index], taken(), of_arrays("take"), out="same")
case("put", put, flat(), of_arrays("put"), out="same")
case(
    "index_put",
    lambda x, values, indices, accumulate: changed(x, indices, values, accumulate),
    put_at_indices(),
    lambda x, values, indices, accumulate: tg.index_put(x, [here(x, index) for index in indices], values, accumulate),
    out="same",
)
case(
    "masked_select",
    lambda x, mask: np.broadcast_arrays(x, mask)[0][np.broadcast_arrays(x, mask)[1]],
    masked(broadcasts=True),
    of_arrays("masked_select", "mask"),
    out="same",
)
case("masked_scatter", masked_scatter, masked(broadcasts=False), of_arrays("masked_scatter", "mask"), out="same")
case(
    "one_hot",
    lambda x, ids, num_classes: np.eye(num_classes)[ids],
    ids(),
    lambda x, ids, num_classes: tg.one_hot(here(x, ids), num_classes),
    out="int64",
    differentiable=False,
)
