"""What all workers do together, made of exchanges."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tinygrad_lstm.backends.base import Array, HostArray

from .._tensor import Tensor
from ..device import Device, get_device
from .communicator import Communicator, Pending
from .trees import SumTree

__all__ = ["all_gather", "all_reduce", "barrier", "broadcast_parameters"]

BUCKET = 4 << 20
"""Bytes of the arrays that are sent together."""


class HasState(Protocol):
    """What `broadcast_parameters` takes; every `nn.Module` is one."""

    def state_dict(self) -> Mapping[str, HostArray]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...


def others(communicator: Communicator) -> list[int]:
    """The ranks of the other workers."""
    return [rank for rank in range(communicator.size) if rank != communicator.rank]


def gathered(communicator: Communicator, array: HostArray) -> HostArray:
    """The arrays of all workers, which have one shape and dtype, stacked by rank. It takes one exchange."""
    everyone = np.array([array] * communicator.size)
    received = {rank: everyone[rank] for rank in others(communicator)}
    communicator.exchange(dict.fromkeys(received, np.ascontiguousarray(array)), received).wait()
    return everyone


def all_gather(communicator: Communicator, data: bytes) -> list[bytes]:
    """The bytes of each worker, by rank. They may have different lengths."""
    return _gather(communicator, data, range(communicator.size))


def gather(communicator: Communicator, data: bytes, root: int = 0) -> list[bytes] | None:
    """The bytes of each worker, by rank, on one of them; None on the others."""
    found = _gather(communicator, data, (root,))
    return found if communicator.rank == root else None


def _gather(communicator: Communicator, data: bytes, roots: Sequence[int]) -> list[bytes]:
    """The bytes of each worker, by rank, on some of them; its own on the others."""
    rank, sizes = communicator.rank, gathered(communicator, np.array([len(data)]))
    sources = others(communicator) if rank in roots else ()
    received = {source: np.empty(int(sizes[source, 0]), np.uint8) for source in sources}
    communicator.exchange({root: np.frombuffer(data, np.uint8) for root in roots if root != rank}, received).wait()
    return [array.tobytes() for _, array in sorted({**received, rank: np.frombuffer(data, np.uint8)}.items())]


def barrier(communicator: Communicator) -> None:
    """Waits until all workers have come here."""
    gathered(communicator, np.zeros(1, np.uint8))


def agree(communicator: Communicator, what: str, values: Mapping[str, str]) -> None:
    """Compares values of all workers, such as versions and digests of data.

    Args:
        communicator: the workers.
        what: begins the message of the error.
        values: strings by the names of what they describe.

    Raises:
        ValueError: (on all workers) they differ. The message names them, the first worker with different ones, and the
            values of the first of them.
    """
    everyone = [json.loads(each) for each in all_gather(communicator, json.dumps(dict(values)).encode())]
    for rank, theirs in enumerate(everyone):
        names = [name for name in {**everyone[0], **theirs} if theirs.get(name) != everyone[0].get(name)]
        if names:
            shown = " and ".join(str(each.get(names[0])) for each in (everyone[0], theirs))
            raise ValueError(
                f"{what}: workers 0 and {rank} must have the same {', '.join(names)}, but have {names[0]}: {shown}"
            )


def spread(communicator: Communicator, arrays: Iterable[tuple[Array, Device, int]], bucket: int = BUCKET) -> None:
    """Copies each of some arrays from the worker that owns it into those of the others, in buckets.

    Args:
        communicator: the workers.
        arrays: arrays, their devices and their owners; of the same shapes, dtypes and owners on all workers.
        bucket: the least number of bytes that are sent together.
    """
    alike: dict[tuple[Device, Any], list[tuple[Array, int]]] = {}
    for array, device, owner in arrays:
        alike.setdefault((device, array.dtype), []).append((array, owner))
    begun: Callable[[], None] | None = None
    for (device, _), owned in alike.items():
        for together in _cut(owned, bucket):
            before, begun = begun, _begin_spread(communicator, together, device)
            if before is not None:
                before()
    if begun is not None:
        begun()


def _cut(owned: list[tuple[Array, int]], bucket: int) -> Iterator[list[tuple[Array, int]]]:
    together: list[tuple[Array, int]] = []
    size = 0
    for array, owner in owned:
        together.append((array, owner))
        size += array.nbytes
        if size >= bucket:
            yield together
            together, size = [], 0
    if together:
        yield together


def _begin_spread(communicator: Communicator, owned: list[tuple[Array, int]], device: Device) -> Callable[[], None]:
    """Begins to copy arrays of one dtype. The function that is returned waits for them."""
    of_owner = {rank: [array for array, owner in owned if owner == rank] for rank in range(communicator.size)}
    xp, mine, rest = device.xp, of_owner[communicator.rank], others(communicator)
    with device.current():
        flat = xp.concatenate([array.reshape(-1) for array in mine]) if mine else None
        received = {
            rank: xp.empty(sum(array.size for array in of_owner[rank]), owned[0][0].dtype)
            for rank in rest
            if of_owner[rank]
        }
        pending = communicator.exchange(dict.fromkeys(rest, flat) if mine else {}, received)

    def finish() -> None:
        with device.current():
            pending.wait()
            for rank, came in received.items():
                at = 0
                for array in of_owner[rank]:
                    array[...] = came[at : at + array.size].reshape(array.shape)
                    at += array.size

    return finish


def broadcast_parameters(model: HasState, communicator: Communicator, root: int = 0) -> None:
    """Gives the models of all workers the parameters and buffers of one worker's.

    Raises:
        ValueError: (on all workers) the models have different parameters.
    """
    if communicator.size == 1:
        return
    state = {name: np.array(array, order="C") for name, array in model.state_dict().items()}
    shapes = {name: f"{array.dtype}{array.shape}" for name, array in state.items()}
    agree(communicator, "broadcast_parameters", shapes)
    host = get_device("cpu")
    spread(communicator, [(array, host, root) for array in state.values()])
    model.load_state_dict(state)


def all_reduce(communicator: Communicator, x: Tensor) -> Tensor:
    """The sum of a tensor over all workers, on each of them; its graph is not followed.

    The order of the additions depends on the number of workers alone. All tensors have one shape and dtype.
    """
    tree = SumTree(communicator.size, communicator.size)
    with x.device.current():
        rows = empty_rows(x.device, 1, x.size, x.dtype, communicator.size)
        rows.reshape(-1)[: x.size] = x._array.reshape(-1)
        result, pending = begin_sum(communicator, tree, rows, x.device)
        pending.wait()
        return Tensor._wrap(result.reshape(-1)[: x.size].reshape(x.shape), x.device)


def empty_rows(device: Device, spans: int, size: int, dtype: Any, workers: int) -> Array:
    """An array (spans, workers, chunk) for `size` elements a span; those after them are 0."""
    chunk = max(1, -(-size // workers))
    return device.xp.zeros((spans, workers, chunk), dtype)


def begin_sum(communicator: Communicator, tree: SumTree, rows: Array, device: Device) -> tuple[Array, Pending]:
    """Adds up arrays of all workers in the order of a tree, each worker a chunk of them.

    Args:
        communicator: the workers.
        tree: the order.
        rows: (spans, workers, chunk): the parts of this worker, for its `tree.spans_of`. They are overwritten.
        device: the device of the arrays.

    Returns:
        The sum (workers, chunk), which is there after the wait for what is returned with it.
    """
    rank, (_, _, chunk) = communicator.rank, rows.shape
    spans = {other: tree.spans_of(other) for other in range(communicator.size)}
    received = {other: device.xp.empty((len(spans[other]), chunk), rows.dtype) for other in others(communicator)}
    sent = {other: device.xp.ascontiguousarray(rows[:, other]) for other in received}
    communicator.exchange(sent, received).wait()
    received[rank] = rows[:, rank]
    result = device.xp.empty((communicator.size, chunk), rows.dtype)
    result[rank] = tree.total({span: received[other][k] for other in spans for k, span in enumerate(spans[other])})
    pending = communicator.exchange(
        dict.fromkeys(sent, result[rank]), {other: result[other] for other in others(communicator)}
    )
    return result, pending
