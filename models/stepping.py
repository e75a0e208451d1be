"""Inference one step at a time, with the weights prepared once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from tinygrad_lstm._tensor import Tensor, as_tensor
from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.emit.steps import StepOfArrays
from tinygrad_lstm.creation import zeros
from tinygrad_lstm.device import Device
from tinygrad_lstm.mode import no_grad
from tinygrad_lstm.nn import Module
from tinygrad_lstm.ops.recurrent import traced_step
from tinygrad_lstm.ops.sequence import UntraceableError
from tinygrad_lstm.states import CheckedStep, joined_like, leaves_of, mapped, names_of, rebuilt
from tinygrad_lstm.tracing.outside import changes_outside, written_at

__all__ = ["CellStep", "CellStepper", "Stepper", "check_steps"]


class Stepper:
    """The next output and states of a recurrent network, given an input and the states: `step(x, state)`.

    A network's `stepper()` makes one, with the weights at that time. It computes on plain arrays of its device and
    dtype, and records nothing. It allocates only its outputs, given contiguous writable arrays. Threads may share a
    stepper.

    >>> import numpy as np
    >>> from tinygrad_lstm.models import LSTM
    >>> step = LSTM(3, 5, num_layers=2).stepper()
    >>> out, state = step(np.ones((1, 3), np.float32))
    >>> out, (h, c) = step(np.ones((1, 3), np.float32), state)
    >>> out.shape, h.shape, c.shape
    ((1, 5), (2, 1, 5), (2, 1, 5))
    """

    def __init__(self, network: Any) -> None:
        self._network = network  # which nobody else has
        parameter = next(network.parameters())
        self._name = type(network).__name__
        self._device, self._dtype = parameter.device, parameter.dtype
        self._input_size = network.input_size
        self._state_sizes = network.state_sizes
        self._several = len(network.STATES) > 1
        self._layers = [network.layer_step(f"l{layer}") for layer in range(network.num_layers)]
        self._shapes = 0, self._shapes_for(0)

    def _shapes_for(self, B: int) -> list[tuple[int, ...]]:
        """The shapes of the states of B rows."""
        return [(len(self._layers), B, size) for size in self._state_sizes.values()]

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

    def __reduce__(self) -> tuple[Any, ...]:
        return Stepper, (self._network,)

    def _step(self, x: Array, state: Array | Sequence[Array] | None) -> tuple[Array, Any]:
        (B, shapes), xp, dtype = self._shapes, self._device.xp, self._dtype
        if len(x) != B:
            B, shapes = self._shapes = len(x), self._shapes_for(len(x))
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
            layer((x,), [part[k] for part in before], [part[k] for part in after])
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
    and records nothing. Cells are compiled, for any batch size; one that cannot be runs op by op. Threads may share a
    stepper, if such a cell allows that.

    >>> import numpy as np
    >>> from tinygrad_lstm.models import GRUCell, LSTMCell, Recurrent
    >>> step = Recurrent([LSTMCell(3, 5), GRUCell(5, 4)]).stepper()
    >>> out, state = step(np.ones((2, 3), np.float32))
    >>> out, [(h, c), h_above] = step(np.ones((2, 3), np.float32), state)
    >>> out.shape, h.shape, h_above.shape
    ((2, 4), (2, 5), (2, 4))
    """

    def __init__(self, cells: Sequence[Module], compiled: bool | None = None) -> None:
        self._cells = copy.deepcopy(list(cells))
        for cell in self._cells:
            cell.eval().requires_grad_(False)
        like = next((parameter for cell in self._cells for parameter in cell.parameters()), None)
        self._device = (zeros(1) if like is None else like).device
        self._compiled = compiled
        self._steps = [CellStep(cell, [cell], "Recurrent.stepper", self._device, compiled) for cell in self._cells]

    def __call__(self, x: Array, state: Any = None) -> tuple[Array, Any]:
        """The output (B, ...) and the next state.

        Args:
            x: an input (B, ...).
            state: as the network takes and returns it; by default what the cells start from.

        Raises:
            ValueError, TypeError: those of the cells; the number of states is different; or a cell cannot be compiled,
                and the network requires it.
        """
        number = len(self._steps)
        given = [state] if number == 1 else [None] * number if state is None else state
        if len(given) != number:
            raise ValueError(f"Recurrent.stepper: expected a list of {number} states, one for each layer")
        after = []
        with self._device.current():
            for step, before in zip(self._steps, given):
                after.append(step(x, before))
                x = leaves_of(after[-1])[0]
        return x, after if number > 1 else after[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return CellStepper, (self._cells, self._compiled)


_MOST_MADE = 16
"""The number of steps that are kept, with the tensors that they were made for."""


class CellStep:
    """A step of a cell on plain arrays: by generated code for arrays of these shapes, or op by op.

    Args:
        cell: `cell(x, state)` returns the next state.
        own: the objects that it uses and that nobody else changes. If what it uses besides these has changed, it is
            compiled again.
        name: the caller's name, for errors.
        device: the device.
        compiled: as for `Recurrent`.
    """

    def __init__(
        self,
        cell: Callable[[Tensor, Any], Any],
        own: Sequence[Any],
        name: str,
        device: Device,
        compiled: bool | None,
    ) -> None:
        self._cell, self._own, self._name, self._device, self._compiled = cell, own, name, device, compiled
        self._has_changed: Callable[[], bool] | None = None
        self._steps: dict[Hashable, StepOfArrays | None] = {}  # by the arrays of a step; None: op by op
        self._made: dict[tuple[Hashable, ...], tuple[Sequence[int], StepOfArrays, Sequence[Tensor]]] = {}

    def __call__(self, x: Array, before: Any) -> Any:
        """The state after a step; `before` may be None, what the cell starts from."""
        step = None
        if before is not None and self._compiled is not False:
            parts = leaves_of(before)
            key = tuple(
                [(type(part), getattr(part, "shape", ()), getattr(part, "dtype", None)) for part in (x, *parts)]
            )
            has_changed = self._has_changed
            if has_changed is None or has_changed():
                self._begin_anew()
            steps = self._steps  # other threads may begin anew
            if key not in steps:
                steps[key] = self._compile(x, before)
            step = steps[key]
        if step is None:
            with no_grad():  # a copy of the input, since the state may be a view of it
                given = None if before is None else mapped(as_tensor, before)
                return mapped(lambda part: part.data, self._cell(as_tensor(x).clone(), given))
        out = [self._device.xp.empty(part.shape, part.dtype) for part in parts]
        step((x,), parts, out)
        return rebuilt(before, out)

    def _begin_anew(self) -> None:
        """Forgets what was compiled. If it cannot be noted what the cell reads, each step is compiled, or none."""
        self._steps = {}
        self._has_changed = changes_outside(self._cell, self._own)
        if self._has_changed is None and self._compiled is None:
            self._compiled = False

    def _compile(self, x: Array, before: Any) -> StepOfArrays | None:
        """The step for arrays like these; None if it is not compiled."""
        arrays = (x, *leaves_of(before))
        if not all(map(self._device.backend.owns, arrays)) or len({part.shape[:1] for part in arrays}) > 1:
            return None
        state = mapped(as_tensor, before)
        states = tuple(leaves_of(state))
        checked = CheckedStep(self._cell, self._name, names_of(self._cell, len(states)), joined_like(state))
        try:
            fused, captured = traced_step(checked, as_tensor(x), states)
        except UntraceableError as error:
            if self._compiled:
                raise ValueError(f"compiled=True: {error}; use compiled=None or False") from error
            return None
        made, times = (fused, *map(id, captured)), [*map(written_at, captured)]
        known = self._made.get(made)
        if known is None or known[0] != times:
            if len(self._made) >= _MOST_MADE:
                self._made.clear()
            known = self._made[made] = times, fused.stepper(captured), captured  # which stay, so that their ids do
        return known[1]
