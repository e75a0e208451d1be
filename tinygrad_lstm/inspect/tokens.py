"""The ids that a model was given, time first, with their strings and the model's prediction after each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_integer

from .layers import LayerTrace, Trace

__all__ = ["TOP_SHOWN", "Tokens"]

TOP_SHOWN = 5  # the number of likeliest predictions shown for each step


@dataclass(frozen=True, eq=False)
class Tokens:
    """The ids of a trace, one for each step of a layer, and their strings.

    Attributes:
        ids: (T, B), also if the model takes (B, T).
        lengths: the number of steps of each sequence, (B,).
        vocabulary: the string of each id; None if it is not known.
        logits: the model's output, (T, B, V); None if it does not predict the next id, or without a vocabulary.
    """

    ids: HostArray
    lengths: HostArray
    vocabulary: Sequence[str] | None
    logits: HostArray | None

    @classmethod
    def of(
        cls, trace: Trace, vocabulary: Sequence[str] | None, batch_first: bool | None, predictions: bool = True
    ) -> "Tokens | None":
        """The tokens of a trace whose layers have one batch size; None if its input is not one id for each step.

        Args:
            batch_first: whether the ids are (B, T) rather than (T, B); None to infer it.
            predictions: whether the model's output predicts the next id.

        Raises:
            ValueError: the vocabulary or `batch_first` is invalid for the trace.
        """
        found = _is_batch_first(trace) if batch_first is None else batch_first
        ids = trace.inputs.swapaxes(0, 1) if found else trace.inputs
        layers = [layer for layer in trace.layers if _is_ids(trace) and layer.shape[:2] == ids.shape]
        if vocabulary is not None:
            _check_vocabulary(trace, vocabulary, bool(layers), predictions)
        if not layers:
            if batch_first is not None:
                raise ValueError(
                    f"page: batch_first={batch_first} is for a model of ids ({'B, T' if batch_first else 'T, B'}); "
                    f"this one was given {trace.inputs.dtype} {trace.inputs.shape}, and its first layer ran for "
                    f"(T, B) = {trace.layers[0].shape[:2]}"
                )
            return None
        lengths = np.max([layer.going.sum(axis=0) for layer in layers], axis=0)
        if vocabulary is None:
            return cls(ids, lengths, None, None)
        used = ids[_before(lengths, len(ids))]
        if used.size and not 0 <= used.min() <= used.max() < len(vocabulary):
            raise ValueError(
                f"page: a vocabulary of {len(vocabulary)} is for ids from 0 to {len(vocabulary) - 1}; this model was "
                f"given ids from {used.min()} to {used.max()}"
            )
        if not predictions:
            return cls(ids, lengths, vocabulary, None)
        assert trace.output is not None  # the vocabulary was checked
        return cls(ids, lengths, vocabulary, trace.output.swapaxes(0, 1) if found else trace.output)

    def matches(self, layer: LayerTrace) -> bool:
        """Whether the layer took a step for each id."""
        return layer.shape[:2] == self.ids.shape

    def said(self, b: int, steps: range) -> dict[str, Any]:
        """The tokens of a sequence in a range of steps and, with a vocabulary, what the model predicts after each."""
        end = min(steps.stop, int(self.lengths[b]))
        ids = self.ids[steps.start : end, b]
        if self.vocabulary is None or self.logits is None:
            return {"tokens": [str(token) if self.vocabulary is None else self.vocabulary[token] for token in ids]}
        scores = self.logits[steps.start : end, b].astype(np.float64)
        with np.errstate(invalid="ignore"):  # a NaN or an infinity is shown as such
            scores = scores - scores.max(axis=1, keepdims=True)
            log_probabilities = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        top = np.argsort(-log_probabilities, axis=1, kind="stable")[:, :TOP_SHOWN].tolist()
        following = self.ids[steps.start + 1 : min(end + 1, int(self.lengths[b])), b].tolist()
        rows = list(zip(log_probabilities, top, [*following, None]))  # nothing follows the sequence's last step
        return {
            "tokens": [self.vocabulary[token] for token in ids],
            "predictions": {
                "top": [
                    [[self.vocabulary[k], _rounded(np.exp(row[k]))] for k in likeliest] for row, likeliest, _ in rows
                ],
                # The rank of the actual next id among these: two ids may have the same string.
                "came": [likeliest.index(k) if k in likeliest else None for _, likeliest, k in rows],
                "next": [None if k is None else self.vocabulary[k] for *_, k in rows],
                "loss": [None if k is None else _rounded(-row[k]) for row, _, k in rows],
            },
        }

    @property
    def is_text(self) -> bool:
        """Whether most strings of the vocabulary are single characters, which are shown without gaps."""
        if self.vocabulary is None:
            return False
        return 2 * sum(len(token) <= 1 for token in self.vocabulary) > len(self.vocabulary)


def _is_ids(trace: Trace) -> bool:
    return trace.inputs.ndim == 2 and is_integer(trace.inputs.dtype)


def _is_batch_first(trace: Trace) -> bool:
    """Whether the ids are (B, T) rather than (T, B).

    If there are as many sequences as steps, the shape cannot decide. A layer's inputs may: an embedding returns the
    same row for the same id. If both orders agree with that equally well, the settings of the model's layers decide.
    """
    if not _is_ids(trace):
        return False
    orders = trace.inputs, trace.inputs.T
    time_first, batch_first = ([layer for layer in trace.layers if layer.shape[:2] == ids.shape] for ids in orders)
    if not (time_first and batch_first):
        return bool(batch_first)
    for layer in time_first:
        as_time_first, as_batch_first = (_agreement(ids, layer) for ids in orders)
        if as_time_first != as_batch_first:
            return as_batch_first > as_time_first
    return trace.batch_first


def _agreement(ids: HostArray, layer: LayerTrace) -> int:
    """1 if a layer's inputs are the same where ids (T, B) are the same, 2 if they differ elsewhere; otherwise 0."""
    numbers = ids[layer.going].tolist()
    rows = [row.tobytes() for row in layer.inputs[layer.going]]
    pairs = len(set(zip(numbers, rows)))
    return 0 if pairs > len(set(numbers)) else 1 if pairs > len(set(rows)) else 2


def _check_vocabulary(trace: Trace, vocabulary: Sequence[str], has_steps: bool, predictions: bool) -> None:
    logits, V = trace.output, len(vocabulary)
    if not predictions and not has_steps:
        raise ValueError(
            f"page: a vocabulary is for a model of ids (T, B) or (B, T); this one was given {trace.inputs.dtype} "
            f"{trace.inputs.shape}"
        )
    if predictions and (not has_steps or logits is None or logits.shape != (*trace.inputs.shape, V)):
        raise ValueError(
            f"page: a vocabulary of {V} is for a model of ids (T, B) that returns logits (T, B, {V}), or of (B, T) and "
            f"(B, T, {V}); this one was given {trace.inputs.dtype} {trace.inputs.shape} and returned "
            f"{None if logits is None else logits.shape}"
        )


def _before(lengths: HostArray, steps: int) -> HostArray:
    """Which steps (T, B) come before the end of their sequence."""
    before: HostArray = np.arange(steps)[:, None] < lengths
    return before


def _rounded(number: float) -> float | None:
    """To five decimals; None for a NaN or an infinity."""
    return round(float(number), 5) if np.isfinite(number) else None
