"""Plots: what is drawn is what was measured, into the axes that were given, without a display."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import (
    GradientFlow,
    LayerTrace,
    PlotsUnavailableError,
    gradient_flow,
    plot_cell_states,
    plot_gates,
    plot_gradient_flow,
    plot_losses,
    plot_saturation,
    plot_text,
    trace,
)
from tinygrad_lstm.inspect.flow import FlowCurve
from tinygrad_lstm.models import GRU, LSTM, RNN

LINES: list[dict[str, Any]] = [
    {"step": 20, "loss": 3.0, "validation_loss": None},
    {"step": 40, "loss": 2.0, "validation_loss": 2.5},
    {"step": 60, "loss": 1.5, "validation_loss": 2.0},
]


def traced(kind: Any = LSTM, **settings: Any) -> LayerTrace:
    tg.manual_seed(0)
    return trace(kind(2, 5), np.random.default_rng(0).standard_normal((9, 3, 2)).astype("float32"), **settings)[0]


def flow(kind: Any = LSTM) -> GradientFlow:
    tg.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((30, 3, 2)).astype("float32")
    return gradient_flow(kind(2, 5), x, lambda out: out[-1].sum())


def labels(ax: Axes) -> list[str]:
    return [str(label) for label in ax.get_legend_handles_labels()[1]]


def test_variants_are_drawn() -> None:
    """Of a layer whose h is a projection, gates and cell states by its units."""
    layer = trace(LSTM(2, 5, proj_size=3), np.ones((9, 3, 2), np.float32))[0]
    assert plot_cell_states(layer).images[0].get_array().shape == (5, 9)
    assert len(plot_gates(layer, unit=4).collections) == 3
    assert labels(plot_saturation(layer)) == ["input gate i", "forget gate f", "output gate o"]
    with pytest.raises(ValueError, match="expected unit to be from 0 to 4, got 5"):
        plot_gates(layer, unit=5)


PLOTS: dict[str, Callable[[Axes | None], Axes]] = {
    "gates": lambda ax: plot_gates(traced(), 1, ax),
    "cell states": lambda ax: plot_cell_states(traced(), ax),
    "saturation": lambda ax: plot_saturation(traced(), ax),
    "gradient flow": lambda ax: plot_gradient_flow(flow(), ax),
    "losses": lambda ax: plot_losses({"": LINES}, ax),
}


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_every_plot_draws_into_the_given_axes_or_makes_a_figure(
    plot: Callable[[Axes | None], Axes], tmp_path: Path
) -> None:
    given = Figure().add_subplot()
    assert plot(given) is given and given.has_data()
    made = plot(None)
    assert made.has_data() and made.get_xlabel() and made.get_ylabel()
    figure = made.figure
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_pyplot_is_not_imported_and_matplotlib_only_when_a_plot_is_made() -> None:
    program = """
