"""Inference one step at a time, with the weights prepared once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..backends.base import Array

if TYPE_CHECKING:
    from .recurrent import _Recurrent

__all__ = ["Stepper"]


class Stepper:
    """The next output and states of a recurrent network, given an input and the states: `step(x, state)`.

    Made by a network's `stepper()`, of the weights that it has then. Works on plain arrays of the network's device and
    dtype, records nothing, and, given contiguous arrays that may be written to, allocates nothing but its outputs. Each
    thread needs a stepper of its own, as it has buffers.

    >>> import numpy as np
    >>> from tinygrad_lstm.models import LSTM
    >>> step = LSTM(3, 5, num_layers=2).stepper()
    >>> out, state = step(np.ones((1, 3), np.float32))
    >>> out, (h, c) = step(np.ones((1, 3), np.float32), state)
    >>> out.shape, h.shape, c.shape
    ((1, 5), (2, 1, 5), (2, 1, 5))
    """

    def __init__(self, network: _Recurrent) -> None:
        parameter = next(network.parameters())
        self._name = type(network).__name__
        self._device, self._dtype = parameter.device, parameter.dtype
        self._input_size, self._hidden_size = network.input_size, network.hidden_size
        self._several = len(network.STATES) > 1
        self._number = len(network.STATES)
        make = getattr(parameter.device.backend, f"{network.OP.op.name}_stepper")
        with self._device.current():
            self._layers = [
                make([getattr(network, f"{name}_l{layer}").data for name in network.PARAMETERS])
                for layer in range(network.num_layers)
            ]

    def __call__(self, x: Array, state: Array | Sequence[Array] | None = None) -> tuple[Array, Any]:
        """The output (B, H), and the next state.

        Args:
            x: an input (B, I).
            state: as the network takes and gives it: (h, c) for an LSTM, h for a GRU or an RNN, each (L, B, H); zeros
                by default.

        Raises:
            ValueError: a shape or dtype does not fit.
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
        shape = (len(self._layers), x.shape[0], self._hidden_size)
        if state is None:
            before: Sequence[Array] = [xp.zeros(shape, dtype)] * self._number
        else:
            before = state if self._several else (state,)
            if len(before) != self._number:
                raise ValueError(f"{self._name}.stepper: expected {self._number} states, got {len(before)}")
            for part in before:
                if part.shape != shape or part.dtype != dtype:
                    raise ValueError(
                        f"{self._name}.stepper: expected {dtype} states of shape {shape}, got {part.dtype} {part.shape}"
                    )
        after = tuple([xp.empty(shape, dtype) for _ in before])
        for k, layer in enumerate(self._layers):
            layer(x, [part[k] for part in before], [part[k] for part in after])
            x = after[0][k]
        return x, after if self._several else after[0]
