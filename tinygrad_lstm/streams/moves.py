"""Streams of ops that move elements: along other dimensions frame by frame, along time by holding or adding frames."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .._tensor import Tensor
from ..lengths import Derived
from ..ops import indexing, padding
from ..ops import shape as shapes
from ..ops.reduction import dim_of
from ..programs.program import Call, full_index
from .cumulative import last_steps
from .layout import BATCH, TIME, Layout
from .nodes import Pad
from .planning import Fixed, Flow, Planner, refused, streams
from .pointwise import Full, alone, along_frames, as_frames, check_free, rest, rows_at
from .timeline import Timeline
from .windows import every, split_in_time

__all__: list[str] = []


@streams(shapes.permute_op)
def _permute(p: Planner, call: Call, x: Flow, order: Sequence[int]) -> list[Flow]:
    layout, of_rest = x.layout.permuted(order)
    return relaid(p, call, x, layout, of_rest)


def relaid(p: Planner, call: Call, x: Flow, layout: Layout, order: Sequence[int] | None = None) -> list[Flow]:
    """The same elements in a different layout, after the frame's other dimensions are put in order."""
    moved = order is not None and list(order) != sorted(order)
    if not moved and layout.rest == x.layout.rest:
        return [replace(x, layout=layout)]

    def function(lead: int, frames: Tensor) -> Tensor:
        if moved:
            frames = frames.permute(*range(lead), *(lead + k for k in order or ()))
        return frames.reshape(*frames.shape[:lead], *layout.rest)

    return p.map(call, [x], [layout], function)


