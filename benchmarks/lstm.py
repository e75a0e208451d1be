"""The LSTM beside PyTorch's, onnxruntime's, and beside what its matrix products alone take.

    pip install -e '.[bench]'
    python benchmarks/lstm.py                                        # everything; takes a while
    python benchmarks/lstm.py --only backward --threads 2 --turns 5
    python benchmarks/lstm.py --only backward growth --plot lstm.png
    python benchmarks/lstm.py --only forward --shapes 50,50,65,128 64,32,128,256
    python benchmarks/lstm.py --device cuda                          # beside PyTorch with cuDNN, on a GPU
    python benchmarks/lstm.py --device cuda --precision tf32 --only backward

What it measures, one table each (`--only` names them):
    forward     LSTM, recording for a backward to follow
    inference   LSTM, recording nothing
    backward    LSTM, forward and backward: gradients of the input and of all weights
    charlm      a training step of a character model: embedding, LSTM, linear, cross-entropy, backward, clipping, Adam
    streaming   one step at batch 1, each continuing from the state that the one before left
    memory      by how much a process's peak resident size grows in a training step, its second
    checkpoint  memory and time of forward and backward with checkpoints through time, in √T segments
    growth      forward and backward, with one of T, B and H doubled at a time
    gates       (on CUDA) bytes that the kernels of a step move a second, and that as a share of what a copy moves
    start       (on CUDA) seconds from the interpreter's start to the end of a first training step

What is fair about it: all sides compute the same from the same weights and inputs in float32, which is checked first,
values and gradients. The sides, each in a process of its own with the same number of threads, take turns within one
run, and a ratio is the median of those turn by turn, so that a machine's drift falls on all alike. A side's first
call in a turn is not counted. Where a peer has a faster way that is not its default, both are columns. `products` are
the matrix products of the task through NumPy, into arrays made before, and nothing else: a floor, not a peer. On CUDA
the device's events tell the time, and its allocator the memory; both sides may multiply in the same precision (ours, in
a layer that is one launch, multiplies in float32 all the same).
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness import TOLERANCE, Worker, check_agreement, row, take_turns, tells_memory
from lstm_cuda import device_name, gate_kernels, start_up
from lstm_data import PRECISION, Sizes
from lstm_plot import plot
from lstm_sides import SIDES, prepare

from tinygrad_lstm.backends.base import DeviceUnavailableError
from tinygrad_lstm.backends.threads import blas_kernels, blas_library, number_of_cores

SHAPES = [
    Sizes(50, 50, 65, 128),
    Sizes(64, 32, 128, 256),
    Sizes(100, 64, 256, 512),
    Sizes(128, 16, 64, 64),
    Sizes(35, 20, 650, 650),
    Sizes(256, 1, 32, 64),
]
CHARLM = [Sizes(50, 50, H, H) for H in (128, 512)]
CUDA_SHAPES = [
    Sizes(50, 50, 128, 128),
    Sizes(100, 64, 512, 512),
    Sizes(256, 128, 512, 512),
    Sizes(100, 128, 1024, 1024),
    Sizes(35, 20, 650, 650),
    Sizes(1000, 16, 256, 256),
]
STREAMING = [Sizes(1, 1, H, H) for H in (128, 256, 512)]
BASE = Sizes(50, 50, 128, 128)
GROWTH = [BASE, *(BASE._replace(**{name: getattr(BASE, name) * 2**k}) for name in "TBH" for k in (1, 2, 3))]
LONG = [BASE._replace(T=T) for T in (50, 200, 800)]

CUPY = ("cupy-cuda12x", "cupy-cuda13x")
TOLERANCES = {"float32": TOLERANCE, "tf32": 5e-3}  # TF32 has 11 significant bits, and not all products are in it
ON_CUDA_ALONE = ("gates", "start")

OURS = ("compiled", "NumPy")
CHECKPOINTED = ("compiled", "compiled, checkpointed", "NumPy", "NumPy, checkpointed")


SCALES = {"ms": 1e3, "µs": 1e6, "MB": 1.0}  # how many of a unit a second is, or a MB


@dataclass(frozen=True)
class Table:
    """A table to be measured.

    Args:
        title: stands above it.
        task: what the sides do.
        sizes: one row each.
        ours, theirs: the sides, one column each; in theirs, ours are divided by them.
        unit: of the figures: ms or µs that the task takes, or MB that it needs.
    """

    title: str
    task: str
    sizes: Sequence[Sizes]
    ours: Sequence[str]
    theirs: Sequence[str]
    unit: str = "ms"


@dataclass(frozen=True)
class Row:
    """What was measured: for each side the figures turn by turn, in seconds or MB; None if it is not installed."""

    section: str
    threads: int
    sizes: Sizes
    figures: dict[str, list[float] | None]


def tables(shapes: Sequence[Sizes]) -> dict[str, list[Table]]:
    """All tables, by the section that they belong to."""
    torch, floor = ("torch",), ("torch", "products")
    step_peers = ("onnxruntime", "onnxruntime, bound", "torch LSTMCell", "torch LSTM", "products")
    return {
        "forward": [Table("Forward, recording", "forward", shapes, OURS, floor)],
        "inference": [Table("Inference", "inference", shapes, OURS, floor)],
        "backward": [Table("Forward and backward", "backward", shapes, OURS, floor)],
        "charlm": [Table("Training step of CharLM", "charlm", CHARLM, OURS, ("torch", "torch, fused Adam"))],
        "streaming": [Table("One streamed step", "streaming", STREAMING, OURS, step_peers, "µs")],
        "memory": [
            Table("Peak memory of forward and backward", "backward", shapes, OURS, torch, "MB"),
            Table("Peak memory of a training step of CharLM", "charlm", CHARLM, OURS, torch, "MB"),
        ],
        "checkpoint": [
            Table("Peak memory with checkpoints through time", "backward", LONG, CHECKPOINTED, torch, "MB"),
            Table("Time with checkpoints through time", "backward", LONG, CHECKPOINTED, torch),
        ],
        "growth": [Table("Forward and backward, one size doubled at a time", "backward", GROWTH, OURS, torch)],
    }


def cuda_tables(shapes: Sequence[Sizes]) -> dict[str, list[Table]]:
    """Those for a CUDA device."""
    ours, theirs, steps = ("ours, CUDA",), ("torch, CUDA",), ("torch, CUDA", "torch, CUDA, fused Adam")
    return {
        "forward": [Table("Forward, recording", "forward", shapes, ours, theirs)],
        "inference": [Table("Inference", "inference", shapes, ours, theirs)],
        "backward": [Table("Forward and backward", "backward", shapes, ours, theirs)],
        "charlm": [Table("Training step of CharLM", "charlm", shapes, ours, steps)],
        "memory": [
            Table("Peak memory of forward and backward", "backward", shapes, ours, theirs, "MB"),
            Table("Peak memory of a training step of CharLM", "charlm", shapes, ours, theirs, "MB"),
        ],
    }


@contextmanager
def working(sides: Sequence[str], threads: int) -> Iterator[dict[str, Worker]]:
    """A worker for each of the sides that is installed."""
    workers = {
        side: Worker(prepare, side, threads, SIDES[side].environment) for side in sides if SIDES[side].installed()
    }
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def times(table: Table, threads: int, turns: int) -> Iterator[tuple[Sizes, dict[str, list[float]]]]:
    """Seconds of each side, for one of the table's sizes after the other."""
    with working([*table.ours, *table.theirs], threads) as workers:
        for sizes in table.sizes:
            results = {side: worker.prepare(table.task, sizes) for side, worker in workers.items()}
            check_agreement(results, TOLERANCES[os.environ.get(PRECISION, "float32")])
            yield sizes, take_turns(workers, turns)


