"""Streams of convolutions, pools and other ops of windows: they keep the frames of the windows to come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .._tensor import Tensor
from ..creation import zeros
from ..ops import convolution, linalg, padding, pooling
from ..ops.convolution import padded_ends, per_dim
from ..ops.reduction import dim_of
from ..ops.shape import cat
from ..programs.program import Call
from .layout import TIME, Layout
from .nodes import Window
from .planning import Flow, Planner, refused, streams
from .pointwise import alone, mapped_natively
from .timeline import Timeline

__all__ = ["every", "split_in_time", "windowed"]


def windowed(
    p: Planner,
    call: Call,
    x: Flow,
    layouts: Sequence[Layout],
    function: Callable[[Tensor], Any],
    size: int,
    stride: int,
    ends: tuple[int, int] = (0, 0),
    fill: float = 0.0,
    of_one: Callable[[Tensor], Any] | None = None,
) -> list[Flow]:
    """The results of a function of windows of frames.

    Args:
        function: computes frames (T', B, *rest) from frames (T, B, *rest), which are whole windows.
        ends: the numbers of frames that are added before the first and after the last.
        fill: their elements.
        of_one: the same as `function` for one window (B, size, *rest).
    """
    unused = max(stride - size, 0)  # frames before a window that it does not use
    size, before, after = size + unused, ends[0] + unused, ends[1]
    ready = _numbers(x.ready, before, size, stride)
    length = _numbers(x.length, before + after, size, stride)
    made = [p.flow(layout, x.dtype, length, ready) for layout in layouts]
    if len(made) == len(call.results):
        made = [replace(flow, dtype=value.dtype) for flow, value in zip(made, call.results, strict=True)]
    filler = p.filler(x, fill)
    frames = filler(p.batch, before), filler(p.batch, after) if after else None
    used = (lambda frames: function(frames[unused:])) if unused else function
    numbers, of_window = [each.number for each in made], None if unused else of_one
    name = p.place(call) or call.name
    p.nodes.append(Window([x.number], numbers, name, used, of_window, size, stride, *frames, x.ready, ready))
    return made


def _numbers(came: Timeline, more: int, size: int, stride: int) -> Timeline:
    return came.plus(more).windows(size, stride)


def every(p: Planner, call: Call, x: Flow, step: int) -> Flow:
    """The first frame, and each that comes `step` later."""
    (made,) = windowed(p, call, x, [x.layout], lambda frames: frames[::step], 1, step)
    return replace(made, dtype=x.dtype)


def split_in_time(p: Planner, call: Call, x: Flow, number: int) -> Flow:
    """A value of which this number of steps are one, with a further dimension in the time's dimension."""
    dims = x.layout.dims
    at = sum(isinstance(each, int) for dim in dims[: x.layout.time] for each in dim)
    layout = x.layout.with_dim(x.layout.time, (TIME, number))

    def function(frames: Tensor) -> Tensor:
        apart = frames.reshape(-1, number, *frames.shape[1:])
        return apart.permute(0, 2, *range(3, 3 + at), 1, *range(3 + at, apart.ndim))

    (made,) = windowed(p, call, x, [layout], function, number, number)
    return replace(made, dtype=x.dtype)


# -- convolutions and pools --------------------------------------------------------------------------------------------


def _along_time(
    p: Planner,
    call: Call,
    x: Flow,
    dims: int,
    function: Callable[[Tensor, list[int]], Any],
    sizes: Sequence[int],
    strides: Sequence[int],
    ends: Sequence[tuple[int, int]],
    fill: float = 0.0,
    of_one: Callable[[Tensor], Any] | None = None,
) -> list[Flow]:
    """The results of an op of windows in the last dimensions, one of which is the time.

    Args:
        dims: the number of dimensions of a window.
        function: applies the op, with these numbers of elements added at both ends of each dimension.
        sizes, strides: those of the windows.
        ends: the numbers of elements that are added before the first and after the last.
        fill: their value in time.
    """
    first = len(x.layout.dims) - dims
    x = p.flat(x)
    time = x.layout.time - first
    widths = [before for before, _ in ends]
    if any(before != after for k, (before, after) in enumerate(ends) if k != time):
        raise refused("pads a dimension that is not the time differently at both ends")
    layouts = []
    for value in call.results:
        out = [*x.layout.dims[: first - 1], *(alone(size) for size in value.shape[first - 1 :])]
        if time >= 0:
            out[first + time] = (TIME,)
        layouts.append(Layout(tuple(out)))
    if time < 0:
        return mapped_natively(p, call, x, layouts, lambda each: function(each, widths))
    if x.layout.dims[first + time] != (TIME,):
        raise refused("goes along steps that are merged with a different dimension")

    def of_frames(frames: Tensor) -> Any:
        made = function(x.layout.by_row.native(frames), [0 if k == time else width for k, width in enumerate(widths)])
        made = made if isinstance(made, tuple) else (made,)
        return tuple(layout.by_row.frames(each, frames.shape[1]) for layout, each in zip(layouts, made, strict=True))

    return windowed(p, call, x, layouts, of_frames, sizes[time], strides[time], ends[time], fill, of_one)


@streams(convolution.conv1d, convolution.conv2d)
def _convolution(
    p: Planner, call: Call, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> list[Flow]:
    if not isinstance(x, Flow) or isinstance(weight, Flow) or isinstance(bias, Flow):
        raise refused("has weights that depend on the steps")
    weight, bias = weight.tensor, None if bias is None else bias.tensor
    dims, op = weight.ndim - 2, convolution.conv1d if weight.ndim == 3 else convolution.conv2d
    strides, dilations = per_dim(call.name, "stride", stride, dims), per_dim(call.name, "dilation", dilation, dims)
    sizes = [apart * (size - 1) + 1 for apart, size in zip(dilations, weight.shape[2:], strict=True)]
    ends = padded_ends(call.name, padding, strides, [size - 1 for size in sizes])

    def function(native: Tensor, widths: list[int]) -> Any:
        return op(native, weight, bias, strides, tuple(widths), dilations, groups)

    one = None
    if dims == 1 and groups == 1 and min(weight.shape[:2]) > 1:
        flat_weight = weight.permute(0, 2, 1).reshape(weight.shape[0], -1)

        def one(window: Tensor) -> Tensor:
            taken = window[:, :: dilations[0]] if dilations[0] > 1 else window
            return linalg.linear(taken.reshape(taken.shape[0], -1), flat_weight, bias)

    return _along_time(p, call, x, dims, function, sizes, strides, ends, 0.0, one)


@streams(pooling.max_pool1d, pooling.max_pool2d)
def _max_pool(
    p: Planner,
    call: Call,
    x: Flow,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> list[Flow]:
    dims = 1 if call.name == "max_pool1d" else 2
    op = pooling.max_pool1d if dims == 1 else pooling.max_pool2d
    if return_indices:
        raise refused("returns indices")
    kernel = per_dim(call.name, "kernel_size", kernel_size, dims)
    strides = kernel if stride is None else per_dim(call.name, "stride", stride, dims)
    dilations, ends = per_dim(call.name, "dilation", dilation, dims), _ends(call, padding, dims, ceil_mode, strides)
    sizes = [apart * (size - 1) + 1 for apart, size in zip(dilations, kernel, strict=True)]

    def function(native: Tensor, widths: list[int]) -> Any:
        return op(native, kernel, strides, tuple(widths), dilations)

    return _along_time(p, call, x, dims, function, sizes, strides, ends, -float("inf"))


@streams(pooling.avg_pool1d, pooling.avg_pool2d)
def _avg_pool(
    p: Planner,
    call: Call,
    x: Flow,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    *divisor: Any,
) -> list[Flow]:
    dims = 1 if call.name == "avg_pool1d" else 2
    op = pooling.avg_pool1d if dims == 1 else pooling.avg_pool2d
    kernel = per_dim(call.name, "kernel_size", kernel_size, dims)
    strides = kernel if stride is None else per_dim(call.name, "stride", stride, dims)
    ends = _ends(call, padding, dims, ceil_mode, strides)
    if any(map(any, ends)) and not count_include_pad:
        raise refused("leaves out the padding")

    def function(native: Tensor, widths: list[int]) -> Any:
        return op(native, kernel, strides, tuple(widths), False, count_include_pad, *divisor)

    return _along_time(p, call, x, dims, function, kernel, strides, ends)


def _ends(call: Call, padding: Any, dims: int, ceil_mode: bool, strides: Sequence[int]) -> list[tuple[int, int]]:
    if ceil_mode and max(strides) > 1:
        raise refused("has windows that reach beyond the end")
    return [(width, width) for width in per_dim(call.name, "padding", padding, dims, 0)]


@streams(padding.unfold_op)
def _unfold(p: Planner, call: Call, x: Flow, dim: int, size: int, step: int) -> list[Flow]:
    dim = dim_of("unfold", dim, (0,) * len(x.layout.dims))
    x = p.flat(x)
    if x.layout.dims[dim] != (TIME,):
        raise refused("goes along a dimension that is not the time")
    layout = Layout((*x.layout.dims, (size,) if size > 1 else ()))

    def function(frames: Tensor) -> Tensor:
        found = padding.unfold(frames, 0, size, step)
        return found if size > 1 else found.reshape(*found.shape[:-1])

    return windowed(p, call, x, [layout], function, size, step)


@streams(convolution.conv_transpose1d)
def _conv_transpose(
    p: Planner,
    call: Call,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> list[Flow]:
    """Each step adds to the outputs of `stride` steps and of some later ones, which are complete when those come."""
    if not isinstance(x, Flow) or isinstance(weight, Flow) or isinstance(bias, Flow):
        raise refused("has weights that depend on the steps")
    x, weight, bias = p.flat(x), weight.tensor, None if bias is None else bias.tensor
    if x.layout.dims[-1] != (TIME,) or len(x.layout.dims) != 3:
        raise refused("goes along a dimension that is not the time")
    name = "conv_transpose1d"
    (step,), (apart,) = per_dim(name, "stride", stride, 1), per_dim(name, "dilation", dilation, 1)
    (cut,), (more,) = per_dim(name, "padding", padding, 1, 0), per_dim(name, "output_padding", output_padding, 1, 0)
    reach = apart * (weight.shape[-1] - 1) + 1 + more
    size = -(-reach // step)  # the number of steps on which an output depends
    channels = weight.shape[1] * groups
    layout = x.layout.with_dim(1, alone(channels)).with_dim(2, (TIME, step) if step > 1 else (TIME,))

    def function(frames: Tensor) -> Tensor:
        number = len(frames) - size + 1
        made = convolution.conv_transpose1d(x.layout.by_row.native(frames), weight, bias, step, 0, 0, groups, apart)
        first, end = (size - 1) * step, (size - 1 + number) * step
        taken: Tensor = layout.by_row.frames(
            padded_end(made, end - made.shape[-1], bias)[..., first:end], frames.shape[1]
        )
        return taken

    (found,) = windowed(p, call, x, [layout], function, size, 1, (size - 1, size - 1))
    found = p.flat(replace(found, dtype=call.result.dtype))
    length = x.length.plus(-1).times(step).plus(reach - 2 * cut)
    ready = found.ready.plus(-cut).at_most(length)
    return [p.hold(call, found, cut, ready, length)]


def padded_end(made: Tensor, number: int, bias: Tensor | None) -> Tensor:
    """With this number of elements more, to which nothing is added but the bias."""
    if number <= 0:
        return made
    more = zeros(*made.shape[:-1], number, dtype=made.dtype, device=made.device)
    joined: Tensor = cat([made, more if bias is None else more + bias.reshape(-1, 1)], -1)
    return joined
