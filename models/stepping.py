"""Inference one step at a time, with the weights prepared once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tinygrad_lstm._tensor import as_tensor
from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.device import Device
from tinygrad_lstm.mode import no_grad
from tinygrad_lstm.nn import Module
from tinygrad_lstm.ops.rules import Functions
from tinygrad_lstm.states import leaves_of, mapped

from .variants import Variant

__all__ = ["ArrayFunctions", "CellStepper", "LayerStep", "Stepper", "check_steps", "variant_step"]

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


def check_steps(network: Any) -> None:
    """Raises ValueError if a network cannot go step by step: it is bidirectional, or a subclass overrides `forward`."""
    name = type(network).__name__
    if network.bidirectional:
        raise ValueError(f"{name}.stepper: a bidirectional network cannot go step by step")
    if network.changes_forward:
        raise ValueError(f"{name}.stepper: it overrides forward, which a stepper does not run; use stream()")


class CellStepper:
    """The next output and state of the cells of a `Recurrent`, given an input and the state: `step(x, state)`.

    A network's `stepper()` makes one, with the weights at that time. It takes and returns plain arrays of its device,
    and records nothing. Threads may share it, if its cells allow that.

    >>> import numpy as np
    >>> from tinygrad_lstm.models import GRUCell, LSTMCell, Recurrent
    >>> step = Recurrent([LSTMCell(3, 5), GRUCell(5, 4)]).stepper()
    >>> out, state = step(np.ones((2, 3), np.float32))
    >>> out, [(h, c), h_above] = step(np.ones((2, 3), np.float32), state)
    >>> out.shape, h.shape, h_above.shape
    ((2, 4), (2, 5), (2, 4))
    """

    def __init__(self, cells: Sequence[Module]) -> None:
        self._cells = copy.deepcopy(list(cells))
        for cell in self._cells:
            cell.eval().requires_grad_(False)

    def __call__(self, x: Array, state: Any = None) -> tuple[Array, Any]:
        """The output (B, ...) and the next state.

        Args:
            x: an input (B, ...).
            state: as the network takes and returns it; by default what the cells start from.

        Raises:
            ValueError, TypeError: those of the cells; or the number of states is different.
        """
        number = len(self._cells)
        given = [state] if number == 1 else [None] * number if state is None else state
        if len(given) != number:
            raise ValueError(f"Recurrent.stepper: expected a list of {number} states, one for each layer")
        after = []
        with no_grad():
            h = as_tensor(x).clone()  # the state may be a view of it
            for cell, before in zip(self._cells, given):
                after.append(cell(h, None if before is None else mapped(as_tensor, before)))
                h = leaves_of(after[-1])[0]
        states = mapped(lambda part: part.data, after)
        return h.data, states if number > 1 else states[0]
