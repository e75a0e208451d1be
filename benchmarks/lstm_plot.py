"""Draws what `lstm.py` measured: how time grows with each size, and how each shape compares."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from harness import ratio
from lstm_data import Sizes

COLOURS = {"compiled": "tab:blue", "NumPy": "tab:orange", "torch": "tab:red"}
BEHIND_LABELS = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
SIZE_NAMES = {"T": "T, steps", "B": "B, batch", "H": "H, hidden size"}


class Row(Protocol):
    """A row of a table, as `lstm.py` has it."""

    @property
    def section(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def sizes(self) -> Sizes: ...
    @property
    def figures(self) -> dict[str, list[float] | None]: ...


def plot(rows: Sequence[Row], base: Sizes, path: Path) -> None:
    """A row of panels for each number of threads: time over T, B and H from `base` on, and the shapes' ratios."""
    from matplotlib.figure import Figure

    growth = [row for row in rows if row.section == "growth"]
    shapes = [row for row in rows if row.section == "backward" and row.figures["torch"]]
    threads = sorted({row.threads for row in [*growth, *shapes]})
    widths = [1.0] * 3 * bool(growth) + [1.8] * bool(shapes)
    figure = Figure(figsize=(4 * sum(widths), 3.8 * len(threads)), layout="constrained")
    grid = figure.subplots(len(threads), len(widths), squeeze=False, width_ratios=widths)
    for number, panels in zip(threads, grid, strict=True):
        title = f"{number} thread{'s' * (number > 1)}"
        for name, panel in zip(SIZE_NAMES if growth else [], panels, strict=False):
            _draw_growth(panel, [row for row in growth if row.threads == number], base, name)
            panel.set_title(f"{title}, the rest of (T, B, I, H) = {base}", fontsize=9)
        if shapes:
            _draw_ratios(panels[-1], [row for row in shapes if row.threads == number])
            panels[-1].set_title(title, fontsize=9)
    figure.suptitle("LSTM, forward and backward, float32, on the CPU")
    figure.savefig(path, dpi=130)


def _draw_growth(panel: Any, rows: Sequence[Row], base: Sizes, name: str) -> None:
    """Lines over the size of that name, of the rows in which no other differs from `base`."""
    only = [row for row in rows if row.sizes._replace(**{name: getattr(base, name)}) == base]
    at = [getattr(row.sizes, name) for row in only]
    for side, colour in COLOURS.items():
        figures = [row.figures[side] for row in only]
        milliseconds = [1e3 * statistics.median(figure) for figure in figures if figure]
        if milliseconds:
            panel.plot(at, milliseconds, "o-", color=colour, label=side)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=2)
    panel.set_xticks(at, [str(size) for size in at])
    panel.yaxis.set_major_formatter("{x:g}")
    panel.set_xlabel(SIZE_NAMES[name])
    panel.set_ylabel("ms")
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)


def _draw_ratios(panel: Any, rows: Sequence[Row]) -> None:
    """For each shape a bar for each of our sides, its time by torch's, and a mark for the products'."""
    width = 0.38
    for k, side in enumerate(["compiled", "NumPy"]):
        ratios = [ratio(row.figures[side], row.figures["torch"]) for row in rows]
        bars = panel.bar([i + (k - 0.5) * width for i in range(len(rows))], ratios, width, color=COLOURS[side])
        panel.bar_label(bars, fmt="%.2f", fontsize=8, padding=1, bbox=BEHIND_LABELS)
        bars.set_label(side)
    floors = [ratio(row.figures["products"], row.figures["torch"]) for row in rows]
    panel.hlines(floors, [i - width for i in range(len(rows))], [i + width for i in range(len(rows))],
                 color="black", linewidth=2, label="matrix products alone")  # fmt: skip
    panel.axhline(1, color=COLOURS["torch"], linestyle="--", label="torch")
    panel.set_xticks(range(len(rows)), [str(row.sizes).replace(" ", "") for row in rows], rotation=20, fontsize=8)
    panel.set_xlabel("(T, B, I, H)")
    panel.set_ylabel("time divided by torch's")
    panel.margins(y=0.15)
    panel.legend(frameon=False, fontsize=8)
