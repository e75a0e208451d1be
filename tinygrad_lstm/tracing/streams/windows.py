"""Streams of convolutions, pools and other ops of windows: they keep the frames of the windows to come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..._tensor import Tensor
from ...ops import convolution, linalg
from ...ops.convolution import padded_ends, per_dim
from ..model.program import Call
from .layout import BATCH, TIME, Layout
from .nodes import Window
from .planning import Flow, Planner, refused, streams
from .timeline import Timeline

__all__ = ["windowed"]


def windowed(
    p: Planner,
    call: Call,
    x: Flow,
    layouts: Sequence[Layout],
    function: Callable[[Tensor], Any],
    size: int,
    stride: int,
    before: int,
    after: int,
    fill: float = 0.0,
    of_one: Callable[[Tensor], Any] | None = None,
) -> list[Flow]:
    """The results of a function of windows of frames.

    Args:
        function: computes frames (T', B, *rest) from frames (T, B, *rest), which are whole windows.
        before, after: the numbers of frames that are added before the first and after the last.
        fill: their elements.
        of_one: the same as `function` for one window (B, size, *rest).
    """
    unused = max(stride - size, 0)  # frames before a window that it does not use
    size, before = size + unused, before + unused
    ready = _numbers(x.ready, before, size, stride)
    length = _numbers(x.length, before + after, size, stride)
    made = [p.flow(layout, value.dtype, length, ready) for layout, value in zip(layouts, call.results, strict=True)]
    filler = p.filler(x, fill)
    ends = filler(p.batch, before), filler(p.batch, after) if after else None
    used = (lambda frames: function(frames[unused:])) if unused else function
    of_window = None if unused else of_one
    numbers = [each.number for each in made]
    name = p.place(call) or call.name
    node = Window([x.number], numbers, name, used, of_window, size, stride, *ends, x.ready, ready)
    p.nodes.append(node)
    return made


def _numbers(came: Timeline, more: int, size: int, stride: int) -> Timeline:
    return came.plus(more).windows(size, stride)


@streams(convolution.conv1d)
def _conv1d(
    p: Planner, call: Call, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> list[Flow]:
    if not isinstance(x, Flow) or isinstance(weight, Flow) or isinstance(bias, Flow):
        raise refused("has weights that depend on the steps")
    (stride,), (dilation,) = (per_dim("conv1d", "", each, 1) for each in (stride, dilation))
    own, weight, bias = x.layout, weight.tensor, None if bias is None else bias.tensor
    size = dilation * (weight.shape[-1] - 1) + 1
    ((before, after),) = padded_ends("conv1d", padding, (stride,), (size - 1,))
    if own.dims[-1] != (TIME,) or any(TIME in dim for dim in own.dims[:-1]):
        raise refused("goes along a dimension that is not the time")
    with_batch = len(own.dims) == 3
    native = Layout((own.dims[0] or (BATCH,), *own.dims[1:]) if with_batch else ((BATCH,), *own.dims))
    if native.dims[0] != (BATCH,):
        raise refused("has the batch in a dimension that is not the first")
    channels = weight.shape[0]
    out = Layout((*(own.dims[:1] if with_batch else ()), (channels,) if channels > 1 else (), (TIME,)))
    native_out = Layout((native.dims[0], *out.dims[-2:]))

    def function(frames: Tensor) -> Tensor:
        made = convolution.conv1d(native.native(frames), weight, bias, stride, 0, dilation, groups)
        return native_out.frames(made, frames.shape[1])

    flat = weight.permute(0, 2, 1).reshape(channels, -1) if groups == 1 else None

    def of_one(window: Tensor) -> Tensor:
        taken = window[:, ::dilation] if dilation > 1 else window
        made = linalg.linear(taken.reshape(taken.shape[0], -1), flat, bias)
        return made if channels > 1 else made.reshape(-1)

    return windowed(p, call, x, [out], function, size, stride, before, after, 0.0, of_one if groups == 1 else None)
