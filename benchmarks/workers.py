"""Workers beside threads, and how much of their communication is hidden.

    python benchmarks/workers.py                     # two minutes; let nothing else run meanwhile
    python benchmarks/workers.py --before e1b71bde^  # the plain run beside that of an earlier commit
    python benchmarks/workers.py --hidden 256 --turns 5

The character model of 512 units trains on batches of 32 × 64 characters of 100 kinds, by AdamW with clipped gradients.
Each side is one process, or several, and the sides take turns; the ratios are medians of those of the turns. "CPU" is
the time for which the threads of the busiest process had a processor: other processes on the machine change it less.

Then two workers of one thread train with networks of different delays and bandwidths between them, in network
namespaces (`tests/delayed_network.py`), and with one and two layers: "under way" is the time of a step for which
gradients were under way, "waited" that for which the step waited for them, and "hidden" what it did not wait for. The
processor also forwards the packets, so a network here is a little slower than it is called.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness import PAUSE, ratio
from workers_sides import ROOT, Side, Task, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator

MICRO_BATCHES = 8
PLAIN, ONE, TWO = "one thread", f"one worker, {MICRO_BATCHES} micro-batches", "two workers of one thread"
THREADS, THREADS_CUT, BEFORE = "two threads", f"two threads, {MICRO_BATCHES} micro-batches", "one thread, before"
RATIOS = ((TWO, ONE, 0.65), (TWO, PLAIN, None), (TWO, THREADS, 1.1), (TWO, THREADS_CUT, None), (PLAIN, BEFORE, 1.02))
NETWORKS = ((0.0, None), (1e-3, None), (0.0, 125e6), (1e-3, 125e6), (1e-2, 125e6))
"""Delays in seconds, and bytes a second; None is as fast as the machine."""


def take_turns(sides: Mapping[str, Side], turns: int, steps: int) -> dict[str, list[Turn]]:
    """What each side measured, turn by turn; each turn begins with another side."""
    found: dict[str, list[Turn]] = {name: [] for name in sides}
    order = deque(sides)
    for _ in range(turns):
        for name in order:
            time.sleep(PAUSE)
            found[name].append(sides[name].turn(steps))
        order.rotate()
    return found


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A folder with the files of a commit."""
    with tempfile.TemporaryDirectory() as folder:
        files = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=files, check=True)
        yield Path(folder)


def compare_sides(hidden: int, turns: int, before: str | None) -> None:
    """Prints the table of the sides, and the ratios."""
    with ExitStack() as stack:

        def start(task: Task, workers: int | None = None, library: Path = ROOT) -> Side:
            side = Side(task, workers, library=library)
            stack.callback(side.close)
            return side

        sides = {
            PLAIN: start(Task(1, hidden=hidden)),
            ONE: start(Task(1, MICRO_BATCHES, hidden)),
            TWO: start(Task(1, MICRO_BATCHES, hidden), 2),
            THREADS: start(Task(2, hidden=hidden)),
            THREADS_CUT: start(Task(2, MICRO_BATCHES, hidden)),
        }
        if before is not None:
            sides[BEFORE] = start(Task(1, hidden=hidden), library=stack.enter_context(checkout(before)))
        found = take_turns(sides, turns, steps=2)
    print(f"\n| {hidden} units | ms a step | CPU | waited |\n| --- | --- | --- | --- |")
    for name, turn in found.items():
        print(f"| {name} | {_median(turn, 'seconds')} | {_median(turn, 'cpu')} | {_median(turn, 'waiting')} |")
    print("\n| ratio of the times | found | reach |\n| --- | --- | --- |")
    for ours, theirs, reach in RATIOS:
        if theirs in found:
            value = ratio(*([turn.seconds for turn in found[name]] for name in (ours, theirs)))
            print(f"| {ours} / {theirs} | {value:.2f} | {'' if reach is None else f'at most {reach}'} |")


def compare_networks(hidden: int, turns: int) -> None:
    """Prints how much of the communication is hidden with different networks."""
    sys.path.append(str(ROOT / "tests"))
    from delayed_network import DelayedNetwork, missing

    if reason := missing():
        print(f"\nno networks with delays: {reason}")
        return
    print("\n| layers | delay | bandwidth | ms a step | under way | waited | hidden |\n" + "| --- " * 7 + "|")
    for layers in (1, 2):
        with DelayedNetwork(2) as network:
            side = Side(Task(1, MICRO_BATCHES, hidden, layers), 2, network)
            for delay, bandwidth in NETWORKS:
                network.set(delay=delay, bandwidth=bandwidth)
                found = [side.turn(3) for _ in range(turns)]
                cells = [_median(found, name) for name in ("seconds", "communicating", "waiting")]
                share = statistics.median(turn.hidden for turn in found)
                speed = "the machine's" if bandwidth is None else f"{bandwidth * 8e-9:g} Gbit/s"
                print(f"| {layers} | {1e3 * delay:g} ms | {speed} | {' | '.join(cells)} | {share:.0%} |", flush=True)
            side.close()


def _median(turns: list[Turn], name: str) -> str:
    return f"{1e3 * statistics.median(getattr(turn, name) for turn in turns):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--before", metavar="COMMIT", help="compare the plain run with that of this commit")
    arguments = parser.parse_args()
    compare_sides(arguments.hidden, arguments.turns, arguments.before)
    compare_networks(arguments.hidden, max(1, arguments.turns // 3))


if __name__ == "__main__":
    main()
