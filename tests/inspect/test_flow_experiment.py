"""The experiment over several networks: what is measured, how answers are judged, and that it repeats."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import TASKS, NetworkFlow, compare_flow, flow_csv, flow_table, gradient_flow
from tinygrad_lstm.models import GRU, RNN, ManyToOne
from tinygrad_lstm.random import random_state

Makers = Mapping[str, Callable[[int, int], ManyToOne]]


def makers(device: str = "cpu") -> Makers:
    return {
        "simple": lambda inputs, outputs: ManyToOne(RNN(inputs, 3), outputs).to(device),
        "gated": lambda inputs, outputs: ManyToOne(GRU(inputs, 6), outputs).to(device),
    }


def compared(made: Makers, **settings: Any) -> list[NetworkFlow]:
    return list(compare_flow(made, TASKS["signal"], 4, seeds=[3, 4], **settings))


@pytest.fixture(scope="module")
def results() -> list[NetworkFlow]:
    return compared(makers(), steps=60, lr=0.03)


def test_every_network_is_measured_and_tried_with_every_seed(results: list[NetworkFlow]) -> None:
    assert [result.label for result in results] == ["simple", "gated"]
    for result in results:
        assert result.seeds == (3, 4)
        assert len(result.untrained) == len(result.trained) == len(result.right) == 2
        for before, after in zip(result.untrained, result.trained):
            assert before.loss > after.loss
            assert [(curve.layer, curve.state) for curve in after] == [("network.l0", "h")]
    assert results[1].right == (1.0, 1.0) and results[1].learnt == 2


def test_without_training_nothing_changes_and_nothing_is_learnt() -> None:
    before = random_state()
    for result in compared(makers(), steps=0):
        for one, other in zip(result.untrained, result.trained):
            assert one.loss == other.loss
            np.testing.assert_array_equal(one["network.l0", "h"].norms, other["network.l0", "h"].norms)
        assert result.learnt == 0
    assert random_state() == before


def test_the_flow_is_that_of_the_tasks_loss() -> None:
    (result, _) = compared(makers(), steps=0)
    tg.manual_seed(4)
    model = makers()["simple"](1, 2)
    x, targets, lengths = TASKS["signal"].draw(np.random.default_rng(3), 4, 32)
    expected = gradient_flow(model, x, lambda out: tg.cross_entropy(out, tg.tensor(targets)), lengths=lengths)
    assert result.untrained[1].loss == expected.loss
    np.testing.assert_array_equal(result.untrained[1].curves[0].norms, expected.curves[0].norms)


def test_it_repeats_and_agrees_on_every_device(device: str) -> None:
    cpu, there = compared(makers(), steps=3), compared(makers(device), steps=3)
    for one, other in zip(cpu, there):
        assert one.right == other.right
        for ours, theirs in zip(one.trained, other.trained):
            np.testing.assert_allclose(ours.curves[0].norms, theirs.curves[0].norms, rtol=1e-3)
    if device == "cpu":
        assert flow_csv(cpu) == flow_csv(there)


def test_the_table_has_medians_of_what_is_left_and_who_learnt(results: list[NetworkFlow]) -> None:
    rows = flow_table(results, [2]).splitlines()[1:]
    assert len(rows) == 4
    for row, result, trained in zip(rows, np.repeat(np.array(results, object), 2), ["no", "yes"] * 2):
        label, state, shown, rate, _, _, left, *learnt = row.split()
        assert (label, state, shown) == (result.label, "h", trained)
        curves = [flow.curves[0].norms for flow in (result.trained if trained == "yes" else result.untrained)]
        median = np.median(curves, axis=0)
        assert float(left) == pytest.approx(median[2] / median[0], rel=0.06)
        assert 0 < float(rate) < 2
        assert learnt == ([str(result.learnt), "of", "2"] if trained == "yes" else [])


@pytest.mark.parametrize(
    ("task", "answers", "targets", "share"),
    [
        ("adding", [[0.5], [0.53], [0.55], [0.4]], [[0.5], [0.5], [0.5], [0.5]], 0.5),
        # A probability of 0.8 is reached by scores that differ by log 4 = 1.386.
        ("signal", [[1.5, 0.0], [1.3, 0.0], [0.0, 1.5], [0.0, 1.5]], [0, 0, 1, 0], 0.5),
    ],
)
def test_answers_are_judged_by_the_papers_tolerances(
    task: str, answers: list[list[float]], targets: list[object], share: float
) -> None:
    assert TASKS[task].share_right(tg.tensor(answers), tg.tensor(targets)) == share


def test_invalid_arguments_are_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="adding: expected length to be at least 22, got 5"):
        compare_flow(makers(), TASKS["adding"], 5)
    with pytest.raises(ValueError, match="expected at least one seed"):
        compare_flow(makers(), TASKS["adding"], 50, seeds=[])
    with pytest.raises(ValueError, match="expected steps to be at least 0, got -1"):
        compare_flow(makers(), TASKS["adding"], 50, steps=-1)
