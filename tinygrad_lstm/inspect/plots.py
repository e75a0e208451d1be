"""Plots of traces, gradient flow and losses with matplotlib (the extra `plot`), imported when a plot is made.

Each function draws into the given `ax`, or into that of a new figure, and returns it; its `.figure.savefig(path)`
writes it. No display is needed, and pyplot is not used. Colours are those of Okabe & Ito (2008). Curves also differ in
line style and marker, so that they can be told apart by colour-blind readers and in grey.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tinygrad_lstm.backends.installing import how_to_install

from ..io.atomic import write_atomically
from .flow import FlowCurve, GradientFlow
from .layers import LayerTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch

__all__ = [
    "PlotsUnavailableError",
    "new_figure",
    "plot_cell_states",
    "plot_gates",
    "plot_gradient_flow",
    "plot_losses",
    "plot_saturation",
    "plot_text",
    "write_figure",
]

COLOURS = ("#0072b2", "#d55e00", "#000000", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
LINES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), ":", "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class PlotsUnavailableError(RuntimeError):
    """matplotlib is not installed."""


def new_figure(width: float = 7, height: float = 4) -> "Figure":
    """An empty figure of a size in inches, without pyplot.

    Raises:
        PlotsUnavailableError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotsUnavailableError(f"plots need matplotlib: {how_to_install('plot')}") from error
    return Figure(figsize=(width, height), layout="constrained")


def write_figure(path: str | Path, figure: "Figure", dpi: float | None = None) -> None:
    """Writes a figure atomically, in the format of the path's suffix (PNG without one).

    Raises:
        ValueError: matplotlib does not know the format.
        OSError: the path cannot be written.
    """
    picture = BytesIO()
    figure.savefig(picture, format=Path(path).suffix.lstrip(".") or "png", dpi=dpi or figure.dpi)
    write_atomically(path, picture.getvalue())


def plot_gates(layer: LayerTrace, unit: int, ax: "Axes | None" = None, *, item: int = 0) -> "Axes":
    """The gates of one unit over time, each in its own lane from 0 (shut) to 1 (open).

    Args:
        layer: a layer of a trace.
        unit: which of its H units.
        ax: where to draw.
        item: which of the B sequences.

    Raises:
        ValueError: the layer has no gates, or no such unit or sequence.
        TypeError: `layer` is not a layer of a trace.
        PlotsUnavailableError: matplotlib is not installed.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM
    >>> traced = tg.inspect.trace(LSTM(3, 5), tg.randn(7, 2, 3))
    >>> plot_gates(traced["l0"], unit=4).get_xlabel()
    'time (steps)'
    """
    _check_gates("plot_gates", layer)
    _check("plot_gates", "unit", unit, min(layer.values[gate].shape[2] for gate in layer.gates))
    steps = _steps("plot_gates", layer, item)
    ax = _axes(ax)
    feet = np.arange(len(layer.gates))[::-1] * 1.25  # the first gate's lane is the uppermost
    for gate, foot, colour in zip(layer.gates, feet, cycle(COLOURS)):
        values = layer.values[gate][steps, item, unit].astype(np.float64)
        ax.fill_between(steps, foot, foot + values, color=colour, alpha=0.3, linewidth=0)
        ax.plot(steps, foot + values, color=colour, linewidth=1)
        ax.axhline(foot, color="0.4", linewidth=0.8)
        ax.axhline(foot + 1, color="0.4", linewidth=0.8, linestyle=":")
    ax.set_yticks([*feet, *feet + 1], ["0"] * len(feet) + ["1"] * len(feet))
    ax.set_yticks(feet + 0.5, [layer.named(gate) for gate in layer.gates], minor=True)
    ax.tick_params(axis="y", which="minor", length=0, pad=16)
    ax.set(xlabel="time (steps)", ylabel="activation", title=f"{layer.name}, unit {unit}")
    ax.margins(x=0)
    return ax


