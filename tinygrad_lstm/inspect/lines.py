"""Which line of code computed what: a function is run, and each line that ran is noted with the variables it set."""

import linecache
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["CodeLine", "lines_run"]

_UNSET = object()


@dataclass(frozen=True)
class CodeLine:
    """A line of code that ran.

    Attributes:
        path: the file that it stands in.
        number: its number there, from 1.
        text: what it says, without the indentation.
        variables: the variables that it set, with their values then.
    """

    path: str
    number: int
    text: str
    variables: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def file(self) -> str:
        """The file's name, with that of its folder."""
        return "/".join(Path(self.path).parts[-2:])


def lines_run(function: Callable[..., Any], *arguments: Any) -> list[CodeLine]:
    """Calls a function, and returns the lines that changed variables, in the order in which they ran.

    Followed are the function, and whatever it calls that stands in the same file. The arguments of such a call are set
    by the line that calls. Python's tracing does it (`sys.settrace`), so that a debugger sees nothing of this call.

    Args:
        function: a function or a method, written in Python.
        arguments: what it is called with.

    >>> import colorsys
    >>> lines = lines_run(colorsys.rgb_to_hls, 1.0, 0.5, 0.0)
    >>> lines[0].text, lines[0].variables
    ('maxc = max(r, g, b)', {'maxc': 1.0})
    """
    path: str = function.__code__.co_filename
    lines: list[CodeLine] = []

    def note(number: int, variables: Mapping[str, Any]) -> None:
        if variables:
            lines.append(CodeLine(path, number, linecache.getline(path, number).strip(), variables))

    def enter(frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != path:
            return None
        known, running = dict(frame.f_locals), frame.f_lineno
        if frame.f_back is not None and frame.f_back.f_code.co_filename == path:
            note(frame.f_back.f_lineno, known)

        # Called before each line, and at the end: what has changed by then was set by the line before.
        def follow(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
            nonlocal known, running
            if event in ("line", "return"):
                found = dict(frame.f_locals)
                note(running, {name: value for name, value in found.items() if known.get(name, _UNSET) is not value})
                known, running = found, frame.f_lineno
            return follow

        return follow

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        function(*arguments)
    finally:
        sys.settrace(before)
    return lines
