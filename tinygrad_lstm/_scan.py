"""`scan`: a cell, or any function of an input and a state, over a sequence."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ._tensor import Tensor, operand
from .creation import ones_like, zeros_like
from .nn import Module
from .ops.elementwise import where
from .ops.padding import pad
from .ops.recurrent import checked_flags, checked_lengths, run_scan, step_mask
from .starts import start_of
from .states import CheckedStep, joined_like, names_of, parts_of, with_tensors

__all__ = ["scan"]

Step = Callable[[Tensor, Any], Any]


def scan(
    step: Step,
    x: Tensor,
    state: Any,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
    mask: Any = None,
) -> tuple[Tensor, Any]:
    """Goes through the time steps of a batch of sequences, with a cell or any function of an input and a state.

    A state is one Tensor, or a tuple of Tensors, each (B, ...). It keeps its shapes and dtypes from step to step. The
    first of them is the output.

    Args:
        step: `step(x_t, state)` returns the next state, given an input (B, ...) and the state before. A function, which
            may use other tensors too, or a cell: a module with this `forward`. Gradients flow to all that it uses.
        x: the inputs (T, B, ...).
        state: the state before the first step. None for a cell: what `cell(x_t, None)` starts from.
        lengths: the number of steps of each of the B sequences, in any order; by default T. Outputs past a length are
            zero, and the final states are those after each sequence's last step.
        resets: (T, B) bool. Where it is true, a new sequence begins at this step: the row's state is replaced before
            the step, by what `cell(x_t, None)` starts from; for a function, by zeros.
        reverse: whether the steps are taken from the last to the first of each sequence. The outputs stay in the order
            of x.
        mask: (T, B) bool. Where it is false, the row skips this step: its state, the first part of which is its output,
            is that of the step before.

    The step is run a few times, recorded and compiled. A step that reads values, or does more than compute the next
    state, runs step by step: if it changes objects, prints, logs, writes, or reads the time. To find what a cell starts
    from, a step is run two more times, which repeats what it logs or writes, unless a state is given.
    Tensors with a row for each sequence of the batch, such as the states of an encoder, must have the batch first.

    Returns:
        out (T, B, ...), the first state after each step; and the state after the last step.

    Raises:
        ValueError: a shape, a length or the resets are invalid; a step returns states of a different number, shape or
            dtype; a cell's start cannot be found.
        TypeError: a state is not a Tensor or a tuple of Tensors; `step` is not callable.

    >>> import tinygrad_lstm as tg
    >>> decay = tg.tensor(0.5, requires_grad=True)
    >>> out, h = tg.scan(lambda x_t, h: decay * h + x_t, tg.ones(3, 2, 1), tg.zeros(2, 1))
    >>> out[:, 0, 0].tolist()
    [1.0, 1.5, 1.75]
    >>> out, h = tg.scan(lambda x_t, h: decay * h + x_t, tg.ones(3, 2, 1), tg.zeros(2, 1), lengths=[3, 1])
    >>> h[:, 0].tolist()
    [1.75, 1.0]
    """
    if not callable(step):
        raise TypeError(f"scan: expected a step, a function of (x, state) or a cell, got {type(step).__name__}")
    x = operand(x)
    if x.ndim < 2:
        raise ValueError(f"scan: expected an input of shape (time, batch, ...), got {x.shape}")
    if state is None and not isinstance(step, Module):
        raise TypeError("scan: state is None, but the step is a function; give the state before the first step")
    T, B = x.shape[:2]
    numbers = None if lengths is None else checked_lengths("scan", lengths, T, B)
    flags = None if resets is None else checked_flags("scan", "resets", resets, T, B)
    taken = None if mask is None else checked_flags("scan", "mask", mask, T, B)
    return over_sequence("scan", step, x, state, numbers, flags, bool(reverse), mask=taken)


def over_sequence(
    name: str,
    step: Step,
    x: Tensor,
    state: Any,
    lengths: HostArray | None,
    resets: Tensor | None,
    reverse: bool,
    compiled: bool | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Any]:
    """What `scan` returns, of arguments that have been checked.

    Args:
        name: the caller's name, for errors.
        lengths: on the host.
        compiled: as for `run_scan`.
    """
    T, B = x.shape[:2]
    if not T:  # one step that no sequence reaches, so that gradients are those of sequences of length 0
        x, lengths, resets, mask = pad(x, (0, 0) * (x.ndim - 1) + (0, 1)), np.zeros(B, np.int64), None, None
    if lengths is not None:
        x = _within(x, step_mask(lengths, len(x), x.device))
    if mask is not None:
        mask = mask.to(x.device)
        x = _within(x, mask)
    start = None
    if isinstance(step, Module) and (state is None or resets is not None):
        start = start_of(name, step, x[0])
    state = with_tensors(start if state is None else state)
    states = _checked(name, state, B)
    names = names_of(step, len(states))
    starts: tuple[Tensor, ...] = ()
    if resets is not None:
        resets = resets.to(x.device)
        starts = tuple(map(zeros_like, states)) if start is None else _alike(name, names, states, start)
    joined = joined_like(state)
    out, *final = run_scan(
        CheckedStep(step, name, names, joined), x, states, lengths, resets, starts, reverse, compiled, mask
    )
    return out if T else out[:0], joined(final)


def _within(x: Tensor, mask: Tensor) -> Tensor:
    """The inputs with a sequence's first one in place of those past its length, and ones for a sequence of length 0.

    What a step computes from these is not used. But its derivative must be finite, since it is multiplied by 0.
    """
    mask = mask.reshape(*mask.shape[:2], *[1] * (x.ndim - 2))
    first = x[:1]
    return where(mask, x, where(mask[:1], first, ones_like(first) if is_float(x.dtype) else zeros_like(first)))


def _checked(name: str, state: Any, B: int) -> tuple[Tensor, ...]:
    states = parts_of(f"{name}: the initial state", state)
    for part in states:
        if part.shape[:1] != (B,):
            raise ValueError(f"{name}: expected states of shape ({B}, ...), for a batch of {B}, got {part.shape}")
    return states


def _alike(name: str, names: Sequence[str], states: Sequence[Tensor], start: Any) -> tuple[Tensor, ...]:
    """The start of a cell, if its parts are like those of the initial state."""
    starts = parts_of(f"{name}: the start", start)
    expected = [(part.shape, part.dtype) for part in starts]
    if [(part.shape, part.dtype) for part in states] != expected:
        given = ", ".join(f"{part.dtype} {part.shape}" for part in states)
        raise ValueError(
            f"{name}: expected a state like the cell's own start, {', '.join(f'{d} {s}' for s, d in expected)}, "
            f"got {given}"
        )
    return starts
