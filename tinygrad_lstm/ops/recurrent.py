"""A step over the time steps of a batch of sequences: as one op, or step by step.

Sizes: T time steps, batch B.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_bool, is_float, is_integer

from .._tensor import Tensor, as_tensor
from ..creation import zeros_like
from ..device import Device, device_of
from ..graph import declare_step, next_number
from ..mode import mode
from .define import shown_whole
from .elementwise import where
from .sequence import FusedStep, PureStep, UntraceableError, code_of, fused_over, fused_step
from .shape import reshape, stack, unbind, unsqueeze

__all__ = [
    "Scan",
    "active_steps",
    "checked_flags",
    "checked_lengths",
    "chosen",
    "flags_by_rank",
    "run_scan",
    "step_mask",
    "traced_step",
]

States = tuple[Tensor, ...]
Step = Callable[..., Any]
Lengths = HostArray | None
FlagsName = Literal["resets", "mask"]

_FLAGS = {"resets": "begins a new sequence", "mask": "is taken"}


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


def active_steps(T: int, B: int, lengths: Lengths, mask: Tensor | None) -> HostArray:
    """Whether each step of each sequence is taken and within its length: (T, B) bool, in host memory."""
    within = np.arange(T)[:, None] < (np.full(B, T) if lengths is None else lengths)
    return within if mask is None else within & mask.device.backend.to_host(mask._array)


def checked_flags(name: str, what: FlagsName, flags: Any, *shape: int) -> Tensor:
    """Flags for the steps of the sequences of a batch, bools of this shape.

    Raises:
        ValueError: the shape or the dtype is different; the message begins with `name`.
    """
    given = as_tensor(flags) if isinstance(flags, Tensor) or device_of(flags) else as_tensor(np.asarray(flags))
    if given.shape != shape or not is_bool(given.dtype):
        raise ValueError(
            f"{name}: expected {what} of shape {shape} and dtype bool, got {given.dtype} {given.shape}; for each step "
            f"of each sequence, whether it {_FLAGS[what]}"
        )
    return given


@dataclass(frozen=True, eq=False)
class Scan:
    """A sequence that is computed as one op.

    Attributes:
        traced: `traced(inputs, states, starts)` is what `fused_step` returns for these.

    The other attributes are arguments of `run_scan`.
    """

    step: Step | PureStep
    x: Tensor
    lengths: Lengths
    resets: Tensor | None
    starts: States
    reverse: bool
    mask: Tensor | None
    traced: Callable[..., tuple[FusedStep, Sequence[Tensor]]]


@shown_whole
def run_scan(
    step: Step | PureStep,
    x: Tensor,
    states: States,
    lengths: Lengths = None,
    resets: Tensor | None = None,
    starts: States = (),
    reverse: bool = False,
    compiled: bool | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Goes through the time steps of a sequence. Every sequence goes through here.

    Args:
        step: `step(x_t, states)` returns the states after a step, of the same number, shapes and dtypes. The first one
            is the output.
        x: the inputs (T, B, ...) of at least 1 step.
        states: the states before the first step, each (B, ...).
        lengths: the number of steps of each sequence, in host memory; None if all have T.
        resets: (T, B) bool: the rows whose states are those of `starts` before a step; None for no row.
        starts: of the shapes of `states`; only needed with `resets`.
        reverse: whether the steps are taken from the last to the first.
        compiled: whether the sequence is one op: True requires it, None allows it, False takes the steps one by one.
        mask: (T, B) bool: the rows that take a step. Others keep their states, the first of which is the output.

    Returns:
        The outputs of all steps (T, B, ...), zero past a sequence's length, and the states after each sequence's last
        step.

    Raises:
        ValueError: `compiled` is True, but the step cannot be compiled.
    """
    now, T = mode().value, len(x)
    active = {} if lengths is None else flags_by_rank(step_mask(lengths, T, x.device), states)
    begins = {} if resets is None else flags_by_rank(resets, states)
    taken = {} if mask is None else flags_by_rank(mask, states)
    inputs = [x, *active.values(), *begins.values(), *taken.values()]
    fixed, key, name = (step.fixed, step.key, step.name) if isinstance(step, PureStep) else ((), None, "sequence")
    flags = tuple(active), tuple(begins), len(starts), tuple(taken)
    if taken and key is not None:  # a step with lengths has inputs of the same shapes
        key = key, "mask"
    by_ops = now.anomaly or (now.tracer is not None and now.tracer.sees_steps)
    if compiled is not False and not by_ops:
        try:
            traced = partial(fused_step, _masked(step, *flags), fixed=fixed, key=key, code=code_of(step))
            fused, captured = traced(inputs, states, starts)
            others = [*states, *starts, *fixed, *captured]
            fused.functions(now.recording and any(each._node is not None for each in (*inputs, *others)))
            if now.tracer is not None:
                scan = Scan(step, x, lengths, resets, starts, reverse, mask, traced)
                return now.tracer.see_fused(
                    partial(fused_over, fused, reverse=reverse, name=name), inputs, others, scan
                )
        except UntraceableError as error:
            if compiled:
                raise ValueError(f"compiled=True: {error}; use compiled=None or False") from error
        else:
            return fused_over(fused, inputs, others, reverse, name)
    if now.tracer is not None:
        step = now.tracer.see_sequence(step, T, lengths, reverse, mask)
    masked = _masked(step, *flags)
    items = list(zip(*(unbind(each, 0) for each in inputs), strict=True))
    outputs = [states[0]] * T
    for t in reversed(range(T)) if reverse else range(T):
        outputs[t], *after = masked(items[t], states, [*starts, *fixed])
        states = tuple(after)
    return stack(outputs), *states