import io, sys, numpy as np
from tinygrad_lstm.inspect import plot_gates, trace
from tinygrad_lstm.models import LSTM
layer = trace(LSTM(2, 3), np.ones((4, 1, 2), "float32"))[0]
print("matplotlib" in sys.modules)
plot_gates(layer, 0).figure.savefig(io.BytesIO())
print("matplotlib" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("False\nTrue False\n", "")


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_without_matplotlib_the_error_says_what_to_install(
    plot: Callable[[Axes | None], Axes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotsUnavailableError, match=r"pip install '\.\[plot\]' in a checkout"):
        plot(None)


# -- what is drawn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "gates"), [(LSTM, "ifo"), (GRU, "rz")])
def test_each_gate_has_a_lane_with_its_values(kind: Any, gates: str) -> None:
    layer = traced(kind, lengths=[9, 6, 2])
    ax = plot_gates(layer, 3, item=1)
    curves = [line for line in ax.lines if len(line.get_xdata()) == 6]
    assert len(curves) == len(gates)
    feet = []
    for gate, line in zip(gates, curves, strict=True):
        heights = np.asarray(line.get_ydata()) - layer.values[gate][:6, 1, 3]
        assert np.ptp(heights) == pytest.approx(0, abs=1e-6)
        feet.append(heights[0])
    assert (np.diff(feet) < -1).all()  # from the top downwards, none over another
    named = {label.get_text() for label in ax.get_yticklabels(minor=True)}
    assert {name[-1] for name in named} == set(gates)


@pytest.mark.parametrize(("kind", "state"), [(LSTM, "c"), (GRU, "h"), (RNN, "h")])
def test_the_heat_map_shows_the_states_with_zero_in_the_middle(kind: Any, state: str) -> None:
    layer = traced(kind, lengths=[9, 6, 2])
    ax = plot_cell_states(layer, item=1)
    (image,) = ax.images
    states = layer.values[state][:6, 1].T
    np.testing.assert_allclose(np.asarray(image.get_array()), states, rtol=1e-6)
    low, high = image.get_clim()
    assert low == -high and high == pytest.approx(np.abs(states).max())


def test_states_that_are_all_zero_are_drawn() -> None:
    tg.manual_seed(0)
    layer = trace(RNN(2, 3), np.zeros((4, 1, 2), "float32"))[0]
    assert plot_cell_states(layer).images[0].get_clim() == (-1, 1)


def test_saturation_has_a_point_for_each_unit_and_gate() -> None:
    layer = traced()
    ax = plot_saturation(layer)
    _, *clouds = ax.lines
    for gate, cloud in zip("ifo", clouds, strict=True):
        below, above = layer.saturation(gate)
        np.testing.assert_array_equal(cloud.get_xdata(), below)
        np.testing.assert_array_equal(cloud.get_ydata(), above)
    assert labels(ax) == ["input gate i", "forget gate f", "output gate o"]


def test_gradient_flow_of_one_model_shows_all_its_curves() -> None:
    one = flow()
    ax = plot_gradient_flow(one)
    assert ax.get_yscale() == "log" and "‖∂L/∂h‖, ‖∂L/∂c‖" in ax.get_ylabel()
    for curve, line, label in zip(one, ax.lines, labels(ax), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), curve.norms)
        assert label == f"{curve.layer}, {curve.state}: {curve.decay.rate:.3f} a step"


def test_gradient_flow_of_several_models_shows_the_memory_of_each() -> None:
    flows = {"simple": flow(RNN), "long": flow(LSTM)}
    ax = plot_gradient_flow(flows, relative=True)
    assert [label.split(":")[0] for label in labels(ax)] == ["simple", "long"]
    for one, line in zip(flows.values(), ax.lines, strict=True):
        norms = one.memory[0].norms
        np.testing.assert_allclose(line.get_ydata(), norms / norms[0])
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.lines}
    assert len({look[0] for look in looks}) == len({look[2] for look in looks}) == 2


def test_a_curve_ends_with_a_cross_where_it_is_lost() -> None:
    norms, sequences = np.array([1.0, 0.1, 0.01, 0.0]), np.ones(4, np.int64)
    lost = GradientFlow(0.0, (FlowCurve("l0", "h", norms, sequences, 1e-30),))
    line, cross = plot_gradient_flow(lost).lines
    assert np.asarray(line.get_ydata()).tolist() == [1.0, 0.1, 0.01]
    assert cross.get_marker() == "x" and (list(cross.get_xdata()), list(cross.get_ydata())) == ([2], [0.01])
    nothing = GradientFlow(0.0, (FlowCurve("l0", "h", 0 * norms, sequences, 1e-30),))
    assert not plot_gradient_flow(nothing).lines


def test_losses_of_several_runs() -> None:
    unvalidated = [{**line, "validation_loss": None} for line in LINES]
    ax = plot_losses({"wide": LINES, "narrow": unvalidated})
    assert labels(ax) == ["wide, training", "wide, validation", "narrow, training"]
    training, validation, _ = ax.lines
    assert (list(training.get_xdata()), list(training.get_ydata())) == ([20, 40, 60], [3.0, 2.0, 1.5])
    assert (list(validation.get_xdata()), list(validation.get_ydata())) == ([40, 60], [2.5, 2.0])
    assert labels(plot_losses({"": LINES})) == ["training", "validation"]


