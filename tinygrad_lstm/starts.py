"""What a cell starts from: found by two runs of one step, with and without a state."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.backends.dtypes import is_float

from ._tensor import Tensor, as_tensor
from .creation import full, zeros_like
from .lengths import plain
from .mode import Switch, Tracer, mode, no_grad
from .nn import Module, Parameter
from .ops.shape import broadcast_to
from .random import forked_draws
from .states import joined_like, parts_of
from .tracer_hooks import prints_seen
from .tracing.dry import dry_forward
from .tracing.effects import Effects

__all__ = ["start_of"]


def start_of(name: str, cell: Module, x: Tensor) -> Any:
    """The state from which `cell(x, None)` starts: zeros, or what the cell learns to start from.

    The cell takes a step from None, and one from zeros. The ops of both are compared, from the results back to where
    the second takes a state: there the first has the start. It is part of the graph.

    Args:
        name: the caller's name, for errors.
        cell: a module with `forward(x, state)`.
        x: the inputs of a step.

    Raises:
        ValueError: the two runs differ in more than the state, the start depends on the input, or the runs could
            advance an iterator.
    """
    if mode().value.tracer is None:
        zeros = getattr(cell, "_known_start", lambda _: None)(x)  # of a built-in cell
        if zeros is not None:
            return zeros
        # That it starts from zeros is found without computing.
        with contextlib.suppress(Exception), no_grad(), np.errstate(all="ignore"):  # errors are raised by the other run
            found = _Found(name, cell, x, dry=True)
            if found.is_zeros:
                return found.joined(found.zeros)
    found = _Found(name, cell, x)
    return found.joined([_as_state(start, zero) for start, zero in zip(found.starts, found.zeros, strict=True)])


_FULL = inspect.unwrap(full)


class _UnsetValueError(Exception):
    """A value is read that a dry run has not computed."""


class _Found:
    """What a step from None has in place of the state.

    Args:
        dry: whether the results of ops need not be computed.

    Attributes:
        starts: for each part of the state, what the step has in place of it; None if it is not used.
        zeros: zeros of the shape and dtype of each part.
        joined: makes a state of its parts.
        is_zeros: whether the start is zeros that the cell makes, or is not used.
    """

    def __init__(self, name: str, cell: Module, x: Tensor, dry: bool = False) -> None:
        described = f"{name}: the result of {type(cell).__name__}"
        same_draws = forked_draws()
        with Effects(cell) as effects:
            if effects.iterator is not None:
                raise ValueError(
                    f"{name}: to find the state that {type(cell).__name__} starts from could advance "
                    f"{effects.iterator}, an iterator; give a state"
                )
            first, second = _Run(mode().value.tracer, effects, dry), _Run(None, effects, dry)
            try:
                with same_draws(), prints_seen, Switch(tracer=first):
                    result = cell.forward(x, None)
                effects.undo()
                after = parts_of(described, result)
                self.joined = joined_like(result)
                with Switch(tracer=None):
                    self.zeros = tuple(map(zeros_like, after))
                with same_draws(), prints_seen, no_grad(), Switch(tracer=second):
                    again = parts_of(described, cell.forward(x, self.joined(self.zeros)))
            except Exception as error:
                error.add_note(
                    f"in {name}: {type(cell).__name__} was given an input and a state of None, to start from"
                )
                raise
            finally:
                effects.undo()
        found = _Comparison(first, second, self.zeros).of(after, again)
        if dry and (found is None or first.has_read or second.has_read):
            raise _UnsetValueError
        if found is None:
            if not _starts_from_zeros(first, second, after, again):
                raise ValueError(
                    f"{name}: cannot find the state that {type(cell).__name__} starts from; begin its forward with a "
                    "line such as `state = start if state is None else state`, or give a state"
                )
            found = [None] * len(self.zeros)
        if first.uses(found, x):
            raise ValueError(
                f"{name}: {type(cell).__name__} computes the state that it starts from from its input; expected zeros, "
                "or parameters and what is computed from these; give such a state as an argument"
            )
        self.starts = found
        self.is_zeros = all(start is None or first.is_zeros(start) for start in found)


def _as_state(start: Any, zero: Tensor) -> Tensor:
    """A start of the shape and dtype of a state; None means zeros."""
    if start is None:
        return zero
    if not isinstance(start, Tensor) and not hasattr(start, "shape"):
        return full(zero.shape, start, dtype=zero.dtype, device=zero.device)
    start = as_tensor(start, zero.device)
    start = start if start.dtype == zero.dtype else start.to(dtype=zero.dtype)
    return start if start.shape == zero.shape else broadcast_to(start, zero.shape)


@dataclass(slots=True)
class _Call:
    """An op, or a function made of ops, applied."""

    function: Any
    arguments: Any
    results: tuple[Any, ...]


class _Run(Tracer):
    """Records the ops of a run, and shows them to an outer tracer.

    Attributes:
        made: the call that returned an array, and the number of the result, by the array's id.
        has_read: whether a dry run has read a value; the cell may have caught the error.
    """

    def __init__(self, outer: Tracer | None, effects: Effects, dry: bool) -> None:
        self._outer = Tracer() if outer is None else outer
        self._dry = dry
        self.has_read = False
        self._effects = effects
        self.made: dict[int, tuple[_Call, int]] = {}

    def forward_of(self, op: Any) -> Callable[..., Any]:
        return dry_forward(op) if self._dry else self._outer.forward_of(op)

    def see_node(self, node: Any) -> None:
        self._outer.see_node(node)

    def see_op(self, op: Any, arguments: Sequence[Any], result: Any) -> None:
        self._outer.see_op(op, arguments, result)
        self._record(op, tuple(arguments), result)

    def see_call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = self._outer.see_call(function, args, kwargs)
        self._record(function, (tuple(args), tuple(sorted(kwargs.items()))), result)
        return result

    def see_copy(self, source: Any, copied: Array) -> None:
        self._outer.see_copy(source, copied)

    def see_shape(self, tensor: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._outer.see_shape(tensor, shape)

    def see_read(self, tensor: Any) -> None:
        self._check_read()
        self._outer.see_read(tensor)

    def see_array(self, tensor: Any) -> None:
        self._check_read()
        self._outer.see_array(tensor)
        self._effects.note_array(tensor)

    def see_print(self) -> bool:
        """Prints nothing, as the steps of the sequence will."""
        return False

    def see_requires_grad(self, tensor: Any) -> None:
        self._check_read()
        self._outer.see_requires_grad(tensor)

    def _check_read(self) -> None:
        if self._dry:
            self.has_read = True
            raise _UnsetValueError

    def see_write(self, tensor: Any) -> None:
        self._outer.see_write(tensor)
        self._effects.note_write(tensor)

    def _record(self, function: Any, arguments: Any, result: Any) -> None:
        results = tuple(result) if isinstance(result, tuple | list) else (result,)
        call = _Call(function, plain(arguments), results)
        for number, part in enumerate(results):
            if isinstance(part, Tensor):
                self.made[id(part._array)] = call, number

    def is_zeros(self, start: Any) -> bool:
        """Whether the run has made this tensor with zeros."""
        call, _ = self.made.get(id(getattr(start, "_array", start)), (None, 0))
        return call is not None and call.function is _FULL and call.arguments[0][1] == 0

    def parameters(self) -> set[int]:
        """The ids of the parameters that its ops were given."""
        given = _leaves([call.arguments for call, _ in self.made.values()])
        return {id(leaf) for leaf in given if isinstance(leaf, Parameter)}

    def uses(self, results: Any, x: Tensor) -> bool:
        """Whether ops have computed any of the results from x."""
        stack, seen = [results], set()
        while stack:
            for leaf in _leaves(stack.pop()):
                array = getattr(leaf, "_array", leaf)
                if array is x._array:
                    return True
                if id(array) in self.made and id(array) not in seen:
                    seen.add(id(array))
                    stack.append(self.made[id(array)][0].arguments)
        return False


def _leaves(arguments: Any) -> Iterator[Any]:
    """The values in arguments, including those in lists and tuples."""
    if isinstance(arguments, list | tuple):
        for part in arguments:
            yield from _leaves(part)
    else:
        yield arguments


class _Comparison:
    """Two runs of a cell, the second of which was given these states."""

    def __init__(self, first: _Run, second: _Run, states: Sequence[Tensor]) -> None:
        self._first = first
        self._second = second
        self._states = {id(state._array): number for number, state in enumerate(states)}
        self._found: list[Any] = [None] * len(states)

    def of(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Any] | None:
        """What the first run has in place of each state, None if the state is not used; None if the runs differ.

        Args:
            first, second: the results of the runs.
        """
        stack: list[tuple[Any, Any]] = [(tuple(first), tuple(second))]
        seen: set[tuple[int, int]] = set()
        while stack:
            a, b = stack.pop()
            if a is b:
                continue
            if isinstance(a, list | tuple) and isinstance(b, list | tuple):
                if len(a) != len(b):
                    return None
                stack += zip(a, b)
                continue
            array_a, array_b = getattr(a, "_array", a), getattr(b, "_array", b)
            if id(array_b) in self._states:
                if not self._take(self._states[id(array_b)], a):
                    return None
            elif array_a is not array_b and (id(array_a), id(array_b)) not in seen:
                seen.add((id(array_a), id(array_b)))
                made_a, made_b = self._first.made.get(id(array_a)), self._second.made.get(id(array_b))
                if made_a is None and made_b is None:
                    if not _is_same(array_a, array_b):
                        return None
                elif made_a is None or made_b is None or not _are_alike(made_a, made_b):
                    return None
                else:
                    stack.append((made_a[0].arguments, made_b[0].arguments))
        return self._found

    def _take(self, number: int, start: Any) -> bool:
        """Notes what a run has in place of a state; False if it has something different elsewhere."""
        before = self._found[number]
        if before is None:
            self._found[number] = start
            return True
        return before is start or getattr(before, "_array", before) is getattr(start, "_array", start)


def _are_alike(a: tuple[_Call, int], b: tuple[_Call, int]) -> bool:
    return a[0].function is b[0].function and a[1] == b[1]


def _is_same(a: Any, b: Any) -> bool:
    """Whether settings are equal, or arrays that no op made."""
    if hasattr(a, "shape") and hasattr(b, "shape"):
        one, other = (as_tensor(each).device.backend.to_host(each) for each in (a, b))
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=is_float(one.dtype))
    return type(a) is type(b) and bool(a == b or (a != a and b != b))


def _starts_from_zeros(first: _Run, second: _Run, after: Sequence[Tensor], again: Sequence[Tensor]) -> bool:
    """Whether a step from None computed what a step from zeros does, from no other parameters."""
    same = len(after) == len(again) and all(_is_same(a._array, b._array) for a, b in zip(after, again))
    return same and first.parameters() <= second.parameters()
