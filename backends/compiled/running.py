"""Runs a compiler to its end: what it prints, the time that it has, and what stops it."""

import os
import signal
import sys
import time
from contextlib import suppress
from threading import Thread, local
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


running: dict[Any, Owner | None] = {}
"""The processes that run, with their owners."""

_owner = local()  # `_owner.now`: the owner of what this thread runs
if sys.platform != "win32":
    os.register_at_fork(after_in_child=running.clear)  # a forked process must not stop what its parent runs


def own(owner: Owner) -> None:
    """Makes `owner` the owner of what this thread runs from now on."""
    _owner.now = owner


def stop(owner: Owner) -> None:
    """Stops all commands of an owner, now and later: `run` raises KeyboardInterrupt in its threads."""
    owner.stopped = True
    for process in [process for process, other in list(running.items()) if other is owner]:
        _kill(process)


def run(command: list[str]) -> Ended:
    """Runs a command to its end.

    Raises:
        TimeoutError: it does not end. It is stopped.
        KeyboardInterrupt: a different thread stops it.
        OSError: it cannot be run.
    """
    import subprocess  # takes 4 ms, which most programs need not spend

    receiving, sending = os.pipe()
    try:
        process = subprocess.Popen(
            command,
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
    printed = bytearray()
    reader = Thread(target=_read, args=(receiving, printed), daemon=True)
    waiter = Thread(target=process.wait, daemon=True)
    owner = running[process] = getattr(_owner, "now", None)
    try:
        if owner is not None and owner.stopped:
            raise KeyboardInterrupt
        reader.start()
        waiter.start()
        end = time.monotonic() + SECONDS
        while waiter.is_alive() and time.monotonic() < end:
            waiter.join(0.1)  # not longer: a signal just before a wait would not end it
        if waiter.is_alive():
            raise TimeoutError(f"did not end after {SECONDS} s")
        if owner is not None and owner.stopped:
            raise KeyboardInterrupt
        reader.join(1)  # longer only if what it has started still has the pipe
    finally:
        running.pop(process, None)
        if process.poll() is None:
            _kill(process)
            process.wait()
    return Ended(process.returncode != 0, printed.decode(errors="replace"))


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
