"""Sequences of different lengths, in padded batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import promoted_dtype

from ..io.errors import naming_file
from .checking import check_shapes
from .splitting import bounds_of_parts

__all__ = ["SequenceBatch", "SequenceBatches", "padded"]


@dataclass(frozen=True)
class SequenceBatch:
    """Some sequences, padded to the longest of them."""

    x: HostArray
    """The sequences, (T, B, F), zeros after the end of each."""
    lengths: list[int]
    """The length of each sequence."""
    y: HostArray | None
    """The target of each sequence, (B, ...); None if there are none."""
    rows: npt.NDArray[np.int64]
    """The positions of the sequences in the data."""

    @property
    def weight(self) -> int:
        """The number of sequences."""
        return len(self.lengths)

    def split(self, number: int) -> "list[SequenceBatch | None]":
        """The batch in parts of some sequences each, as equal as possible; None if there are fewer sequences."""
        return [self._part(part) if part.start < part.stop else None for part in bounds_of_parts(self.weight, number)]

    def _part(self, part: slice) -> "SequenceBatch":
        lengths = self.lengths[part]
        y = None if self.y is None else self.y[part]
        return SequenceBatch(self.x[: max(lengths), part], lengths, y, self.rows[part])


def padded(sequences: Sequence[HostArray], value: float = 0) -> HostArray:
    """Sequences (T_b, ...) of one dtype as one array (T, B, ...), with a value after the end of each.

    >>> import numpy as np
    >>> padded([np.ones((2, 1)), np.ones((1, 1))])[:, :, 0].tolist()
    [[1.0, 1.0], [1.0, 0.0]]
    >>> padded([np.array([3, 4]), np.array([5])], -100).tolist()
    [[3, 5], [4, -100]]
    """
    first = sequences[0]
    shape = (max(map(len, sequences)), len(sequences), *first.shape[1:])
    together: HostArray = np.full(shape, value, first.dtype)
    for column, sequence in enumerate(sequences):
        together[: len(sequence), column] = sequence
    return together


class SequenceBatches:
    """Batches of sequences of different lengths, each padded to its longest, in a new order in each epoch.

    Sequences of similar lengths are put together, so that little is padded: an epoch shuffles the sequences, sorts them
    by length within every `bucket` batches, and shuffles the batches. The order depends on the seed and the number of
    the epoch alone.

    Args:
        sequences: arrays (T_b, F), at least one step each. If their dtypes differ, they are converted to one, as the
            operands of an op are: integers and float32 to float32.
        targets: a target of each sequence, (N, ...), or None.
        batch_size: the number of sequences in a batch; the last one may have fewer.
        shuffle: False keeps the given order, without regard to lengths.
        bucket: the number of batches within which sequences are sorted by length.
        seed: of the order.

    Raises:
        ValueError: there is no sequence, a sequence is empty, of a different width or not of numbers, or the number of
            targets is different.

    >>> import numpy as np
    >>> batches = SequenceBatches([np.ones((n, 2), "f") for n in (5, 3, 4)], np.array([0, 1, 0]), batch_size=2)
    >>> len(batches), sorted(length for batch in batches for length in batch.lengths)
    (2, [3, 4, 5])
    """

    def __init__(
        self,
        sequences: Sequence[Any],
        targets: Any = None,
        batch_size: int = 32,
        shuffle: bool = True,
        bucket: int = 50,
        seed: int = 0,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("bucket", bucket)):
            if value < 1:
                raise ValueError(f"SequenceBatches: expected {name} to be at least 1, got {value}")
        self._sequences = [np.asarray(sequence) for sequence in sequences]
        try:
            self._targets = None if targets is None else np.asarray(targets)
        except ValueError as error:
            raise ValueError(
                "SequenceBatches: the targets differ in shape; expected targets of one shape. If each step has a "
                "target, pad them in the loss: `rows` of a batch says which ones it needs"
            ) from error
        self._check()
        dtype = promoted_dtype({sequence.dtype for sequence in self._sequences})
        self._sequences = [sequence.astype(dtype, copy=False) for sequence in self._sequences]
        self._lengths = np.array([len(sequence) for sequence in self._sequences])
        self.batch_size, self._shuffle, self._bucket, self._seed = batch_size, shuffle, bucket, seed

    def _check(self) -> None:
        if not self._sequences:
            raise ValueError("SequenceBatches: there are no sequences; expected at least one")
        with naming_file("SequenceBatches"):
            check_shapes(self._sequences, "sequence {}".format)
        if self._targets is not None and self._targets.shape[:1] != (len(self._sequences),):
            raise ValueError(
                f"SequenceBatches: targets of shape {self._targets.shape} for {len(self._sequences)} sequences; "
                "expected one for each"
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return -(-len(self._sequences) // self.batch_size)

    def __iter__(self) -> Iterator[SequenceBatch]:
        return self.epoch(0)

    def epoch(self, number: int, start: int = 0) -> Iterator[SequenceBatch]:
        """The batches of an epoch, from a position on."""
        return map(self._batch, self._rows(number)[start:])

    def _rows(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """The rows of each batch."""
        size, rows = self.batch_size, np.arange(len(self._sequences))
        if not self._shuffle:
            return [rows[k : k + size] for k in range(0, len(rows), size)]
        rng = np.random.default_rng((self._seed, epoch))
        rng.shuffle(rows)
        pools = [rows[k : k + size * self._bucket] for k in range(0, len(rows), size * self._bucket)]
        pools = [pool[np.argsort(self._lengths[pool], kind="stable")] for pool in pools]
        batches = [pool[k : k + size] for pool in pools for k in range(0, len(pool), size)]
        return [batches[k] for k in rng.permutation(len(batches))]

    def _batch(self, rows: npt.NDArray[np.int64]) -> SequenceBatch:
        return SequenceBatch(
            padded([self._sequences[row] for row in rows]),
            self._lengths[rows].tolist(),
            None if self._targets is None else self._targets[rows],
            rows,
        )
