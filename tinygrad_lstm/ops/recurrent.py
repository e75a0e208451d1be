"""Recurrent layers over a whole sequence, as one op each, whose forward and backward passes are a backend's kernels.

Each op equals its cell unrolled step by step. The caller passes the cell as `step`, and gradients of higher order
differentiate it. `scan` unrolls these cells, and any other cell.

Sizes: T time steps, batch B, input size I, hidden size H.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray
from tinygrad_lstm.backends.dtypes import is_integer

from .._tensor import Tensor, as_tensor
from ..device import Device
from ..graph import declare_step, next_number
from ..kinds import KINDS, Kind
from ..mode import mode
from .define import op, shown_whole
from .elementwise import where
from .linalg import linear
from .shape import stack, unbind

__all__ = ["LAYERS", "checked_lengths", "scan", "step_mask"]

States = tuple[Tensor, ...]
Step = Callable[..., Any]
Lengths = HostArray | None


def checked_lengths(name: str, lengths: Any, T: int, B: int) -> HostArray:
    """The lengths of B sequences of at most T steps, as integers in host memory.

    Raises:
        ValueError: there are not B lengths, or one is not an integer from 0 to T; the message begins with `name`.
    """
    on_host = lengths.device.backend.to_host(lengths._array) if isinstance(lengths, Tensor) else lengths
    numbers = np.asarray(on_host)
    numbers = numbers.astype(np.int64) if not numbers.size else numbers
    if numbers.shape != (B,) or not is_integer(numbers.dtype) or (B and not 0 <= numbers.min() <= numbers.max() <= T):
        raise ValueError(f"{name}: expected {B} lengths, integers from 0 to {T}, got {numbers.dtype} {numbers}")
    checked = numbers.astype(np.int64)
    tracer = mode().value.tracer
    if tracer is not None:
        tracer.see_copy(lengths, checked)
    return checked


@shown_whole
def step_mask(lengths: HostArray, T: int, device: Device) -> Tensor:
    """Whether each time step is within the length of each of the B sequences, (T, B, 1)."""
    return as_tensor(np.arange(T)[:, None, None] < lengths[None, :, None], "cpu").to(device)


@shown_whole
def scan(
    step: Callable[..., States], T: int, states: Sequence[Tensor], lengths: Lengths = None, reverse: bool = False
) -> tuple[Tensor, ...]:
    """Unrolls a cell over the time steps of a sequence.

    Args:
        step: `step(t, *states)` returns the states after step t, given the states before it. The first one is the
            hidden state, which is the output.
        T: the number of steps, at least 1.
        states: the states before the first step, each (B, ·).
        lengths, reverse: as for the ops in `LAYERS`.

    Returns:
        The hidden states after each step (T, B, ·), zero past a sequence's length, and the states after each sequence's
        last step.
    """
    mask = None if lengths is None else unbind(step_mask(lengths, T, states[0].device), 0)
    outputs = [states[0]] * T
    for t in reversed(range(T)) if reverse else range(T):
        began = next_number()
        stepped = step(t, *states)
        declare_step(step, began, stepped)
        outputs[t] = stepped[0]
        if mask is not None:
            # A sequence that has ended, or has not begun in reverse, keeps its states.
            outputs[t] = where(mask[t], stepped[0], 0.0)
            stepped = tuple(where(mask[t], new, old) for new, old in zip(stepped, states, strict=True))
        states = stepped
    return stack(outputs), *states


def _layer(kind: Kind) -> Any:
    """The op for a plain layer of a kind, in one direction."""
    run_forward, run_backward = f"{kind.op}_forward", f"{kind.op}_backward"
    names, number = [weight.name for weight in kind.weights_with({})], len(kind.states)

    def composed(operands: Sequence[Tensor], step: Step, lengths: Lengths, reverse: bool) -> tuple[Tensor, ...]:
        x, *others = operands
        weights = dict(zip(names, others[number:], strict=True))
        nets = unbind(linear(x, weights["weight_ih"], weights["bias"]), 0)

        def step_at(t: int, *states: Tensor) -> States:
            gates = step(weights, nets[t], *states)
            return tuple(getattr(gates, state) for state in kind.state_names)

        return scan(step_at, len(x), others[:number], lengths, reverse)

    def forward(
        backend: Any, operands: Sequence[Array], step: Step, lengths: Lengths, reverse: bool, saving: bool
    ) -> Any:
        """A plain layer in one direction.

        Args:
            operands: x (T, B, I); the states before the first step (B, H) and the weights, in the order of `KINDS`.
            step: `step(weights, net_x, *states)` returns the gates and states of a step, given the weights by name,
                net_x = W·x + b (B, gates · H), and the states before.
            lengths: the number of steps of each sequence, in host memory; None if all have T.
            reverse: whether the steps are taken from the last to the first.

        Returns:
            h after each step (T, B, H), zero past a sequence's length; the states (B, H) after each sequence's last
            step.
        """
        return getattr(backend, run_forward)(operands, lengths, reverse, saving)

    def gradients(
        backend: Any, g: Any, operands: Any, saved: Any, lengths: Lengths, reverse: bool, needs_grad: Sequence[bool]
    ) -> Any:
        return getattr(backend, run_backward)(g, operands, saved, lengths, reverse, needs_grad)

    forward.__name__ = kind.op
    return op(promotion="common", composed=composed, fresh=True, operands=gradients)(forward)


LAYERS = {name: _layer(kind) for name, kind in KINDS.items()}
"""The op of each kind, by the kind's name."""
