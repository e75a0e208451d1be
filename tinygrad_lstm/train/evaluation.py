"""What a trainer takes: a model, a loss, metrics and batches."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from .._tensor import Tensor, tensor
from ..device import Device
from ..func.trees import mapped
from ..mode import no_grad

__all__ = [
    "Loss",
    "Metric",
    "Trainable",
    "as_carry",
    "as_returned",
    "check_validation",
    "detached",
    "device_of",
    "largest_weight",
    "weight_of",
]


class Trainable(Protocol):
    """What a trainer needs of a model; every `nn.Module` has it."""

    def parameters(self) -> Iterable[Tensor]: ...
    def state_dict(self) -> Mapping[str, HostArray]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...
    def evaluating(self) -> AbstractContextManager[Any]: ...


Loss: TypeAlias = Callable[[Any, Any, Any], tuple[Any, ...]]
"""loss(model, batch, carry) -> (loss, carry) or (loss, carry, outputs): a scalar Tensor, the mean over the batch; what
the next batch receives as `carry`; and what the metrics receive."""

Metric: TypeAlias = Callable[[Any, Any], Any]
"""metric(outputs, batch) -> a number, the mean over the batch."""


def weight_of(batch: Any) -> int:
    """The number of items of which a batch's loss is the mean: its attribute `weight`; 1 if it has none."""
    return getattr(batch, "weight", 1)


def device_of(model: Trainable) -> Device:
    """The device of a model's parameters."""
    return next(iter(model.parameters())).device


def largest_weight(parameters: Iterable[Tensor]) -> float:
    """The largest absolute value of parameters; infinity or NaN if one of them has it."""
    with no_grad():
        largest = [float(each.abs().max().item()) for each in parameters if each.size]
    return next((value for value in largest if not math.isfinite(value)), max(largest, default=0.0))


def detached(carry: Any) -> Any:
    """What is carried to the next batch, without its graph."""
    return mapped(lambda part: part.detach() if isinstance(part, Tensor) else part, carry)


def as_carry(stored: Any, device: Device) -> Any:
    """What was carried, from a checkpoint: tensors in tuples in place of arrays in lists."""
    if isinstance(stored, list):
        return tuple(as_carry(part, device) for part in stored)
    if isinstance(stored, dict):
        return {name: as_carry(part, device) for name, part in stored.items()}
    return tensor(stored, device=device) if isinstance(stored, np.ndarray) else stored


def as_returned(returned: Any) -> tuple[Any, ...]:
    """What a loss has returned.

    Raises:
        TypeError: it is not (loss, carry) or (loss, carry, outputs).
    """
    if not isinstance(returned, tuple) or len(returned) not in (2, 3):
        what = f"{len(returned)} values" if isinstance(returned, tuple) else f"a {type(returned).__name__}"
        raise TypeError(
            f"Trainer: the loss returned {what}; expected (loss, carry), as (loss, None), or (loss, carry, outputs)"
        )
    return returned


def check_validation(batches: Any) -> None:
    """Raises ValueError if the batches do not suffice for several validations, before any training."""
    if isinstance(batches, Iterator):
        raise ValueError(
            f"Trainer.fit: validation is a {type(batches).__name__}, which the first validation uses up; expected an "
            "iterable that begins anew, such as a list"
        )
    if isinstance(batches, Sized) and not len(batches):
        raise ValueError("Trainer.fit: validation is empty; expected at least one batch, or None")