@streams(shapes.reshape_op)
def _reshape(p: Planner, call: Call, x: Flow, shape: Any) -> list[Flow]:
    known = dict(p.pairs)
    if not x.is_present:
        known[TIME] = (x.length.at(p.pairs[TIME][0]), x.length.at(p.pairs[TIME][1]))
    wanted = [size.values if isinstance(size, Derived) else (size, size) for size in call.result.shape]
    layout = x.layout.reshaped(wanted, known)
    if layout is None and not x.is_present and x.layout.dims[x.layout.time] == (TIME,):
        apart = [known[TIME][0] // pair[0] for pair in wanted if pair[0] != pair[1] and not known[TIME][0] % pair[0]]
        for number in apart:  # several steps become one
            shorter = known | {TIME: (known[TIME][0] // number, known[TIME][1] // number)}
            layout = x.layout.with_dim(x.layout.time, (TIME, number)).reshaped(wanted, shorter)
            if layout is not None and number > 1:
                x = split_in_time(p, call, x, number)
                break
    if layout is None:
        raise refused("mixes steps, or the sequences of a batch")
    return relaid(p, call, x, layout)


@streams(shapes.cat_op)
def _cat(p: Planner, call: Call, tensors: Sequence[Any], dim: int) -> list[Flow]:
    ndim = len(call.result.shape)
    dim = dim_of("cat", dim, (0,) * ndim)
    flows = [each for each in tensors if isinstance(each, Flow)]
    if any(TIME in each.layout.dims[dim] for each in flows):
        return _joined_in_time(p, call, tensors, dim)
    return _joined(p, call, tensors, dim)


def _joined(p: Planner, call: Call, tensors: Sequence[Any], dim: int) -> list[Flow]:
    """Frames side by side along a different dimension."""
    flows = [each for each in tensors if isinstance(each, Flow)]
    for each in tensors:
        check_free(each.layout, dim)
    outer: list[Any] = []
    for k in range(len(call.result.shape)):
        found = {each.layout.dims[k] for each in flows} - {()}
        if k != dim and len(found) > 1:
            raise refused("joins values whose steps are in different dimensions")
        size = call.result.shape[k]
        outer.append(((int(size),) if size > 1 else ()) if k == dim else next(iter(found), ()))
    layout = Layout(tuple(outer))
    full = [Full(layout.with_dim(dim, each.layout.dims[dim])) for each in tensors]
    place = Full(layout).place(dim)

    def function(lead: int, *frames: Tensor) -> Tensor:
        own = iter(frames)
        parts = []
        for each, shape in zip(tensors, full, strict=True):
            if isinstance(each, Flow):
                parts.append(shape(lead, next(own)))
            else:
                parts.append(as_frames(each, shape.sizes).expand(*frames[0].shape[:lead], *shape.sizes))
        return rest(layout, lead, shapes.cat(parts, lead + place))

    return p.map(call, flows, [layout], function)


def _joined_in_time(p: Planner, call: Call, tensors: Sequence[Any], dim: int) -> list[Flow]:
    """Fixed frames before and after those of one value."""
    flows = [each for each in tensors if isinstance(each, Flow)]
    if len(flows) > 1 or flows[0].is_present:
        raise refused("joins two sequences, one after the other")
    at = list(tensors).index(flows[0])
    x = p.flat(flows[0])
    if x.layout.dims[dim] != (TIME,):
        raise refused("joins steps that are merged with a different dimension")
    before, after = (_padding(p, x, list(part), dim) for part in (tensors[:at], tensors[at + 1 :]))
    return [padded(p, x, before, Timeline.always(after.shape[1]), lambda batch, number: after)]


def _padding(p: Planner, x: Flow, tensors: Sequence[Fixed], dim: int) -> Tensor:
    """Fixed frames (B, number, *rest)."""
    found = [p.filler(x)(p.batch, 0)]
    for each in tensors:
        if each.layout.has_time:
            raise refused("joins two sequences, one after the other")
        sizes = [p.batch if BATCH in own else n for own, n in zip(x.layout.dims, each.tensor.shape, strict=True)]
        if sizes[dim]:
            frames = x.layout.frames(each.tensor.expand(*sizes), p.batch)
            found.append(frames.transpose(0, 1).expand(p.batch, sizes[dim], *x.layout.rest))
    return shapes.cat(found, 1)


def padded(p: Planner, x: Flow, before: Tensor, number: Timeline, after: Callable[[int, int], Tensor]) -> Flow:
    """A value with fixed frames (B, number, *rest) before its own, and a number of frames after them.

    Args:
        after: makes the latter, given the number of sequences and that of frames.
    """
    first = before.shape[1]
    if not first and not number.counts.any():
        return x
    length = Timeline.computed(operator.add, x.length.plus(first), number)
    made = p.flow(x.layout, x.dtype, length, x.ready.plus(first))
    p.nodes.append(Pad([x.number], [made.number], before, number, after))
    return made


@streams(padding.pad_op)
def _pad(p: Planner, call: Call, x: Flow, widths: Sequence[tuple[int, int]], value: float) -> list[Flow]:
    at = x.layout.time if x.layout.has_time else -1
    in_time = widths[at] if x.layout.has_time else (0, 0)
    others = [(0, 0) if k == at else tuple(map(p.number_of, width)) for k, width in enumerate(widths)]
    for dim, width in enumerate(others):
        if any(width):
            check_free(x.layout, dim)
    if any(in_time):
        x = p.flat(x)
        if x.layout.dims[at] != (TIME,):
            raise refused("pads steps that are merged with a different dimension")
        before, after = p.number_of(in_time[0]), p.count(in_time[1])
        if before < 0 or after.counts.min() < 0:
            raise refused("takes steps away by padding them")
        fill = p.filler(x, value)
        x = padded(p, x, fill(p.batch, before), after, fill)
    if not any(map(any, others)):
        return [x]
    layout = Layout(
        tuple(
            dims if not any(width) else (int(size),)
            for dims, width, size in zip(x.layout.dims, others, call.result.shape, strict=True)
        )
    )
    full = Full(x.layout)
    of_rest = [(0, 0) if dim is None else others[dim] for dim in full.dims]

    def function(lead: int, frames: Tensor) -> Tensor:
        return rest(layout, lead, padding.pad_op(full(lead, frames), ((0, 0),) * lead + tuple(of_rest), value))

    return p.map(call, [x], [layout], function)


@streams(shapes.split_op)
def _split(p: Planner, call: Call, x: Flow, sizes: Sequence[int], dim: int) -> list[Flow]:
    dim = dim_of("split", dim, (0,) * len(x.layout.dims))
    check_free(x.layout, dim)
    return along_frames(p, call, (x, sizes, dim), 2, [dim], False)


@streams(shapes.unbind_op)
def _unbind(p: Planner, call: Call, x: Flow, dim: int) -> list[Flow]:
    dim = dim_of("unbind", dim, (0,) * len(x.layout.dims))
    check_free(x.layout, dim)
    return along_frames(p, call, (x, dim), 1, [dim], False)


@streams(shapes.stack_op)
def _stack(p: Planner, call: Call, tensors: Sequence[Any], dim: int) -> list[Flow]:
    dim = dim_of("stack", dim, (0,) * len(call.result.shape))
    wider: list[Any] = []
    for each in tensors:
        layout = Layout((*each.layout.dims[:dim], (), *each.layout.dims[dim:]))
        if isinstance(each, Flow):
            wider.append(replace(each, layout=layout))
        else:
            wider.append(Fixed(each.tensor.unsqueeze(dim), layout, each.is_filled))
    return _joined(p, call, wider, dim)


@streams(shapes.broadcast_to_op)
def _broadcast_to(p: Planner, call: Call, x: Flow, shape: Any) -> list[Flow]:
    missing = len(call.result.shape) - len(x.layout.dims)
    dims: list[Any] = []
    for k, size in enumerate(call.result.shape):
        factors = x.layout.dims[k - missing] if k >= missing else ()
        if factors or size == 1:
            dims.append(factors)
        elif isinstance(size, Derived) and size.values == p.pairs.get(BATCH) and not x.layout.has_batch:
            dims.append((BATCH,))
        elif isinstance(size, Derived):
            raise refused("needs, at each step, a value of the whole sequence")
        else:
            dims.append((int(size),))
    layout = Layout(tuple(dims))
    own = Layout((*[()] * missing, *x.layout.dims))
    if layout.has_batch and not own.has_batch:
        own = own.with_dim(layout.find(BATCH) or 0, (BATCH,))
    wide = Full(own)
    sizes = Full(layout).sizes

    def function(lead: int, frames: Tensor) -> Tensor:
        return rest(layout, lead, wide(lead, frames).expand(*frames.shape[:lead], *sizes))

    return p.map(call, [x], [layout], function)


# -- indexing ----------------------------------------------------------------------------------------------------------


@streams(indexing.getitem_op)
def _getitem(p: Planner, call: Call, x: Any, index: Any) -> list[Flow]:
    if isinstance(x, Fixed):
        return _rows_at(p, call, x, index)
    if any(isinstance(part, Flow) for part in full_index(index, len(x.layout.dims))):
        raise refused("is indexed by a value that depends on the steps")
    x, parts = _in_time(p, call, x, _plain_parts(call, full_index(index, len(x.layout.dims))))
    own: list[Any] = []  # the index of the frame's other dimensions
    dims: list[tuple[Any, ...]] = []
    left, full, sizes = iter(range(len(x.layout.dims))), Full(x.layout), iter(call.result.shape)
    for part in parts:
        size = None if isinstance(part, int) else next(sizes)
        if part is None:
            own.append(None)
            dims.append(())
            continue
        dim = next(left)
        if dim in full.dims:
            own.append(part.tensor if isinstance(part, Fixed) else p.template([part])[0])
        else:
            if part != slice(None):
                check_free(x.layout, dim)
            own += [slice(None)] * sum(isinstance(each, int) for each in x.layout.dims[dim])
        if part == slice(None):
            dims.append(x.layout.dims[dim])
        elif size is not None:
            if isinstance(part, Fixed) and (
                len(part.layout.dims) != 1 or sum(isinstance(each, int | Fixed) for each in parts) > 1
            ):
                raise refused("takes elements by several indices")
            dims.append(alone(size))
    layout = Layout(tuple(dims))
    if all(part is None or part == slice(None) for part in parts):
        return relaid(p, call, x, layout)

    def function(lead: int, frames: Tensor) -> Tensor:
        return rest(layout, lead, full(lead, frames)[(*(slice(None),) * lead, *own)])

    return p.map(call, [x], [layout], function)


def _plain_parts(call: Call, parts: Sequence[Any]) -> list[Any]:
    """The parts of an index, with `:` for a slice of a whole dimension."""
    sizes, found = iter(call.arguments[0].shape), []
    for part in parts:
        size = None if part is None else next(sizes)
        if isinstance(part, slice) and part.start in (None, 0) and part.step in (None, 1) and not (
            isinstance(part.start, Derived) or isinstance(part.step, Derived)
        ):  # fmt: skip
            ends = getattr(part.stop, "values", (part.stop, part.stop))
            whole = part.stop is None or ends == getattr(size, "values", (size, size))
            part = slice(None) if whole else part
        found.append(part)
    return found


def _rows_at(p: Planner, call: Call, table: Fixed, index: Any) -> list[Flow]:
    """The rows of a fixed table that a value names."""
    (place, *others) = index if isinstance(index, tuple) else (index,)
    if not isinstance(place, Flow) or any(part not in (slice(None), Ellipsis) for part in others):
        raise refused("takes elements of a fixed value by several indices")
    return rows_at(p, call, table, 0, place)


def _in_time(p: Planner, call: Call, x: Flow, parts: Sequence[Any]) -> tuple[Flow, list[Any]]:
    """The steps that an index takes, and the index of the result."""
    left, place = list(parts), None
    at = x.layout.time if x.layout.has_time else -1
    for k, part in enumerate(parts):
        if part is not None and sum(each is not None for each in parts[:k]) == at:
            place = k
    if place is None or parts[place] == slice(None):
        return x, left
    if not isinstance(parts[place], slice | int | Derived):
        raise refused("takes steps by an array of indices")
    taken = _of_time(p, call, x, parts[place])
    left[place : place + 1] = [slice(None)] if isinstance(parts[place], slice) else []
    return taken, left


def _of_time(p: Planner, call: Call, x: Flow, part: Any) -> Flow:
    """Some steps of a value."""
    x = p.flat(x)
    if x.layout.dims[x.layout.time] != (TIME,):
        raise refused("takes steps that are merged with a different dimension")
    if not isinstance(part, slice):
        back = x.length.minus(_place(p, x, part))
        if back is None:
            raise refused("takes a step that is not at a fixed distance from the last one")
        return last_steps(p, call, x, back, True)
    step = p.number_of(1 if part.step is None else part.step)
    if step < 0:
        raise refused("takes the steps backward")
    first = 0
    if part.start is not None:
        begin = _place(p, x, part.start)
        fixed, back = begin.minus(Timeline.always(0)), x.length.minus(begin)
        if fixed is None and back is not None and part.stop is None and step == 1:
            return last_steps(p, call, x, back, False)
        if fixed is None:
            raise refused("takes a part of the steps that depends on their number")
        first = fixed
    length = x.length if part.stop is None else x.length.at_most(_place(p, x, part.stop))
    if first or part.stop is not None:
        x = p.hold(call, x, first, x.ready.at_most(length).plus(-first), length.plus(-first))
    return every(p, call, x, step) if step > 1 else x


def _place(p: Planner, x: Flow, number: Any) -> Timeline:
    """An index of steps, counted from the start."""
    if isinstance(number, int) and number < 0:
        return x.length.plus(number)
    return p.count(number)
