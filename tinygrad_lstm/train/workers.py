"""What the workers of a run agree on."""

import hashlib
import json
import platform
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_lstm.backends.threads import blas_kernels, blas_library

from .._tensor import Tensor
from .._version import __version__
from ..device import get_num_threads
from ..distributed.collectives import agree, all_gather, barrier, broadcast_parameters, gathered, spread
from ..distributed.communicator import Communicator, WorkerError
from ..random import random_state, set_random_state

__all__ = ["Workers"]


class Workers:
    """The workers of a run, and whether it is to end: one of them may have been asked."""

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self.stop_asked = self.finish_asked = False
        """What this worker was asked."""
        self._stopping = self._finishing = False
        self._seen = (0, 0, 0)
        self.alone, self.is_first = communicator.size == 1, communicator.rank == 0

    @property
    def stopping(self) -> bool:
        """Whether all stop now."""
        return self.stop_asked if self.alone else self._stopping

    @property
    def finishing(self) -> bool:
        """Whether all end now, as at a limit."""
        return self.finish_asked if self.alone else self._finishing

    @property
    def stops_at_once(self) -> bool:
        """Whether the run stops within a validation; several workers stop after it, together."""
        return self.alone and self.stop_asked

    def saw(self, batches: Any, step: int) -> None:
        """Notes the batches and random numbers of a step, which must be the same; the next `agree` compares them."""
        if not self.alone:
            self._seen = (step, checksum(batches), checksum(random_state()))

    def check_same_end(self, goes_on: bool) -> None:
        """Compares whether there are more batches in the epoch.

        Raises:
            ValueError: (on all workers) some have more, others do not.
        """
        if not self.alone and len(np.unique(gathered(self.communicator, np.array([goes_on])))) > 1:
            raise ValueError(
                "Trainer.fit: workers have different numbers of batches in an epoch; expected the same data"
            )

    def agree(self, seconds: float) -> float:
        """Tells the others what this worker was asked. Returns the time by the first worker's clock.

        Raises:
            ValueError: (on all workers) they have different batches or random numbers.
        """
        if self.alone:
            return seconds
        mine = np.array([seconds, self.stop_asked, self.finish_asked, *self._seen])
        everyone = gathered(self.communicator, mine)
        for what, columns, expected in (
            ("batches", [3, 4], "the same data in the same order"),
            ("random numbers", [5], "each worker to draw as many, also in callbacks"),
        ):
            differs = (everyone[:, columns] != everyone[0, columns]).any(axis=1)
            if differs.any():
                raise ValueError(
                    f"Trainer.fit: workers 0 and {differs.argmax()} have different {what} for step "
                    f"{self._seen[0] + 1}; expected {expected}"
                )
        self._stopping, self._finishing = (bool(asked.any()) for asked in everyone.T[1:3])
        return float(everyone[0, 0])

    def forget(self) -> None:
        """Forgets what was asked, at the end of a call of `fit`."""
        self.stop_asked = self.finish_asked = self._stopping = self._finishing = False

    def wait_for_all(self) -> None:
        """Waits until all workers have come here."""
        barrier(self.communicator)

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Within this context, an error of one worker ends all."""
        try:
            yield
        except WorkerError:
            raise
        except BaseException as error:
            self.communicator.fail(f"{type(error).__name__}: {error}")
            raise

    def begin(self, run: Any, **arguments: Any) -> None:
        """Compares what must be the same on all workers, and gives all the weights and random numbers of the first.

        Args:
            run: the trainer.
            arguments: those of `fit`; of batches, the number.

        Raises:
            ValueError: something differs, which the message names.
        """
        if self.alone:
            return
        described = {**_described(run), **{name: repr(value) for name, value in arguments.items()}}
        agree(self.communicator, "Trainer.fit", described)
        broadcast_parameters(run.model, self.communicator)
        known = {id(parameter) for parameter in run.model.parameters()}
        others = [parameter for parameter in run._parameters() if id(parameter) not in known]  # the optimizer's
        for parameter in others:
            parameter._mark_written()
        spread(self.communicator, [(parameter._array, parameter.device, 0) for parameter in others])
        state = json.loads(all_gather(self.communicator, json.dumps(random_state()).encode())[0])
        set_random_state(state)
        run.seconds = self.agree(run.seconds)


def checksum(value: Any, start: int = 0) -> int:
    """A checksum of what NumPy's arrays, numbers and strings are in a batch; of other values, of their types."""
    if isinstance(value, Tensor) and value.device.type == "cpu":
        value = value.numpy()
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        shape = f"{value.dtype}{value.shape}".encode()
        return zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data, zlib.crc32(shape, start))
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    elif not isinstance(value, Tensor) and hasattr(value, "__dict__") and not isinstance(value, tuple | list):
        value = list(vars(value).values())
    if isinstance(value, tuple | list):
        for part in value:
            start = checksum(part, start)
        return zlib.crc32(b"%d" % len(value), start)
    known = isinstance(value, int | float | str | bytes | np.generic)
    return zlib.crc32((repr(value) if known else type(value).__name__).encode(), start)


def _described(run: Any) -> dict[str, str]:
    """What must be the same on all workers, as strings."""
    optimizer = run.optimizer.state_dict()
    settings = (run.clip, run.accumulate, run.average)
    schedule = None if run.schedule is None else (type(run.schedule).__name__, run.schedule.state_dict())
    return {
        "version": __version__,
        "NumPy": np.__version__,
        "Python": platform.python_version(),
        "processor": f"{platform.machine()} {' '.join(_instructions())}".strip(),
        "BLAS": f"{blas_library()}, {blas_kernels()} kernels",
        "threads": str(get_num_threads()),
        "step": str(run.step),
        **_about(run.about),
        "micro-batches": str(run._parts.number),
        "frozen parameters": repr([k for k, each in enumerate(run._parameters()) if not each.requires_grad]),
        "clip, accumulate and average": repr(settings),
        "optimizer": f"{type(run.optimizer).__name__} {optimizer['param_groups']}",
        "optimizer's state": "spread over workers" if run._shards.are_spread else str(checksum(optimizer["state"])),
        "schedule": repr(schedule),
        "metrics": repr([*run.metrics]),
        "callbacks": repr([type(callback).__name__ for callback in run.callbacks]),
        "out": "None" if run.folder is None else "a folder",
    }


def _instructions() -> list[str]:
    """The vector instructions that NumPy uses on this processor, on which the last bits of some functions depend."""
    config: Any = np.show_config(mode="dicts")
    return list(config.get("SIMD Extensions", {}).get("found", []))


def _about(about: dict[str, Any]) -> dict[str, str]:
    """What a run is about, by name; the options of a run, by the name of each."""
    found: dict[str, str] = {}
    for name, value in about.items():
        parts = value.items() if isinstance(value, dict) else ((None, value),)
        found.update({f"about: {name}" if key is None else f"{name}: {key}": _shown(part) for key, part in parts})
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"
