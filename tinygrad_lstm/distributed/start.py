"""How a process becomes one of several workers."""

import os
import sys
import time
from types import TracebackType
from typing import NoReturn

from tinygrad_lstm.backends.installing import how_to_install

from ..device import get_device, set_default_device
from .communicator import Communicator, LocalCommunicator, WorkerError

__all__ = ["init", "is_launched", "rank", "size"]

VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK")
"""Environment variables that launchers of MPI set: MPICH's and those derived from it, and Open MPI's."""

RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
"""Those with the number of the worker."""

PATIENCE = 1.5
"""Seconds for which a worker lets a different one say why all end."""

FORWARDING = 0.5
"""Seconds that `mpiexec` has to forward what a worker has printed, which it may lose when it ends all."""

_group: Communicator = LocalCommunicator()


def is_launched() -> bool:
    """Whether this process was started by a launcher of MPI, such as `mpiexec`."""
    return any(name in os.environ for name in VARIABLES)


def launched_rank() -> int:
    """The number of this worker, known before MPI is used; 0 if no launcher of MPI has started this process."""
    return next((int(os.environ[name]) for name in RANKS if name in os.environ), 0)


def launched_size() -> int | None:
    """The number of workers that a launcher of MPI has started; None if there is none, or if it does not tell."""
    return next((int(os.environ[name]) for name in VARIABLES[:2] if name in os.environ), None)


def init(timeout: float = 300.0, backend: str | None = None) -> Communicator:
    """Makes this process one of the workers that `mpiexec` started; without it, it is the only worker.

    From then on, an exception that nothing catches ends all workers.

    Args:
        timeout: the seconds after which a worker that sends nothing is given up.
        backend: "mpi"; or "nccl", which gives each worker a GPU of its host, makes it the default device, and exchanges
            its arrays without the host. By default "nccl" if the default device is a GPU, otherwise "mpi".

    Returns:
        The communicator of all workers, for `Trainer`.

    Raises:
        DeviceUnavailableError: the default device is a GPU that does not exist.
        ImportError: mpi4py, an MPI, CuPy or NCCL is missing, though the process was started by a launcher of MPI.
        RuntimeError: the launcher belongs to a different MPI than mpi4py's; the MPI does not support threads; or there
            are fewer GPUs than workers.
        ValueError: `backend` is neither.
    """
    global _group
    if backend not in (None, "mpi", "nccl"):
        raise ValueError(f"tg.distributed.init: expected backend to be 'mpi', 'nccl' or None, got {backend!r}")
    if is_launched() and _group.size == 1:
        if backend is None:
            backend = "nccl" if get_device().type == "cuda" else "mpi"
        group = _joined(timeout)
        _group = _with_gpus(group, timeout) if backend == "nccl" and group.size > 1 else group
    return _group


def _with_gpus(group: Communicator, timeout: float) -> Communicator:
    try:
        from .nccl import NCCLCommunicator

        gpus = NCCLCommunicator(group, timeout)
    except ImportError as error:
        raise ImportError(
            f"tg.distributed.init: backend 'nccl' needs CuPy with NCCL, but {error}; {how_to_install('cuda12')}, and "
            "pip install nvidia-nccl-cu12; or use backend='mpi'"
        ) from error
    set_default_device(gpus.device)
    return gpus


def _joined(timeout: float) -> Communicator:
    try:
        from .mpi import MPICommunicator
    except (ImportError, RuntimeError) as error:  # mpi4py raises the latter if there is no library of an MPI
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ImportError(
            f"tg.distributed.init: this process was started by a launcher of MPI, but {reason}; {how_to_install('mpi')}"
        ) from error
    group = MPICommunicator(timeout=timeout)
    expected = launched_size()
    if expected not in (None, group.size):
        raise RuntimeError(
            f"tg.distributed.init: the launcher started {expected} workers, but mpi4py sees {group.size}; use the "
            "mpiexec of the MPI that mpi4py was installed with"
        )
    shown = sys.excepthook

    def show_and_end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, WorkerError):
            time.sleep(PATIENCE)
        shown(kind, error, traceback)
        end_all(1)

    sys.excepthook = show_and_end
    return group


def end_all(status: int) -> NoReturn:
    """Ends this process and all other workers, with an exit status."""
    sys.stdout.flush()
    sys.stderr.flush()
    if _group.size > 1:
        from .mpi import abort

        time.sleep(FORWARDING)
        abort(status)
    os._exit(status)


def rank() -> int:
    """The number of this worker; 0 before `init`."""
    return _group.rank


def size() -> int:
    """The number of workers; 1 before `init`."""
    return _group.size
