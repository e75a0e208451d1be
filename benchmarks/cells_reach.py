"""What `cells.py` measured, beside what it should reach."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cells_start import Start
from harness import ratio
from lstm_data import Sizes


class Measured(NamedTuple):
    """Seconds of each side, turn by turn; None if the cell was not timed."""

    label: str
    sizes: Sizes
    threads: int
    seconds: Mapping[str, Sequence[float]] | None

    def __str__(self) -> str:
        return f"{self.label} {self.sizes} {self.threads} thread{'s' * (self.threads > 1)}"


def print_reach(measured: Sequence[Measured], found: Mapping[str, Start]) -> None:
    """Prints a line for each aim: how many reach it, and which do not."""
    print("\n### Reach\n")
    for measure in measured:
        if measure.seconds is None:
            print(f"- not timed: {measure}")
    small = [measure for measure in measured if measure.sizes.B <= 16]
    reach_of_ratios("compiled", "torch loop", 0.5, measured)
    reach_of_ratios("NumPy", "torch loop", 1.0, small, ", where B <= 16")
    reach_of_ratios("compiled", "jax scan", 0.8, measured)
    for name, limit in (("cold", 1.0), ("warm", 0.05)):
        seconds = [(cell, getattr(start, name)) for cell, start in found.items()]
        print_line(f"a new cell is ready, {name}, in at most {limit} s", seconds, limit)


def reach_of_ratios(ours: str, theirs: str, limit: float, measured: Iterable[Measured], where: str = "") -> None:
    """Prints the line of a ratio."""
    ratios = [
        (str(measure), ratio(measure.seconds[ours], measure.seconds[theirs]))
        for measure in measured
        if measure.seconds is not None and ours in measure.seconds and theirs in measure.seconds
    ]
    print_line(f"{ours} divided by {theirs}, at most {limit}{where}", ratios, limit)


def print_line(aim: str, values: Sequence[tuple[str, float]], limit: float) -> None:
    """Prints how many values are within a limit, and those that are not, the largest first. No values, no line."""
    if not values:
        return
    missed = sorted(((value, label) for label, value in values if not value <= limit), reverse=True)
    median = statistics.median(value for _, value in values)
    print(f"- {aim}: {len(values) - len(missed)} of {len(values)}, median {median:.3g}")
    for value, label in missed:
        print(f"    - {label}: {value:.3g}")
