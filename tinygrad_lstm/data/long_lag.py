"""Long-time-lag tasks: the target at a sequence's end depends on inputs long before, with noise between.

They are from Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997, section 5, with the
paper's numbers. Each function draws a batch of one task. Sequences have different lengths, as in the paper.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["LongLagBatch", "adding", "distant_symbol", "noisy_signal"]

Integers: TypeAlias = npt.NDArray[np.int64]

CONTINUES = 0.9
"""`distant_symbol`: the probability of each further distractor after the first `lag` ones."""

NOISE_VARIANCE = 0.2
"""`noisy_signal`: the variance of the elements after the signal."""


class LongLagBatch(NamedTuple):
    """B sequences, and the target of the network at the end of each."""

    x: npt.NDArray[np.float32]
    """The inputs (T, B, I), zeros after a sequence's end."""
    targets: npt.NDArray[Any]
    """The targets: numbers, float32 (B, 1); or, for two classes, class ids, int64 (B,)."""
    lengths: Integers
    """The number of steps of each sequence, int64 (B,)."""


def adding(rng: np.random.Generator, length: int, batch: int) -> LongLagBatch:
    """Experiment 4: the sum of two numbers that were marked long ago.

    Each step is a pair: a value, uniform in ±1, and a marker. One of the first ten pairs is marked by 1, then one of
    the unmarked pairs among the first T/2 - 1. The first and the last pair have the marker -1, all others 0. The target
    is 0.5 + (X₁ + X₂) / 4, where X₁ and X₂ are the marked values. If the first pair is drawn, its marker stays -1, and
    its unmarked value counts as 0. (The paper states this for X₁; here it is also true for X₂.) In the paper an answer
    is correct if it is within 0.04 of the target.

    Args:
        rng: the generator of random numbers.
        length: T, the smallest number of steps; each sequence has between T and T + T/10, drawn uniformly.
        batch: B, the number of sequences.

    Returns:
        Inputs (up to T + T/10, B, 2), targets (B, 1) in [0, 1], lengths.

    Raises:
        ValueError: `length` is below 22 (the first ten steps must be among the first T/2 - 1), or `batch` is below 1.

    >>> import numpy as np
    >>> x, targets, lengths = adding(np.random.default_rng(0), length=100, batch=3)
    >>> x.shape, targets.shape, lengths.tolist()
    ((109, 3, 2), (3, 1), [109, 107, 105])
    """
    _check("adding", length=(length, 22), batch=(batch, 1))
    lengths = _lengths(rng, length, batch)
    x = np.zeros((lengths.max(), batch, 2), np.float32)
    values, markers = x[..., 0], x[..., 1]
    values[:] = np.where(_active(lengths), rng.uniform(-1, 1, values.shape), 0)
    sequences = np.arange(batch)
    first = rng.integers(0, 10, batch)
    second = rng.integers(0, length // 2 - 2, batch)
    second += second >= first  # skips the pair that is already marked
    markers[first, sequences] = markers[second, sequences] = 1
    markers[0] = markers[lengths - 1, sequences] = -1
    total = values.sum(axis=0, where=markers == 1, keepdims=True)
    return LongLagBatch(x, 0.5 + total.T / 4, lengths)


def distant_symbol(rng: np.random.Generator, lag: int, batch: int, distractors: int = 50) -> LongLagBatch:
    """Experiment 2c: which of two symbols was at the beginning, before a long sequence of random ones.

    A sequence is b, then x or y, then q distractors, then further ones, each with probability 9/10, then e. (The
    paper's sequence ends with the second symbol again, which is to be predicted after e.) A distractor is one of p, all
    equally likely. In the paper an answer is correct if both outputs are within 0.2 of the target.

    Args:
        rng: the generator of random numbers.
        lag: q, the smallest number of distractors; there are 9 more on average.
        batch: B, the number of sequences.
        distractors: p, the number of different ones.

    Returns:
        One-hot inputs (T, B, p + 4), the distractors first, then b, e, x and y; targets 0 for x and 1 for y; lengths.

    Raises:
        ValueError: `lag` is negative, or `distractors` or `batch` is below 1.

    >>> import numpy as np
    >>> x, targets, lengths = distant_symbol(np.random.default_rng(0), lag=20, batch=4, distractors=5)
    >>> x.shape, targets.tolist(), lengths.tolist()
    ((32, 4, 9), [0, 1, 1, 1], [29, 32, 23, 23])
    """
    _check("distant_symbol", lag=(lag, 0), batch=(batch, 1), distractors=(distractors, 1))
    b, e, x = distractors, distractors + 1, distractors + 2
    lengths = 3 + lag + rng.geometric(1 - CONTINUES, batch) - 1
    targets = rng.integers(0, 2, batch)
    symbols = rng.integers(0, distractors, (lengths.max(), batch))
    symbols[0] = b
    symbols[1] = x + targets
    symbols[lengths - 1, np.arange(batch)] = e
    one_hot = np.eye(distractors + 4, dtype=np.float32)[symbols]
    one_hot[~_active(lengths)] = 0
    return LongLagBatch(one_hot, targets, lengths)


def noisy_signal(rng: np.random.Generator, length: int, batch: int, signal: int = 3) -> LongLagBatch:
    """Experiment 3a: which of two signals was at the beginning, before noise in the same input.

    The first N elements are all 1, in class 1, or all -1, in class 0. The others are normal with mean 0 and variance
    0.2. (Class 0 is the paper's class 2, whose target is 0. The task is from Bengio, Simard & Frasconi, 1994.) In the
    paper an answer is correct if it is within 0.2 of the target.

    Args:
        rng: the generator of random numbers.
        length: T, the smallest number of steps; each sequence has between T and T + T/10, drawn uniformly.
        batch: B, the number of sequences.
        signal: N, the number of elements of the signal; 3 and 1 in the paper.

    Returns:
        Inputs (up to T + T/10, B, 1), targets 0 or 1, lengths.

    Raises:
        ValueError: `batch` or `signal` is below 1, or `signal` is above `length`.

    >>> import numpy as np
    >>> x, targets, lengths = noisy_signal(np.random.default_rng(1), length=100, batch=4)
    >>> x[0, :, 0].tolist(), targets.tolist()
    ([-1.0, -1.0, 1.0, 1.0], [0, 0, 1, 1])
    """
    _check("noisy_signal", signal=(signal, 1), length=(length, signal), batch=(batch, 1))
    lengths = _lengths(rng, length, batch)
    targets = rng.integers(0, 2, batch)
    x = rng.normal(0, NOISE_VARIANCE**0.5, (lengths.max(), batch))
    x[:signal] = 2 * targets - 1
    x[~_active(lengths)] = 0
    return LongLagBatch(x[..., None].astype(np.float32), targets, lengths)


def _lengths(rng: np.random.Generator, length: int, batch: int) -> Integers:
    return rng.integers(length, length + length // 10, batch, endpoint=True)


def _active(lengths: Integers) -> npt.NDArray[np.bool_]:
    """Whether each sequence has not ended at each step, (T, B)."""
    return np.arange(lengths.max())[:, None] < lengths


def _check(task: str, **settings: tuple[int, int]) -> None:
    """Raises ValueError if a setting is below its smallest value."""
    for name, (value, least) in settings.items():
        if value < least:
            raise ValueError(f"{task}: expected {name} to be at least {least}, got {value}")
