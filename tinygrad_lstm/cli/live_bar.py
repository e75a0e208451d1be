"""The live bar of commands that take long."""

from contextlib import suppress
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ..printable import printable
from .interruption import leave_standard_output

__all__ = ["LiveBar"]


class LiveBar:
    """A bar with a text at the bottom of a terminal, and lines above it; in other outputs, the lines alone.

    Args:
        total: the number at which the bar is full.
        transient: whether it disappears at the end.
    """

    def __init__(self, total: float, transient: bool = False) -> None:
        console = Console()
        self.is_shown = console.is_terminal
        self._bar = Progress(
            BarColumn(10),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=transient,
            auto_refresh=False,  # a thread that writes could not be interrupted
            redirect_stdout=False,  # otherwise `escaped_output` would escape Rich's control characters as well
            redirect_stderr=False,
            disable=not self.is_shown,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        if self.is_shown:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.is_shown:
            leave_standard_output()
            with suppress(OSError):  # what was trained is saved though the terminal has closed
                self._bar.stop()

    def update(self, text: str, completed: float, total: float | None = None) -> None:
        """Shows the text, and how much is completed; with `total`, of how much from now on."""
        self._bar.update(self._task, description=text, completed=completed, total=total, refresh=True)

    def say(self, line: str) -> None:
        """Prints a line."""
        if self.is_shown:
            self._bar.console.print(printable(line), highlight=False, markup=False, emoji=False, soft_wrap=True)
        else:
            print(line, flush=True)
