"""What a search has found, for the terminal and in files."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..inspect.plots import COLOURS, PlotsUnavailableError, new_figure, write_figure
from ..inspect.tables import aligned
from .predictions import write_rows
from .search_space import Choice, Range, Space
from .search_study import Record

__all__ = ["best_of", "counted", "outcomes", "table", "write_search", "written"]

SHOWN = 10
"""The largest number of trials in the table on the terminal."""
PANELS = 3
"""Panels in a row of the picture."""
FAR = 20
"""The losses have a logarithmic axis if the highest is so many times the lowest."""


def best_of(records: Sequence[Record]) -> Record:
    """The finished trial with the lowest validation loss.

    Raises:
        ValueError: no trial has finished; the message says what became of them.
    """
    found = [each for each in _sorted(records) if each.outcome == "finished"]
    if not found:
        reasons = [f"; trial {each.number} failed: {each.reason}" for each in records if each.reason]
        what = f"{outcomes(records)}{reasons[0] if reasons else ''}"
        raise ValueError(f"no trial has finished: {what}; search other values with --space, in a different --out")
    return found[0]


def outcomes(records: Sequence[Record]) -> str:
    """How many trials have ended in which way.

    >>> outcomes([Record(k, {}, "finished", 1.0, {}, 1, 1.0, "") for k in range(2)])
    '2 finished'
    """
    counts = Counter(each.outcome for each in records)
    return ", ".join(f"{number} {outcome}" for outcome, number in counts.most_common())


def _sorted(records: Sequence[Record]) -> list[Record]:
    """Finished trials first, then by the loss, and equal ones by the number."""

    def key(each: Record) -> tuple[bool, bool, float, int]:
        return each.outcome != "finished", each.loss is None, each.loss or 0.0, each.number

    return sorted(records, key=key)


def counted(number: int, what: str, several: str | None = None) -> str:
    """A number of things, as in 1 trial, 2 trials."""
    return f"{number} {what if number == 1 else several or what + 's'}"


def written(values: Mapping[str, Any]) -> str:
    """The options of a trial in a line."""
    return " ".join(f"{name.replace('_', '-')}={_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def table(records: Sequence[Record], space: Space) -> str:
    """The best trials and their options."""
    head = ["trial", "validation", *(name.replace("_", "-") for name in space), "steps", "outcome"]
    return aligned([head, *_rows(_sorted(records)[:SHOWN], space, ".4f")])


def _rows(records: Sequence[Record], space: Space, form: str) -> Iterator[list[str]]:
    for each in records:
        loss = "" if each.loss is None else format(each.loss, form)
        values = [_value(each.values[name]) if name in each.values else "" for name in space]
        yield [str(each.number), loss, *values, str(each.step) if each.step else "", each.outcome]


def write_search(records: Sequence[Record], space: Space, folder: Path) -> list[Path]:
    """Writes the table of all trials, and a picture if matplotlib is installed. Returns the files.

    Raises:
        OSError: one cannot be written.
    """
    head = ["trial", "validation", *space, "steps", "outcome", "seconds"]
    rows = [[*row, f"{each.seconds:g}"] for row, each in zip(_rows(records, space, ".8g"), records, strict=True)]
    files = [folder / "trials.csv", folder / "search.png"]
    write_rows(files[0], iter([head, *rows]))
    try:
        _draw(records, space, files[1])
    except PlotsUnavailableError:
        return files[:1]
    return files


def _draw(records: Sequence[Record], space: Space, path: Path) -> None:
    """Draws the validation losses of the trials, and their lowest ones over each option."""
    best, drawn = best_of(records), [each for each in records if each.losses]
    number = 1 + len(space)
    rows = -(-number // PANELS)
    figure = new_figure(11, 3 * rows)
    panels = figure.subplots(rows, PANELS, squeeze=False).ravel()
    for each in drawn:
        numbers = sorted(each.losses)
        lowest = list(accumulate((each.losses[number] for number in numbers), min))
        colour, width = _look(each, best)
        panels[0].plot(numbers, lowest, marker=".", color=colour, linewidth=width, zorder=2 + (each is best))
    panels[0].set_xlabel("validation")
    for ax, (name, values) in zip(panels[1:], space.items(), strict=False):
        _draw_option(ax, name, values, drawn, best)
    losses = sorted(each.loss for each in drawn if each.loss is not None)
    top = losses[0] + 3 * (losses[3 * len(losses) // 4] - losses[0])
    for k, ax in enumerate(panels):
        ax.set_visible(k < number)
        ax.set_ylabel("lowest validation loss" if k % PANELS == 0 else "")
        if losses[-1] > FAR * losses[0] > 0:
            ax.set_yscale("log")
        elif top < losses[-1]:  # a few very bad trials would hide the differences of all others
            ax.set_ylim(losses[0] - 0.05 * (top - losses[0]), top)
    write_figure(path, figure, dpi=120)


def _draw_option(ax: Any, name: str, values: Choice | Range, records: Sequence[Record], best: Record) -> None:
    """Draws the lowest loss of each trial over its value of an option."""
    if isinstance(values, Choice):
        ax.set_xticks(range(len(values.values)), [_value(value) for value in values.values])
        ax.margins(x=0.2)
    elif values.log:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter("")
        ax.set_xticks(values.values, [f"{end:g}" for end in values.values])
        ax.set_xlim(values.low / 1.1, values.high * 1.1)
    for each in records:
        value = each.values[name]
        place = values.values.index(value) if isinstance(values, Choice) else value
        shape = "o" if each.outcome == "finished" else "x"
        ax.plot(place, each.loss, shape, color=_look(each, best)[0], zorder=2 + (each is best))
    ax.set_xlabel(name.replace("_", "-"))


def _look(record: Record, best: Record) -> tuple[str, float]:
    """The colour of a trial, and the width of its line."""
    if record is best:
        return COLOURS[1], 2.0
    return (COLOURS[0], 1.0) if record.outcome == "finished" else ("#999999", 0.7)
