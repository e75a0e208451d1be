"""The inputs and outputs of a model that have numbers for each step, which the page draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from .layers import LayerTrace, Trace
from .tokens import Tokens

__all__ = ["MOST_COLUMNS", "Series", "input_names", "series_of"]

MOST_COLUMNS = 32
"""The most columns of an input or output that are drawn."""


@dataclass(frozen=True, eq=False)
class Series:
    """An input or output of a model.

    Attributes:
        side: "input" or "output".
        name: its name.
        columns: the names of the columns that are drawn; numbers if they have none.
        rows: its numbers, (T, B, columns).
        total: the number of columns that it has.
    """

    side: str
    name: str
    columns: tuple[str, ...]
    rows: HostArray
    total: int

    def described(self) -> dict[str, Any]:
        """What the page needs of it, without its numbers."""
        return {
            "side": self.side,
            "name": self.name,
            "columns": self.columns,
            "length": len(self.rows),
            "total": self.total,
        }


def series_of(trace: Trace, tokens: Tokens | None, names: Mapping[str, Sequence[str]]) -> list[Series]:
    """The inputs and outputs with a number for each step and sequence of the first layer.

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
            rows = _rows(array, *shape, trace.batch_first)
            given = names.get(name)
            if rows is None:
                continue
            if given is not None and rows.shape[2] != len(given):
                raise ValueError(f"page: {name!r} has {rows.shape[2]} columns, and names has {len(given)} names for it")
            if not _is_shown_already(side, name, rows, trace, tokens):
                columns = tuple(map(str, range(rows.shape[2]) if given is None else given))
                shown = slice(0, MOST_COLUMNS)
                found.append(Series(side, name, columns[shown], rows[:, :, shown], rows.shape[2]))
    return found


def _rows(array: HostArray, T: int, B: int, batch_first: bool) -> HostArray | None:
    """An array as (T, B, columns), if it has numbers for each step and sequence."""
    if array.ndim == 2:
        # Of one sequence, the second dimension of (T, C) may be columns.
        array = array[:, None] if B == 1 and len(array) == T else array[:, :, None]
    if array.ndim != 3 or not array.size:
        return None
    ways = {(0, 1, 2): batch_first, (1, 0, 2): not batch_first, (2, 0, 1): True}
    for way in sorted(ways, key=lambda each: (each[0] == 2, ways[each])):
        rows = array.transpose(way)
        if rows.shape[:2] == (T, B):
            return rows
    return None


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


def input_names(layer: LayerTrace, series: Sequence[Series]) -> tuple[str, ...]:
    """The names of the columns of a layer's inputs, if these are an input of the model."""
    for each in series:
        if each.side == "input" and each.rows.shape == layer.inputs.shape and np.array_equal(each.rows, layer.inputs):
            return each.columns
    return ()