def plot_cell_states(layer: LayerTrace, ax: "Axes | None" = None, *, item: int = 0) -> "Axes":
    """The cell states of all units over time as a heat map; the hidden states of a layer without cell states.

    Args:
        layer: a layer of a trace.
        ax: where to draw.
        item: which of the B sequences.

    Raises:
        ValueError: the layer has no such sequence.
        TypeError: `layer` is not a layer of a trace.
        PlotsUnavailableError: matplotlib is not installed.
    """
    _check_layer("plot_cell_states", layer)
    steps = _steps("plot_cell_states", layer, item)
    ax = _axes(ax)
    states = layer.values[layer.memory][steps, item].T.astype(np.float64)  # (H, T)
    largest = float(np.abs(states).max(initial=0)) or 1.0
    # Lightness rises monotonically, so that the scale is readable in grey; 0 is in its middle.
    image = ax.imshow(
        states, aspect="auto", interpolation="nearest", cmap="cividis", vmin=-largest, vmax=largest, origin="lower"
    )
    ax.figure.colorbar(image, ax=ax, label=layer.named(layer.memory))
    ax.set(xlabel="time (steps)", ylabel="unit", title=layer.name)
    return ax


def plot_saturation(layer: LayerTrace, ax: "Axes | None" = None) -> "Axes":
    """For every unit and gate, the share of steps at which it is nearly shut against that at which it is nearly open.

    As in Karpathy, Johnson & Fei-Fei, "Visualizing and Understanding Recurrent Networks", 2015 (arXiv:1506.02078): a
    unit at the upper left of the forget gates remembers for long; one at the lower right forgets at once; one at the
    origin is never saturated.

    Args:
        layer: a layer of a trace, preferably of a long sequence.
        ax: where to draw.

    Raises:
        ValueError: the layer has no gates.
        TypeError: `layer` is not a layer of a trace.
        PlotsUnavailableError: matplotlib is not installed.
    """
    _check_gates("plot_saturation", layer)
    ax = _axes(ax, width=5, height=5)
    ax.plot([0, 1], [1, 0], color="0.6", linewidth=0.8)  # the two shares sum to at most 1
    for gate, colour, marker in zip(layer.gates, cycle(COLOURS), cycle(MARKERS)):
        below, above = layer.saturation(gate)
        ax.plot(below, above, marker, color=colour, fillstyle="none", alpha=0.8, label=layer.named(gate), clip_on=False)
    ax.set(xlabel="share of steps below 0.1 (shut)", ylabel="share of steps above 0.9 (open)", title=layer.name)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return _finished(ax, loc="upper right")


def plot_text(
    layer: LayerTrace,
    unit: int,
    text: Sequence[str],
    ax: "Axes | None" = None,
    *,
    item: int = 0,
    steps: slice | None = None,
    width: int = 72,
) -> "Axes":
    """The text that a model read, each character coloured by the tanh of one unit's cell state after reading it.

    As in Karpathy, Johnson & Fei-Fei, "Visualizing and Understanding Recurrent Networks", 2015 (arXiv:1506.02078). For
    a layer without cell states, the hidden state takes their place. A newline starts a new line, and is shown as an
    arrow.

    Args:
        layer: a layer of a trace.
        unit: which of its H units.
        text: the string of each step, such as the characters of a string.
        ax: where to draw.
        item: which of the B sequences.
        steps: which steps to draw, all by default: `slice(0, 500)`.
        width: the largest number of characters in a line; longer lines are broken.

    Raises:
        ValueError: the layer has no such unit or sequence; the number of strings is not the number of steps; `width` is
            below 1.
        TypeError: `layer` is not a layer of a trace.
        PlotsUnavailableError: matplotlib is not installed.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM
    >>> traced = tg.inspect.trace(LSTM(3, 5), tg.randn(11, 1, 3))
    >>> plot_text(traced["l0"], 4, "hello world").get_title()
    'l0, unit 4'
    """
    _check_layer("plot_text", layer)
    _check("plot_text", "unit", unit, layer.shape[2])
    whole = _steps("plot_text", layer, item)
    if len(text) != len(whole):
        raise ValueError(f"plot_text: expected a string for each of {len(whole)} steps, got {len(text)}")
    if width < 1:
        raise ValueError(f"plot_text: expected width to be at least 1, got {width}")
    shown = slice(None) if steps is None else steps
    values = np.tanh(layer.values[layer.memory][whole[shown], item, unit].astype(np.float64))
    places = list(_places(text[shown], width))
    lines = 1 + max((row for *_, row, _ in places), default=0)
    colours = np.full((lines, width), np.nan)
    for step, _, row, column in places:
        colours[row, column] = values[step]
    ax = _axes(ax, width=9, height=1 + 0.25 * lines)
    image = ax.imshow(
        colours,
        cmap=_pale_colours(),
        vmin=-1,
        vmax=1,
        extent=(0, width, 2 * lines, 0),  # a character is twice as high as wide
        interpolation="nearest",
    )
    ax.add_patch(_letters(places))
    ax.figure.colorbar(image, ax=ax, label=f"tanh of the {layer.named(layer.memory)}")
    ax.set_axis_off()
    ax.set_title(f"{layer.name}, unit {unit}")
    return ax


