"""Streams of ops that compute each frame by itself: elementwise ops, products, and ops along other dimensions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray

from .._tensor import Tensor, as_tensor
from ..ops import indexing, linalg, normalization, reduction, scattering, sorting
from ..ops.indexing import check_range
from ..ops.reduction import dim_of, dims_of
from ..programs.program import Call
from ..tracing.rows import ALONG_DIMS, ELEMENTWISE
from .layout import BATCH, TIME, Factor, Layout
from .planning import Fixed, Flow, Planner, applied, filled, refused, streams, values_in

__all__ = ["Full", "aligned", "alone", "along_frames", "as_frames", "check_free", "mapped_natively", "rest", "rows_at"]


# -- elementwise -------------------------------------------------------------------------------------------------------


@streams(*ELEMENTWISE, "clamp_between", "trunc_divide")
def _elementwise(p: Planner, call: Call, *given: Any) -> list[Flow]:
    """Operands are broadcast: each is given the result's dimensions."""
    operands, template = values_in(given), p.template(given)
    layout = _broadcast([each.layout for each in operands], len(call.results[0].shape))
    prepared = [aligned(each, layout) for each in operands]
    flows = [each for each in operands if isinstance(each, Flow)]

    def function(lead: int, *frames: Tensor) -> Any:
        own = iter(frames)
        tensors = [
            prepare(lead, next(own) if isinstance(each, Flow) else each.tensor)
            for each, prepare in zip(operands, prepared, strict=True)
        ]
        return applied(call.function, filled(template, iter(tensors)))

    return p.map(call, flows, [layout] * len(call.results), function)


def _broadcast(layouts: Sequence[Layout], ndim: int) -> Layout:
    """The layout of the result."""
    dims: list[tuple[Factor, ...]] = []
    for k in range(-ndim, 0):
        found = {layout.dims[k] for layout in layouts if len(layout.dims) >= -k} - {()}
        if len(found) > 1:
            raise refused("compares each step with all steps")
        dims.append(next(iter(found), ()))
    for factor in (TIME, BATCH):
        if sum(factor in dim for dim in dims) > 1:
            raise refused("compares each step with all steps" if factor == TIME else "mixes the sequences of a batch")
    return Layout(tuple(dims))


def aligned(operand: Flow | Fixed, result: Layout) -> Callable[[int, Tensor], Tensor]:
    """A function that gives an operand the other dimensions of the result, of length 1 where it has none."""
    missing = len(result.dims) - len(operand.layout.dims)
    shape: list[int] = []
    for k, wanted in enumerate(result.dims):
        own = operand.layout.dims[k - missing] if k >= missing else ()
        sizes = [each for each in own if isinstance(each, int)]
        shape += sizes or [1] * sum(isinstance(each, int) for each in wanted)
    if isinstance(operand, Fixed):
        made = as_frames(operand, shape)
        return lambda lead, tensor: made
    if tuple(shape) == operand.layout.rest:
        return lambda lead, frames: frames
    return lambda lead, frames: frames.reshape(*frames.shape[:lead], *shape)


def as_frames(fixed: Fixed, shape: Sequence[int]) -> Tensor:
    """A fixed value as frames that broadcast: (*shape), or (B, *shape) if it has a batch."""
    if fixed.is_filled:
        return fixed.tensor.reshape(-1)[:1].reshape(*[1] * len(shape)).expand(*shape).clone()
    at = fixed.layout.find(BATCH)
    if at is None or fixed.tensor.shape[at] == 1:
        while shape and shape[0] == 1:
            shape = shape[1:]
        return fixed.tensor.reshape(*shape)
    order = [at, *(k for k in range(fixed.tensor.ndim) if k != at)]
    return fixed.tensor.permute(*order).reshape(fixed.tensor.shape[at], *shape)


# -- along other dimensions --------------------------------------------------------------------------------------------


