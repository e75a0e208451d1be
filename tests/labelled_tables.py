"""Tables of labelled sequences, for tests of `fit` and `predict`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

__all__ = ["LONG", "QUICK", "long_table", "rows_of", "wide_table", "written"]

LONG = ["--id", "id", "--time", "t", "--target", "y"]
QUICK = ["--hidden", "6", "--epochs", "4", "--batch", "8"]

Row = list[object]


def rows_of(label: Callable[[int, np.ndarray], object], number: int = 24, seed: int = 0) -> Iterator[Row]:
    """The rows id, t, left, right, y of sequences of 3 to 8 steps, around 0 or around 1."""
    rng = np.random.default_rng(seed)
    for k in range(number):
        values = rng.normal(scale=0.5, size=(rng.integers(3, 9), 2)) + k % 2
        for t, (left, right) in enumerate(values.round(3).tolist()):
            yield [f"s{k}", t / 10, left, right, label(k, values)]


def written(path: Path, head: list[str], rows: list[Row] | Iterator[Row]) -> Path:
    path.write_text("\n".join(",".join(map(str, row)) for row in [head, *rows]) + "\n", encoding="utf-8")
    return path


def long_table(path: Path, number: int = 24, seed: int = 0) -> Path:
    """A long table whose classes are "low" and "high"."""
    rows = rows_of(lambda k, values: ("low", "high")[k % 2], number, seed)
    return written(path, ["id", "t", "left", "right", "y"], rows)


def wide_table(path: Path, number: int = 24, seed: int = 0) -> Path:
    """A wide table of sequences of 4 to 6 steps, whose target is a number."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for _ in range(number):
        values = rng.normal(size=rng.integers(4, 7)).round(3)
        cells = [*values.tolist(), "", ""][:6]
        rows.append([*cells, *[""] * (6 - len(cells)), round(100 + 10 * float(values.sum()), 3)])
    return written(path, [*(f"v{k}" for k in range(6)), "y"], rows)
