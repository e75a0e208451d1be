"""Schedules: composition, several groups, saving and loading, errors."""

import json
import math

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.optim import SGD
from tinygrad_lstm.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)


def sgd(*rates: float) -> SGD:
    return SGD([{"params": [tg.zeros(1, requires_grad=True)], "lr": rate} for rate in rates or (0.8,)])


def adagrad() -> tg.optim.Adagrad:
    return tg.optim.Adagrad([tg.zeros(1, requires_grad=True)])


def rates(optimizer: SGD) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def warm_up_then_cosine(optimizer: SGD) -> SequentialLR:
    warm_up = LinearLR(optimizer, start_factor=0.25, total_iters=3)
    return SequentialLR(optimizer, [warm_up, CosineAnnealingLR(optimizer, T_max=10, eta_min=0.01)], milestones=[3])


SCHEDULES = {
    "StepLR": lambda optimizer: StepLR(optimizer, step_size=3, gamma=0.5),
    "ExponentialLR": lambda optimizer: ExponentialLR(optimizer, gamma=0.9),
    "CosineAnnealingLR": lambda optimizer: CosineAnnealingLR(optimizer, T_max=10, eta_min=0.01),
    "LinearLR": lambda optimizer: LinearLR(optimizer, start_factor=0.2, total_iters=8),
    "SequentialLR": warm_up_then_cosine,
    "MultiStepLR": lambda optimizer: MultiStepLR(optimizer, milestones=[2, 7], gamma=0.5),
    "ConstantLR": lambda optimizer: ConstantLR(optimizer, factor=0.5, total_iters=6),
    "ConstantLR of 0": lambda optimizer: ConstantLR(optimizer, factor=0.0, total_iters=6),
    "LambdaLR": lambda optimizer: LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "CosineAnnealingWarmRestarts": lambda optimizer: CosineAnnealingWarmRestarts(optimizer, T_0=3, eta_min=0.01),
    "OneCycleLR": lambda optimizer: OneCycleLR(optimizer, max_lr=0.5, total_steps=16),
}


def test_schedules_are_reached_from_the_package():
    assert tg.optim.lr_scheduler.StepLR is StepLR


def test_warm_up_then_cosine():
    optimizer = sgd(0.8)
    schedule = warm_up_then_cosine(optimizer)
    seen = []
    for _ in range(14):
        seen += rates(optimizer)
        schedule.step()
    cosine = [0.01 + 0.79 * (1 + math.cos(math.pi * k / 10)) / 2 for k in range(11)]
    np.testing.assert_allclose(seen, [0.2, 0.4, 0.6, *cosine], rtol=1e-12)


@pytest.mark.parametrize("name", ["StepLR", "ExponentialLR", "LinearLR"])  # a cosine ends at one rate for all
def test_groups_of_a_model_keep_their_ratios(name: str) -> None:
    model = tg.nn.Sequential(tg.nn.Linear(3, 2), tg.nn.Linear(2, 1))
    optimizer = SGD(model.parameter_groups({"0.*": {"lr": 0.01}, "*.bias": {"lr": 0.1}}), lr=0.4)
    schedule = SCHEDULES[name](optimizer)
    seen = []
    for _ in range(12):
        seen.append(rates(optimizer))
        schedule.step()
    np.testing.assert_allclose(seen, np.outer([own[0] for own in seen], [1, 10, 40]), rtol=1e-12)
    assert len({own[0] for own in seen}) > 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_groups_keep_their_proportions(name):
    optimizer = sgd(0.8, 0.4)
    schedule = SCHEDULES[name](optimizer)
    alone = [sgd(0.8), sgd(0.4)]
    schedules = [SCHEDULES[name](one) for one in alone]
    for _ in range(12):
        assert rates(optimizer) == [rates(one)[0] for one in alone]
        assert schedule.get_last_lr() == rates(optimizer)
        for one in (schedule, *schedules):
            one.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_schedule_continues(name):
    optimizer = sgd(0.8, 0.1)
    schedule = SCHEDULES[name](optimizer)
    for _ in range(5):
        schedule.step()
    saved = json.loads(json.dumps([optimizer.state_dict()["param_groups"], schedule.state_dict()]))

    other = sgd(0.3, 0.3)
    resumed = SCHEDULES[name](other)
    other.load_state_dict({"state": {}, "param_groups": saved[0]})
    resumed.load_state_dict(saved[1])
    for _ in range(10):
        assert rates(other) == rates(optimizer)
        schedule.step()
        resumed.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_group_that_joins_later_takes_part(name):
    optimizer = sgd(0.8)
    schedule = SCHEDULES[name](optimizer)
    for _ in range(4):
        schedule.step()
    optimizer.add_param_group({"params": [tg.zeros(1, requires_grad=True)], "lr": 0.8})
    assert schedule.base_lrs == [0.8, 0.8]
    for _ in range(4):
        schedule.step()
        first, second = rates(optimizer)
        assert first == second
    assert schedule.state_dict()["base_lrs"] == [0.8, 0.8]