class Full:
    """Frames with all other dimensions of a value, also those of length 1.

    Attributes:
        dims: the value's dimension of each, or None for a part of the dimension that has the time or the batch.
        sizes: their lengths.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.dims: list[int | None] = []
        self.sizes: list[int] = []
        for k, dim in enumerate(layout.dims):
            merged = any(isinstance(each, str) for each in dim)
            sizes = [each for each in dim if isinstance(each, int)] or [1] * (not merged)
            self.dims += [None if merged else k] * len(sizes)
            self.sizes += sizes

    def place(self, dim: int) -> int:
        """The position of a dimension among `sizes`."""
        check_free(self._layout, dim)
        return self.dims.index(dim)

    def __call__(self, lead: int, frames: Tensor) -> Tensor:
        """Frames with these dimensions."""
        return frames if frames.ndim == lead + len(self.sizes) else frames.reshape(*frames.shape[:lead], *self.sizes)


def alone(size: Any) -> tuple[int, ...]:
    """The factors of a dimension of this length."""
    return (int(size),) if isinstance(size, int) and size != 1 else ()


def check_free(layout: Layout, *dims: int) -> None:
    """Refuses a call that goes along the time, or the batch."""
    for dim in dims:
        if TIME in layout.dims[dim]:
            raise refused("goes over all steps")
        if BATCH in layout.dims[dim]:
            raise refused("mixes the sequences of a batch")


def rest(layout: Layout, lead: int, frames: Tensor) -> Tensor:
    """Frames without dimensions of length 1."""
    wanted = layout.rest
    return frames if frames.shape[lead:] == wanted else frames.reshape(*frames.shape[:lead], *wanted)


@streams(*(name for name in ALONG_DIMS if name not in ("cat", "split", "stack", "unbind")))
@streams(reduction.mean, reduction.var, reduction.std, indexing.take_along_axis, indexing.gather, indexing.index_select)
def _along(p: Planner, call: Call, *given: Any) -> list[Flow]:
    """Dimensions of an argument are moved to where frames have them; all values have the same layout, or are fixed."""
    named = getattr(call.function, "names", None) or list(inspect.signature(call.function).parameters)
    name = ALONG_DIMS.get(call.name, "dim")
    at = named.index(name)
    x = values_in(given)[0]
    if isinstance(x, Fixed) and call.name == "index_select":
        return rows_at(p, call, x, given[1], given[2])
    if not isinstance(x, Flow):
        raise refused("takes elements of a fixed value")
    ndim = len(x.layout.dims)
    several = given[at] is None or isinstance(given[at], list | tuple)
    dims = dims_of("stream", given[at], (0,) * ndim) if several else (dim_of("stream", given[at], (0,) * ndim),)
    if call.name == "flip" and _is_part(call.arguments[0]) and any(TIME in x.layout.dims[dim] for dim in dims):
        raise refused(
            "takes steps backward, as padding by reflection does (pad_mode of tg.stft), which no stream can; padding "
            "with zeros can be streamed"
        )
    check_free(x.layout, *dims)
    return along_frames(p, call, given, at, dims, several)


def _is_part(x: Any) -> bool:
    """Whether a value is a part of a different one."""
    made_by = getattr(x, "call", None)
    return made_by is not None and made_by.name == "getitem"


def rows_at(p: Planner, call: Call, table: Fixed, dim: int, index: Any) -> list[Flow]:
    """The parts of a fixed table along a dimension that a value names."""
    if not isinstance(index, Flow) or table.layout.find(BATCH) is not None:
        raise refused("takes elements of a fixed value by several indices")
    dim = dim_of("stream", dim, table.tensor.shape)
    outer, inner = table.tensor.shape[:dim], table.tensor.shape[dim + 1 :]
    layout = Layout((*map(alone, outer), *index.layout.dims, *map(alone, inner)))
    rows = table.tensor.permute(dim, *(k for k in range(table.tensor.ndim) if k != dim))
    lead_of_index, rank = len(index.layout.rest), len(outer)

    def function(lead: int, frames: Tensor) -> Tensor:
        found = rows[frames]  # (lead, index, outer, inner)
        places = lead + lead_of_index
        order = [*range(lead), *range(places, places + rank), *range(lead, places), *range(places + rank, found.ndim)]
        return rest(layout, lead, found.permute(*order))

    return p.map(call, [index], [layout], function)


def along_frames(
    p: Planner, call: Call, given: Sequence[Any], at: int, dims: Sequence[int], several: bool
) -> list[Flow]:
    """Applies a call to frames, with the positions of these dimensions as the argument number `at`."""
    operands, template = values_in(given), p.template(list(given))
    flows = [each for each in operands if isinstance(each, Flow)]
    x = flows[0]
    places = [Full(x.layout).place(dim) for dim in dims]
    layouts = [_after(x.layout, dims, value.shape) for value in call.results]
    number = at

    def function(lead: int, *frames: Tensor) -> Any:
        own = iter(frames)
        tensors = [each.tensor if isinstance(each, Fixed) else Full(each.layout)(lead, next(own)) for each in operands]
        moved = tuple(lead + place for place in places)
        arguments = [*template[:number], moved if several else moved[0], *template[number + 1 :]]
        made = applied(call.function, filled(arguments, iter(tensors)))
        return tuple(
            rest(layout, lead, each)
            for layout, each in zip(layouts, made if isinstance(made, tuple) else (made,), strict=True)
        )

    return p.map(call, flows, layouts, function)


def _after(layout: Layout, dims: Sequence[int], shape: Sequence[Any]) -> Layout:
    """The layout of a result along some dimensions: they are gone, or have its lengths."""
    if len(shape) < len(layout.dims):
        return layout.without(*dims)
    for dim in dims:
        layout = layout.with_dim(dim, () if shape[dim] == 1 else (int(shape[dim]),))
    return layout


def mapped_natively(
    p: Planner, call: Call, x: Flow, layouts: Sequence[Layout], function: Callable[[Tensor], Any]
) -> list[Flow]:
    """The results of a function of what the model has, of which each step and sequence is computed by itself."""

    def of_frames(lead: int, frames: Tensor) -> Any:
        made = function(x.layout.by_row.native(frames if lead == 2 else frames.unsqueeze(0)))
        found = made if isinstance(made, tuple) else (made,)
        batch = frames.shape[lead - 1]
        several = [layout.by_row.frames(each, batch) for layout, each in zip(layouts, found, strict=True)]
        return tuple(several if lead == 2 else [each[0] for each in several])

    return p.map(call, [x], layouts, of_frames)


@streams(normalization.layer_norm_op)
def _layer_norm(p: Planner, call: Call, inputs: Sequence[Any], shape: tuple[int, ...], eps: float) -> list[Flow]:
    x, *others = inputs
    if not isinstance(x, Flow) or any(isinstance(each, Flow) for each in others):
        raise refused("has weights that depend on the steps")
    ndim = len(x.layout.dims)
    check_free(x.layout, *range(ndim - len(shape), ndim))
    full, tensors = Full(x.layout), [None if each is None else each.tensor for each in others]

    def function(lead: int, frames: Tensor) -> Tensor:
        return rest(x.layout, lead, applied(call.function, [[full(lead, frames), *tensors], shape, eps]))

    return p.map(call, [x], [x.layout], function)


# -- products ----------------------------------------------------------------------------------------------------------


@streams(linalg.linear_op)
def _linear(p: Planner, call: Call, x: Any, weight: Any, bias: Any) -> list[Flow]:
    if not isinstance(x, Flow) or isinstance(weight, Flow) or isinstance(bias, Flow):
        raise refused("has weights that depend on the steps")
    check_free(x.layout, len(x.layout.dims) - 1)
    layout = _after(x.layout, [len(x.layout.dims) - 1], call.result.shape)
    full, w, b = Full(x.layout), weight.tensor, None if bias is None else bias.tensor

    def function(lead: int, frames: Tensor) -> Tensor:
        return rest(layout, lead, linalg.linear(full(lead, frames), w, b))

    return p.map(call, [x], [layout], function)


@streams(linalg.matmul_op)
def _matmul(p: Planner, call: Call, x: Any, y: Any) -> list[Flow]:
    if isinstance(x, Flow) and isinstance(y, Fixed) and y.tensor.size == y.tensor.shape[-1] * y.tensor.shape[-2]:
        check_free(x.layout, len(x.layout.dims) - 1)
        layout = _after(_padded(x.layout, call), [len(call.result.shape) - 1], call.result.shape)
        weight = y.tensor.reshape(*y.tensor.shape[-2:])
        full = Full(x.layout)
        return p.map(
            call, [x], [layout], lambda lead, frames: rest(layout, lead, linalg.matmul(full(lead, frames), weight))
        )
    if isinstance(y, Flow) and isinstance(x, Fixed) and x.tensor.size == x.tensor.shape[-1] * x.tensor.shape[-2]:
        rows = len(y.layout.dims) - 2
        check_free(y.layout, rows)
        at = len(call.result.shape) - 2
        layout = _after(_padded(y.layout, call), [at], call.result.shape)
        weight = x.tensor.reshape(*x.tensor.shape[-2:])
        if y.layout.dims[-1] == () or isinstance(y.layout.dims[-1][0], int):
            full = Full(y.layout)
            return p.map(
                call, [y], [layout], lambda lead, frames: rest(layout, lead, linalg.matmul(weight, full(lead, frames)))
            )
        full = Full(y.layout)  # the columns are steps, or the batch
        return p.map(
            call, [y], [layout], lambda lead, frames: rest(layout, lead, linalg.linear(full(lead, frames), weight))
        )
    if isinstance(x, Flow) and isinstance(y, Flow):
        for each in (x, y):
            check_free(each.layout, len(each.layout.dims) - 1, len(each.layout.dims) - 2)
        outer = _broadcast([Layout(x.layout.dims[:-2]), Layout(y.layout.dims[:-2])], len(call.result.shape) - 2)
        ends = [(n,) if (n := int(size)) > 1 else () for size in call.result.shape[-2:]]
        layout = Layout((*outer.dims, *ends))
        full_x, full_y = Full(x.layout), Full(y.layout)
        return p.map(
            call, [x, y], [layout],
            lambda lead, a, b: rest(layout, lead, linalg.matmul(full_x(lead, a), full_y(lead, b))),
        )  # fmt: skip
    raise refused("multiplies by a stack of fixed matrices")


def _padded(layout: Layout, call: Call) -> Layout:
    """With dimensions of length 1 in front, if the result has more."""
    return Layout((*[()] * (len(call.result.shape) - len(layout.dims)), *layout.dims))


@streams(indexing.embedding)
def _embedding(p: Planner, call: Call, ids: Any, weight: Any, padding_idx: Any) -> list[Flow]:
    if isinstance(weight, Flow):
        raise refused("has weights that depend on the steps")
    size = int(call.result.shape[-1])
    layout = Layout((*ids.layout.dims, (size,) if size > 1 else ()))

    def function(lead: int, frames: Tensor) -> Tensor:
        return rest(layout, lead, indexing.embedding(frames, weight.tensor, padding_idx))

    found = p.map(call, [ids], [layout], function)
    p.nodes[-1].of_array = _rows_of(weight.tensor) if size > 1 else None  # type: ignore[attr-defined]
    return found


def _rows_of(weight: Tensor) -> Callable[[Array], Array]:
    """The rows of a weight by ids, as a function of plain arrays."""
    array = weight.data
    if weight.device != "cpu":
        return lambda ids: indexing.embedding(as_tensor(ids.copy()), weight).data

    def rows(ids: HostArray) -> HostArray:
        check_range("embedding", ids, len(array), 0, lowest=0)
        found: HostArray = array.take(ids.astype(np.intp, copy=False), axis=0)
        return found

    return rows


@streams(scattering.take)
def _take(p: Planner, call: Call, x: Any, index: Any) -> list[Flow]:
    return _looked_up(p, call, x, index, lambda table, places: scattering.take(table, places))


@streams(sorting.searchsorted_op)
def _searchsorted(p: Planner, call: Call, sequence: Any, values: Any, right: bool) -> list[Flow]:
    return _looked_up(p, call, sequence, values, lambda table, places: sorting.searchsorted_op(table, places, right))


def _looked_up(p: Planner, call: Call, table: Any, x: Any, function: Callable[[Tensor, Tensor], Tensor]) -> list[Flow]:
    """The results of a function that takes each element of x by itself to a fixed table."""
    if not isinstance(x, Flow) or not isinstance(table, Fixed):
        raise refused("takes elements of a value that depends on the steps")
    return p.map(call, [x], [x.layout], lambda lead, frames: function(table.tensor, frames))


@streams(scattering.one_hot)
def _one_hot(p: Planner, call: Call, x: Flow, num_classes: int) -> list[Flow]:
    layout = Layout((*x.layout.dims, (num_classes,)))
    return p.map(call, [x], [layout], lambda lead, frames: scattering.one_hot(frames, num_classes))


@streams(normalization.affine_norm, normalization.group_norm_op)
def _norm(p: Planner, call: Call, inputs: Sequence[Any], *settings: Any) -> list[Flow]:
    x, *others = inputs
    if not isinstance(x, Flow) or any(isinstance(each, Flow) for each in others):
        raise refused("has weights that depend on the steps")
    ndim = len(x.layout.dims)
    dims = tuple(range(2, ndim)) if len(settings) == 1 else dims_of("stream", settings[0], (0,) * ndim)
    check_free(x.layout, *dims)
    tensors = [None if each is None else each.tensor for each in others]
    layouts = [
        x.layout if k == 0 else Layout(tuple(() if d in dims else own for d, own in enumerate(x.layout.dims)))
        for k in range(len(call.results))
    ]
    return mapped_natively(p, call, x, layouts, lambda native: applied(call.function, [[native, *tensors], *settings]))


@streams(normalization.with_statistics)
def _with_statistics(p: Planner, call: Call, x: Any, *given: Any) -> list[Flow]:
    *others, eps = given
    if not isinstance(x, Flow) or any(isinstance(each, Flow) for each in others):
        raise refused("has weights that depend on the steps")
    check_free(x.layout, 1)
    tensors = [None if each is None else each.tensor for each in others]
    return mapped_natively(p, call, x, [x.layout], lambda native: applied(call.function, [native, *tensors, eps]))


@streams(linalg.einsum_op)
def _einsum(p: Planner, call: Call, operands: Sequence[Any], terms: Sequence[str], out_term: str) -> list[Flow]:
    letters: dict[str, str] = {}
    flows = [each for each in operands if isinstance(each, Flow)]
    for each, term in zip(operands, terms, strict=True):
        for letter, dim in zip(term, each.layout.dims, strict=True):
            if len(dim) > 1:
                raise refused("takes dimensions that are merged")
            if dim and isinstance(dim[0], str) and letters.setdefault(letter, dim[0]) != dim[0]:
                raise refused("mixes steps, or the sequences of a batch")
    for factor in (TIME, BATCH):
        own = [letter for letter, found in letters.items() if found == factor]
        if len(own) > 1 or any(letter not in out_term for letter in own):
            raise refused("goes over all steps" if factor == TIME else "mixes the sequences of a batch")
    sizes = dict(zip(out_term, call.result.shape, strict=True))
    layout = Layout(tuple(
        (letters[letter],) if letter in letters else () if sizes[letter] == 1 else (int(sizes[letter]),)
        for letter in out_term
    ))  # fmt: skip
    spare = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if not any(letter in term for term in terms)][:2]
    others = ["".join(letter for letter in term if letter not in letters) for term in (*terms, out_term)]
    if any(each.layout.find(factor) is not None for each in operands if isinstance(each, Fixed) for factor in (BATCH,)):
        raise refused("multiplies by a value that differs in each sequence")
    full = [Full(each.layout) for each in operands]

    def function(lead: int, *frames: Tensor) -> Tensor:
        own = iter(frames)
        leading = "".join(spare[2 - lead :])
        tensors = [
            shape(lead, next(own)) if isinstance(each, Flow) else each.tensor
            for each, shape in zip(operands, full, strict=True)
        ]
        given = [
            leading + term if isinstance(each, Flow) else term for each, term in zip(operands, others, strict=False)
        ]
        return rest(layout, lead, applied(call.function, [tensors, tuple(given), leading + others[-1]]))

    return p.map(call, flows, [layout], function)