def plot_gradient_flow(
    flow: GradientFlow | Mapping[str, GradientFlow], ax: "Axes | None" = None, *, relative: bool = False
) -> "Axes":
    """‖∂L/∂state‖ by distance from the last step, on a log scale, with the fitted decay rates.

    A curve ends with a cross where its norms underflow or overflow its dtype.

    Args:
        flow: a GradientFlow, of which all curves are drawn; or several by label, of which for each layer the curve of
            its memory is drawn (c, or h if there is no c).
        ax: where to draw.
        relative: divide each curve by its value at the last step.

    Raises:
        TypeError: `flow` is neither a GradientFlow nor a mapping of them.
        PlotsUnavailableError: matplotlib is not installed.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import GRU, LSTM
    >>> x, networks = tg.randn(30, 2, 3), {"a GRU": GRU(3, 5), "an LSTM": LSTM(3, 5)}
    >>> flows = {label: tg.inspect.gradient_flow(one, x, lambda out: out[-1].sum()) for label, one in networks.items()}
    >>> len(plot_gradient_flow(flows).lines)
    2
    """
    curves = list(_labelled(flow))
    ax = _axes(ax)
    for (label, curve), style in zip(curves, _styles(max((len(curve.norms) for _, curve in curves), default=0))):
        decay = curve.decay
        distances = np.arange(decay.start, decay.stop)
        if not len(distances):
            continue
        norms = curve.norms[distances] / (curve.norms[decay.start] if relative else 1)
        ax.plot(distances, norms, label=f"{label}: {decay.rate:.3f} a step", **style)
        if decay.then != "end":
            ax.plot(distances[-1], norms[-1], "x", color=style["color"], markersize=9)
    norms_of = ", ".join(f"‖∂L/∂{state}‖" for state in sorted({curve.state for _, curve in curves}, reverse=True))
    ax.set(xlabel="distance from the last step (steps)", yscale="log")
    ax.set_ylabel(f"{norms_of}, relative to the last step" if relative else norms_of)
    return _finished(ax)


def plot_losses(
    runs: Mapping[str, Sequence[float] | Sequence[Mapping[str, Any]]],
    ax: "Axes | None" = None,
    unit: str = "nats a character",
) -> "Axes":
    """The training losses of several runs, and their validation losses where there are any.

    Args:
        runs: for each label the losses of the run's steps, numbers; or the lines of its metrics, as
            `tinygrad_lstm.metrics.read_metrics` returns them.
        ax: where to draw.
        unit: that of the losses in metrics; "" if they have none.

    Raises:
        PlotsUnavailableError: matplotlib is not installed.

    >>> plot_losses({"Adam": [3.0, 1.5, 0.7], "SGD": [3.0, 2.5, 2.0]}).get_ylabel()
    'loss'
    """
    ax = _axes(ax)
    shown = ""
    for (label, losses), colour, line, marker in zip(runs.items(), cycle(COLOURS), cycle(LINES), cycle(MARKERS)):
        metrics = [entry for entry in losses if isinstance(entry, Mapping)]
        if not metrics:
            ax.plot(
                np.arange(1, len(losses) + 1),
                np.asarray(losses),
                color=colour,
                linestyle=line,
                linewidth=1.2,
                label=label,
            )
            continue
        shown = f" ({unit})" if unit else ""
        prefix = f"{label}, " if label else ""
        for name, key, style in (
            ("training", "loss", {"alpha": 0.6, "linewidth": 1}),
            ("validation", "validation_loss", {"linestyle": "--", "marker": marker}),
        ):
            known = [entry for entry in metrics if entry[key] is not None]
            if known:
                steps, values = [entry["step"] for entry in known], [entry[key] for entry in known]
                ax.plot(steps, values, color=colour, label=f"{prefix}{name}", **style)
    ax.set(xlabel="training step", ylabel=f"loss{shown}")
    return _finished(ax)


