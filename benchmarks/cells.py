"""Every cell of the atlas as one op, beside its loop in PyTorch, PyTorch's scan, and JAX's compiled scan.

    pip install -e '.[bench]'
    python benchmarks/cells.py                                          # everything; takes hours
    python benchmarks/cells.py --only lem slstm --shapes 1 3 --threads 2
    python benchmarks/cells.py --against torch --turns 5
    python benchmarks/cells.py --quick                                  # one cell, one shape: whether it works
    python benchmarks/cells.py --layers                                 # layers beside the plain LSTM, GRU and RNN

What it measures, in float32:
    times       forward and backward: the outputs, and the gradients of the inputs and of all parameters
    start       seconds until a new cell is ready, with empty caches (cold) and with used ones (warm), in a process that
                has computed another cell; and the memory of the process at its largest
    scan        whether PyTorch's operators run a cell, and whether their second derivatives are right
    layers      (with --layers) `Recurrent` of a cell, and layers with options, beside the plain layer

How it measures: each side is in a process of its own with the same number of threads. The sides take turns in one run,
and a ratio is the median of the ratios of the turns. Before a cell is timed, its values and gradients are compared
among all sides: to 9 digits in float64, for some of the sequences, and roughly in float32, as some cells amplify
rounding errors from step to step. A cell whose values differ is not timed. On all sides a cell is a function of one
step, which computes the products with the inputs too. The equations of PyTorch's and JAX's side are the same functions
(`cells_equations.py`). Cells with random masks are in evaluation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context

import numpy as np
from cells_layers import measure_layers
from cells_problem import problem_of
from cells_reach import Measured, print_reach
from cells_sides import AGAINST, OURS, SIDES, how_it_runs, how_scan_runs, prepare
from cells_start import Start, starts
from harness import Worker, check_agreement, row, take_turns
from lstm import machine
from lstm_data import Sizes

from tinygrad_lstm.backends.compiled import building
from tinygrad_lstm.models.atlas import ATLAS

SHAPES = [Sizes(50, 50, 65, 128), Sizes(128, 16, 64, 64), Sizes(256, 1, 32, 64), Sizes(64, 32, 128, 256)]
CHECKED = 4  # sequences, in float64
EXACT, ROUNDED = 1e-9, 0.05  # how far results may be apart, in float64 and float32, as a share of the largest


def versions() -> str:
    """The processor, what computes, and with what it was compiled."""
    reason = building.why_not()
    return f"{machine('jax')}; {building.compiler().name if reason is None else f'no C compiler: {reason}'}"


@contextmanager
def working(sides: Sequence[str], threads: int) -> Iterator[dict[str, Worker]]:
    """A worker for each side."""
    workers = {side: Worker(prepare, side, threads, SIDES[side].environment_for(threads)) for side in sides}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def turns_of(cell: str, sizes: Sizes, workers: Mapping[str, Worker], turns: int) -> dict[str, list[float]]:
    """Seconds of each side, turn by turn.

    Raises:
        RuntimeError: the sides' results differ.
    """
    problem = problem_of(cell, sizes)
    first = problem.of_sequences(min(sizes.B, CHECKED))
    check_agreement({side: worker.prepare(first) for side, worker in workers.items()}, EXACT)
    rounded = problem.to(np.float32)
    check_agreement({side: worker.prepare(rounded) for side, worker in workers.items()}, ROUNDED)
    return take_turns(workers, turns)


def measure_times(
    cells: Sequence[str], shapes: Sequence[Sizes], threads: int, sides: Sequence[str], turns: int
) -> Iterator[Measured]:
    """Prints the table of times, row by row as they are measured."""
    theirs = [side for side in sides if side not in OURS]
    print(f"\n### Forward and backward, {threads} thread{'s' * (threads > 1)}, ms\n")
    print("In parentheses: our times, compiled and by NumPy, divided by this side's. Below 1 we are ahead.\n")
    print(f"| cell | runs as | (T, B, I, H) | {' | '.join(sides)} |\n|{' --- |' * (len(sides) + 3)}", flush=True)
    for cell in cells:
        runs, *_ = how_it_runs(cell).split(":")
        with working([side for side in sides if SIDES[side].computes(cell)], threads) as workers:
            for sizes in shapes:
                label = f"{cell} | {runs} | {sizes}"
                try:
                    seconds = turns_of(cell, sizes, workers, turns)
                except RuntimeError as error:
                    print(f"| {label} | not timed: {error} |", flush=True)
                    yield Measured(cell, sizes, threads, None)
                    if "ended with" in str(error):  # a worker; the others wait for nothing
                        break
                    continue
                figures = {side: seconds.get(side) for side in [*OURS, *theirs]}
                print(row(label, figures, OURS, 1e3).replace("not installed", "–"), flush=True)
                yield Measured(cell, sizes, threads, seconds)


def measure_starts(cells: Sequence[str], sizes: Sizes, threads: int, sides: Sequence[str]) -> dict[str, Start]:
    """Prints the table of starts; returns those of our compiled side."""
    sides = [side for side in sides if SIDES[side].cells is None]
    found: dict[str, Start] = {}
    print(f"\n### Until a new cell is ready at {sizes}: cold s, warm s; the process's memory, MB\n")
    print(f"| cell | {' | '.join(sides)} |\n|{' --- |' * (len(sides) + 1)}", flush=True)
    for cell in cells:
        figures = []
        before = problem_of("mgu" if cell == "rnn" else "rnn", sizes._replace(T=2))
        for side in sides:
            start = starts(side, SIDES[side].environment_for(threads), problem_of(cell, sizes), before)
            figures.append(f"{start.cold:.3f}, {start.warm:.3f}; {start.memory:.0f}")
            if side == "compiled":
                found[cell] = start
        print(f"| {cell} | {' | '.join(figures)} |", flush=True)
    first = starts("compiled", SIDES["compiled"].environment_for(threads), problem_of("lstm", sizes), None)
    print(f"\nFrom the start of Python to our first LSTM: {first.cold:.2f} s, or {first.warm:.2f} s with used caches.")
    return found


def report_runs(cells: Sequence[str], scans: Sequence[str]) -> None:
    """Prints how each cell runs: on our side, and in PyTorch's operators, each in a process of its own."""
    print(f"\n### How cells run\n\n| {' | '.join(['cell', 'ours', *scans])} |")
    print("|" + " --- |" * (2 + len(scans)), flush=True)
    for cell in cells:
        said = [how_it_runs(cell)]
        for side in scans:
            if SIDES[side].computes(cell):
                with get_context("spawn").Pool(1) as pool:
                    said.append(pool.apply(how_scan_runs, (side, cell)))
            else:
                said.append("–")
        print(f"| {cell} | {' | '.join(said)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shapes = ", ".join(f"{k}: {sizes}" for k, sizes in enumerate(SHAPES, 1))
    parser.add_argument("--only", nargs="+", choices=list(ATLAS), metavar="CELL", help="the cells; all by default")
    parser.add_argument(
        "--shapes", nargs="+", type=int, choices=range(1, 5), metavar="K", help=f"(T, B, I, H). {shapes}"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--against", nargs="*", choices=list(AGAINST), default=list(AGAINST), help="other sides")
    parser.add_argument("--turns", type=int, default=11, help="how often the sides take turns")
    parser.add_argument(
        "--quick", action="store_true", help="one cell, one shape, one thread and 3 turns, if not given"
    )
    parser.add_argument("--parts", nargs="+", choices=["times", "start", "scan"], default=["scan", "times", "start"])
    parser.add_argument("--layers", action="store_true", help="compare layers instead of the atlas's cells")
    options = parser.parse_args()
    if options.quick:
        options.only, options.shapes = options.only or ["lstm_peephole"], options.shapes or [2]
        options.threads, options.turns = options.threads[:1], min(options.turns, 3)
    print(versions())
    if options.layers:
        measure_layers(options.threads, options.turns, options.quick)
        return
    chosen = [SHAPES[k - 1] for k in options.shapes or range(1, 5)]
    cells = options.only or list(ATLAS)
    peers = [side for name in options.against for side in AGAINST[name] if SIDES[side].installed()]
    if "scan" in options.parts:
        report_runs(cells, [side for side in peers if side in AGAINST["scan"]])
    measured: list[Measured] = []
    if "times" in options.parts:
        for threads in options.threads:
            measured += measure_times(cells, chosen, threads, [*OURS, *peers], options.turns)
    found = measure_starts(cells, chosen[-1], options.threads[0], [*OURS, *peers]) if "start" in options.parts else {}
    if measured or found:
        print_reach(measured, found)
    if any(each.seconds is None for each in measured):
        sys.exit("some cells were not timed")


if __name__ == "__main__":
    main()
