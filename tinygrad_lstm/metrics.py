"""Reads and plots the metrics.jsonl of a training run."""

import json
from pathlib import Path
from typing import Any

from .files import read_file

__all__ = ["plot_lines", "plot_metrics", "read_metrics"]

VALIDATION = "validation_"
"""How the names of a validation's values begin in the lines."""


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, without an incomplete last line; an empty list if the file is missing.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is a pipe or a device, or a line is not in the format of `Trainer`; the message names the file
            and the line.
    """
    path = Path(path)
    *lines, _ = read_file(path).split(b"\n") if path.exists() else [b""]
    return [_metrics_line(line, f"{path}: line {number}") for number, line in enumerate(lines, 1)]


def _metrics_line(text: bytes, place: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    numbers, optional = ("step", "loss"), "validation_loss"
    if (
        not isinstance(line, dict)
        or not all(_is_number(line.get(name)) for name in numbers)
        or not (optional in line and (line[optional] is None or _is_number(line[optional])))
    ):
        raise ValueError(f"{place} is not a line of metrics; remove it, or the file")
    return line


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plot_metrics(metrics: str | Path, path: str | Path, unit: str = "nats a character") -> Path | None:
    """Plots a metrics.jsonl, as `plot_lines`.

    Returns:
        The path, or None if matplotlib is not installed or there are no metrics.
    """
    from .inspect.plots import PlotsUnavailableError

    lines = read_metrics(metrics)
    if not lines:
        return None
    try:
        plot_lines(lines, path, unit)
    except PlotsUnavailableError:
        return None
    return Path(path)


def plot_lines(lines: list[dict[str, Any]], path: str | Path, unit: str) -> None:
    """Plots lines of metrics to a PNG, which is written atomically: the losses, and each metric of the validations.

    Raises:
        PlotsUnavailableError: matplotlib is not installed.
    """
    from .inspect.plots import new_figure, plot_losses, plot_validation, write_figure

    keys = dict.fromkeys(key for line in lines for key, value in line.items() if _is_number(value))
    names = [key.removeprefix(VALIDATION) for key in keys if key.startswith(VALIDATION)]
    metrics = [name for name in names if name != "loss"]
    figure = new_figure(height=4 + 2 * len(metrics))
    axes = figure.subplots(1 + len(metrics), sharex=True, squeeze=False, height_ratios=[2, *[1] * len(metrics)])[:, 0]
    plot_losses({"": lines}, axes[0], unit)
    for name, ax in zip(metrics, axes[1:]):
        plot_validation(lines, name, ax)
    for ax in axes:
        ax.label_outer()
    write_figure(path, figure, dpi=120)
