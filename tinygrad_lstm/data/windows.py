"""Windows over long series, for forecasts."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..io.errors import naming_file
from .checking import check_shapes
from .sequences import SequenceBatch

__all__ = ["SeriesWindows"]


class SeriesWindows:
    """Batches of windows over series: the steps of a window are the input, and the steps after it the target.

    A window begins at every `stride`-th step of a series, as long as it and its target are within the series. Windows
    are cut out when their batch is made, so the series are not copied; they may be memory-mapped. The order of an epoch
    depends on the seed and the number of the epoch alone.

    Args:
        series: an array (T, F) or (T,), such as a DataFrame; or several of one width F.
        length: the steps of a window.
        horizon: the steps after it that are the target.
        stride: the steps from the beginning of a window to that of the next one.
        targets: the positions of the features that are predicted; by default all.
        batch_size: the number of windows in a batch; the last one may have fewer.
        shuffle: False keeps the order of the series and of time.
        seed: of the order.

    Raises:
        ValueError: a number is below 1, the series differ in width, a target is not a feature, or all series are too
            short for a window and its target.

    >>> import numpy as np
    >>> windows = SeriesWindows(np.arange(10.0), length=4, horizon=2, stride=2, batch_size=2, shuffle=False)
    >>> batch = next(iter(windows))
    >>> batch.x[:, :, 0].T.tolist(), batch.y[:, :, 0].tolist()
    ([[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0]], [[4.0, 5.0], [6.0, 7.0]])
    """

    def __init__(
        self,
        series: Any,
        length: int,
        horizon: int = 1,
        stride: int = 1,
        targets: Sequence[int] | None = None,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        settings = {"length": length, "horizon": horizon, "stride": stride, "batch_size": batch_size}
        for name, value in settings.items():
            if value < 1:
                raise ValueError(f"SeriesWindows: expected {name} to be at least 1, got {value}")
        given = [series] if hasattr(series, "ndim") else list(series)
        arrays = map(np.asanyarray, given)
        self._series = [each[:, None] if each.ndim == 1 else each for each in arrays]
        self._length, self._horizon, self._stride, self.batch_size = length, horizon, stride, batch_size
        self._shuffle, self._seed = shuffle, seed
        with naming_file("SeriesWindows"):
            check_shapes(self._series, "series {}".format, empty=True)
        width = self._series[0].shape[1] if self._series else 0
        self._targets = None if targets is None else list(targets)
        for target in self._targets or ():
            if not 0 <= target < width:
                raise ValueError(f"SeriesWindows: expected targets from 0 to {width - 1}, got {target}")
        numbers = [max(0, (len(each) - length - horizon) // stride + 1) for each in self._series]
        self._ends = np.cumsum(numbers, dtype=np.int64)
        if not sum(numbers):
            raise ValueError(
                f"SeriesWindows: the longest of {len(given)} series has {max(map(len, self._series), default=0)} "
                f"steps; expected at least {length + horizon}, for a window and its target"
            )

    @property
    def number(self) -> int:
        """The number of windows."""
        return int(self._ends[-1])

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return -(-self.number // self.batch_size)

    def __iter__(self) -> Iterator[SequenceBatch]:
        return self.epoch(0)

    def place(self, window: int) -> tuple[int, int]:
        """The number of the series of a window, and the step where it begins."""
        series = int(np.searchsorted(self._ends, window, side="right"))
        before = int(self._ends[series - 1]) if series else 0
        return series, (int(window) - before) * self._stride

    def epoch(self, number: int, start: int = 0) -> Iterator[SequenceBatch]:
        """The batches of an epoch, from a position on. `rows` of a batch are the numbers of its windows."""
        rows = np.arange(self.number)
        if self._shuffle:
            np.random.default_rng((self._seed, number)).shuffle(rows)
        for batch in range(start, len(self)):
            yield self._batch(rows[batch * self.batch_size : (batch + 1) * self.batch_size])

    def _batch(self, rows: npt.NDArray[np.int64]) -> SequenceBatch:
        inputs, targets = [], []
        for row in rows:
            series, begin = self.place(row)
            end = begin + self._length
            inputs.append(self._series[series][begin:end])
            after = self._series[series][end : end + self._horizon]
            targets.append(after if self._targets is None else after[:, self._targets])
        return SequenceBatch(np.stack(inputs, axis=1), [self._length] * len(rows), np.stack(targets), rows)
