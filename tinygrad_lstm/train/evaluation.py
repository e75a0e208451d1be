"""The protocol of language models, and their evaluation on a text."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from tinygrad_lstm.backends.base import HostArray

from .._tensor import Tensor, tensor
from ..data.text import Ids, TextBatch, TextBatches
from ..device import Device
from ..mode import no_grad

__all__ = ["LanguageModel", "State", "device_of", "evaluate", "nats_to_bits", "on_device_of"]

State: TypeAlias = tuple[Tensor, ...]


class LanguageModel(Protocol):
    """A module whose loss takes and returns a state, such as `tinygrad_lstm.models.CharLM`."""

    def loss(self, ids: Tensor, targets: Tensor, state: Any = None) -> tuple[Tensor, Any]: ...
    def parameters(self) -> Iterable[Tensor]: ...
    def state_dict(self) -> Mapping[str, HostArray]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> Any: ...
    def evaluating(self) -> AbstractContextManager[Any]: ...


def nats_to_bits(nats: float) -> float:
    """A cross-entropy in bits."""
    return nats / math.log(2)


def device_of(model: LanguageModel) -> Device:
    return next(iter(model.parameters())).device


def on_device_of(model: LanguageModel, batch: TextBatch) -> tuple[Tensor, Tensor]:
    device = device_of(model)
    return tensor(batch.inputs, device=device), tensor(batch.targets, device=device)


def evaluate(
    model: LanguageModel,
    ids: Ids,
    batch: int = 32,
    seq_len: int = 64,
    before_window: Callable[[], None] = lambda: None,
) -> float:
    """The mean cross-entropy, in nats a character, of each character of a text given all characters before it.

    A long text is read as a batch of `batch` streams, each of which starts without a state.

    Args:
        model: is in evaluation mode meanwhile.
        ids: the text's characters as integers (n,), n at least 2; all except the first are predicted.
        before_window: called before each `seq_len` characters; an exception ends the evaluation.

    Raises:
        ValueError: the text is shorter than two characters.
    """
    predicted = len(ids) - 1
    if predicted < 1:
        raise ValueError(f"evaluate: expected a text of at least 2 characters, got {len(ids)}")
    streams = max(1, min(batch, predicted // seq_len))
    batches = TextBatches(ids, streams, min(seq_len, predicted))
    windows = [next(batches) for _ in range(len(batches))]
    rest = ids[predicted // streams * streams :]
    losses: list[tuple[Tensor, int]] = []
    state: State | None = None
    with model.evaluating(), no_grad():
        for window in windows:
            before_window()
            loss, state = model.loss(*on_device_of(model, window), state)
            losses.append((loss, window.targets.size))
        if len(rest) > 1 and state is not None:
            # The rest after equal streams continues the last of them.
            window = TextBatch(rest[:-1, None], rest[1:, None], False)
            loss, _ = model.loss(*on_device_of(model, window), tuple(part[:, -1:] for part in state))
            losses.append((loss, len(rest) - 1))
    return float(sum(loss.item() * size for loss, size in losses) / predicted)
