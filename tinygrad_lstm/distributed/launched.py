"""The connection of a worker to the launcher that started it."""

import contextlib
import faulthandler
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["SETTINGS", "Launcher"]

SETTINGS = "TINYGRAD_LSTM_LAUNCHER"
"""The environment variable in which a launcher gives its workers a port, a password and settings, as JSON."""

LONGEST_WAIT = 10.0
"""Seconds for which a worker that failed waits for the launcher to end it."""


class Launcher:
    """The launcher, as a worker sees it.

    The worker sends lines of JSON: who it is, what it prints, why it failed, that it ended. The launcher sends "stop"
    when the run is to end after the present step. When the connection ends, because the launcher was killed or ends the
    run, the worker ends at once.

    Args:
        rank: the number of the worker.

    Raises:
        RuntimeError: the launcher does not answer.
    """

    def __init__(self, rank: int) -> None:
        self.settings: dict[str, Any] = json.loads(os.environ.pop(SETTINGS))  # not for programs that this one starts
        try:
            self._socket = socket.create_connection(("127.0.0.1", self.settings["port"]))
        except OSError as error:
            raise RuntimeError(
                "the launcher of this worker does not answer; on several machines, start the command with mpiexec"
            ) from error
        self._sending, self._ended = threading.Lock(), False
        self._stop_asked = False
        self._stop: Callable[[], None] = lambda: None
        self.send(password=self.settings["password"], rank=rank, process=os.getpid(), host=socket.gethostname())
        faulthandler.enable(2)  # so that a crash is told from a kill
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def send(self, **message: Any) -> None:
        """Sends a message."""
        with self._sending, contextlib.suppress(OSError):  # a launcher that is gone is noticed by `_listen`
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def when_asked_to_stop(self, stop: Callable[[], None]) -> None:
        """Sets what is called when the run is to stop; at once if it was to stop before."""
        self._stop = stop
        if self._stop_asked:
            stop()

    def end(self, status: int) -> None:
        """Says that the worker's work is done, with the exit status of the command."""
        self._ended = True
        self.send(end=status)

    def fail(self, message: str, kind: str) -> None:
        """Says that the worker failed, and waits for the launcher to end it.

        Args:
            message: one line.
            kind: "input" for a fault that would come again, "fault" for one of this worker, or "told" for that of a
                different worker.
        """
        self.send(failure=message, kind=kind)
        self._listener.join(LONGEST_WAIT)
        os._exit(2)

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for _ in lines:
                self._stop_asked = True
                self._stop()
        if not self._ended:
            os._exit(2)
