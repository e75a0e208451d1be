"""What all commands print, made safe for a terminal in one place: the streams that they print to."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from ..printable import printable

__all__ = ["escaped_output"]


class _Escaped:
    """A stream whose text cannot control a terminal: only line ends and tabs pass as they are.

    Rich, whose colours and live bars do control it, asks for `rich_proxied_file` and writes there. Whoever gives Rich a
    text from a file makes it printable before.
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
    """Within it, `print` and whatever else writes to standard output or error shows control characters as escapes.

    Whether or not the output goes to a terminal: it is the same in a file, which a terminal may show later.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Escaped(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
