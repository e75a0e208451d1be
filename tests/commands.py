"""The command line, run as a process: what it prints, and what it says is wrong."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

COMMAND = [sys.executable, "-m", "tinygrad_lstm"]


def environment() -> dict[str, str]:
    unwanted = ("TINYGRAD_LSTM_DEVICE", "FORCE_COLOR", "NO_COLOR", "PYTHONIOENCODING")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def reset_signals() -> None:
    """Gives a process the signals' default actions: a script's jobs in the background, which tests may be, ignore some.

    Called in the child, before the command: what ignores a signal hands that on.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def run(
    *arguments: object, cwd: Path | None = None, before: Callable[[], object] | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        preexec_fn=before,
        env={**environment(), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def succeed(*arguments: object, cwd: Path | None = None, **more: str) -> str:
    result = run(*arguments, cwd=cwd, **more)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def fail(*arguments: object, cwd: Path | None = None, before: Callable[[], object] | None = None, **more: str) -> str:
    """The one line that the command prints to say what is wrong."""
    result = run(*arguments, cwd=cwd, before=before, **more)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr[len("error: ") : -1]
