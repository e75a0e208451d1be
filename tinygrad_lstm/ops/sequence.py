"""A step over a sequence as one op.

The step is traced to a program; see `tracing/`. A backend makes functions of the program that go through the sequence,
forward and backward. Gradients of higher order differentiate the ops of the program.
"""

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import FLOAT32, is_float
from tinygrad_lstm.backends.emit.program import BATCH, Program
from tinygrad_lstm.backends.emit.schedule import Backward, Forward
from tinygrad_lstm.backends.emit.steps import StepOfArrays

from .._tensor import Tensor
from ..graph import declare_step, next_number
from ..random import draw_key
from ..tracing.run import FailedStepError, Known, Like, Run, Step, UntraceableError, run_of
from ..tracing.schedule import backward_schedule, forward_schedule
from ..tracing.simplify import (
    Ops,
    with_deviations_ahead,
    with_factors_apart,
    with_norms_apart,
    with_products_apart,
    without_copies,
)
from ..tracing.step import TracedStep, derivative_of, replay_steps
from ..tracing.whole import WholeBatchStep
from .define import op
from .elementwise import add, mul, sub
from .normalization import normalized
from .operation import Op
from .shape import split_op, stack, unbind

__all__ = [
    "FusedStep",
    "PureStep",
    "UntraceableError",
    "code_of",
    "fused_over",
    "fused_step",
    "is_sequence",
    "sequence_op",
    "unrolled",
]

_OPS = Ops(add.op, mul.op, normalized.op, split_op.op, sub.op)  # type: ignore[attr-defined]
_ALIKE = 16  # steps of the same code and shapes; a step that is different at each call is not traced again and again
_KEPT_ALIKE = 64  # steps of the same shapes; beyond this, the oldest ones are traced again
_KEPT = 64  # shapes; beyond this, the steps of those that were least recently used are traced again


class FusedStep:
    """A traced step, as functions over a sequence.

    Args:
        traced: the step as it was traced.
        given: what it is given: inputs, states, and others, which are the same in all steps.
        code: the code that was traced; see `code_of`.

    Attributes:
        traced, code: as given.
        program: the program of the step.
        used_again: whether a later call has found it.
    """

    def __init__(self, traced: TracedStep, *given: Sequence[Like], code: Hashable = None) -> None:
        self.traced, self.code, self.used_again = traced, code, False
        self.program = with_products_apart(self.traced.program, _OPS)
        self._scheduled = with_norms_apart(self.program, _OPS)
        self._device = given[0][0].device
        inputs, *others = given
        self._needs = [like.requires_grad for like in inputs] + [False] * len(self.traced.dropped)
        self._needs += [like.requires_grad for like in itertools.chain(*others)]
        self._needs += [tensor.like.requires_grad for tensor in self.traced.outside]
        self._functions: dict[bool, Any] = {}

    def functions(self, derivative: bool) -> Any:
        """The functions of the device's backend, with those of the derivative or without.

        Raises:
            UntraceableError: the derivative depends on the batch size.
        """
        if derivative not in self._functions:
            try:
                self._functions[derivative] = self._device.backend.sequence(*self.schedules(derivative))
            except UntraceableError as error:
                self._functions[derivative] = str(error)
        found = self._functions[derivative]
        if isinstance(found, str):
            raise UntraceableError(found)
        return found

    def stepper(self, captured: Sequence[Tensor]) -> StepOfArrays:
        """A step at a time on plain arrays, given what the program captures; see `ArraySequence.stepper`."""
        with self._device.current():
            made: StepOfArrays = self.functions(False).stepper(self._device.backend, [each._array for each in captured])
        return made

    def schedules(self, derivative: bool) -> tuple[Forward, Backward | None]:
        """The schedules of the program and of its derivative."""
        found = None
        if derivative:
            traced = derivative_of(self._scheduled, self._device, self._needs)
            found = with_deviations_ahead(with_factors_apart(without_copies(traced), _OPS))
        forward = forward_schedule(self._scheduled if found is None else found.program, found)
        return forward, None if found is None else backward_schedule(found, forward)


def _composed(operands: Sequence[Tensor], step: FusedStep, reverse: bool) -> tuple[Tensor, ...]:
    """The same by the ops of the program."""
    return unrolled(step.program, operands, reverse)


