"""The model of the cost of workers in benchmarks/workers_cost.py."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def model() -> Iterator[ModuleType]:
    """benchmarks/workers_cost.py, whose modules import each other by their names."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import workers_cost

        yield workers_cost
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_the_fit_finds_the_cost_of_exact_measurements(model: ModuleType) -> None:
    cost = model.Cost(exchange=1e-3, delays=2.5, byte=1e-9)
    steps = [model.Step(2, 0.0, (size,)) for size in model.SIZES]
    found = [(step, network, cost.step(step, 2, network)) for step in steps for network in model.FITTED]
    fitted = model.fitted(found)
    assert vars(fitted) == pytest.approx(vars(cost))


def test_what_is_hidden_costs_nothing(model: ModuleType) -> None:
    """Of two equal buckets, the first is hidden if it is summed before the second is complete."""
    cost, network = model.Cost(exchange=0.0, delays=0.0, byte=0.0), model.Network(delay=0.0, bandwidth=1e8)
    step = model.Step(8, 0.06, (10**6, 10**6))
    assert cost.step(step, 1, network) == pytest.approx(0.48)
    assert cost.step(step, 2, network) == pytest.approx(0.24 + 0.01)  # half of each exchange is a megabyte a worker
    slow = model.Network(delay=0.0, bandwidth=1e7)
    assert cost.step(step, 2, slow) == pytest.approx(0.24 - 0.02 + 2 * 0.1)


def test_the_forecast_says_what_more_workers_gain(model: ModuleType) -> None:
    free = model.Cost(exchange=0.0, delays=0.0, byte=0.0)
    table = model.forecast(free, model.Step(8, 1.0, (1,))).splitlines()
    assert table[0] == "| network | 2 workers | 4 workers | 8 workers |"
    assert table[2] == "| 1 Gbit/s, 0.1 ms | 2.0 | 4.0 | 8.0 |"
