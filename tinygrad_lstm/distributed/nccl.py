"""Workers that exchange arrays between GPUs by NCCL. Only this file uses NCCL, through CuPy."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cupy  # type: ignore[import-not-found, import-untyped, unused-ignore]
from cupy.cuda import nccl  # type: ignore[import-not-found, import-untyped, unused-ignore]

from tinygrad_lstm.backends.base import Array

from ..device import Device, cuda_device_count, get_device
from .collectives import all_gather
from .communicator import Communicator, Pending, WorkerError
from .staging import device_arrays
from .waiting import is_in_time

__all__ = ["NCCLCommunicator"]


class NCCLCommunicator:
    """Workers with a GPU each. Arrays on the GPUs are exchanged by NCCL, all others by a different communicator.

    The workers of a host have its GPUs in the order of their ranks.

    Args:
        host: the same workers; such as an `MPICommunicator`.
        timeout: the seconds after which an exchange is given up.

    Raises:
        ImportError: CuPy has no NCCL.
        RuntimeError: (on all workers) a worker has no GPU, or two have the same one.
    """

    def __init__(self, host: Communicator, timeout: float = 300.0) -> None:
        if not getattr(nccl, "available", True):
            raise ImportError("CuPy has no NCCL")
        self.rank, self.size, self.timeout = host.rank, host.size, timeout
        self._host = host
        self.device = _own_device(host)
        """The GPU of this worker."""
        identity = bytes(byte % 256 for byte in nccl.get_unique_id()) if host.rank == 0 else b""
        identity = all_gather(host, identity)[0]
        with self.device.current():
            signed = tuple(byte - 256 if byte > 127 else byte for byte in identity)  # as CuPy has them
            self._nccl = nccl.NcclCommunicator(host.size, signed, host.rank)
            self._stream = cupy.cuda.Stream(non_blocking=True)

    def exchange(self, sent: Mapping[int, Array], received: Mapping[int, Array]) -> Pending:
        """Begins to send and to receive arrays; see `Communicator`.

        Raises:
            ValueError: an array is on a different GPU than this worker's.
            WorkerError: a worker has failed.
        """
        ours = [dict(self._on_gpu(arrays)) for arrays in (sent, received)]
        rest = [
            {rank: array for rank, array in arrays.items() if rank not in taken}
            for arrays, taken in zip((sent, received), ours, strict=True)
        ]
        pending = [self._host.exchange(*rest)] if any(rest) else []
        return _All(self, [*pending, *([self._begin(*ours)] if any(ours) else [])])

    def _on_gpu(self, arrays: Mapping[int, Array]) -> list[tuple[int, Array]]:
        found = [(rank, array) for rank, array in arrays.items() if isinstance(array, cupy.ndarray)]
        for device, _ in device_arrays(dict(found)):
            if device is not self.device:
                raise ValueError(
                    f"exchange: worker {self.rank} sends from {str(self.device)!r}, but an array is on "
                    f"{str(device)!r}; move the model there with .to({str(self.device)!r})"
                )
        return found

    def _begin(self, sent: Mapping[int, Array], received: Mapping[int, Array]) -> Pending:
        self.check()
        with self.device.current():
            stream = self._stream
            stream.wait_event(cupy.cuda.get_current_stream().record())  # the arrays have been computed then
            nccl.groupStart()
            try:
                for rank, array in sent.items():
                    self._nccl.send(array.data.ptr, array.nbytes, nccl.NCCL_UINT8, rank, stream.ptr)
                for rank, array in received.items():
                    self._nccl.recv(array.data.ptr, array.nbytes, nccl.NCCL_UINT8, rank, stream.ptr)
            finally:
                nccl.groupEnd()
            return _Transfer(self, stream.record(), [*sent.values(), *received.values()])

    def fail(self, message: str) -> None:
        """Tells the other workers that this one cannot go on."""
        self._host.fail(message)
        self._nccl.abort()

    @contextmanager
    def _aborting(self) -> Iterator[None]:
        """Within this context, the error that a worker has failed ends what NCCL has begun, which would never end."""
        try:
            yield
        except WorkerError:
            self._nccl.abort()
            raise

    def check(self) -> None:
        """Raises WorkerError if a worker, or NCCL, has failed."""
        with self._aborting():
            self._host.check()
        try:
            self._nccl.check_async_error()
        except nccl.NcclError as error:
            self.fail(f"NCCL: {error}")
            raise WorkerError(f"worker {self.rank}: NCCL: {error}") from error


class _Transfer:
    """What NCCL has begun on its stream."""

    def __init__(self, communicator: NCCLCommunicator, end: Any, arrays: list[Array]) -> None:
        self._communicator, self._end = communicator, end
        self._arrays = arrays  # their memory must not be reused before the end

    def wait(self) -> None:
        communicator = self._communicator
        if not is_in_time(lambda: bool(self._end.done), communicator.check, communicator.timeout):
            communicator.fail(f"NCCL has not exchanged arrays for {communicator.timeout:.0f} s")
            raise WorkerError(f"NCCL has not exchanged arrays for {communicator.timeout:.0f} s")
        self._arrays = []


class _All:
    """Several exchanges under way."""

    def __init__(self, communicator: NCCLCommunicator, pending: list[Pending]) -> None:
        self._communicator, self._pending = communicator, pending

    def wait(self) -> None:
        with self._communicator._aborting():
            for each in self._pending:
                each.wait()


def _own_device(host: Communicator) -> Device:
    """The GPU of this worker."""
    count, name = cuda_device_count(), socket.gethostname()
    names = [data.decode() for data in all_gather(host, name.encode())]
    index = names[: host.rank].count(name) % count if count else None
    bus = "" if index is None else f"{name}, {cupy.cuda.runtime.deviceGetPCIBusId(index)}"
    places = [data.decode() for data in all_gather(host, bus.encode())]
    for rank, place in enumerate(places):
        if not place:
            raise RuntimeError(
                f"NCCL needs a GPU for each worker, but there is none on {names[rank]}, of worker {rank}"
            )
        if place in places[:rank]:
            raise RuntimeError(
                f"NCCL needs a GPU for each worker, but workers {places.index(place)} and {rank} have the same one "
                f"({place}); start fewer workers, or use backend='mpi'"
            )
    return get_device(f"cuda:{index}")