def memory(table: Table, threads: int) -> Iterator[tuple[Sizes, dict[str, list[float]]]]:
    """MB of each side, for one of the table's sizes after the other."""
    for sizes in table.sizes:
        with working([*table.ours, *table.theirs], threads) as workers:
            yield sizes, {side: [worker.peak_growth(table.task, sizes)] for side, worker in workers.items()}


def measure(section: str, table: Table, threads: int, turns: int) -> Iterator[Row]:
    """Prints the table, row by row as they are measured."""
    if table.unit == "MB" and not tells_memory() and "ours, CUDA" not in table.ours:
        print(f"\n{table.title}: this system does not tell it.")
        return
    sides = [*table.ours, *table.theirs]
    where = "CUDA" if "ours, CUDA" in sides else f"{threads} thread{'s' * (threads > 1)}"
    print(f"\n### {table.title}, {where}, {table.unit}\n")
    print(f"| (T, B, I, H) | {' | '.join(sides)} |")
    print("|" + " --- |" * (len(sides) + 1), flush=True)
    for sizes, found in memory(table, threads) if table.unit == "MB" else times(table, threads, turns):
        figures = {side: found.get(side) for side in sides}
        print(row(str(sizes), figures, table.ours, SCALES[table.unit]), flush=True)
        yield Row(section, threads, sizes, figures)