@pytest.mark.parametrize("second", SCHEDULES)
@pytest.mark.parametrize("first", SCHEDULES)
def test_two_resumed_schedules_continue(first: str, second: str) -> None:
    def step(schedules: list[LRScheduler], plateau: ReduceLROnPlateau) -> None:
        for schedule in schedules:
            schedule.step()
        plateau.step(1.0)

    def made(optimizer: SGD) -> tuple[list[LRScheduler], ReduceLROnPlateau]:
        plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
        return [SCHEDULES[first](optimizer), SCHEDULES[second](optimizer)], plateau

    optimizer, other = sgd(0.8, 0.1), sgd(0.3, 0.3)
    schedules, plateau = made(optimizer)
    for _ in range(5):
        step(schedules, plateau)
    saved = json.loads(json.dumps([schedule.state_dict() for schedule in (*schedules, plateau)]))
    groups = optimizer.state_dict()["param_groups"]
    resumed, resumed_plateau = made(other)
    other.load_state_dict({"state": {}, "param_groups": groups})
    for schedule, state in zip((*resumed, resumed_plateau), saved, strict=True):
        schedule.load_state_dict(state)
    for _ in range(10):
        assert rates(other) == rates(optimizer)
        step(schedules, plateau)
        step(resumed, resumed_plateau)


