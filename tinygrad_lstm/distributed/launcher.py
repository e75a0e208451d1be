"""Starts workers, watches them, and says which of them failed."""

import contextlib
import importlib.util
import json
import math
import os
import re
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinygrad_lstm.backends.installing import how_to_install

from .launched import SETTINGS

__all__ = ["Launch", "Outcome", "mpiexec"]

TICK = 0.1
"""Seconds between looks at mpiexec."""

PATIENCE = {"input": 5.0, "fault": 1.0, "told": 1.0, "gone": 1.0}
"""Seconds for which the launcher waits, after a failure of a kind, to learn what the other workers and mpiexec say of
it. All workers find most faults of the input."""

LONGEST_START = 60.0
"""Seconds after the first worker has connected, in which the others must. MPI would wait for them for ever."""

FAREWELL = 3.0
"""Seconds in which workers and mpiexec must end when the run has ended, before they are killed."""


def mpiexec() -> str:
    """The path of mpiexec: the one beside Python, otherwise that of the PATH.

    Raises:
        RuntimeError: mpi4py or mpiexec is missing.
    """
    how = how_to_install("mpi")
    if importlib.util.find_spec("mpi4py") is None:
        raise RuntimeError(f"several workers need mpi4py, which is not installed; {how}")
    found = shutil.which("mpiexec", path=sysconfig.get_path("scripts")) or shutil.which("mpiexec")
    if found is None:
        raise RuntimeError(f"several workers need the program mpiexec of an MPI, which is not on the PATH; {how}")
    return found


@dataclass(frozen=True)
class Outcome:
    """How a launch ended."""

    status: int = 0
    """The exit status of the first worker, if nothing failed."""
    failure: str | None = None
    """Which worker failed, where and how, in one line; None if the first worker has ended its work."""
    may_pass: bool = False
    """Whether the failure may not come again, such as that of a worker that was killed."""


@dataclass
class _Worker:
    connection: socket.socket
    data: bytes = b""
    """What has come of the next line."""
    rank: int = -1
    process: int = 0
    host: str = ""
    failure: str | None = None
    kind: str = ""
    end: int | None = None
    is_gone: bool = False

    def __str__(self) -> str:
        return f"worker {self.rank} on {self.host} (process {self.process})"


