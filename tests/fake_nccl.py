"""A module that stands in for `cupy.cuda.nccl`, for workers that are threads: no GPU, no NCCL.

It refuses what NCCL refuses, or what would hang or read memory too early with it: sends and receives outside of a
group, streams of other devices, streams that have not waited for the arrays, sizes that differ. What was received is
written only when an event of the stream is asked whether it is done.
"""

import ctypes
import threading
from queue import Empty, SimpleQueue
from typing import Any

from strict_backend import current_device

STREAMS: dict[int, "NcclStream"] = {}


class NcclStream:
    """`cupy.cuda.Stream`, for work of NCCL."""

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.device, self.non_blocking = current_device(), non_blocking
        self.ptr = 1 + len(STREAMS)
        STREAMS[self.ptr] = self
        self.has_waited = False
        self.receives: list[Receive] = []

    def wait_event(self, event: Any) -> None:
        assert current_device() is self.device
        self.has_waited = True

    def record(self) -> "Event":
        assert current_device() is self.device
        return Event(list(self.receives))


class Event:
    """Of a stream: it is done when all has been received that was asked for before."""

    def __init__(self, receives: list["Receive"]) -> None:
        self._receives = receives

    @property
    def done(self) -> bool:
        return all([receive.is_done() for receive in self._receives])


class NcclError(RuntimeError):
    """As CuPy's."""


class Receive:
    """An array that is to come."""

    def __init__(self, communicator: "NcclCommunicator", peer: int, address: int, count: int) -> None:
        self._communicator, self._address, self._count = communicator, address, count
        self._queue = communicator.world.queues[peer, communicator.rank]
        self._came = False

    def is_done(self) -> bool:
        if not self._came and not self._communicator.aborted:
            try:
                data = self._queue.get_nowait()
            except Empty:
                return False
            if len(data) != self._count:
                raise NcclError(f"{len(data)} bytes were sent, {self._count} expected: NCCL would hang")
            ctypes.memmove(self._address, data, self._count)
            self._came = True
        return True


class World:
    """What the communicators of one id share."""

    def __init__(self) -> None:
        self.queues: dict[tuple[int, int], SimpleQueue[bytes]] = {}
        self.devices: dict[int, Any] = {}
        self.all_there = threading.Condition()


class NcclCommunicator:
    """`cupy.cuda.nccl.NcclCommunicator`; `trouble` is what NCCL finds while it works."""

    def __init__(self, nccl: "FakeNccl", ndev: int, commId: tuple[int, ...], rank: int) -> None:
        assert len(commId) == 128 and all(-128 <= byte < 128 for byte in commId)
        self._nccl, self.size, self.rank = nccl, ndev, rank
        self.world, self.device = nccl.worlds[commId], current_device()
        self.aborted = False
        self.trouble: str | None = None
        with self.world.all_there:
            assert rank not in self.world.devices
            if self.device in self.world.devices.values():
                raise NcclError("NCCL_ERROR_INVALID_USAGE: two ranks have the same device")
            self.world.devices[rank] = self.device
            for peer in range(ndev):
                self.world.queues[rank, peer] = SimpleQueue()
            self.world.all_there.notify_all()
            assert self.world.all_there.wait_for(lambda: len(self.world.devices) == ndev, timeout=20)
        nccl.communicators.append(self)

    def send(self, sendbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        self._begin(peer, datatype, stream).append(
            lambda: self.world.queues[self.rank, peer].put(ctypes.string_at(sendbuf, count))
        )

    def recv(self, recvbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        receive = Receive(self, peer, recvbuf, count)
        self._begin(peer, datatype, stream).append(lambda: STREAMS[stream].receives.append(receive))

    def _begin(self, peer: int, datatype: int, stream: int) -> list[Any]:
        if self.aborted:
            raise NcclError("NCCL_ERROR_INVALID_ARGUMENT: the communicator was aborted")
        found = STREAMS[stream]  # the null stream, 0, would keep the device from computing meanwhile
        assert datatype == self._nccl.NCCL_UINT8 and found.non_blocking
        assert 0 <= peer < self.size and peer != self.rank
        assert found.device is self.device is current_device()
        if not found.has_waited:
            raise NcclError("the arrays may not be computed yet: the stream has waited for no event")
        group: list[Any] | None = getattr(self._nccl.group, "calls", None)
        if group is None:
            raise NcclError("outside of a group this would wait for its peer, which may wait for this rank")
        group.append(found)
        return group

    def check_async_error(self) -> None:
        if self.trouble is not None:
            raise NcclError(self.trouble)

    def abort(self) -> None:
        self.aborted = True


class FakeNccl:
    """The module."""

    available = True
    NCCL_UINT8 = 1
    NcclError = NcclError

    def __init__(self) -> None:
        self.worlds: dict[tuple[int, ...], World] = {}
        self.communicators: list[NcclCommunicator] = []
        self.group = threading.local()

    def get_unique_id(self) -> tuple[int, ...]:
        identity = tuple((len(self.worlds) - k) % 256 - 128 for k in range(128))
        self.worlds[identity] = World()
        return identity

    def NcclCommunicator(self, ndev: int, commId: tuple[int, ...], rank: int) -> NcclCommunicator:
        return NcclCommunicator(self, ndev, commId, rank)

    def groupStart(self) -> None:
        self.group.calls = []

    def groupEnd(self) -> None:
        calls, self.group.calls = self.group.calls, None
        for call in calls:
            if isinstance(call, NcclStream):
                call.has_waited = False  # until the next group
            else:
                call()
