"""Runs a compiler to its end: what it prints, the time that it has, and what stops it."""

import os
import signal
import sys
import time
from contextlib import suppress
from threading import Event, Thread, local
from typing import Any, NamedTuple

__all__ = ["Ended", "Owner", "lines_of", "one_line", "own", "run", "running", "stop"]


class Ended(NamedTuple):
    """A command that has ended, and what it printed."""

    failed: bool
    printed: str


SECONDS = 60
"""The time after which a command is stopped."""

_PRINTED = 64 * 1024  # bytes of what a command prints are read


class Owner:
    """Who runs commands, in several threads.

    Attributes:
        stopped: whether its commands are stopped.
    """

    stopped = False


running: dict[Any, Owner] = {}
"""The processes that run, with their owners."""

_owner = local()  # `_owner.now`: the owner of what this thread runs
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=running.clear)  # a forked process must not stop what its parent runs


def own(owner: Owner) -> None:
    """Makes `owner` the owner of what this thread runs from now on."""
    _owner.now = owner


def stop(owner: Owner) -> None:
    """Stops all commands of an owner, now and later: `run` raises KeyboardInterrupt in its threads."""
    owner.stopped = True
    for process in [process for process, other in list(running.items()) if other is owner]:
        _kill(process)


def run(words: list[str]) -> Ended:
    """Runs a command to its end.

    Raises:
        TimeoutError: it does not end. It is stopped.
        KeyboardInterrupt: a different thread stops it.
        OSError: it cannot be run.
    """
    owner = getattr(_owner, "now", None) or Owner()
    command, end = _Command(words, owner), time.monotonic() + SECONDS
    try:
        command.start()
        while not command.ended.wait(0.1):  # not longer: a signal just before a wait would not end it
            if time.monotonic() > end:
                raise TimeoutError(f"did not end after {SECONDS} s")
    except BaseException:
        command.stop()
        if command.ident is not None:
            command.ended.wait(5)
        raise
    if owner.stopped:
        raise KeyboardInterrupt
    if command.error is not None:
        raise command.error
    return Ended(command.process.returncode != 0, command.printed.decode(errors="replace"))


class _Command(Thread):
    """Runs a command in a thread of its own: Ctrl-C interrupts only the main thread, perhaps while a process starts.

    Attributes:
        process: the process, once it has started.
        printed: what it has printed.
        error: why it could not be run.
        ended: set when the process has ended. (After Ctrl-C in `join`, Python 3.11 takes a thread for an ended one.)
    """

    process: Any = None
    error: BaseException | None = None

    def __init__(self, words: list[str], owner: Owner) -> None:
        super().__init__(daemon=True)
        self._words, self._owner, self._is_to_end = words, owner, False
        self.printed, self.ended = bytearray(), Event()

    def run(self) -> None:
        """Starts the process, and waits for its end."""
        try:
            reader = self._begun()
            if self._is_to_end or self._owner.stopped:
                _kill(self.process)
            self.process.wait()
            reader.join(1)  # longer only if what it has started still has the pipe
        except BaseException as error:
            self.error = error
        finally:
            running.pop(self.process, None)
            self.ended.set()

    def stop(self) -> None:
        """Stops the process, now or when it has started."""
        self._is_to_end = True
        if self.process is not None:
            _kill(self.process)

    def _begun(self) -> Thread:
        """Starts the process; returns the thread that reads what it prints."""
        import subprocess  # takes 4 ms, which most programs need not spend

        receiving, sending = os.pipe()
        try:
            self.process = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=sending,
                stderr=sending,
                env={**os.environ, "LC_ALL": "C"},  # messages in English
                start_new_session=True,  # so that what it has started is stopped as well
            )
        except BaseException:
            os.close(receiving)
            raise
        finally:
            os.close(sending)
        running[self.process] = self._owner
        reader = Thread(target=_read, args=(receiving, self.printed), daemon=True)
        reader.start()
        return reader


def _kill(process: Any) -> None:
    """Kills a process and those that it has started."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, signal.SIGKILL)


def _read(receiving: int, printed: bytearray) -> None:
    """Adds what is read from a pipe, up to a limit, and closes it."""
    try:
        while len(printed) < _PRINTED and (more := os.read(receiving, _PRINTED)):
            printed += more
    finally:
        os.close(receiving)


def lines_of(printed: str) -> list[str]:
    """The lines that a compiler prints, without characters that a terminal would obey."""
    lines = ("".join(c if c.isprintable() else " " for c in line).strip() for line in printed.splitlines())
    return [line for line in lines if line]


def one_line(printed: str) -> str:
    """The first error of a compiler's message."""
    lines = lines_of(printed)
    found = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "it prints no message")
    return found[:300]
