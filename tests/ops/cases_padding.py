"""Cases of ops/padding.py, and of the diagonals and tensordot of ops/linalg.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from ops.case import SEEDS, Drawn, HostArray, Shape, a_dim, case, nonzero, unary

import tinygrad_lstm as tg

MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@st.composite
def padded(draw: st.DrawFn, shape: Shape, mode: str) -> dict[str, Any]:
    """Widths of some last dimensions, negative ones among them, that this mode has elements for."""
    widths: list[int] = []
    for length in reversed(shape[len(shape) - draw(st.integers(0, len(shape))) :]):
        before = draw(st.integers(-length, 2))
        after = draw(st.integers(-(length + min(before, 0)), 2))
        most = {"constant": 2, "replicate": 2 * (length > 0), "reflect": max(length - 1, 0)}.get(
            mode, length + min(before, 0) + min(after, 0)
        )
        widths += [min(before, most), min(after, most)]
    for dim in range(len(widths) // 2):  # both sides together may not remove more than there is
        before, after = widths[2 * dim : 2 * dim + 2]
        if shape[-1 - dim] + before + after < 0:
            widths[2 * dim : 2 * dim + 2] = [max(before, 0), max(after, 0)]
    value = {"value": draw(st.sampled_from([0.0, 1.5]))} if mode == "constant" else {"mode": mode}
    return {"pad": tuple(widths), **value}


def pad(x: HostArray, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> HostArray:
    """NumPy's padding, of one dimension after the other. Mirrored are also elements that negative widths remove."""
    options: dict[str, Any] = {"constant_values": value} if mode == "constant" else {"mode": MODES[mode]}

    def cut(x: HostArray, dim: int, before: int, after: int) -> HostArray:
        return x[(*[slice(None)] * dim, slice(max(-before, 0), x.shape[dim] + min(after, 0)))]

    for k, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        dim = x.ndim - 1 - k
        widths = [(0, 0)] * x.ndim
        widths[dim] = (max(before, 0), max(after, 0))
        if mode in ("constant", "circular"):
            x = cut(x, dim, before, after)
        x = np.pad(x, widths, **options) if max(widths[dim]) else x
        if mode in ("reflect", "replicate"):
            x = cut(x, dim, before, after)
    return x


def repeated(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    def numbers(length: int) -> st.SearchStrategy[Any]:
        return st.integers(0, 3) | st.lists(st.integers(0, 2), min_size=length, max_size=length)

    flat = st.fixed_dictionaries({"repeats": numbers(int(np.prod(shape)))})
    along = a_dim(shape).flatmap(lambda d: st.fixed_dictionaries({"repeats": numbers(shape[d]), "dim": st.just(d)}))
    return flat | along if shape else flat


@st.composite
def windows(draw: st.DrawFn, shape: Shape) -> dict[str, Any]:
    dim = draw(a_dim(shape))
    return {"dim": dim, "size": draw(st.integers(0, shape[dim])), "step": draw(st.integers(1, 3))}


def unfold(x: HostArray, dim: int, size: int, step: int) -> HostArray:
    starts = range(0, x.shape[dim] - size + 1, step)
    return np.stack([np.moveaxis(np.take(x, range(k, k + size), dim), dim, -1) for k in starts], axis=dim % x.ndim)


@st.composite
def diagonals(draw: st.DrawFn, shape: Shape) -> dict[str, Any]:
    dim1, dim2 = draw(st.permutations(range(len(shape))))[:2]
    return {"offset": draw(st.integers(-3, 3)), "dim1": dim1, "dim2": draw(st.sampled_from([dim2, dim2 - len(shape)]))}


@st.composite
def matrix(draw: st.DrawFn) -> Drawn:
    shape = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    return Drawn([nonzero(np.random.default_rng(draw(SEEDS)), shape)])


@st.composite
def contracted(draw: st.DrawFn) -> Drawn:
    """Two arrays that share the dimensions of some lengths, in different orders."""
    lengths = draw(st.lists(st.integers(0, 3), max_size=2))
    own = [draw(st.lists(st.integers(0, 3), max_size=2)) for _ in range(2)]
    rng = np.random.default_rng(draw(SEEDS))
    if draw(st.booleans()):
        return Drawn([nonzero(rng, (*own[0], *lengths)), nonzero(rng, (*lengths, *own[1]))], {"dim": len(lengths)})
    places = [draw(st.permutations(range(len(each) + len(lengths))))[: len(lengths)] for each in own]
    arrays = []
    for each, at in zip(own, places, strict=True):
        rest = iter(each)
        shape = [lengths[at.index(d)] if d in at else next(rest) for d in range(len(each) + len(lengths))]
        arrays.append(nonzero(rng, tuple(shape)))
    return Drawn(arrays, {"dim": tuple(tuple(at) for at in places)})


@st.composite
def moved(draw: st.DrawFn, shape: Shape) -> dict[str, Any]:
    dims = range(-len(shape), len(shape))
    number = draw(st.integers(0, len(shape)))
    distinct = st.lists(st.sampled_from(dims), min_size=number, max_size=number, unique_by=lambda d: d % len(shape))
    if shape and draw(st.booleans()):
        return {"source": draw(a_dim(shape)), "destination": draw(a_dim(shape))}
    return {"source": tuple(draw(distinct)) if shape else (), "destination": tuple(draw(distinct)) if shape else ()}


case("movedim", lambda x, source, destination: np.moveaxis(x, source, destination), unary(settings=moved), out="same")
for _mode in MODES:
    case(
        "pad",
        pad,
        unary(settings=lambda shape, _mode=_mode: padded(shape, _mode)),
        out="same",
        ints=_mode != "constant",
        variant=_mode,
    )
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
case(
    "tile",
    lambda x, times: np.tile(x, times),
    unary(settings=lambda _: st.fixed_dictionaries({"times": st.lists(st.integers(0, 2), max_size=3).map(tuple)})),
    lambda x, times: tg.tile(x, times),
    out="same",
)
case(
    "repeat_interleave",
    lambda x, repeats, dim=None: np.repeat(x, repeats, dim),
    unary(settings=repeated),
    out="same",
)
case("unfold", unfold, unary(settings=windows, least=1), out="same")
case(
    "diagonal",
    lambda x, offset, dim1, dim2: np.diagonal(x, offset, dim1, dim2),
    unary(settings=diagonals, least=2),
    out="same",
)
case("trace", np.trace, matrix(), out="same", ints=False)
case("tensordot", lambda x, y, dim: np.tensordot(x, y, dim), contracted(), out="same", bools=False)
