"""The steps of a file's loops, as `tg.scan` takes them."""

from collections.abc import Callable
from typing import Any

__all__ = ["LoopStep"]


class LoopStep:
    """A step of a loop. Traces show the steps of one loop together, and those of different loops apart.

    Args:
        loop: the loop, which is compared by identity.
        function: takes an element of the sequence and the states, and returns the states afterwards.
    """

    __name__ = "scan"

    def __init__(self, loop: object, function: Callable[[Any, Any], Any]) -> None:
        self._loop = loop
        self._function = function

    def __call__(self, x: Any, states: Any) -> Any:
        return self._function(x, states)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoopStep) and other._loop is self._loop

    def __hash__(self) -> int:
        return id(self._loop)