def test_losses_without_metrics() -> None:
    """Numbers, one for each step; also beside the lines of a run's metrics."""
    ax = plot_losses({"a": [3.0, 2.0], "b": np.array([1.0, 0.5, 0.25])})
    assert labels(ax) == ["a", "b"] and ax.get_ylabel() == "loss"
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines] == [
        ([1, 2], [3.0, 2.0]),
        ([1, 2, 3], [1.0, 0.5, 0.25]),
    ]
    mixed = plot_losses({"a": [3.0, 2.0], "b": LINES})
    assert labels(mixed) == ["a", "b, training", "b, validation"] and mixed.get_ylabel() == "loss (nats a character)"


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_text_is_coloured_by_a_unit(kind: Any) -> None:
    """Each character has the colour of its step; lines end at newlines and at the width."""
    layer = traced(kind)
    values = np.tanh(layer.values[layer.memory][:, 2, 3].astype(np.float64))
    ax = plot_text(layer, 3, "ab$\n\tcd e", item=2, width=4)
    drawn = np.ma.filled(ax.images[0].get_array(), np.nan)
    np.testing.assert_allclose(drawn, [values[:4], values[4:8], [values[8], np.nan, np.nan, np.nan]])
    letters = ax.patches[0].get_path().get_extents()
    assert (0 < letters.x0 < 1, 3 < letters.x1 < 4) == (True, True)  # a, and the arrow of the newline
    assert (0 < letters.y0 < 1, 5 < letters.y1 < 6) == (True, True)  # b in the first line, e in the last
    assert ax.get_title() == "l0, unit 3"


def test_a_part_of_a_text() -> None:
    layer = traced()
    drawn = plot_text(layer, 1, "to be or\n", item=1, steps=slice(3, 8), width=5).images[0].get_array()
    np.testing.assert_allclose(drawn, np.tanh(layer.c[3:8, 1, 1].astype(np.float64))[None])


def test_strings_of_several_characters_have_one_colour() -> None:
    layer = traced()
    values = np.tanh(layer.c[:, 0, 1].astype(np.float64))
    ax = plot_text(layer, 1, ["the", " ", "", "fox", "e", "s", ".", "\n", "\n"], width=40)
    drawn = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert drawn.shape == (2, 40)
    np.testing.assert_allclose(drawn[0, :11], values[[0, 0, 0, 1, 3, 3, 3, 4, 5, 6, 7]])
    assert drawn[1, 0] == values[8] and np.isnan(drawn[0, 11:]).all() and np.isnan(drawn[1, 1:]).all()


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        (lambda: plot_gates(traced(), 5), "plot_gates: expected unit to be from 0 to 4, got 5"),
        (lambda: plot_gates(traced(), -1), "plot_gates: expected unit to be from 0 to 4, got -1"),
        (lambda: plot_gates(traced(), 0, item=3), "plot_gates: expected item to be from 0 to 2, got 3"),
        (lambda: plot_cell_states(traced(), item=3), "plot_cell_states: expected item to be from 0 to 2, got 3"),
        (lambda: plot_gates(traced(RNN), 0), "plot_gates: 'l0', of kind RNN, has no gates"),
        (lambda: plot_saturation(traced(RNN)), "plot_saturation: 'l0', of kind RNN, has no gates"),
        (lambda: plot_text(traced(), 5, "123456789"), "plot_text: expected unit to be from 0 to 4, got 5"),
        (lambda: plot_text(traced(), 0, "12345678"), "plot_text: expected a string for each of 9 steps, got 8"),
        (lambda: plot_text(traced(), 0, "123456789", width=0), "plot_text: expected width to be at least 1, got 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(drawing: Callable[[], Axes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawing()


def test_a_trace_is_neither_a_layer_nor_a_flow() -> None:
    whole: Any = trace(LSTM(3, 5), tg.ones(4, 2, 3), loss=lambda out: out.sum())
    for plot in (
        plot_cell_states,
        plot_saturation,
        lambda layer: plot_gates(layer, 0),
        lambda layer: plot_text(layer, 0, ""),
    ):
        with pytest.raises(TypeError, match=r"expected a layer of a trace, as traced\[0\] is, got Trace"):
            plot(whole)
    with pytest.raises(TypeError, match=r"expected a GradientFlow, .* got Trace; flow_of makes one of a trace"):
        plot_gradient_flow(whole)