def unrolled(program: Program, operands: Sequence[Tensor], reverse: bool) -> tuple[Tensor, ...]:
    """What the op of a sequence computes, by the ops of a program, step by step."""
    number, end = len(program.inputs), len(program.inputs) + len(program.states)
    states, captured = operands[number:end], operands[end:]
    T, B = operands[0].shape[:2]
    order = range(T - 1, -1, -1) if reverse else range(T)
    items = list(zip(*(unbind(x, 0) for x in operands[:number]), strict=True))
    outputs: list[Any] = [None] * T
    began = 0

    def inputs() -> Iterator[Sequence[Tensor]]:
        nonlocal began
        for t in order:
            began = next_number()
            yield items[t]

    for t, (output, *after) in zip(order, replay_steps(program, inputs(), states, captured, B)):
        declare_step(program, began, output)
        outputs[t], states = output, after
    return stack(outputs), *states


def _gradients(
    backend: Any, g: Any, operands: Any, saved: Any, step: FusedStep, reverse: bool, needs_grad: Sequence[bool]
) -> Any:
    found = step.functions(True).backward(backend, g, operands, saved, reverse, needs_grad)
    return [
        backend.xp.zeros_like(operand) if gradient is None and needed else gradient
        for operand, gradient, needed in zip(operands, found, needs_grad)
    ]


def _sequence(backend: Any, operands: Sequence[Array], step: FusedStep, reverse: bool, saving: bool) -> Any:
    """A step over a sequence, in one direction.

    Args:
        operands: the inputs (T, B, ...) of all steps, T >= 1; the states (B, ...) before the first step; what the step
            captures.
        step: the traced step.
        reverse: whether the steps are taken from the last to the first.

    Returns:
        The outputs of all steps (T, B, ...), and the states (B, ...) after the last.
    """
    return step.functions(saving).forward(backend, operands, reverse, saving)


@cache
def sequence_op(name: str = "sequence") -> Any:
    """The op that takes a step over a sequence, under a name that graphs and messages show."""
    return op(composed=_composed, fresh=True, name=name, operands=_gradients)(_sequence)


def is_sequence(each: Op) -> bool:
    """Whether an op takes a step over a sequence, under any name."""
    return each.forward is _sequence