def plot_validation(metrics: Sequence[Mapping[str, Any]], name: str, ax: "Axes | None" = None) -> "Axes":
    """A value of the validations of a run, such as "accuracy", by the step.

    Args:
        metrics: the lines of the run's metrics, as `tinygrad_lstm.metrics.read_metrics` returns them.
        name: the name of the value.
        ax: where to draw.

    Raises:
        PlotsUnavailableError: matplotlib is not installed.
    """
    ax = _axes(ax)
    known = [entry for entry in metrics if isinstance(entry.get(f"validation_{name}"), int | float)]
    steps, values = [entry["step"] for entry in known], [entry[f"validation_{name}"] for entry in known]
    ax.plot(steps, values, color=COLOURS[0], linestyle="--", marker=MARKERS[0], label="validation")
    ax.set(xlabel="training step", ylabel=name)
    return _finished(ax)


def _labelled(flow: GradientFlow | Mapping[str, GradientFlow]) -> Iterator[tuple[str, FlowCurve]]:
    """The curves to draw, with their labels."""
    if isinstance(flow, GradientFlow):
        yield from ((f"{curve.layer}, {curve.state}", curve) for curve in flow)
        return
    if not isinstance(flow, Mapping):
        raise TypeError(
            f"plot_gradient_flow: expected a GradientFlow, or several by label, got {type(flow).__name__}; flow_of "
            "makes one of a trace"
        )
    for label, one in flow.items():
        several = len(one.memory) > 1
        yield from ((f"{label}, {curve.layer}" if several else label, curve) for curve in one.memory)


def _places(text: Sequence[str], width: int) -> Iterator[tuple[int, str, int, int]]:
    """Each character of the strings: the number of its string, itself, its row, and its column below `width`."""
    row = column = 0
    for step, token in enumerate(text):
        for character in token:
            if column == width:
                row, column = row + 1, 0
            yield step, character, row, column
            row, column = (row + 1, 0) if character == "\n" else (row, column + 1)


def _pale_colours() -> "Colormap":
    """Colours from negative to positive on which black letters are readable."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("pale", [COLOURS[6], "white", COLOURS[3]])


def _letters(places: Iterable[tuple[int, str, int, int]]) -> "PathPatch":
    """Characters as outlines in places 1 wide and 2 high, so that they fit at any size of the figure."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="monospace", size=text_to_path.FONT_SCALE)
    advance, *_ = text_to_path.get_text_width_height_descent("m", font, False)
    outlines = []
    for _, character, row, column in places:
        shown = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}" if character == "\n" else character
        if shown.isprintable() and not shown.isspace():
            vertices, codes = text_to_path.get_text_path(font, shown)
            outlines.append(Outline(np.array(vertices) * (1, -1) / advance + (column, 2 * row + 1.5), codes))
    return PathPatch(Outline.make_compound_path(*outlines), facecolor="black", linewidth=0)


def _axes(ax: "Axes | None", width: float = 7, height: float = 4) -> "Axes":
    return new_figure(width, height).add_subplot() if ax is None else ax


def _styles(points: int) -> Iterator[dict[str, Any]]:
    """An endless sequence of styles for curves of this number of points, about ten markers each."""
    every = max(points // 10, 1)
    for k, (colour, line, marker) in enumerate(zip(cycle(COLOURS), cycle(LINES), cycle(MARKERS))):
        first = k * every // len(MARKERS)  # markers of coinciding curves stay visible
        yield {"color": colour, "linestyle": line, "marker": marker, "markevery": (first, every), "markersize": 4}


def _finished(ax: "Axes", loc: Literal["best", "upper right"] = "best") -> "Axes":
    ax.grid(alpha=0.3)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small", loc=loc)
    return ax


def _check_layer(function: str, layer: LayerTrace) -> None:
    if not isinstance(layer, LayerTrace):
        raise TypeError(f"{function}: expected a layer of a trace, as traced[0] is, got {type(layer).__name__}")


def _check_gates(function: str, layer: LayerTrace) -> None:
    _check_layer(function, layer)
    if not layer.gates:
        raise ValueError(f"{function}: {layer.name!r}, of kind {layer.kind}, has no gates")


def _check(function: str, name: str, value: int, number: int) -> None:
    if not 0 <= value < number:
        raise ValueError(f"{function}: expected {name} to be from 0 to {number - 1}, got {value}")


def _steps(function: str, layer: LayerTrace, item: int) -> np.ndarray[Any, Any]:
    """The steps of a sequence."""
    _check(function, "item", item, layer.shape[1])
    return np.flatnonzero(layer.going[:, item])
