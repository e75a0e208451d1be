"""`tinygrad-lstm gradient-flow`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from tinygrad_lstm.models import GRU, LSTM, RNN, ManyToOne

from ..device import default_device, get_device
from ..inspect.flow import median_flow
from ..inspect.flow_experiment import TASKS, NetworkFlow, compare_flow, flow_csv, flow_table
from ..inspect.plots import new_figure, plot_gradient_flow, write_figure
from ..io.atomic import write_atomically
from ..kinds import KINDS
from ..mode import no_grad
from .shared import Device, require, writable_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["gradient_flow"]

PICTURES = (".png", ".svg", ".pdf")

NETWORKS: dict[str, tuple[type[LSTM | GRU | RNN], float | None]] = {
    "RNN": (RNN, None),
    "GRU, update bias 0": (GRU, 0.0),
    "GRU, update bias 3": (GRU, 3.0),
    "LSTM, forget bias 0": (LSTM, 0.0),
    "LSTM, forget bias 1": (LSTM, 1.0),
    "LSTM, forget bias 3": (LSTM, 3.0),
}
"""The kind of network and the initial bias of the gate that keeps its state, by label."""


def gradient_flow(
    task: Annotated[str, typer.Option(help=f"What the networks are trained on: {', '.join(TASKS)}.")] = "signal",
    lag: Annotated[int, typer.Option(help="Over how many steps something has to be remembered.")] = 100,
    hidden: Annotated[int, typer.Option(help="Size of the hidden state.")] = 32,
    steps: Annotated[int, typer.Option(help="Training steps, of 32 sequences each.")] = 400,
    seeds: Annotated[int, typer.Option(help="How often it is all repeated; medians are shown.")] = 3,
    seed: Annotated[int, typer.Option(help="The first of the seeds.")] = 0,
    out: Annotated[str | None, typer.Option(help=f"Write a plot there: {', '.join(PICTURES)}.", metavar="FILE")] = None,
    csv: Annotated[str | None, typer.Option("--csv", help="Write every norm there.", metavar="FILE")] = None,
    device: Device = None,
) -> None:
    """Measure how far gradients reach back in recurrent networks.

    In an RNN, GRUs and LSTMs of one size, before and after training on a task with a long time lag.
    """
    require("--task", task in TASKS, f"one of {', '.join(TASKS)}", repr(task))
    for option, value, least in (
        ("--lag", lag, 1),
        ("--hidden", hidden, 1),
        ("--steps", steps, 1),
        ("--seeds", seeds, 1),
        ("--seed", seed, 0),
    ):
        require(option, value >= least, f"at least {least}", value)
    # Invalid paths are reported before the work, not after it.
    plot_path = None if out is None else writable_file("--out", out)
    csv_path = None if csv is None else writable_file("--csv", csv)
    if plot_path is not None:
        require("--out", plot_path.suffix in PICTURES, f"a name ending in {', '.join(PICTURES)}", repr(out))
        new_figure()

    place = str(get_device(device))
    makers = {label: _maker(kind, hidden, bias, place) for label, (kind, bias) in NETWORKS.items()}
    try:
        compared = compare_flow(makers, TASKS[task], lag, steps=steps, seeds=range(seed, seed + seeds))
    except ValueError as error:
        raise ValueError(f"--lag: {error}") from error
    print(f"{len(NETWORKS)} networks of {hidden} units learn the task {task!r} with a lag of {lag}", flush=True)
    results = []
    for result in compared:
        print(f"  {result.label}: learnt with {result.learnt} of {seeds} seeds", flush=True)
        results.append(result)
    print(f"\n{flow_table(results, [lag])}\n")
    print("rate: the factor of the gradient's norm for each step back")
    print("fit:  how far the curve is off that, typically")
    print("at:   the norm that many steps back, as a share of the norm at the last step")
    if plot_path is not None:
        write_figure(plot_path, _plot(results))
        print(f"plot:    {plot_path}")
    if csv_path is not None:
        write_atomically(csv_path, flow_csv(results).encode())
        print(f"numbers: {csv_path}")


def _maker(
    kind: type[LSTM | GRU | RNN], hidden: int, bias: float | None, device: str
) -> Callable[[int, int], ManyToOne]:
    def make(input_size: int, output_size: int) -> ManyToOne:
        with default_device(device):
            network = kind(input_size, hidden)
            if bias is not None:
                kept = KINDS[kind.KIND].keeps
                assert kept is not None  # only kinds with a gate that keeps the state have a bias here
                with no_grad():
                    dict(network.named_parameters())["bias_l0"][KINDS[kind.KIND].rows(kept[0], hidden)] = bias
            return ManyToOne(network, output_size)

    return make


def _plot(results: list[NetworkFlow]) -> "Figure":
    """The figure: one panel for untrained networks, one for trained networks."""
    figure = new_figure(11, 4.5)
    before, after = figure.subplots(1, 2, sharey=True)
    plot_gradient_flow({each.label: median_flow(each.untrained) for each in results}, before, relative=True)
    plot_gradient_flow(
        {f"{each.label} ({each.learnt} of {len(each.seeds)} learnt)": median_flow(each.trained) for each in results},
        after,
        relative=True,
    )
    before.set_title("untrained")
    after.set(title="trained", ylabel="")
    return figure
