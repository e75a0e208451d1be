"""Inference one step at a time, with the weights prepared once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.device import Device
from tinygrad_lstm.ops.rules import Functions

from .variants import Variant

__all__ = ["ArrayFunctions", "LayerStep", "Stepper", "variant_step"]

LayerStep: TypeAlias = Callable[[Array, Sequence[Array], Sequence[Array]], None]
"""`step(x, states, out)` writes a layer's states (B, ·) after an input x (B, I) into `out`, given those before."""


def variant_step(variant: Variant, states: Sequence[str]) -> LayerStep:
    """A step of a variant of plain arrays and `ArrayFunctions`, given the names of its states."""

    def step(x: Array, before: Sequence[Array], out: Sequence[Array]) -> None:
        gates = variant.step(variant.inputs(x), *before)
        for name, array in zip(states, out, strict=True):
            array[...] = getattr(gates, name)

    return step


class ArrayFunctions:
    """The functions that variants use, on plain arrays of a device: the ops' forward rules, which record nothing."""

    def __init__(self, device: Device) -> None:
        self._rules = rules = Functions(device)
        self.linear = rules.linear_op
        self.sigmoid, self.tanh, self.relu = rules.sigmoid, rules.tanh, rules.relu
        self.clamp, self.softplus = rules.clamp, rules.log1pexp

    def split(self, x: Array, sizes: Sequence[int], dim: int) -> Sequence[Array]:
        parts: Sequence[Array] = self._rules.split_op(x, sizes, dim % x.ndim)
        return parts

    def chunk(self, x: Array, chunks: int, dim: int) -> Sequence[Array]:
        return self.split(x, [x.shape[dim] // chunks] * chunks, dim)

    def layer_norm(self, x: Array, size: int, weight: Array, bias: Array | None, eps: float) -> Array:
        out, _ = self._rules.layer_norm_op((x, weight, bias), (size,), eps)
        return out


class Stepper:
    """The next output and states of a recurrent network, given an input and the states: `step(x, state)`.

    A network's `stepper()` makes one, with the weights at that time. It computes on plain arrays of its device and
    dtype, and records nothing. If the network has no options, it allocates only its outputs, given contiguous
    writable arrays. Threads may share a stepper.

    >>> import numpy as np
    >>> from tinygrad_lstm.models import LSTM
    >>> step = LSTM(3, 5, num_layers=2).stepper()
    >>> out, state = step(np.ones((1, 3), np.float32))
    >>> out, (h, c) = step(np.ones((1, 3), np.float32), state)
    >>> out.shape, h.shape, c.shape
    ((1, 5), (2, 1, 5), (2, 1, 5))
    """

    def __init__(self, network: Any) -> None:
        parameter = next(network.parameters())
        self._name = type(network).__name__
        self._device, self._dtype = parameter.device, parameter.dtype
        self._input_size = network.input_size
        self._state_sizes = network.state_sizes
        self._several = len(network.STATES) > 1
        self._layers = [network.layer_step(f"l{layer}") for layer in range(network.num_layers)]

    def __call__(self, x: Array, state: Array | Sequence[Array] | None = None) -> tuple[Array, Any]:
        """The output (B, H), or (B, P) of an LSTM with proj_size, and the next state.

        Args:
            x: an input (B, I).
            state: as the network takes and returns it: (h, c) for an LSTM, h for a GRU or an RNN, each (L, B, H), or
                (L, B, P) if h is projected; zeros by default.

        Raises:
            ValueError: a shape or dtype is invalid.
        """
        dtype = self._dtype
        if x.ndim != 2 or x.shape[1] != self._input_size or x.dtype != dtype:
            raise ValueError(
                f"{self._name}.stepper: expected a {dtype} input of shape (batch, {self._input_size}), "
                f"got {x.dtype} {x.shape}"
            )
        if not self._device.backend.owns(x):
            raise ValueError(
                f"{self._name}.stepper: expected an array on {str(self._device)!r}, where the network is, got a "
                f"{type(x).__module__}.{type(x).__name__}"
            )
        if self._device.switch is None:
            return self._step(x, state)
        with self._device.switch():
            return self._step(x, state)

    def _step(self, x: Array, state: Array | Sequence[Array] | None) -> tuple[Array, Any]:
        xp, dtype = self._device.xp, self._dtype
        shapes = [(len(self._layers), x.shape[0], size) for size in self._state_sizes.values()]
        if state is None:
            before: Sequence[Array] = [xp.zeros(shape, dtype) for shape in shapes]
        else:
            before = state if self._several else (state,)
            if len(before) != len(shapes):
                raise ValueError(f"{self._name}.stepper: expected {len(shapes)} states, got {len(before)}")
            for name, part, shape in zip(self._state_sizes, before, shapes):
                if part.shape != shape or part.dtype != dtype:
                    raise ValueError(
                        f"{self._name}.stepper: expected {dtype} states of shape {shape}, got {part.dtype} "
                        f"{part.shape} for {name}"
                    )
        after = tuple([xp.empty(shape, dtype) for shape in shapes])
        for k, layer in enumerate(self._layers):
            layer(x, [part[k] for part in before], [part[k] for part in after])
            x = after[0][k]
        return x, after if self._several else after[0]