def machine(*more: str) -> str:
    """The processor and the versions of all that computes, and of more packages."""
    packages = ["numpy", "torch", "onnxruntime", *CUPY, *more]
    versions = ", ".join(f"{package} {installed_version(package)}" for package in packages)
    python = f"Python {platform.python_version()}"
    kernels = f"{blas_kernels()} kernels{' as OPENBLAS_CORETYPE asks' * ('OPENBLAS_CORETYPE' in os.environ)}"
    return f"{processor()}, {number_of_cores()} cores; {python}, {versions}; {blas_library()}, {kernels}"


def installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Its name, which Linux keeps in a file."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def measure_device(section: str) -> None:
    """Prints what is measured of a CUDA device alone."""
    if section == "gates":
        print(
            "\n### Kernels of a step beside a copy\n\n| kernel | GB/s | of a copy's |\n| --- | --- | --- |", flush=True
        )
        for name, rate, share in gate_kernels():
            print(f"| {name} | {rate / 1e9:.0f} | {share:.2f} |", flush=True)
    else:
        print("\n### To the end of the first training step\n\n| | s |\n| --- | --- |", flush=True)
        for name, seconds in start_up():
            print(f"| {name} | {seconds:.2f} |", flush=True)


def shape(text: str) -> Sizes:
    """The sizes that the command line names."""
    return Sizes(*map(int, text.split(",")))


def main() -> None:
    sections = [*tables(SHAPES), *ON_CUDA_ALONE]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=sections, help="the tables to measure; all by default")
    parser.add_argument(
        "--shapes", type=shape, nargs="+", metavar="T,B,I,H",
        help="for forward, inference, backward and memory; on CUDA for charlm too",
    )  # fmt: skip
    parser.add_argument("--precision", choices=["float32", "tf32"], default="float32", help="of products on CUDA")
    parser.add_argument("--turns", type=int, default=11, help="how often the sides take turns")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw growth and backward")
    options = parser.parse_args()
    on_cuda = options.device == "cuda"
    found = cuda_tables(options.shapes or CUDA_SHAPES) if on_cuda else tables(options.shapes or SHAPES)
    available = [*found, *(ON_CUDA_ALONE if on_cuda else ())]
    chosen = options.only or available
    if missing := [section for section in chosen if section not in available]:
        parser.error(f"--device {options.device} has no {', '.join(missing)}; there are {', '.join(available)}")
    if options.precision != "float32" and not on_cuda:
        parser.error("--precision is for --device cuda")
    drawn = {"growth", "backward"} if SIDES["torch"].installed() else {"growth"}
    if options.plot and (on_cuda or not drawn & set(chosen)):
        parser.error("--plot draws growth and, where torch is installed, backward, on the CPU; measure one at least")

    print(machine())
    if on_cuda:
        try:
            print(f"\n{device_name()}, products in {options.precision}")
        except DeviceUnavailableError as error:
            parser.error(str(error))
        os.environ[PRECISION] = options.precision
    print("\nIn parentheses: ours divided by theirs, in the order of our columns; below 1 we are ahead.")
    rows = []
    for threads in options.threads[:1] if on_cuda else options.threads:
        for section in chosen:
            if section in ON_CUDA_ALONE:
                measure_device(section)
            for table in found.get(section, ()):
                rows += measure(section, table, threads, options.turns)
    if options.plot:
        plot(rows, BASE, options.plot)


if __name__ == "__main__":
    main()
