"""The inputs and outputs of a model that have numbers for each step, which the page draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from .layers import LayerTrace, Trace
from .tokens import Tokens

__all__ = ["MOST_COLUMNS", "Series", "input_names", "results_of", "series_of"]

MOST_COLUMNS = 32
"""The most columns of an input or output that are drawn."""
MOST_RESULTS = 12
"""The most numbers that are shown of an output without steps."""


@dataclass(frozen=True, eq=False)
class Series:
    """An input or output of a model.

    Attributes:
        side: "input" or "output".
        name: its name.
        columns: the names of the columns that are drawn; numbers if they have none.
        rows: its numbers, (T, B, columns).
        total: the number of columns that it has.
        per_step: how many numbers it has for each step. If several, the rows are the lowest and highest, or the means.
    """

    side: str
    name: str
    columns: tuple[str, ...]
    rows: HostArray
    total: int
    per_step: int

    def described(self) -> dict[str, Any]:
        """What the page needs of it, without its numbers."""
        return {
            "side": self.side,
            "name": self.name,
            "columns": self.columns,
            "length": len(self.rows),
            "total": self.total,
            "perStep": self.per_step,
        }


def series_of(trace: Trace, tokens: Tokens | None, names: Mapping[str, Sequence[str]]) -> list[Series]:
    """The inputs and outputs with numbers for each step and sequence of the first layer.

    Without ids that are shown as tokens, the predictions of these, and outputs that are the state of a layer.

    Args:
        names: the names of the columns of some inputs and outputs.

    Raises:
        ValueError: `names` has an unknown input or output, or not a name for each of its columns.
    """
    if unknown := names.keys() - trace.all_inputs.keys() - trace.all_outputs.keys():
        known = ", ".join([*trace.all_inputs, *trace.all_outputs])
        raise ValueError(f"page: names has {min(unknown)!r}; the inputs and outputs are {known}")
    shape, found = trace.layers[0].shape[:2], list[Series]()
    for side, arrays in (("input", trace.all_inputs), ("output", trace.all_outputs)):
        for name, array in arrays.items():
            given, rows = names.get(name), _rows(side, array, *shape, trace.batch_first)
            if rows is None:
                continue
            if given is not None and rows.shape[2] != len(given):
                raise ValueError(f"page: {name!r} has {rows.shape[2]} columns, and names has {len(given)} names for it")
            if not _is_shown_already(side, name, rows, trace, tokens):
                per_step = len(rows) // shape[0]
                rows, ends = _by_step(rows, shape[0])
                columns = ends or tuple(map(str, range(rows.shape[2]) if given is None else given))
                shown = slice(0, MOST_COLUMNS)
                found.append(Series(side, name, columns[shown], rows[:, :, shown], rows.shape[2], per_step))
    return found


def _rows(side: str, array: HostArray, T: int, B: int, batch_first: bool) -> HostArray | None:
    """An array as (steps, B, columns), if it has numbers for each of T steps and each sequence.

    An input may have more steps, of which the model makes T.
    """
    if array.ndim == 2:
        # Of one sequence, the second dimension of (T, C) may be columns.
        array = array[:, None] if B == 1 and len(array) == T else array[:, :, None]
    if array.ndim != 3 or not array.size:
        return None
    # Time first, batch first, or batch first with time last; what the layers have is tried first.
    ways = [array.transpose(way) for way in ((0, 1, 2), (1, 0, 2), (2, 0, 1))]
    if batch_first:
        ways[:2] = ways[1::-1]
    fitting = [
        rows for rows in ways if rows.shape[1] == B and (len(rows) == T or (side == "input" and len(rows) >= 2 * T > 2))
    ]
    return max(fitting, key=lambda rows: len(rows) == T, default=None)


def _by_step(rows: HostArray, T: int) -> tuple[HostArray, tuple[str, ...]]:
    """For each of T steps, the lowest and highest number of a series that has more of them, or the means of columns.

    Returns:
        The numbers (T, B, columns); the names of the columns, if they have different names from those of the series.
    """
    if len(rows) == T:
        return rows, ()
    rows = rows.astype(np.float64)
    starts = -(-np.arange(T) * len(rows) // T)  # of a sound, the samples that are heard during the step
    if rows.shape[2] > 1:
        counts = np.diff(starts, append=len(rows))
        return np.add.reduceat(rows, starts) / counts[:, None, None], ()
    ends = [reduce.reduceat(rows, starts) for reduce in (np.minimum, np.maximum)]
    return np.concatenate(ends, axis=2), ("lowest", "highest")


def _is_shown_already(side: str, name: str, rows: HostArray, trace: Trace, tokens: Tokens | None) -> bool:
    if side == "input":
        return tokens is not None and trace.all_inputs[name] is trace.inputs
    if tokens is not None and tokens.logits is not None and trace.output is not None:
        return rows.shape == tokens.logits.shape and name == next(iter(trace.all_outputs))
    return any(
        rows.shape == state.shape and np.array_equal(rows, state, equal_nan=True)
        for layer in trace.layers
        for state in (layer.values[state] for state in layer.before)
    )


def results_of(trace: Trace, items: Sequence[int]) -> list[list[dict[str, Any]]]:
    """For each of some sequences, the first numbers of the outputs that have a row for each sequence, without steps."""
    T, B, _ = trace.layers[0].shape
    rows = {
        name: array.reshape(B, -1)[:, :MOST_RESULTS].astype(np.float64)
        for name, array in trace.all_outputs.items()
        if array.ndim in (1, 2) and len(array) == B and _rows("output", array, T, B, trace.batch_first) is None
    }
    return [
        [
            {"name": name, "total": trace.all_outputs[name][b].size, "values": [_number(value) for value in array[b]]}
            for name, array in rows.items()
        ]
        for b in items
    ]


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def input_names(layer: LayerTrace, series: Sequence[Series]) -> tuple[str, ...]:
    """The names of the columns of a layer's inputs, if these are an input of the model."""
    for each in series:
        if each.side == "input" and each.rows.shape == layer.inputs.shape and np.array_equal(each.rows, layer.inputs):
            return each.columns
    return ()
