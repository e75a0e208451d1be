"""How a process becomes one of several workers."""

import os

from .communicator import Communicator, LocalCommunicator

__all__ = ["init", "is_launched", "rank", "size"]

VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK")
"""Environment variables that launchers of MPI set: MPICH's and those derived from it, and Open MPI's."""

_group: Communicator = LocalCommunicator()


def is_launched() -> bool:
    """Whether this process was started by a launcher of MPI, such as `mpiexec`."""
    return any(name in os.environ for name in VARIABLES)


def init(timeout: float = 300.0) -> Communicator:
    """Makes this process one of the workers that `mpiexec` started; without it, it is the only worker.

    Args:
        timeout: the seconds after which a worker that sends nothing is given up.

    Returns:
        The communicator of all workers, for `Trainer`.

    Raises:
        ImportError: mpi4py or an MPI is missing, though the process was started by a launcher of MPI.
        RuntimeError: the launcher belongs to a different MPI than mpi4py's, or the MPI does not support threads.
    """
    global _group
    if is_launched() and _group.size == 1:
        _group = _joined(timeout)
    return _group


def _joined(timeout: float) -> Communicator:
    try:
        from .mpi import MPICommunicator
    except ImportError as error:
        raise ImportError(
            f"tg.distributed.init: this process was started by a launcher of MPI, but {error}; pip install "
            '"tinygrad-lstm[mpi]"'
        ) from error
    group = MPICommunicator(timeout=timeout)
    expected = next((int(os.environ[name]) for name in VARIABLES[:2] if name in os.environ), group.size)
    if group.size != expected:
        raise RuntimeError(
            f"tg.distributed.init: the launcher started {expected} workers, but mpi4py sees {group.size}; use the "
            "mpiexec of the MPI that mpi4py was installed with"
        )
    return group


def rank() -> int:
    """The number of this worker; 0 before `init`."""
    return _group.rank


def size() -> int:
    """The number of workers; 1 before `init`."""
    return _group.size
