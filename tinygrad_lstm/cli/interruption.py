"""How a command ends when a signal arrives, or when its output can no longer be written."""

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
    """Opens standard streams that the caller has closed, to /dev/null.

    Otherwise the next opened file would get the stream's number, and messages would be written into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "a", encoding="utf-8"))  # noqa: SIM115


def end_at_signals() -> None:
    """Makes SIGTERM and SIGHUP raise SystemExit, so that temporary files are removed."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


@dataclass
class Stop:
    """The reason why a command stops."""

    signal: int | None = None
    failure: OSError | None = None
    """The error of writing its output."""
    showing: bool = False
    """Whether the command is writing output, which may wait for a reader."""

    def shown(self, write: Callable[[], object], give_up: Callable[[], object]) -> None:
        """Writes output. If that fails, the failure is noted, `give_up` is called, and standard output is left."""
        try:
            self.showing = True
            try:
                if self.signal is not None:
                    leave_standard_output()  # no further signal would end the writing
                write()
            finally:
                self.showing = False
        except OSError as error:
            self.failure = error
            give_up()
            leave_standard_output()

    def end(self) -> NoReturn:
        """Ends the program with the exit status for the signal, or raises the failure."""
        if self.signal is None and self.failure is not None:
            raise self.failure
        sys.exit(128 + (self.signal or signal.SIGINT))


@contextlib.contextmanager
def stopping_at_signals(
    stop: Callable[[], None], quits: str = "quits without saving", does: str = "stopping after this step"
) -> Iterator[Stop]:
    """Within this context, the first SIGINT, SIGTERM or SIGHUP calls `stop` and prints a message.

    After it, Ctrl-C raises KeyboardInterrupt, and SIGTERM and SIGHUP are ignored: a closing terminal may send both, and
    repeatedly. While `Stop.showing` is set, the first signal raises BlockingIOError: saving must not wait for a reader
    of the output, as in a stopped terminal. Signals that were ignored before, as by nohup, stay ignored.

    Args:
        stop: called by the first signal.
        quits: what Ctrl-C does then, for the message.
        does: what the first signal does, for the message.
    """
    request = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if request.signal is None:
            request.signal = number
            stop()
            cause, again = ("", " again") if number == signal.SIGINT else (f" ({signal.Signals(number).name})", "")
            _tell(f"\n{does}{cause}; Ctrl-C{again} {quits}\n")
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
    """Writes to standard error if this does not block: saving must not wait for a reader."""
    # Not through Python's buffers, which the signal may have interrupted.
    with contextlib.suppress(OSError):
        if _takes_output(2):
            os.write(2, message.encode())


def _takes_output(number: int) -> bool:
    """Whether writing to an open file does not block."""
    return sys.platform == "win32" or bool(select.select([], [number], [], 0)[1])


def say(message: str) -> None:
    """Prints to standard output, or to standard error if that fails; if both fail, nothing is printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            print(message, file=stream, flush=True)
            return


def leave_standard_output() -> None:
    """Redirects standard output to standard error, or to /dev/null, if nobody reads it."""
    if not _takes_output(1):
        _redirect(sys.stdout, os.dup(2) if _takes_output(2) else os.open(os.devnull, os.O_WRONLY))


def settle_output() -> None:
    """Drops output that cannot be written: Python would try again at exit, and change the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _redirect(stream, os.open(os.devnull, os.O_WRONLY))


def _redirect(stream: TextIO, number: int) -> None:
    os.dup2(number, stream.fileno())
    os.close(number)
