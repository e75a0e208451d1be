"""What becomes of a command when a signal arrives, or when its output can no longer be written."""

import contextlib
import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn, TextIO

__all__ = [
    "Stop",
    "end_at_signals",
    "leave_standard_output",
    "open_standard_streams",
    "say",
    "settle_output",
    "stopping_at_signals",
]

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""The signals that ask a program to end: Ctrl-C, what `kill` sends, and the closing of the terminal."""


def open_standard_streams() -> None:
    """Opens what a caller has closed of the standard streams, to /dev/null.

    The next file to be opened would have the stream's number, and a message would be written into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "a", encoding="utf-8"))  # noqa: SIM115


def end_at_signals() -> None:
    """Lets SIGTERM and SIGHUP end the program as an exception, so that temporary files are removed on the way."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


@dataclass
class Stop:
    """What has asked a command to stop."""

    signal: int | None = None
    failure: OSError | None = None
    """With which its output could not be written."""
    showing: bool = False
    """Whether the command is writing output, which may take until somebody reads it."""

    def end(self) -> NoReturn:
        """Ends the program with the status that shells expect after the signal, or by the failure."""
        if self.signal is None and self.failure is not None:
            raise self.failure
        sys.exit(128 + (self.signal or signal.SIGINT))


@contextlib.contextmanager
def stopping_at_signals(stop: Callable[[], None]) -> Iterator[Stop]:
    """Within it, the first SIGINT, SIGTERM or SIGHUP calls `stop` and says so.

    After that a Ctrl-C raises KeyboardInterrupt, and the other two are ignored: a closing terminal may send both, and
    more than once. While `Stop.showing` is set, the first signal raises BlockingIOError: there may be nobody who reads
    the output, as in a terminal that was stopped, and saving must not wait for that. Signals that were ignored at the
    start, as by nohup or in a background job, stay ignored.
    """
    request = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if request.signal is None:
            request.signal = number
            stop()
            cause, again = ("", " again") if number == signal.SIGINT else (f" ({signal.Signals(number).name})", "")
            _tell(f"\nstopping after this step{cause}; Ctrl-C{again} quits without saving\n")
            if request.showing:
                raise BlockingIOError(errno.EAGAIN, "the output could not be written at once")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        for number in handled:
            signal.signal(number, before[number])


def _tell(message: str) -> None:
    """Writes to standard error if that is possible at once: saving must not wait for its reader."""
    # Past Python's buffers, which the signal may have found half written.
    with contextlib.suppress(OSError):
        if _takes_output(2):
            os.write(2, message.encode())


def _takes_output(number: int) -> bool:
    """Whether a message can be written to an open file without waiting."""
    return sys.platform == "win32" or bool(select.select([], [number], [], 0)[1])


def say(message: str) -> None:
    """Prints to standard output, or to standard error if nobody reads that; if both are closed, to neither."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            print(message, file=stream, flush=True)
            return


def leave_standard_output() -> None:
    """Prints to standard error from now on, or nowhere, if nobody reads standard output."""
    if not _takes_output(1):
        _redirect(sys.stdout, os.dup(2) if _takes_output(2) else os.open(os.devnull, os.O_WRONLY))


def settle_output() -> None:
    """Drops what was printed and cannot be written: Python would try once more at its end, and change the status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _redirect(stream, os.open(os.devnull, os.O_WRONLY))


def _redirect(stream: TextIO, number: int) -> None:
    os.dup2(number, stream.fileno())
    os.close(number)
