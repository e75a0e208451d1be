"""The protocol of language models, and their evaluation on a text."""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any, Protocol, TypeAlias

import numpy as np

from .._tensor import Tensor, tensor
from ..data.text import SomeIds, TextBatch, TextBatches
from .evaluation import Trainable, device_of
from .micro_batches import MicroBatches

__all__ = ["EvaluationBatches", "LanguageModel", "State", "evaluate", "nats_to_bits", "text_loss"]

State: TypeAlias = tuple[Tensor, ...]


class LanguageModel(Trainable, Protocol):
    """A module whose loss takes and returns a state, such as `tinygrad_lstm.models.CharLM`."""

    def loss(self, ids: Tensor, targets: Tensor, state: Any = None) -> tuple[Tensor, Any]: ...


def nats_to_bits(nats: float) -> float:
    """A cross-entropy in bits."""
    return nats / math.log(2)


def text_loss(model: LanguageModel, batch: TextBatch, carry: State | None) -> tuple[Tensor, State]:
    """The loss of a batch, and the state after it. A batch of fewer streams than before continues the last of them."""
    state = None
    if carry is not None and not batch.first:
        streams = batch.inputs.shape[1]
        state = carry if carry[0].shape[1] == streams else tuple(part[:, -streams:] for part in carry)
    device = device_of(model)
    return model.loss(tensor(batch.inputs, device=device), tensor(batch.targets, device=device), state)


class EvaluationBatches:
    """A text in batches of at most `batch` streams, in which each character except the first is a target once.

    Each batch is made when it is used: together they take 16 bytes a character.

    Raises:
        ValueError: the text is shorter than two characters.
    """

    def __init__(self, ids: SomeIds, batch: int = 32, seq_len: int = 64) -> None:
        predicted = len(ids) - 1
        if predicted < 1:
            raise ValueError(f"evaluate: expected a text of at least 2 characters, got {len(ids)}")
        streams = max(1, min(batch, predicted // seq_len))
        self._equal = TextBatches(ids, streams, min(seq_len, predicted))
        rest = ids[predicted // streams * streams :].astype(np.int64)
        # The rest after equal streams continues the last of them.
        self._rest = [TextBatch(rest[:-1, None], rest[1:, None], False)] if len(rest) > 1 else []

    def __iter__(self) -> Iterator[TextBatch]:
        return chain(self._equal, self._rest)


def evaluate(model: LanguageModel, ids: SomeIds, batch: int = 32, seq_len: int = 64) -> float:
    """The mean cross-entropy, in nats a character, of each character of a text given all characters before it.

    A long text is read as a batch of `batch` streams, each of which starts without a state.

    Args:
        model: is in evaluation mode meanwhile.
        ids: the text's characters as integers (n,), n at least 2; all except the first are predicted.

    Raises:
        ValueError: the text is shorter than two characters.
    """
    return MicroBatches().mean_values(model, text_loss, EvaluationBatches(ids, batch, seq_len), {})["loss"]