@dataclass(frozen=True)
class PureStep:
    """A step that depends on nothing but what it is given, so that it is traced only once.

    Attributes:
        function: `function(x, states, fixed)` returns the states after a step.
        fixed: the tensors that are the same in all steps, such as parameters.
        key: equal for steps that apply the same ops to tensors of the same shapes.
        name: the name of the op in graphs and messages.
    """

    function: Callable[[Tensor, tuple[Tensor, ...], Sequence[Tensor]], tuple[Tensor, ...]]
    fixed: Sequence[Tensor]
    key: Hashable
    name: str = "sequence"

    def __call__(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The states after a step."""
        return self.function(x, states, self.fixed)


class _Key(NamedTuple):
    """What steps must have in common for one program to serve them."""

    inputs: tuple[Like, ...]
    states: tuple[Like, ...]
    others: tuple[Like, ...]
    step: Hashable


_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a fork while a different thread holds it would leave it held forever
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
_fused: OrderedDict[_Key, list[FusedStep]] = OrderedDict()


def fused_over(
    step: FusedStep, inputs: Sequence[Tensor], others: Sequence[Tensor], reverse: bool, name: str
) -> tuple[Tensor, ...]:
    """The op of this name, with masks of dropout that are drawn now, as the steps would draw them."""
    if step.traced.dropped:
        inputs = [*inputs, *_masks(step, inputs[0], reverse)]
    result: tuple[Tensor, ...] = sequence_op(name)([*inputs, *others], step, reverse)
    return result


def _masks(step: FusedStep, x: Tensor, reverse: bool) -> list[Tensor]:
    """The masks of all steps, (T, B, ...), given an input."""
    dropped, (T, B) = step.traced.dropped, x.shape[:2]
    masks = step.program.inputs[-len(dropped) :]
    device = x.device
    with device.current():
        shapes = [(B, *mask.lengths) for mask in masks]
        ones = [device.xp.ones(shape, FLOAT32) for shape in shapes]
        kept = [device.xp.empty((T, *shape), mask.dtype) for shape, mask in zip(shapes, masks)]
        for t in reversed(range(T)) if reverse else range(T):
            for all_steps, p, one in zip(kept, dropped, ones):
                all_steps[t] = device.backend.dropout(one, p, draw_key())
    return [Tensor._wrap(all_steps, device) for all_steps in kept]


def fused_step(
    step: Step,
    inputs: Sequence[Tensor],
    states: Sequence[Tensor],
    rows: Sequence[Tensor],
    fixed: Sequence[Tensor] = (),
    key: Hashable = None,
    code: Hashable = None,
) -> tuple[FusedStep, Sequence[Tensor]]:
    """A traced step, and the tensors that the step takes from outside now.

    The step is run once, without computing, to find these tensors. It is traced if this run applies different ops than
    the steps that were traced before, or gives them different arguments. The run is for the batch's own size, so that
    the program is right for it whatever the step does with this number.

    Args:
        step: `step(inputs, states, others)` returns the output of a step and the states after it.
        inputs: of all steps, (T, B, ...).
        states: before the first step, (B, ...).
        rows: the first of the others, (B, ...), the same in all steps.
        fixed: the rest of the others, the same for all rows.
        key: if it is not None, the step takes nothing from outside, and steps of an equal key apply the same ops.
        code: see `code_of`.

    Raises:
        UntraceableError: the step cannot be computed as one op.
    """
    others = [_like(tensor, 0, True) for tensor in rows] + [_like(tensor, 0, False) for tensor in fixed]
    found = _Key(
        tuple([_like(tensor, 1, True) for tensor in inputs]),
        tuple([_like(tensor, 0, True) for tensor in states]),
        tuple(others),
        key,
    )
    return _traced(step, found, len(states[0]), code)


def code_of(step: Any) -> Hashable:
    """What steps have in common that differ only in what they close over: their code, or a cell's class."""
    function = getattr(step, "function", step)
    kind: Any = type(function)
    code: Hashable = getattr(getattr(function, "__func__", function), "__code__", kind)
    return code


def _traced(step: Step, key: _Key, batch: int, code: Hashable) -> tuple[FusedStep, Sequence[Tensor]]:
    """A step that is traced unless it is known, and what it takes from outside."""
    given = key[:3]
    with _lock:  # not while the step runs, which may wait for a thread that runs a different step
        known = [fused for fused in _fused.get(key, ()) if fused.traced.batch in (None, batch)]
        if known:
            _fused.move_to_end(key)
    if known and key.step is not None:
        return known[0], ()
    seen = run_of(step, given, batch, dry=True)
    for fused in known:
        found = fused.traced.taken_in(seen, batch)
        if found is not None:
            fused.used_again = True
            return fused, found
    if sum(fused.code is code and not fused.used_again for fused in known) >= _ALIKE:
        raise UntraceableError("the step applies different ops, or gives them different numbers, at each call")
    traced, taken = _traced_like(step, seen, given, batch)
    fused = FusedStep(traced, *given, code=code)
    with _lock:
        alike = _fused.setdefault(key, [])
        alike.insert(0, fused)
        del alike[_KEPT_ALIKE:]
        while len(_fused) > _KEPT:
            _fused.popitem(last=False)
    return fused, taken


def _traced_like(
    step: Step, seen: tuple[Run, list[Known]], given: Sequence[Sequence[Like]], batch: int
) -> tuple[TracedStep, Sequence[Tensor]]:
    """A traced step with the ops of a run, and what the run took from outside.

    It is for any batch size if it can be, or else for this one.
    """
    refused: UntraceableError | None = None
    try:
        traced = TracedStep(step, *given)
        taken = traced.taken_in(seen, batch)
        if taken is not None:
            return traced, taken
    except FailedStepError:  # it may use tensors of the batch's size
        pass
    except UntraceableError as error:
        refused = error
    again = run_of(step, given, batch, dry=True)
    try:
        traced = WholeBatchStep(seen, again, given, batch)
    except UntraceableError as error:
        raise refused or error from None
    taken = traced.taken_in(again, batch)
    if taken is None:
        raise UntraceableError("the step applies different ops each time, or gives them different numbers")
    return traced, taken


def _like(tensor: Tensor, steps: int, of_batch: bool) -> Like:
    array = tensor._array
    shape = (BATCH, *array.shape[1 + steps :]) if of_batch else array.shape
    return Like(shape, array.dtype, tensor.device, is_float(array.dtype) if of_batch else tensor.requires_grad)
