"""The state of a cell: one tensor, or a tuple of several, of which the first is the output."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ._tensor import Tensor, operand
from .device import device_of

__all__ = ["CheckedStep", "joined_like", "parts_of", "with_tensors"]


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
    if isinstance(state, tuple | list):
        return joined_like(state)([with_tensors(part) for part in state])
    return state if device_of(state) is None else operand(state)


def joined_like(state: Any) -> Callable[[Sequence[Any]], Any]:
    """The function that makes a state like this one, one tensor or a tuple, of its tensors."""
    if isinstance(state, Tensor):
        return lambda parts: parts[0]
    if hasattr(state, "_make"):  # a NamedTuple
        make: Callable[[Sequence[Any]], Any] = state._make
        return make
    return tuple


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
