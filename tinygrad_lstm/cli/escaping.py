"""Output streams that make everything that commands print safe for a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from ..printable import printable

__all__ = ["escaped_output"]


class _Escaped:
    """A stream whose text cannot control a terminal: of control characters, only line ends and tabs are written.

    Rich needs them for colours and live bars, and writes to `rich_proxied_file`. So text from files must be made
    printable before it is passed to Rich.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write(printable(text, keep="\n\t"))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def escaped_output() -> Iterator[None]:
    """Within this context, control characters in standard output and error are written as escapes.

    This also holds for output to a file, which a terminal may show later.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Escaped(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
