"""The state of a cell: one tensor, or a tuple of several, of which the first is the output."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ._tensor import Tensor, operand
from .device import device_of

__all__ = ["CheckedStep", "joined_like", "leaves_of", "mapped", "names_of", "parts_of", "rebuilt", "with_tensors"]


def parts_of(name: str, state: Any) -> tuple[Tensor, ...]:
    """The tensors of a state.

    Raises:
        TypeError: it is not a tensor or a tuple of tensors.
    """
    parts = (state,) if isinstance(state, Tensor) else state
    if not isinstance(parts, tuple | list) or not parts or not all(isinstance(part, Tensor) for part in parts):
        given = [type(part).__name__ for part in parts] if isinstance(parts, tuple | list) else type(state).__name__
        raise TypeError(f"{name}: expected a state of one Tensor, or a tuple of Tensors, got {given}")
    return tuple(parts)


def with_tensors(state: Any) -> Any:
    """The state with tensors in place of arrays."""
    return mapped(lambda part: part if device_of(part) is None else operand(part), state)


def mapped(function: Callable[[Any], Any], state: Any) -> Any:
    """A state, or a list of several, with a function applied to each part that is not a tuple or a list."""
    if isinstance(state, list):
        return [mapped(function, part) for part in state]
    if isinstance(state, tuple):
        return joined_like(state)([mapped(function, part) for part in state])
    return function(state)


def leaves_of(state: Any) -> list[Any]:
    """The parts of a state, or of a list of several, that are not tuples or lists."""
    return [leaf for part in state for leaf in leaves_of(part)] if isinstance(state, tuple | list) else [state]


def rebuilt(structure: Any, leaves: Iterable[Any]) -> Any:
    """A state, or a list of several, with the tuples and lists of `structure`, and these leaves."""
    left = iter(leaves)
    return mapped(lambda part: next(left), structure)


def joined_like(state: Any) -> Callable[[Sequence[Any]], Any]:
    """The function that makes a state like this one, one tensor or a tuple, of its tensors."""
    if isinstance(state, Tensor):
        return lambda parts: parts[0]
    if hasattr(state, "_make"):  # a NamedTuple
        make: Callable[[Sequence[Any]], Any] = state._make
        return make
    return tuple


def names_of(step: Any, number: int) -> tuple[str, ...]:
    """The names of the states of a step or cell: its `STATES`, or state0, state1, ..."""
    return tuple(getattr(step, "STATES", ())) or tuple(f"state{k}" for k in range(number))


@dataclass(frozen=True)
class CheckedStep:
    """A step or cell as a function of tuples of tensors, which checks what is returned.

    Attributes:
        function: `function(x, state)` returns the next state.
        name: the caller's name, for errors.
        names: the names of the states.
        joined: makes a state of its tensors.
    """

    function: Callable[[Tensor, Any], Any]
    name: str
    names: tuple[str, ...]
    joined: Callable[[Sequence[Any]], Any]

    def __call__(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The states after a step.

        Raises:
            TypeError: the step returned something else.
            ValueError: the number, a shape or a dtype of the states has changed.
        """
        stepped = parts_of(f"{self.name}: the step's result", self.function(x, self.joined(states)))
        if len(stepped) != len(states):
            raise ValueError(
                f"{self.name}: the step returned {len(stepped)} states, expected {len(states)}, as many as it was "
                f"given ({', '.join(self.names)})"
            )
        for name, before, after in zip(self.names, states, stepped):
            if after.shape != before.shape or after.dtype != before.dtype:
                raise ValueError(
                    f"{self.name}: the step returned {after.dtype} {after.shape} for {name}, expected {before.dtype} "
                    f"{before.shape}, as the state before it; begin with a state of that shape and dtype, or convert "
                    "it in the step"
                )
        return stepped
