"""A command that several workers run: the launcher, and what is different in a worker."""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO, TypeAlias, cast

import typer

from ..device import Device, get_device
from ..distributed import Communicator, LocalCommunicator, WorkerError, barrier, init, is_launched
from ..distributed.collectives import all_gather
from ..distributed.launched import SETTINGS, Launcher
from ..distributed.start import PATIENCE, end_all, launched_rank, launched_size
from .escaping import escaped_output
from .interruption import Stop, say, stopping_at_signals
from .shared import in_one_line, new_folder, require

if TYPE_CHECKING:
    from ..distributed.launcher import Launch, Outcome

__all__ = [
    "MICRO_BATCHES",
    "MicroBatches",
    "Restarts",
    "Team",
    "Workers",
    "check_workers",
    "is_worker",
    "run_workers",
    "team_of",
]

MICRO_BATCHES = 8
"""Micro-batches of a run with workers."""

Workers: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Train with this many processes, which MPI connects; the weights have the same bits for any number."
    ),
]
MicroBatches: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Cut each batch into this many parts, which the workers share.  "
        f"[default: {MICRO_BATCHES} with --workers, else 1]"
    ),
]
Restarts: TypeAlias = Annotated[
    int, typer.Option(help="How often to continue from the last checkpoint if a worker of --workers dies.")
]


def check_workers(
    workers: int | None, micro_batches: int | None, restarts: int = 0, streams: int | None = None
) -> None:
    """Raises ValueError if an option is invalid, or not allowed by the number of micro-batches or streams, if known."""
    require("--workers", workers is None or workers >= 1, "at least 1", workers)
    require("--micro-batches", micro_batches is None or micro_batches >= 1, "at least 1", micro_batches)
    require("--restarts", restarts >= 0, "at least 0", restarts)
    if micro_batches is not None:
        allowed = f"at most {streams}, the number of streams (--batch)"
        require("--micro-batches", streams is None or micro_batches <= max(1, streams), allowed, micro_batches)
        allowed = f"at most {micro_batches}, the number of micro-batches"
        require("--workers", workers is None or workers <= micro_batches, allowed, workers)


def is_worker() -> bool:
    """Whether this process is one of several workers, or the only one of a launcher."""
    return SETTINGS in os.environ or is_launched()


# -- in a worker -------------------------------------------------------------------------------------------------------


@dataclass
class Team:
    """The workers that run a command together, as one of them sees it."""

    communicator: Communicator = field(default_factory=LocalCommunicator)
    launcher: Launcher | None = None
    device: Device | None = None
    """The GPU of this worker; None if that is not chosen for it."""

    @property
    def is_first(self) -> bool:
        """Whether this is the first worker, which alone prints and writes files."""
        return self.communicator.rank == 0

    @property
    def is_restarted(self) -> bool:
        """Whether the launcher has started the command again after a failure."""
        return self.launcher is not None and self.launcher.settings["restart"] > 0

    def when_asked_to_stop(self, stop: Callable[[], None]) -> None:
        """Sets what is called when the launcher asks to stop."""
        if self.launcher is not None:
            self.launcher.when_asked_to_stop(stop)

    def barrier(self) -> None:
        """Waits until all workers have come here."""
        barrier(self.communicator)

    @contextlib.contextmanager
    def new_folder(self, named: Path | None, base: Path) -> Iterator[Path]:
        """The folder of a new run, as `shared.new_folder`; the first worker chooses it."""
        with new_folder(named, base) if self.is_first else contextlib.nullcontext(base) as folder:
            yield Path(os.fsdecode(all_gather(self.communicator, os.fsencode(folder))[0]))


@contextlib.contextmanager
def team_of(workers: int | None, device: str | None) -> Iterator[Team]:
    """The workers of this command: this process alone unless their number is given.

    Only the first worker prints. An error of one ends all.

    Raises:
        ValueError: mpiexec has started a different number of workers.
    """
    if workers is None and launched_size() in (None, 1):
        yield Team()
        return
    found = Team()
    try:
        if SETTINGS in os.environ:
            found.launcher = Launcher(launched_rank())
            _read_input_from(found.launcher.settings["input"])
        on_gpu = get_device(device).type == "cuda"
        found.communicator = init(backend="nccl" if on_gpu else "mpi")
        size = found.communicator.size
        if on_gpu and size > 1:
            found.device = get_device()
        require("--workers", size == workers, f"{size}, the number that mpiexec started", workers or "none")
        with _output_of(found):
            try:
                yield found
                status = 0
            except SystemExit as ended:
                status = int(ended.code or 0)
        if found.launcher is not None:
            found.launcher.end(status)
        found.barrier()  # mpiexec ends the others when one ends with a status that is not 0
    except Exception as error:
        _fail(found, error)
    sys.exit(status if found.launcher is None else 0)


