"""Appends a few measurements to record.jsonl, one line of JSON for each run, so that changes of speed are seen.

    python benchmarks/record.py                 # measures for about a minute; let nothing else run meanwhile
    python benchmarks/record.py --threads 2
    python benchmarks/record.py --show          # compares the last records of this machine
    python benchmarks/record.py --show 10

A line has the commit, the version, the date, the machine, and for each figure the median over the turns, in seconds.
If PyTorch is installed, it also has the ratios of our times to PyTorch's, taken turn by turn: they depend less on the
speed of the machine. "import" is the time of `import tinygrad_lstm`. "First use" is the time until the first LSTM of a
process has computed forward and backward, with an empty cache of compiled code and with a used one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cells_problem import problem_of
from cells_sides import SIDES as CELL_SIDES
from cells_start import starts
from footprint import ROOT, run
from harness import ratio
from lstm import Table, installed_version, processor, times
from lstm_data import Sizes
from lstm_sides import SIDES

import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled import building
from tinygrad_lstm.backends.threads import blas_library, number_of_cores

RECORD = Path(__file__).with_name("record.jsonl")
OURS = "compiled" if SIDES["compiled"].installed() else "NumPy"
SHAPES = [Sizes(50, 50, 65, 128), Sizes(128, 16, 64, 64), Sizes(256, 1, 32, 64)]
TABLES = [
    Table("training step", "charlm", [Sizes(50, 50, 128, 128)], [OURS], ["torch"]),
    Table("forward", "forward", SHAPES, [OURS], ["torch"]),
    Table("forward and backward", "backward", SHAPES, [OURS], ["torch"]),
    Table("stream step", "streaming", [Sizes(1, 1, 128, 128)], [OURS], ["torch LSTMCell"]),
]
START = Sizes(50, 50, 65, 128)
BUSY = 1.0
"""The load above which the machine is not quiet."""


@dataclass
class Record:
    """A line of the file.

    Attributes:
        machine: what the figures depend on besides the commit: the processor, threads, versions and the compiler.
        load: the number of processes that wanted to run before, in the last minute.
        seconds: by figure.
        torch: our time divided by PyTorch's, by figure; empty if it is not installed.
    """

    date: str
    commit: str
    version: str
    machine: dict[str, str | int]
    load: float
    seconds: dict[str, float] = field(default_factory=dict)
    torch: dict[str, float] = field(default_factory=dict)

    def comparable(self, other: Record) -> bool:
        """Whether both are of the same processor, number of threads and kind of kernels."""
        return all(self.machine[name] == other.machine[name] for name in ("processor", "cores", "threads", "kernels"))


def machine(threads: int) -> dict[str, str | int]:
    """What the figures depend on besides the commit."""
    return {
        "processor": processor(),
        "cores": number_of_cores(),
        "threads": threads,
        "kernels": OURS,
        "compiler": building.compiler().name if OURS == "compiled" else "none",
        "python": platform.python_version(),
        "numpy": installed_version("numpy"),
        "blas": blas_library(),
        "torch": installed_version("torch"),
    }


def commit() -> str:
    """The commit that is measured, with "+" if files have changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{RECORD.relative_to(ROOT)}")
        return git("rev-parse", "--short=10", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def load() -> float:
    """The number of processes that want to run; 0 if the system does not tell it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def measured(tables: Sequence[Table], threads: int, turns: int) -> Record:
    """A new record."""
    now = datetime.datetime.now(datetime.UTC)
    record = Record(now.isoformat(timespec="seconds"), commit(), tg.__version__, machine(threads), load())
    for table in tables:
        for sizes, seconds in times(table, threads, turns):
            figure = f"{table.title} {sizes}"
            record.seconds[figure] = statistics.median(seconds[OURS])
            if (theirs := seconds.get(table.theirs[0])) is not None:
                record.torch[figure] = ratio(seconds[OURS], theirs)
    record.seconds["import"] = import_seconds(threads, turns)
    environment = CELL_SIDES[OURS].environment_for(threads)
    found = [starts(OURS, environment, problem_of("lstm", START), None) for _ in range(min(turns, 3))]
    record.seconds["first use, empty cache"] = statistics.median(start.cold for start in found)
    record.seconds["first use, used cache"] = statistics.median(start.warm for start in found)
    return record


def import_seconds(threads: int, turns: int) -> float:
    """The time of the import, without the interpreter's start."""

    def seconds() -> float:
        programs = ("pass", "import tinygrad_lstm")
        empty, whole = (run(Path(sys.executable), program, ROOT, threads, {})["whole"] for program in programs)
        return whole - empty

    seconds()  # bytecode is written
    return statistics.median(seconds() for _ in range(turns))


def append(record: Record, path: Path) -> None:
    """Adds a line to the file."""
    rounded = asdict(record)
    for name in ("seconds", "torch"):
        rounded[name] = {figure: float(f"{value:.4g}") for figure, value in rounded[name].items()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(rounded, ensure_ascii=False) + "\n")


def records(path: Path) -> list[Record]:
    """All records, the oldest first."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Record(**json.loads(line)) for line in lines]


def table(shown: Sequence[Record]) -> str:
    """The figures of records as a Markdown table, and by how much the last differs from the one before."""
    heads = ["ms (ratio to PyTorch)", *(f"{record.date[:10]} {record.commit}" for record in shown)]
    rows = [[*heads, "change"], ["---"] * (len(heads) + 1)]
    for figure in shown[-1].seconds:
        changes = [record.seconds[figure] for record in shown[-2:] if figure in record.seconds]
        change = f"{100 * (changes[1] / changes[0] - 1):+.0f} %" if len(changes) == 2 else "–"
        rows.append([figure, *(cell(record, figure) for record in shown), change])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cell(record: Record, figure: str) -> str:
    """A figure of a record: milliseconds and, in parentheses, the ratio to PyTorch."""
    if figure not in record.seconds:
        return "–"
    return f"{1e3 * record.seconds[figure]:.3g}" + (f" ({record.torch[figure]:.2f})" if figure in record.torch else "")


def show(path: Path, number: int) -> None:
    """Prints the last records that can be compared with the newest."""
    found = records(path)
    if not found:
        sys.exit(f"{path} has no records; python benchmarks/record.py adds one")
    same = [record for record in found if record.comparable(found[-1])]
    described = ", ".join(f"{name} {value}" for name, value in found[-1].machine.items())
    print(f"{described}\n\n{table(same[-number:])}")
    if len(same) < len(found):
        print(f"\n{len(found) - len(same)} records of other processors, numbers of threads or kernels are not shown.")
    if busy := [f"{record.date[:10]} {record.commit}" for record in same[-number:] if record.load > BUSY]:
        print(f"\nThe machine was busy at the start of {', '.join(busy)}: these figures may be too large.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", type=int, nargs="?", const=4, metavar="N", help="compare the last N records (4)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--file", type=Path, default=RECORD, help="the record, record.jsonl by default")
    options = parser.parse_args()
    if options.show is None:
        append(measured(TABLES, options.threads, options.turns), options.file)
    show(options.file, options.show or 2)


if __name__ == "__main__":
    main()
