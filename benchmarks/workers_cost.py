"""A model of the time of a step of several workers: fitted, tested, and used for a forecast.

    python benchmarks/workers_cost.py                  # three minutes; let nothing else run meanwhile
    python benchmarks/workers_cost.py --forecast       # the forecast alone, at once
    python benchmarks/workers_cost.py --forecast --seconds 0.5 --megabytes 100 --micro-batches 32

The model is fitted to the times of sums between two workers, with networks of several delays and bandwidths between
them (`tests/delayed_network.py`) and arrays of several sizes. It is tested with other networks: on steps of two to four
workers that sleep instead of computing, since this needs few cores, and on trainings of two workers.

The forecast is for a step whose micro-batch takes `--seconds` on one worker, and whose gradients have `--megabytes`. It
says how many times faster than one worker such steps would be. `docs/design/many-workers.md` explains the model.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from workers_exchanges import BACKWARD, EXCHANGES, Step
from workers_sides import EMBEDDING, ROOT, VOCABULARY, Group, Side, Task

from tinygrad_lstm.distributed.micro_sums import BUCKET
from tinygrad_lstm.distributed.trees import SumTree


@dataclass(frozen=True)
class Network:
    """A network.

    Args:
        delay: seconds from one host to another.
        bandwidth: bytes a second that a host can send.
    """

    delay: float
    bandwidth: float

    def __str__(self) -> str:
        return f"{self.bandwidth * 8e-9:g} Gbit/s, {1e3 * self.delay:g} ms"


@dataclass(frozen=True)
class Cost:
    """What communication costs.

    Args:
        exchange: the seconds of an exchange, however short.
        delays: how often an exchange of large arrays waits for the delay: MPI asks whether there is room before.
        byte: the seconds that the machine needs for a byte, besides the network.
    """

    exchange: float = 1e-4
    delays: float = 2.5
    byte: float = 5e-10

    def sum(self, size: int, tree: SumTree, network: Network) -> float:
        """The seconds in which a bucket is summed: two exchanges, of parts of sums and of sums."""
        sent = sent_bytes(size, tree)
        return 2 * (self.exchange + self.delays * network.delay) + sent * (1 / network.bandwidth + self.byte)

    def step(self, step: Step, workers: int, network: Network) -> float:
        """The seconds of a step."""
        tree = SumTree(step.micro_batches, workers)
        computed = max(len(tree.batches_of(rank)) for rank in range(workers)) * step.computing
        if workers == 1:
            return computed
        summed = 0.0
        for k, size in enumerate(step.buckets, 1):
            complete = computed - step.computing * BACKWARD * (1 - k / len(step.buckets))
            summed = max(summed, complete) + self.sum(size, tree, network)
        return max(summed, computed) + self.exchange + network.delay


def sent_bytes(size: int, tree: SumTree) -> float:
    """The bytes that a worker sends at most while a bucket is summed."""
    spans = max(len(tree.spans_of(rank)) for rank in range(tree.workers))
    return size / tree.workers * (tree.workers - 1) * (spans + 1)


def fitted(found: Sequence[tuple[Step, Network, float]]) -> Cost:
    """The cost with the smallest squares of relative errors, for steps of two workers that only sum one bucket."""
    rows, rest = [], []
    for step, network, seconds in found:
        sent = sent_bytes(step.buckets[0], SumTree(2, 2))
        rows.append(np.array([3, 2 * network.delay, sent]) / seconds)
        rest.append(1 - (sent / network.bandwidth + network.delay) / seconds)
    return Cost(*np.linalg.lstsq(np.array(rows), np.array(rest), rcond=None)[0].tolist())


# -- measurements ------------------------------------------------------------------------------------------------------

SIZES = (1 << 18, 1 << 20, 1 << 22, 1 << 23)
FITTED = [Network(delay, bandwidth) for delay in (0.0, 1e-3, 5e-3, 2e-2) for bandwidth in (25e6, 125e6, 500e6)]
TESTED = [Network(delay, bandwidth) for delay in (0.0, 2e-3, 1e-2) for bandwidth in (50e6, 250e6)]
SLEEPING = [Step(8, 0.03, (1 << 21,) * 4), Step(8, 0.03, (6 << 20,)), Step(12, 0.01, (1 << 20,) * 2)]


def measured_steps(
    workers: int, networks: Sequence[Network], steps: Sequence[Step], rounds: int
) -> Iterator[tuple[Step, Network, float]]:
    """The seconds of steps of workers that sleep instead of computing."""
    with delayed_network().DelayedNetwork(workers) as network:
        group = Group(EXCHANGES, workers, network=network)
        for each in networks:
            network.set(delay=each.delay, bandwidth=each.bandwidth)
            for step in steps:
                yield step, each, max(group.ask((step, rounds)))
        group.close()


@dataclass(frozen=True)
class Loopback:
    """The network of a machine with itself, in which no program forwards packets."""

    workers: int

    def mpiexec(self, command: Sequence[str]) -> list[str]:
        """A command that runs a command as each of the workers."""
        return [*delayed_network().mpiexec_over_tcp("lo"), "-n", str(self.workers), *command]


def measured_alone(steps: Sequence[Step], rounds: int) -> Iterator[tuple[Step, Network, float]]:
    """The same of two workers whose network is as fast as the machine."""
    group = Group(EXCHANGES, 2, network=Loopback(2))
    for step in steps:
        yield step, Network(0.0, math.inf), max(group.ask((step, rounds)))
    group.close()


def measured_training(layers: int) -> Iterator[tuple[Step, Network, float]]:
    """The seconds of steps of two workers that train, and the step that the model is asked for.

    What the step takes without waiting for a fast network is the computing.
    """
    hidden, gates = 512, 2048
    sizes = [4 * (gates * (hidden + below + 2)) for below in (EMBEDDING, *[hidden] * (layers - 1))]
    sizes = [4 * (VOCABULARY * (hidden + 1)), *reversed(sizes), 4 * VOCABULARY * EMBEDDING]
    with delayed_network().DelayedNetwork(2) as network:
        side = Side(Task(1, 8, hidden, layers), 2, network)
        turns = [side.turn(3) for _ in range(3)]
        computing = statistics.median(turn.seconds - turn.waiting for turn in turns) / 4
        for each in TESTED:
            network.set(delay=each.delay, bandwidth=each.bandwidth)
            seconds = statistics.median(side.turn(3).seconds for _ in range(2))
            yield Step(8, computing, tuple(in_buckets(sizes))), each, seconds
        side.close()


def in_buckets(sizes: Sequence[int]) -> Iterator[int]:
    """The bytes of buckets, from those of arrays in the order in which their gradients come."""
    total = 0
    for size in sizes:
        total += size
        if total >= BUCKET:
            yield total
            total = 0
    if total:
        yield total


def delayed_network() -> ModuleType:
    """The module of the tests."""
    sys.path.append(str(ROOT / "tests"))
    import delayed_network

    return delayed_network


def errors(cost: Cost, workers: int, found: Sequence[tuple[Step, Network, float]]) -> list[float]:
    """The relative errors of the model."""
    return [cost.step(step, workers, network) / seconds - 1 for step, network, seconds in found]


def shown_errors(label: str, values: Sequence[float]) -> str:
    """A row of a table: how many measurements, the median and the largest error, and the median with its sign."""
    sizes = [abs(value) for value in values]
    middle, bias = statistics.median(sizes), statistics.median(values)
    return f"| {label} | {len(sizes)} | {middle:.0%} | {max(sizes):.0%} | {bias:+.0%} |"


def measure() -> Cost:
    """Fits the model, and prints its errors. Returns the cost without the program that forwards packets."""
    bare = [Step(2, 0.0, (size,)) for size in SIZES]
    sums = list(measured_steps(2, FITTED, bare, 4))
    cost = fitted(sums)
    alone = list(measured_alone(bare, 10))
    own = replace(fitted(alone), delays=cost.delays)
    print(f"with the program that forwards packets: {cost}\nwithout it: {own}\n")
    print("| | measurements | median error | largest | median with sign |\n" + "| --- " * 5 + "|")
    print(shown_errors("sums of two workers (fitted)", errors(cost, 2, sums)))
    print(shown_errors("the same over the loopback (fitted)", errors(own, 2, alone)), flush=True)
    for workers in (2, 3, 4):
        found = list(measured_steps(workers, TESTED, SLEEPING, 3))
        print(shown_errors(f"steps of {workers} workers that sleep", errors(cost, workers, found)), flush=True)
    for layers in (1, 2):
        found = list(measured_training(layers))
        name = "one layer" if layers == 1 else "two layers"
        print(shown_errors(f"training of two workers, {name}", errors(cost, 2, found)), flush=True)
    return own


# -- the forecast ------------------------------------------------------------------------------------------------------

TYPICAL = {
    "1 Gbit/s, 0.1 ms": Network(1e-4, 125e6),
    "10 Gbit/s, 0.05 ms": Network(5e-5, 1.25e9),
    "100 Gbit/s, 0.01 ms": Network(1e-5, 1.25e10),
    "between sites: 1 Gbit/s, 10 ms": Network(1e-2, 125e6),
}


def forecast(cost: Cost, step: Step) -> str:
    """A table of how many times faster than one worker steps are forecast to be."""
    numbers = [number for number in (2, 4, 8, 16, 32) if number <= step.micro_batches]
    heads = ["network", *(f"{number} workers" for number in numbers)]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    alone = cost.step(step, 1, TYPICAL["1 Gbit/s, 0.1 ms"])
    for name, network in TYPICAL.items():
        gains = [alone / cost.step(step, number, network) for number in numbers]
        lines.append(f"| {name} | {' | '.join(f'{gain:.1f}' for gain in gains)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forecast", action="store_true", help="measure nothing: use the cost that was fitted before")
    parser.add_argument("--seconds", type=float, default=0.023, help="of a micro-batch on one worker (0.023)")
    parser.add_argument("--megabytes", type=float, default=5.0, help="of all gradients (5)")
    parser.add_argument("--micro-batches", type=int, default=8)
    options = parser.parse_args()
    cost = Cost() if options.forecast else measure()
    size = int(options.megabytes * 1e6)
    buckets = [BUCKET] * (size // BUCKET) + [size % BUCKET] * (size % BUCKET > 0)
    step = Step(options.micro_batches, options.seconds, tuple(buckets))
    print(
        f"\nA forecast, not a measurement: how many times faster than one worker. A step has {step.micro_batches} "
        f"micro-batches of {1e3 * step.computing:g} ms, and gradients of {options.megabytes:g} MB.\n"
    )
    print(forecast(cost, step))


if __name__ == "__main__":
    main()