@pytest.mark.parametrize("first", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_a_plateau_continues_after_a_first_metric_that_is_not_finite(mode, first, threshold_mode):
    optimizer = sgd(0.8)
    schedule = ReduceLROnPlateau(optimizer, mode=mode, patience=1, threshold_mode=threshold_mode)
    metrics = [5.0, 4.0, 3.0, 2.0, 1.0]
    for metric in (first, *(metrics if mode == "min" else metrics[::-1])):
        schedule.step(metric)
    unbeatable = -math.inf if mode == "min" else math.inf
    assert schedule.best == (first if first == unbeatable else metrics[-1] if mode == "min" else metrics[0])
    assert (rates(optimizer) == [0.8]) == (first != unbeatable)


METRICS = [1.0, 0.9, 0.95, 0.95, 0.95, 0.95, 0.95, 0.5, 0.6, 0.6, math.nan, 0.6, 0.6, 0.6]


def test_a_resumed_plateau_continues():
    unbroken = ReduceLROnPlateau(sgd(0.8), factor=0.5, patience=1, cooldown=1)
    for turn in range(1, len(METRICS)):
        before, after = METRICS[:turn], METRICS[turn:]
        first = ReduceLROnPlateau(sgd(0.8), factor=0.5, patience=1, cooldown=1)
        for metric in before:
            first.step(metric)
        second = ReduceLROnPlateau(sgd(*first.get_last_lr()), factor=0.5, patience=1, cooldown=1)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        for metric in after:
            first.step(metric)
            second.step(metric)
        assert second.get_last_lr() == first.get_last_lr()
        assert second.state_dict() == first.state_dict()
    for metric in METRICS:
        unbroken.step(metric)
    assert unbroken.get_last_lr() < [0.4]


def test_a_plateau_respects_the_lowest_rate_and_takes_tensors():
    optimizer = sgd(0.8, 0.1)
    schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, min_lr=0.09)
    seen = []
    for _ in range(5):
        schedule.step(tg.tensor(1.0))
        seen.append(rates(optimizer))
    assert seen == [[0.8, 0.1], [0.4, 0.09], [0.2, 0.09], [0.1, 0.09], [0.09, 0.09]]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: StepLR(None, 1), TypeError, "StepLR: expected an Optimizer, got NoneType"),
        (lambda: ReduceLROnPlateau(None), TypeError, "ReduceLROnPlateau: expected an Optimizer"),
        (lambda: StepLR(sgd(), 0), ValueError, "StepLR: step_size must be 1 or more, got 0"),
        (lambda: ExponentialLR(sgd(), -0.5), ValueError, "gamma must be above 0, got -0.5"),
        (lambda: CosineAnnealingLR(sgd(), 0), ValueError, "T_max must be 1 or more"),
        (lambda: CosineAnnealingLR(sgd(), 5, -1.0), ValueError, "eta_min must be 0 or more"),
        (lambda: LinearLR(sgd(), 0.0), ValueError, r"start_factor must be within \(0, 1\], got 0"),
        (lambda: LinearLR(sgd(), 1.0, 2.0), ValueError, "end_factor must be within"),
        (lambda: MultiStepLR(sgd(), [3, -1]), ValueError, r"milestones must be 0 or more, got \[-1, 3\]"),
        (lambda: MultiStepLR(sgd(), [3], 0.0), ValueError, "gamma must be above 0"),
        (lambda: ConstantLR(sgd(), 2.0), ValueError, r"factor must be within \[0, 1\], got 2"),
        (lambda: ConstantLR(sgd(), total_iters=0), ValueError, "ConstantLR: total_iters must be 1 or more"),
        (lambda: LambdaLR(sgd(), 0.5), TypeError, "LambdaLR: lr_lambda must be a function, got float"),
        (lambda: LambdaLR(sgd(), [abs, 0.5]), TypeError, "lr_lambda must be a function, got float"),
        (lambda: LambdaLR(sgd(), [abs, abs]), ValueError, "lr_lambda has 2 values, the optimizer has 1 group"),
        (lambda: CosineAnnealingWarmRestarts(sgd(), 0), ValueError, "T_0 must be 1 or more, got 0"),
        (lambda: CosineAnnealingWarmRestarts(sgd(), 1, 0), ValueError, "T_mult must be 1 or more, got 0"),
        (lambda: CosineAnnealingWarmRestarts(sgd(), 1, 1, -1), ValueError, "eta_min must be 0 or more, got -1"),
        (lambda: OneCycleLR(sgd(), 1.0), ValueError, "expected total_steps, or epochs and steps_per_epoch"),
        (lambda: OneCycleLR(sgd(), 1.0, 0), ValueError, "total_steps must be 1 or more, got 0"),
        (lambda: OneCycleLR(sgd(), 1.0, 9, pct_start=2.0), ValueError, r"pct_start must be within \[0, 1\], got 2"),
        (lambda: OneCycleLR(sgd(), 1.0, 9, anneal_strategy="x"), ValueError, "must be 'cos' or 'linear', got 'x'"),
        (lambda: OneCycleLR(sgd(), 1.0, 9, div_factor=0), ValueError, "OneCycleLR: div_factor must be above 0"),
        (lambda: OneCycleLR(sgd(), 1.0, 9, final_div_factor=0), ValueError, "final_div_factor must be above 0"),
        (lambda: OneCycleLR(sgd(), [1.0, 1.0], 9), ValueError, "max_lr has 2 values, the optimizer has 1 groups"),
        (lambda: OneCycleLR(adagrad(), 1.0, 9), ValueError, "neither momentum nor betas; pass cycle_momentum=False"),
        (lambda: OneCycleLR(None, 1.0, 9), TypeError, "OneCycleLR: expected an Optimizer, got NoneType"),
        (lambda: LinearLR(sgd(), total_iters=0), ValueError, "total_iters must be 1 or more"),
        (lambda: ReduceLROnPlateau(sgd(), mode="low"), ValueError, "mode must be 'min' or 'max', got 'low'"),
        (lambda: ReduceLROnPlateau(sgd(), threshold_mode="x"), ValueError, "threshold_mode must be"),
        (lambda: ReduceLROnPlateau(sgd(), factor=1.0), ValueError, r"factor must be within \(0, 1\)"),
        (lambda: ReduceLROnPlateau(sgd(), patience=-1), ValueError, "patience must be"),
        (lambda: ReduceLROnPlateau(sgd(), cooldown=-1), ValueError, "cooldown must be"),
        (lambda: SequentialLR(sgd(), [], []), ValueError, "SequentialLR: 0 schedules need"),
        (
            lambda: SequentialLR(one := sgd(), [StepLR(one, 1), StepLR(one, 1)], [0]),
            ValueError,
            r"milestones must rise from above 0, got \[0\]",
        ),
        (lambda: SequentialLR(sgd(), [StepLR(sgd(), 1)], []), ValueError, "of the same optimizer"),
        (
            lambda: SequentialLR(one := sgd(), [StepLR(one, 1), ReduceLROnPlateau(one)], [2]),
            TypeError,
            "expected schedules that need no metric, got ReduceLROnPlateau",
        ),
        (
            lambda: StepLR(sgd(), 1).load_state_dict({}),
            ValueError,
            "this is not its state, it lacks last_epoch",
        ),
        (
            lambda: StepLR(sgd(), 1).load_state_dict({"last_epoch": 1, "base_lrs": [1.0, 1.0]}),
            ValueError,
            "the state is of 2 groups, the optimizer has 1",
        ),
        (lambda: ReduceLROnPlateau(sgd()).load_state_dict({"best": 1.0}), ValueError, "it lacks num_bad_epochs"),
    ],
)
def test_invalid_arguments_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


