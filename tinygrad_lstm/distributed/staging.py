"""Arrays of devices that are exchanged as copies on the host."""

from collections.abc import Callable, Mapping

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray

from ..device import Device, device_of
from .communicator import Pending

__all__ = ["begin_staged", "device_arrays"]

Begin = Callable[[Mapping[int, Array], Mapping[int, Array]], Pending]
"""The signature of `Communicator.exchange`."""


def device_arrays(*groups: Mapping[int, Array]) -> list[tuple[Device, Array]]:
    """The arrays that are not NumPy's, with their devices."""
    arrays = [array for group in groups for array in group.values() if not isinstance(array, np.ndarray)]
    return [(_device_of(array), array) for array in arrays]


def _device_of(array: Array) -> Device:
    device = device_of(array)
    if device is None:
        raise TypeError(f"exchange: expected arrays of a device, got {type(array).__name__}")
    return device


def begin_staged(begin: Begin, sent: Mapping[int, Array], received: Mapping[int, Array]) -> Pending:
    """Begins an exchange of arrays that are on any devices, by a function that begins one of NumPy's arrays."""
    if not device_arrays(sent, received):
        return begin(sent, received)
    copies = {id(array): _to_host(array) for array in sent.values()}  # one array may go to several workers
    hosts = {rank: _room_for(array) for rank, array in received.items()}
    pending = begin({rank: copies[id(array)] for rank, array in sent.items()}, hosts)
    return _Staged(pending, [(array, hosts[rank]) for rank, array in received.items() if array is not hosts[rank]])


def _to_host(array: Array) -> HostArray:
    if isinstance(array, np.ndarray):
        return array
    return np.ascontiguousarray(_device_of(array).backend.to_host(array))


def _room_for(array: Array) -> HostArray:
    return array if isinstance(array, np.ndarray) else np.empty(array.shape, array.dtype)


class _Staged:
    """An exchange under way, and the arrays that its results are copied to."""

    def __init__(self, pending: Pending, targets: list[tuple[Array, HostArray]]) -> None:
        self._pending, self._targets = pending, targets

    def wait(self) -> None:
        """Waits for the exchange, and copies what has come to the devices."""
        self._pending.wait()
        for array, host in self._targets:
            device = _device_of(array)
            with device.current():
                array[...] = device.backend.from_host(host)
        self._targets = []
