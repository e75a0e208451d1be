"""ConvLSTM1D and ConvLSTM2D (Shi et al. 2015), whose cells multiply by convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models import Recurrent
from tinygrad_lstm.models.cells import LSTMGates
from tinygrad_lstm.observing import show_step

from .... import ops
from ...._tensor import Tensor
from ....creation import zeros
from ....nn import Module
from ...errors import ContentError, shown
from .convolution import kernel_outside_in, padding_ends, per_dim
from .core import parameter
from .functions import activation_function
from .recurrent import Sequences, cell_slots, layer_of, runner_of
from .rules import Layer, UnsupportedError, register_kind
from .shaping import padded
from .spec import Slot, Spec

__all__: list[str] = []

_CONVS = {1: ops.conv1d, 2: ops.conv2d}


class ConvLSTMCell(Module):
    """An LSTM cell whose products are convolutions (∗) of images (B, C, ...).

        i, f, o = σ(W ∗ x + U ∗ h + b)          gates
        c̃  = tanh(W ∗ x + U ∗ h + b)            candidate
        c' = f ⊙ c + i ⊙ c̃                      cell state
        h' = o ⊙ tanh(c')                       hidden state

    Parameters, in gate order i, f, c̃, o: kernel (4F, C, *sizes), recurrent_kernel (4F, F, *sizes), and bias (4F,).

    Args:
        weights: Keras's arrays, by their names.
        config: Keras's settings.
        keras: the major version.
    """

    STATES: ClassVar[tuple[str, ...]] = KINDS["LSTM"].state_names

    def __init__(self, weights: Mapping[str, HostArray], config: Mapping[str, Any], keras: int) -> None:
        dims = weights["kernel"].ndim - 2
        self.kernel = parameter(kernel_outside_in(weights["kernel"]))
        self.recurrent_kernel = parameter(kernel_outside_in(weights["recurrent_kernel"]))
        self.bias = parameter(weights["bias"]) if "bias" in weights else None
        self.strides = per_dim(config.get("strides", 1), dims)
        self.dilation = per_dim(config.get("dilation_rate", 1), dims)
        self.padding = config.get("padding", "valid")
        self.gate = activation_function(config.get("recurrent_activation", "hard_sigmoid"), keras)
        self.activation = activation_function(config.get("activation", "tanh"), keras)
        if self.padding not in ("valid", "same"):
            raise UnsupportedError(f"the padding {self.padding!r}")

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The next h and c (B, F, ...), given an input (B, C, ...) and the states before; zeros by default."""
        conv = _CONVS[x.ndim - 2]
        reaches = [(size - 1) * by + 1 for size, by in zip(self.kernel.shape[2:], self.dilation, strict=True)]
        ends = padding_ends(self.padding, x.shape[2:], reaches, self.strides)
        net = conv(padded(x, ends, 2), self.kernel, self.bias, self.strides, 0, self.dilation)
        if state is None:
            start = zeros(net.shape[0], net.shape[1] // 4, *net.shape[2:], dtype=x.dtype, device=x.device)
            state = start, start
        h, c = state
        sizes = self.recurrent_kernel.shape[2:]
        ends = padding_ends("same", h.shape[2:], sizes, [1] * len(sizes))
        net = net + conv(padded(h, ends, 2), self.recurrent_kernel)
        net_i, net_f, net_g, net_o = ops.chunk(net, 4, dim=1)
        i, f, g, o = self.gate(net_i), self.gate(net_f), self.activation(net_g), self.gate(net_o)
        c_next = f * c + i * g
        gates = LSTMGates(i, f, g, o, c_next, o * self.activation(c_next))
        gates = show_step(self, "ConvLSTM", x, {"h": h, "c": c}, gates)
        return gates.h, gates.c


class _ConvLSTM:
    """ConvLSTM layers."""

    def slots(self, spec: Spec) -> Iterator[Slot]:
        yield from cell_slots(spec, f"{spec.path}/cell")

    def build(self, spec: Spec, arrays: Mapping[str, HostArray]) -> Layer:
        weights = {slot.role: arrays[slot.path] for slot in self.slots(spec)}
        cell, run = ConvLSTMCell(weights, spec.config, spec.keras), runner_of(spec.config)
        if len(weights["kernel"].shape) - 2 not in _CONVS or cell.recurrent_kernel.shape[0] != cell.kernel.shape[0]:
            raise ContentError("its kernels have invalid shapes")
        layer = layer_of(run, Recurrent(cell, batch_first=True), 2)
        if spec.config.get("data_format") != "channels_first":
            layer = replace(layer, function=partial(_channels_last, run=run))
        if spec.config.get("dropout") or spec.config.get("recurrent_dropout"):
            layer = replace(layer, function=partial(_not_in_training, function=layer.function, name=spec.name))
        return layer


def _not_in_training(network: Module, *args: Any, function: Callable[..., Any], name: str, **kwargs: Any) -> Any:
    """Runs a layer that has dropout, which is only without effect outside training."""
    if network.training:
        raise ValueError(
            f"the ConvLSTM layer {shown(name)} has dropout, which is not supported in training; to train the model "
            "without it, call eval() of this layer after model.train()"
        )
    return function(network, *args, **kwargs)


def _channels_last(network: Module, x: Any, initial_state: Any = None, mask: Any = None, *, run: Sequences) -> Any:
    """Runs the layer on images (B, T, ..., C)."""
    if isinstance(x, list):  # as Keras 2 writes initial states
        x, *initial_state = x
        mask = mask[0] if isinstance(mask, list) else mask
    given = None if initial_state is None else [state.movedim(-1, 1) for state in initial_state]
    result = run(network, x.movedim(-1, 2), given, mask)
    results = result if isinstance(result, tuple) else (result,)
    turned = [part.movedim(2 if k == 0 and run.sequences else 1, -1) for k, part in enumerate(results)]
    return tuple(turned) if len(turned) > 1 else turned[0]


register_kind(_ConvLSTM(), "ConvLSTM1D", "ConvLSTM2D")
