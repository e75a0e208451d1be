"""Recurrent networks over a whole sequence, as one op each: what a backend computes at once, forward and backward.

Each equals its cell, unrolled step by step, which the caller gives as `step`: it stands in one place, where it can be
read, and is what is differentiated for gradients of higher order. `scan` unrolls these, and any other cell.

Sizes: T steps, batch B, input size I, hidden size H.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray
from tinygrad_lstm.backends.dtypes import is_integer

from .._tensor import Tensor, as_tensor
from ..device import Device
from ..mode import mode
from .define import op, shown_whole
from .elementwise import where
from .linalg import linear
from .shape import stack, unbind

__all__ = ["checked_lengths", "going", "gru", "lstm", "rnn", "scan"]

States = tuple[Tensor, ...]
Step = Callable[..., Any]
Lengths = HostArray | None


def checked_lengths(name: str, lengths: Any, T: int, B: int) -> HostArray:
    """The lengths of B sequences of at most T steps, as integers in host memory.

    Raises:
        ValueError: there are not B, or one is no integer from 0 to T; the error begins with the name.
    """
    on_host = lengths.device.backend.to_host(lengths._array) if isinstance(lengths, Tensor) else lengths
    numbers = np.asarray(on_host)
    numbers = numbers.astype(np.int64) if not numbers.size else numbers
    if numbers.shape != (B,) or not is_integer(numbers.dtype) or (B and not 0 <= numbers.min() <= numbers.max() <= T):
        raise ValueError(f"{name}: expected {B} lengths, integers from 0 to {T}, got {numbers.dtype} {numbers}")
    checked = numbers.astype(np.int64)
    recorder = mode().value.recorder
    if recorder is not None:
        recorder.see_copy(lengths, checked)
    return checked


@shown_whole
def going(lengths: HostArray, T: int, device: Device) -> Tensor:
    """Whether each of the B sequences is still going at each step, (T, B, 1)."""
    return as_tensor(np.arange(T)[:, None, None] < lengths[None, :, None], "cpu").to(device)


@shown_whole
def scan(
    step: Callable[..., States], T: int, states: Sequence[Tensor], lengths: Lengths = None, reverse: bool = False
) -> tuple[Tensor, ...]:
    """A cell unrolled over the steps of a sequence.

    Args:
        step: `step(t, *states)` gives the states after step t, of those before; the hidden state, which is the output,
            comes first.
        T: the number of steps, at least 1.
        states: the states before the first step, each (B, ·).
        lengths, reverse: as for `lstm`.

    Returns:
        The hidden states after each step (T, B, ·), zero past a sequence's length; and the states after each sequence's
        last step.
    """
    mask = None if lengths is None else unbind(going(lengths, T, states[0].device), 0)
    outputs = [states[0]] * T
    for t in reversed(range(T)) if reverse else range(T):
        stepped = step(t, *states)
        outputs[t] = stepped[0]
        if mask is not None:
            # A sequence that has ended, or in reverse not begun, keeps its states.
            outputs[t] = where(mask[t], stepped[0], 0.0)
            stepped = tuple(where(mask[t], new, old) for new, old in zip(stepped, states, strict=True))
        states = stepped
    return stack(outputs), *states


def _composed_lstm(operands: Sequence[Tensor], step: Step, lengths: Lengths, reverse: bool) -> tuple[Tensor, ...]:
    x, h, c, weight_ih, weight_hh, bias = operands
    nets = unbind(linear(x, weight_ih, bias), 0)

    def lstm_step(t: int, h: Tensor, c: Tensor) -> States:
        gates = step(nets[t] + linear(h, weight_hh), c)
        return gates.h, gates.c

    return scan(lstm_step, len(x), (h, c), lengths, reverse)


@op(
    promotion="common",
    composed=_composed_lstm,
    operands=lambda backend, g, operands, saved, lengths, reverse, wanted: backend.lstm_backward(
        g, operands, saved, lengths, reverse, wanted
    ),
)
def lstm(backend: Any, operands: Sequence[Array], step: Step, lengths: Lengths, reverse: bool, saving: bool) -> Any:
    """A layer of an LSTM in one direction.

    Args:
        operands: x (T, B, I); h and c before the first step (B, H); weight_ih (4H, I), weight_hh (4H, H), bias (4H,),
            rows in gate order i, f, g, o.
        step: `step(net, c)` gives what has the next `.h` and `.c`, net (B, 4H) being W·x + U·h + b.
        lengths: how many steps each sequence has, in host memory; None for T each.
        reverse: time runs from the end.

    Returns:
        h after each step (T, B, H), zero past a sequence's length; h and c (B, H) after each sequence's last step.
    """
    return backend.lstm_forward(operands, lengths, reverse, saving)


def _composed_gru(operands: Sequence[Tensor], step: Step, lengths: Lengths, reverse: bool) -> tuple[Tensor, ...]:
    x, h, weight_ih, weight_hh, bias, bias_hn = operands
    nets = unbind(linear(x, weight_ih, bias), 0)

    def gru_step(t: int, h: Tensor) -> States:
        return (step(nets[t], linear(h, weight_hh), bias_hn, h).h,)

    return scan(gru_step, len(x), (h,), lengths, reverse)


@op(
    promotion="common",
    composed=_composed_gru,
    operands=lambda backend, g, operands, saved, lengths, reverse, wanted: backend.gru_backward(
        g, operands, saved, lengths, reverse, wanted
    ),
)
def gru(backend: Any, operands: Sequence[Array], step: Step, lengths: Lengths, reverse: bool, saving: bool) -> Any:
    """A layer of a GRU in one direction.

    Args:
        operands: x (T, B, I); h before the first step (B, H); weight_ih (3H, I), weight_hh (3H, H), bias (3H,), rows in
            gate order r, z, n; bias_hn (H,).
        step: `step(net_x, net_h, bias_hn, h)` gives what has the next `.h`, of W·x + b and U·h, each (B, 3H).
        lengths, reverse: as for `lstm`.

    Returns:
        h after each step (T, B, H), zero past a sequence's length; h (B, H) after each sequence's last step.
    """
    return backend.gru_forward(operands, lengths, reverse, saving)


def _composed_rnn(operands: Sequence[Tensor], step: Step, lengths: Lengths, reverse: bool) -> tuple[Tensor, ...]:
    x, h, weight_ih, weight_hh, bias = operands
    nets = unbind(linear(x, weight_ih, bias), 0)

    def rnn_step(t: int, h: Tensor) -> States:
        return (step(nets[t] + linear(h, weight_hh)),)

    return scan(rnn_step, len(x), (h,), lengths, reverse)


@op(
    promotion="common",
    composed=_composed_rnn,
    operands=lambda backend, g, operands, saved, lengths, reverse, wanted: backend.rnn_backward(
        g, operands, saved, lengths, reverse, wanted
    ),
)
def rnn(backend: Any, operands: Sequence[Array], step: Step, lengths: Lengths, reverse: bool, saving: bool) -> Any:
    """A layer of a simple recurrent network in one direction.

    Args:
        operands: x (T, B, I); h before the first step (B, H); weight_ih (H, I), weight_hh (H, H), bias (H,).
        step: `step(net)` is the next h, of W·x + U·h + b.
        lengths, reverse: as for `lstm`.

    Returns:
        As `gru`.
    """
    return backend.rnn_forward(operands, lengths, reverse, saving)