def traced_step(step: Step | PureStep, x: Tensor, states: States) -> tuple[FusedStep, Sequence[Tensor]]:
    """A step as a program with generated code, for steppers, and the tensors that it uses besides what it is given.

    Args:
        step: as for `run_scan`.
        x: an input (B, ...).
        states: the states before the step, each (B, ...).

    Raises:
        UntraceableError: it cannot be compiled, or drops elements at random.
    """
    fixed, key = (step.fixed, step.key) if isinstance(step, PureStep) else ((), None)
    fused, taken = fused_step(_masked(step, (), (), 0), [unsqueeze(x, 0)], states, (), fixed, key, code_of(step))
    if fused.traced.dropped:
        raise UntraceableError("the step drops elements at random")
    return fused, [*fixed, *taken]


def _masked(
    step: Step | PureStep, active: Sequence[int], begins: Sequence[int], starts: int, taken: Sequence[int] = ()
) -> Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], States]:
    """A step in which sequences end and begin: it returns its output and the states after it.

    It is given the input followed by flags; the states before it; and what is the same in all steps.

    Args:
        active: the numbers of dimensions of the flags that say which rows have not ended.
        begins: those of the flags that say which rows begin anew.
        starts: the number of states that such rows begin with. They are the first of what is the same in all steps.
        taken: those of the flags that say which rows take the step.
    """

    def masked(at_step: Sequence[Tensor], states: Sequence[Tensor], others: Sequence[Tensor]) -> States:
        x_t, *flags = at_step
        entering = tuple(states)
        if begins:
            entering = chosen(dict(zip(begins, flags[len(active) :], strict=False)), others[:starts], states)
        began = next_number()
        if isinstance(step, PureStep):
            stepped = step.function(x_t, entering, others[starts:])
        else:
            stepped = step(x_t, entering)
        declare_step(step, began, stepped)
        if taken:
            stepped = chosen(dict(zip(taken, flags[len(active) + len(begins) :], strict=True)), stepped, entering)
        if not active:
            return (stepped[0], *stepped)
        # A sequence that has ended, or has not begun in reverse, keeps its states.
        going, first = dict(zip(active, flags, strict=False)), stepped[0]
        padding = 0.0 if is_float(first.dtype) else zeros_like(first)
        return (where(going[first.ndim], first, padding), *chosen(going, stepped, states))

    return masked


def flags_by_rank(flags: Tensor, states: Sequence[Tensor]) -> dict[int, Tensor]:
    """The flags of all steps, (T, B, 1, ..., 1), for each number of dimensions of a state.

    Args:
        flags: (T, B), or (T, B, 1).
    """
    T, B = flags.shape[:2]
    shapes = {rank: (T, B, *[1] * (rank - 1)) for rank in dict.fromkeys(state.ndim for state in states)}
    return {rank: flags if flags.ndim == rank + 1 else reshape(flags, shape) for rank, shape in shapes.items()}


def chosen(flags: Mapping[int, Tensor], states: Sequence[Tensor], others: Sequence[Tensor]) -> States:
    """The rows of these states with a flag, and the rows of the others without."""
    return tuple(where(flags[state.ndim], state, other) for state, other in zip(states, others, strict=True))
