"""Processes of commands that get signals."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from commands import environment, reset_signals

__all__ = ["running", "wait_for"]


@contextlib.contextmanager
def running(
    command: list[str], before: Callable[[], Any] = lambda: None, **more: Any
) -> Iterator[subprocess.Popen[str]]:
    """The process of a command; how SIGINT is handled does not depend on who runs the tests."""

    def prepare() -> None:
        reset_signals()
        before()

    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment(), preexec_fn=prepare, text=True, **(streams | more))
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def wait_for(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stdout is not None
    while not process.stdout.readline().startswith(beginning):
        assert process.poll() is None
