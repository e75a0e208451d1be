"""Several processes that train one model: the same bits for any number of them."""

from .. import _public
from .collectives import all_gather, all_reduce, barrier, broadcast_parameters
from .communicator import Communicator, LocalCommunicator, Pending, WorkerError
from .start import init, is_launched, rank, size

__all__ = [
    "Communicator",
    "LocalCommunicator",
    "Pending",
    "WorkerError",
    "all_gather",
    "all_reduce",
    "barrier",
    "broadcast_parameters",
    "init",
    "is_launched",
    "rank",
    "size",
]

_public.publish(globals())