def test_a_cycle_ends_with_its_last_step() -> None:
    optimizer = sgd(0.8)
    schedule = OneCycleLR(optimizer, max_lr=0.5, total_steps=3)
    for _ in range(3):
        schedule.step()
    before = (rates(optimizer), schedule.state_dict(), optimizer.state_dict()["param_groups"])
    with pytest.raises(ValueError, match="OneCycleLR: there are 3 steps in total, this would be step 4"):
        schedule.step()
    assert (rates(optimizer), schedule.state_dict(), optimizer.state_dict()["param_groups"]) == before


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("three_phase", [False, True])
def test_every_cycle_is_finite_and_within_its_bounds(share: float, three_phase: bool) -> None:
    """A share of 0.25 of four steps is a rise that has ended at the first step, and PyTorch divides by 0."""
    for steps in (1, 2, 4, 9):
        optimizer = sgd(0.8)
        schedule = OneCycleLR(optimizer, 0.5, steps, pct_start=share, three_phase=three_phase)
        for _ in range(steps - 1):
            assert 0 < rates(optimizer)[0] <= 0.5 and 0.85 <= optimizer.param_groups[0]["momentum"] <= 0.95
            schedule.step()


def test_a_cycle_takes_its_turn_in_a_sequence_with_its_momentum() -> None:
    optimizer = sgd(0.8)
    cycle = OneCycleLR(optimizer, max_lr=1.0, total_steps=5, pct_start=0.6)
    schedule = SequentialLR(optimizer, [LinearLR(optimizer, 0.5, total_iters=2), cycle], milestones=[2])
    seen = []
    for _ in range(7):
        seen.append((rates(optimizer)[0], optimizer.param_groups[0]["momentum"]))
        schedule.step()
    np.testing.assert_allclose([rate for rate, _ in seen], [0.4, 0.6, 0.04, 0.52, 1.0, 0.5, 0.0], atol=1e-5)
    np.testing.assert_allclose([momentum for _, momentum in seen], [0.95, 0.95, 0.95, 0.9, 0.85, 0.9, 0.95])


def test_a_list_has_no_value_for_a_group_that_joins_later() -> None:
    optimizer = sgd(0.8)
    schedule = LambdaLR(optimizer, [lambda step: 0.5])
    optimizer.add_param_group({"params": [tg.zeros(1, requires_grad=True)], "lr": 0.8})
    with pytest.raises(ValueError, match="LambdaLR: lr_lambda has 1 values, group 1 was added later"):
        schedule.step()
    assert rates(optimizer) == [0.4, 0.8] and schedule.last_epoch == 0
