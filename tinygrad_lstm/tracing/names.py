"""The names that a step's author gave to values: those of parameters and variables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from .._tensor import Tensor
from .watching import profiled

__all__ = ["Names", "watched_variables"]


@dataclass(frozen=True)
class Names:
    """The names of the values of a step.

    Attributes:
        inputs: of the inputs.
        states: of the states.
        captured: of the tensors that the step takes from outside, by the ids of their arrays.
    """

    inputs: Sequence[str]
    states: Sequence[str]
    captured: Mapping[int, str] = field(default_factory=dict)


@contextmanager
def watched_variables(see: Callable[[Tensor, str], None]) -> Iterator[None]:
    """Calls `see` with each tensor that a function of the user or of `models/` computes into a local variable.

    Functions return before their callers do, so that the last name of a tensor is the outermost one.
    """
    given: dict[FrameType, set[int]] = {}  # the ids of the tensors that a function was called with

    def watch(frame: FrameType, event: str, result: Any) -> None:
        if event == "call" and _is_of_a_model(frame):
            given[frame] = {id(value) for value in frame.f_locals.values()}
        elif event == "return" and frame in given:
            arguments = given.pop(frame)
            for name, value in frame.f_locals.items():
                if isinstance(value, Tensor) and id(value) not in arguments and name.isidentifier():
                    see(value, name)

    with profiled(watch):
        yield


def _is_of_a_model(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "tinygrad_lstm.")  # functions that are generated for ops have none
    return not module.startswith("tinygrad_lstm.") or module.startswith("tinygrad_lstm.models.")
