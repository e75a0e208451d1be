"""The command line, run as a process or, many times as fast, here: what it prints, and what it says is wrong."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from tinygrad_lstm import cli
from tinygrad_lstm.cli.escaping import escaped_output
from tinygrad_lstm.device import get_num_threads, set_num_threads

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


def run_here(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What `run` returns, without a process of its own."""
    given, status = ["tinygrad-lstm", *map(str, arguments)], 0
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.callback(set_num_threads, get_num_threads())
        stack.enter_context(contextlib.chdir(cwd or Path.cwd()))
        stack.enter_context(mock.patch.object(sys, "argv", given))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(escaped_output())
        try:
            cli._run()
        except SystemExit as ended:
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(given, status, out.getvalue(), err.getvalue())


def succeed_here(*arguments: object, cwd: Path | None = None) -> str:
    result = run_here(*arguments, cwd=cwd)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def fail_here(*arguments: object, cwd: Path | None = None) -> str:
    """The one line that the command prints to say what is wrong."""
    return error_of(run_here(*arguments, cwd=cwd))


def succeed(*arguments: object, cwd: Path | None = None, **more: str) -> str:
    result = run(*arguments, cwd=cwd, **more)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def fail(*arguments: object, cwd: Path | None = None, before: Callable[[], object] | None = None, **more: str) -> str:
    """The one line that the command prints to say what is wrong."""
    return error_of(run(*arguments, cwd=cwd, before=before, **more))


def error_of(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr[len("error: ") : -1]
