"""Hypothesis draws models of layers that stream, of (T, B, C)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor
from tinygrad_lstm.models import GRU, LSTM, RNN, LSTMCell, Recurrent

Draw = Callable[..., Any]


@dataclass(frozen=True)
class Layer:
    """A part of a model.

    Attributes:
        function: a function of (T, B, C).
        modules: the modules that it uses.
        size: the C of its result.
        changes_rate: whether it has a different number of steps for each step of its input.
    """

    function: Callable[[Tensor], Tensor]
    modules: list[tg.nn.Module]
    size: int
    changes_rate: bool = False


def channels_last(x: Tensor) -> Tensor:
    return x.permute(2, 0, 1)


def channels_first(x: Tensor) -> Tensor:
    return x.permute(1, 2, 0)


def _recurrent(draw: Draw, C: int) -> Layer:
    H = draw(st.integers(1, 4))
    kind = draw(st.sampled_from([LSTM, GRU, RNN, Recurrent]))
    layer = Recurrent(LSTMCell(C, H)) if kind is Recurrent else kind(C, H, num_layers=draw(st.integers(1, 2)))
    return Layer(lambda x: layer(x)[0], [layer], H)


def _convolution(draw: Draw, C: int) -> Layer:
    size, dilation, stride = draw(st.integers(1, 4)), draw(st.integers(1, 2)), draw(st.sampled_from([1, 1, 1, 2, 3]))
    groups = draw(st.sampled_from([1, C]))
    O = groups * draw(st.integers(1, 2))
    before, after = draw(st.integers(0, 4)), draw(st.integers(0, 2))
    cut = draw(st.integers(0, 2))
    conv = tg.nn.Conv1d(C, O, size, stride=stride, dilation=dilation, groups=groups)

    def function(x: Tensor) -> Tensor:
        found = conv(tg.pad(channels_first(x), (before, after)))
        return channels_last(found[:, :, : found.shape[2] - cut])

    return Layer(function, [conv], O, stride > 1)


def _pool(draw: Draw, C: int) -> Layer:
    op = draw(st.sampled_from([tg.max_pool1d, tg.avg_pool1d]))
    size, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    padding = draw(st.integers(0, size // 2))
    return Layer(lambda x: channels_last(op(channels_first(x), size, stride, padding)), [], C, stride > 1)


def _transposed(draw: Draw, C: int) -> Layer:
    stride, size, padding = draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(0, 1))
    weight = tg.tensor(np.random.default_rng(size).standard_normal((C, 2, size)).astype("float32"))
    return Layer(
        lambda x: channels_last(tg.conv_transpose1d(channels_first(x), weight.to(x.device), None, stride, padding)),
        [],
        2,
        stride > 1,
    )


def _in_two_dims(draw: Draw, C: int) -> Layer:
    """A spectrogram's convolution, in time and frequency."""
    conv = tg.nn.Conv2d(1, 2, (draw(st.integers(1, 3)), 1))

    def function(x: Tensor) -> Tensor:
        found = conv(x.permute(1, 0, 2).unsqueeze(1))  # (B, 2, T', C)
        return found.permute(2, 0, 1, 3).reshape(-1, x.shape[1], 2 * C)

    return Layer(function, [conv], 2 * C)


def _pointwise(draw: Draw, C: int) -> Layer:
    O = draw(st.integers(1, 4))
    linear, norm = tg.nn.Linear(C, O), tg.nn.LayerNorm(O)
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: tg.relu(linear(x)),
        lambda x: norm(linear(x)),
        lambda x: tg.softmax(linear(x), -1) * 2 + 1,
        lambda x: linear(x.reshape(-1, C)).reshape(x.shape[0], x.shape[1], O),
        lambda x: linear(x.permute(1, 0, 2).reshape(-1, C)).reshape(x.shape[1], x.shape[0], O).permute(1, 0, 2),
        lambda x: linear(x - x.mean(-1, keepdim=True)),
        lambda x: tg.einsum("tbc,oc->tbo", x, linear.weight),
        lambda x: tg.where(linear(x) > 0, 0.5, linear(x)),
    ]
    return Layer(draw(st.sampled_from(functions)), [linear, norm], O)


def _in_time(draw: Draw, C: int) -> Layer:
    shift = draw(st.integers(1, 3))
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: tg.cat([tg.zeros(shift, x.shape[1], C), x[:-shift]], 0),
        lambda x: tg.pad(x, (0, 0, 0, 0, shift, 0))[: x.shape[0]] - x,
        lambda x: x[shift:],
        lambda x: x[:-shift],
        lambda x: x[shift:] + x[:-shift],
        lambda x: tg.cat([x[shift:], x[:-shift] * 2], 2)[:, :, :C],
        lambda x: tg.diff(x, dim=0),
        lambda x: tg.cumsum(x, 0) * 0.1,
        lambda x: tg.cummax(x, 0)[0],
        lambda x: tg.cummin(x, 0)[1].astype("float32") * 0.1,
        lambda x: tg.logcumsumexp(x, 0),
        lambda x: x * tg.arange(x.shape[0]).reshape(-1, 1, 1).astype("float32") * 0.1,
    ]
    return Layer(draw(st.sampled_from(functions)), [], C)


def _at_a_different_rate(draw: Draw, C: int) -> Layer:
    shift, step = draw(st.integers(1, 3)), draw(st.integers(2, 3))
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: x[::step],
        lambda x: x[shift::2],
        lambda x: x.unfold(0, shift, step).mean(-1),
        lambda x: tg.repeat_interleave(x, step, 0),
        lambda x: x[: x.shape[0] // step * step].reshape(-1, step, *x.shape[1:]).sum(1),
    ]
    return Layer(draw(st.sampled_from(functions)), [], C, True)


_LAYERS = [_recurrent, _convolution, _pool, _transposed, _in_two_dims, _pointwise, _in_time, _at_a_different_rate]


class Drawn(tg.nn.Module):
    """Layers, one after the other, the last of which may be summed with what they are given, trimmed to its steps.

    Args:
        layers: the layers.
        residual: whether the last layer's result is added to its input.
        last: whether the last step is an output as well.
    """

    def __init__(self, layers: list[Layer], residual: bool, last: bool) -> None:
        self.functions, self.residual, self.last = [layer.function for layer in layers], residual, last
        self.used = tg.nn.ModuleList([module for layer in layers for module in layer.modules])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        before = x
        for function in self.functions:
            before, x = x, function(x)
        if self.residual:
            number = min(before.shape[0], x.shape[0])
            x = x[x.shape[0] - number :] + before[:number].mean(-1, keepdim=True)
        return {"y": x, "last": x[-1] * 2} if self.last else {"y": x}


@st.composite
def models(draw: Draw, C: int) -> Drawn:
    """A model of (T, B, C)."""
    layers: list[Layer] = []
    for _ in range(draw(st.integers(1, 4))):
        layers.append(draw(st.sampled_from(_LAYERS))(draw, layers[-1].size if layers else C))
    return Drawn(layers, not layers[-1].changes_rate and draw(st.booleans()), draw(st.booleans()))