def _fail(found: Team, error: Exception) -> NoReturn:
    """Ends all workers, and lets one of them say why."""
    kind = "fault"
    if isinstance(error, WorkerError):
        kind = "told"
    elif isinstance(error, ValueError | OSError | RuntimeError | ArithmeticError | ImportError):
        kind = "input"
    message = in_one_line(error)
    message = message if kind in ("input", "told") else f"{type(error).__name__}: {message}"
    found.communicator.fail(message)
    if found.launcher is not None:
        found.launcher.fail(message, kind)
    if launched_rank() > 0:
        time.sleep(PATIENCE)  # all may have the same fault
    print(f"error: {message}", file=sys.stderr, flush=True)
    end_all(2)


def _read_input_from(path: str | None) -> None:
    """Reads standard input from a file; mpiexec gives it to one worker only."""
    if path is not None:
        descriptor = os.open(path, os.O_RDONLY)
        os.dup2(descriptor, 0)
        os.close(descriptor)


class _Sent:
    """A stream whose text the launcher prints."""

    def __init__(self, launcher: Launcher, name: str) -> None:
        self._launcher, self._name = launcher, name
        self.encoding = "utf-8"

    def write(self, text: str) -> int:
        self._launcher.send(**{self._name: text})
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        """Whether the launcher has a terminal, so that Rich shows a live bar."""
        return bool(self._launcher.settings["terminal"])


@contextlib.contextmanager
def _output_of(found: Team) -> Iterator[None]:
    """Within this context, what the first worker prints is printed by the launcher, and what others print nowhere."""
    with contextlib.ExitStack() as stack:
        if not found.is_first:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        elif found.launcher is not None:
            for name, redirected in (("out", contextlib.redirect_stdout), ("err", contextlib.redirect_stderr)):
                stack.enter_context(redirected(cast(TextIO, _Sent(found.launcher, name))))
            stack.enter_context(escaped_output())
        yield


# -- the launcher ------------------------------------------------------------------------------------------------------


def run_workers(
    workers: int, restarts: int, arguments: Sequence[str], reads_input: bool, saved: Callable[[], str]
) -> NoReturn:
    """Runs this program with other arguments, as several workers.

    A run of which a worker fails is started again; it must continue what was saved. Signals stop it, as they stop a
    single process.

    Args:
        workers: their number.
        restarts: how often at most a run is started again.
        arguments: of the command.
        reads_input: whether the command reads standard input.
        saved: returns words for what was saved.

    Raises:
        RuntimeError: a worker failed; or there is no MPI.
    """
    with tempfile.NamedTemporaryFile() as kept:
        if reads_input:
            shutil.copyfileobj(sys.stdin.buffer, kept)
            kept.flush()
        launches = _Launches(workers, arguments, kept.name if reads_input else None)
        with stopping_at_signals(launches.stop) as stop:
            launches.stopping = stop
            try:
                outcome = launches.run(restarts, saved)
            except KeyboardInterrupt:
                say(f"quit; {saved()}")
                Stop().end()
    if stop.failure is not None or (stop.signal is not None and outcome.status):
        stop.end()
    sys.exit(outcome.status)


@dataclass
class _Launches:
    """The launches of one command."""

    workers: int
    arguments: Sequence[str]
    input: str | None
    """The file with what was read from standard input."""
    stopping: Stop = field(default_factory=Stop)
    _present: "Launch | None" = None

    def stop(self) -> None:
        if self._present is not None:
            self._present.stop()

    def run(self, restarts: int, saved: Callable[[], str]) -> "Outcome":
        from ..distributed.launcher import Launch, mpiexec  # not needed in workers

        if self.workers > 1:
            mpiexec()
        for restart in range(restarts + 1):
            settings = {"terminal": sys.stdout.isatty(), "restart": restart, "input": self.input}
            self._present = Launch([*_this_program(), *self.arguments], self.workers, settings, self._show)
            if self.stopping.signal is not None:
                self._present.stop()
            outcome = self._present.run()
            if outcome.failure is None:
                return outcome
            if settings["terminal"]:
                self._show("out", "\x1b[?25h\n")  # a live bar that did not end has hidden the cursor
            if not outcome.may_pass:
                raise RuntimeError(outcome.failure)
            if restart == restarts or self.stopping.signal is not None:
                break
            print(f"{outcome.failure}; {saved()}; restart {restart + 1} of {restarts}", file=sys.stderr, flush=True)
        raise WorkerError(f"{outcome.failure}; {saved()}")

    def _show(self, stream: str, text: str) -> None:
        """Prints what a worker has printed, which is escaped already."""
        target: Any = sys.stdout if stream == "out" else sys.stderr
        raw = getattr(target, "rich_proxied_file", target)

        def write() -> None:
            raw.write(text)
            raw.flush()

        self.stopping.shown(write, self.stop)


def _this_program() -> list[str]:
    """What starts this program as it was started."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py" or not script.is_file():
        return [sys.executable, "-m", "tinygrad_lstm"]
    return [sys.executable, str(script.absolute())]