@dataclass
class Launch:
    """Workers that run a command, started by mpiexec; a single one needs no MPI.

    Args:
        command: what each worker runs. It connects to this launch with `launched.Launcher`.
        size: the number of workers.
        settings: what the workers are told.
        show: a function of "out" or "err" and a text that a worker prints.
    """

    command: Sequence[str]
    size: int
    settings: Mapping[str, Any]
    show: Callable[[str, str], None]
    _workers: list[_Worker] = field(default_factory=list, init=False)
    _gone: list[_Worker] = field(default_factory=list, init=False)
    """Workers that ended without a word, in this order."""
    _late: list[int] = field(default_factory=list, init=False)
    """The ranks of workers that were waited for too long at the start."""
    _password: str = field(default_factory=lambda: secrets.token_hex(16), init=False)
    _stop_asked: bool = field(default=False, init=False)

    def stop(self) -> None:
        """Asks the workers to stop after their present step. Signal handlers may call it."""
        self._stop_asked = True
        for worker in self._workers:
            self._tell(worker)

    def _tell(self, worker: _Worker) -> None:
        if worker.rank == 0 and self._stop_asked:  # the others learn it from the first one
            with contextlib.suppress(OSError):
                worker.connection.sendall(b"stop\n")

    def run(self) -> Outcome:
        """Starts the workers and waits for their end. After it, or an error, none is left."""
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            selectors.DefaultSelector() as selector,
            tempfile.TemporaryFile() as said,
        ):
            selector.register(server, selectors.EVENT_READ)
            with self._started(server.getsockname()[1], said) as process:
                try:
                    self._watch(selector, server, process)
                finally:
                    selector.unregister(server)
                    server.close()
                    self._end_all(selector, process)
            said.seek(0)
            return self._outcome(process.returncode, said.read().decode(errors="replace"))

    @contextlib.contextmanager
    def _started(self, port: int, said: Any) -> Iterator[subprocess.Popen[bytes]]:
        """The process of mpiexec or, without it, the only worker's."""
        prefix = [] if self.size == 1 else [mpiexec(), "-n", str(self.size)]
        settings = json.dumps({**self.settings, "port": port, "password": self._password})
        process = subprocess.Popen(
            [*prefix, *self.command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the keys of the terminal reach only the launcher
            env={**os.environ, SETTINGS: settings},
        )
        try:
            yield process
        finally:
            process.wait()

    # -- watching ------------------------------------------------------------------------------------------------------

    def _watch(self, selector: selectors.BaseSelector, server: socket.socket, process: subprocess.Popen[bytes]) -> None:
        """Returns when the first worker has ended its work, or when what can be known of a failure is known."""
        deadline: float | None = None
        latest = math.inf
        while deadline is None or time.monotonic() < deadline:
            self._read(selector, server, TICK)
            failed = [worker for worker in self._workers if worker.failure is not None]
            if any(worker.rank == 0 and worker.end is not None for worker in self._workers):
                return
            if len(failed) == self.size or (self._gone and process.poll() is not None):
                return
            if not self._workers:
                latest = time.monotonic() + LONGEST_START
            elif time.monotonic() > latest and (late := self._missing()):
                self._late = late
                return
            if deadline is None and (failed or self._gone or process.poll() is not None):
                deadline = time.monotonic() + PATIENCE[failed[0].kind if failed else "gone"]

    def _missing(self) -> list[int]:
        """The ranks of the workers that have not connected."""
        return sorted(set(range(self.size)) - {worker.rank for worker in self._workers})

    def _read(self, selector: selectors.BaseSelector, server: socket.socket | None, timeout: float) -> None:
        """Reads what workers send, or waits for it."""
        for key, _ in selector.select(timeout):
            if key.fileobj is server:
                connection, _ = key.fileobj.accept()
                selector.register(connection, selectors.EVENT_READ, _Worker(connection))
                continue
            worker: _Worker = key.data
            try:
                data = worker.connection.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                selector.unregister(worker.connection)
                worker.connection.close()
                worker.is_gone = True
                if worker.rank >= 0 and worker.failure is None and worker.end is None:
                    self._gone.append(worker)
            *lines, worker.data = (worker.data + data).split(b"\n")
            for line in lines:
                if worker.rank < 0 and not self._welcome(worker, line):
                    selector.unregister(worker.connection)
                    worker.connection.close()
                    break
                self._take(worker, json.loads(line))

    def _welcome(self, worker: _Worker, line: bytes) -> bool:
        """Takes the first message of a connection. Returns whether it is one of a worker."""
        with contextlib.suppress(ValueError, TypeError, KeyError):
            message = json.loads(line)
            if secrets.compare_digest(message["password"], self._password):
                worker.rank, worker.process, worker.host = (message[name] for name in ("rank", "process", "host"))
                self._workers.append(worker)
                self._tell(worker)
                return True
        return False

    def _take(self, worker: _Worker, message: dict[str, Any]) -> None:
        """Takes a message of a worker."""
        for stream in ("out", "err"):
            if stream in message:
                self.show(stream, message[stream])
        worker.end = message.get("end", worker.end)
        worker.failure, worker.kind = (message.get(name, getattr(worker, name)) for name in ("failure", "kind"))

    def _end_all(self, selector: selectors.BaseSelector, process: subprocess.Popen[bytes]) -> None:
        """Ends what still runs; workers that have ended their work, and mpiexec after them, end by themselves."""
        succeeded = any(worker.rank == 0 and worker.end is not None for worker in self._workers)
        if succeeded:
            self._wait_for_ends(selector, process)
        for worker in self._workers:
            if not worker.is_gone:
                with contextlib.suppress(OSError):
                    worker.connection.shutdown(socket.SHUT_WR)
        if process.poll() is None:
            process.terminate()
        self._wait_for_ends(selector, process)
        for worker in self._workers:
            if not worker.is_gone and worker.host == socket.gethostname():  # such as one that was stopped by SIGSTOP
                with contextlib.suppress(OSError):
                    os.kill(worker.process, getattr(signal, "SIGKILL", signal.SIGTERM))
        if process.poll() is None:
            process.kill()
        self._wait_for_ends(selector, process)

    def _wait_for_ends(self, selector: selectors.BaseSelector, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + FAREWELL
        while time.monotonic() < end:
            if process.poll() is not None and all(worker.is_gone for worker in self._workers):
                return
            self._read(selector, None, TICK / 5)

    # -- what happened -------------------------------------------------------------------------------------------------

    def _outcome(self, status: int, said: str) -> Outcome:
        """How it ended.

        Args:
            status: the exit status of mpiexec, or of the only worker.
            said: what mpiexec said, and what workers wrote past Python's streams.
        """
        ended = [worker.end for worker in self._workers if worker.rank == 0 and worker.end is not None]
        if ended:
            return Outcome(ended[0])
        failed = sorted((each for each in self._workers if each.failure is not None), key=lambda each: each.rank)
        own = [worker for worker in failed if worker.kind != "told"]
        if own and len(failed) == self.size and len({(worker.failure, worker.kind) for worker in failed}) == 1:
            return Outcome(failure=own[0].failure, may_pass=own[0].kind == "fault")
        if own:
            return Outcome(failure=f"{own[0]}: {own[0].failure}", may_pass=own[0].kind == "fault")
        if self._late:
            names = f"worker{'s' * (len(self._late) > 1)} {', '.join(map(str, self._late))}"
            return Outcome(failure=f"{names} did not start", may_pass=True)
        number, missing = _signal_of(status, said), self._missing()
        if self._gone and not (number and missing):
            # The first that died; mpiexec may name a different one, which it has killed itself.
            crash = re.search(r"Fatal Python error: ([^\n]*)", said)
            how = f"was killed by {number}" if number else f"ended with status {status}{_last_line(said)}"
            how = f"crashed: {crash[1]}" if crash else how
            return Outcome(failure=f"{self._gone[0]} {how}", may_pass=True)
        if failed:
            return Outcome(failure=failed[0].failure, may_pass=True)
        if number and missing:  # mpiexec then kills the others, so that more may be missing
            which = f"worker {missing[0]}" if len(missing) == 1 and not self._gone else "a worker"
            return Outcome(failure=f"{which} was killed by {number} while it started", may_pass=True)
        how = _last_line(said) or f": status {status}"
        has_begun = bool(self._workers)  # so mpiexec can start them
        return Outcome(failure=f"the workers could not be started{how}", may_pass=has_begun)


def _signal_of(status: int, said: str) -> str | None:
    """The name of the signal that killed a worker; None if none did."""
    found = re.search(r"\bsignal (\d+)", said)
    number = -status if status < 0 else int(found[1]) if found else 0
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name if number else None
    return f"signal {number}"


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""
