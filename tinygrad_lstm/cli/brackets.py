"""A memory for brackets: a task that needs each gate of an LSTM, and a tiny LSTM that has learnt it.

The network remembers which of two kinds of brackets are open, and outputs this only when it is asked.
"""

import math

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.models import LSTM

from .._tensor import tensor
from ..data.text import Vocabulary
from ..ops.loss import mse_loss
from ..optim import Adam
from ..random import restored_random_state

__all__ = ["CHARACTERS", "PAIRS", "YES", "answers", "one_hot", "trained_memory"]

CHARACTERS = Vocabulary("()[]?.")
"""Brackets, the question which of them are open, and a character without meaning."""

PAIRS = (("(", ")"), ("[", "]"))
"""Opening and closing brackets; unit k of the network remembers the k-th pair."""

YES = math.tanh(1)
"""The hidden state for an open bracket when asked, from a cell state of 1. In all other cases it is 0."""

SEED, UPDATES, STEPS, BATCH, LR = 0, 800, 20, 32, 0.05
NOISE = 0.2
"""The standard deviation of the training inputs' noise, which the input gate must keep out of the memory."""


def one_hot(text: str) -> HostArray:
    """The characters of a text as inputs, float32 (T, 6).

    Raises:
        ValueError: a character is not one of `CHARACTERS`.

    >>> one_hot("(").tolist()
    [[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    return np.eye(len(CHARACTERS), dtype=np.float32)[CHARACTERS.encode(text)]


def answers(text: str) -> HostArray:
    """The expected hidden states at each character, float32 (T, 2).

    >>> answers("(.?").round(2).tolist()
    [[0.0, 0.0], [0.0, 0.0], [0.7599999904632568, 0.0]]
    """
    rows = np.zeros((len(text), len(PAIRS)), np.float32)
    for t, character in enumerate(text):
        for k, (opening, closing) in enumerate(PAIRS):
            if character == "?" and text.rfind(opening, 0, t) > text.rfind(closing, 0, t):
                rows[t, k] = YES
    return rows


def trained_memory() -> LSTM:
    """An LSTM of two units, trained from random weights in about a second; always the same."""
    rng = np.random.default_rng(SEED)
    with restored_random_state(dict(np.random.default_rng(SEED).bit_generator.state)):
        memory = LSTM(len(CHARACTERS), len(PAIRS))
    optimizer = Adam(memory.parameters(), lr=LR)
    for _ in range(UPDATES):
        texts = ["".join(row) for row in rng.choice(list("()[]?......"), (BATCH, STEPS))]
        inputs = np.stack([one_hot(text) for text in texts], axis=1)  # (T, B, 6)
        noise = rng.normal(0, NOISE, inputs.shape).astype(np.float32)
        out, _ = memory(tensor(inputs + noise))
        optimizer.zero_grad()
        mse_loss(out, tensor(np.stack([answers(text) for text in texts], axis=1))).backward()
        optimizer.step()
    return memory
