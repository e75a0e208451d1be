"""What optimizers refuse: groups, settings, gradients and states."""

import numpy as np
import pytest
from trained_optimizers import leaf, trained

import tinygrad_lstm as tg
from tinygrad_lstm import optim


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: optim.SGD([]), ValueError, "SGD: the list of parameters is empty"),
        (lambda: optim.SGD([{"params": []}]), ValueError, "SGD: a group's list of parameters is empty"),
        (lambda: optim.SGD(leaf()), TypeError, "SGD: expected a list of parameters or groups, got a Tensor"),
        (lambda: optim.SGD({"params": [leaf()]}), TypeError, "got a dict"),
        (lambda: optim.SGD([np.ones(2)]), TypeError, "a parameter must be a Tensor, got ndarray"),
        (lambda: optim.SGD([{"lr": 0.1}]), ValueError, "a group needs 'params', this one has lr"),
        (lambda: optim.Adam([leaf() * 2]), ValueError, r"Adam: a tensor of shape \(2,\) was made by an op"),
        (lambda: optim.Adam([tg.tensor([1])]), ValueError, r"a int64 tensor of shape \(1,\) has no gradient"),
        (lambda: optim.Adam([leaf(3)] * 2), ValueError, r"a parameter of shape \(3,\) was given twice"),
        (lambda: optim.SGD([leaf()], lr=-0.1), ValueError, r"SGD: lr must be within \[0, inf\), got -0\.1"),
        (lambda: optim.SGD([leaf()], lr=float("nan")), ValueError, "lr must be .* got nan"),
        (lambda: optim.SGD([{"params": [leaf()], "lr": -1.0}]), ValueError, "lr must be .* got -1"),
        (lambda: optim.SGD([{"params": [leaf()], "beta": 1}]), ValueError, "unknown setting beta; there are lr"),
        (lambda: optim.SGD([leaf()], momentum=-1), ValueError, "momentum must be"),
        (lambda: optim.SGD([leaf()], weight_decay=-1), ValueError, "weight_decay must be"),
        (lambda: optim.SGD([leaf()], nesterov=True), ValueError, "nesterov needs a momentum"),
        (lambda: optim.SGD([leaf()], momentum=0.9, dampening=0.1, nesterov=True), ValueError, "no dampening"),
        (lambda: optim.RMSprop([leaf()], alpha=1.0), ValueError, r"alpha must be within \[0, 1\), got 1"),
        (lambda: optim.RMSprop([leaf()], eps=-1e-8), ValueError, "eps must be"),
        (lambda: optim.Adagrad([leaf()], lr_decay=-1), ValueError, "lr_decay must be"),
        (lambda: optim.Adagrad([leaf()], initial_accumulator_value=-1), ValueError, "initial_accumulator_value"),
        (lambda: optim.Adam([leaf()], betas=(0.9, 1.0)), ValueError, r"betas must be within \[0, 1\), got 1\.0"),
        (lambda: optim.Adam([leaf()], betas=0.9), TypeError, r"Adam: betas must be two numbers, got 0\.9"),
        (lambda: optim.Adam([leaf()], betas=(0.9, 0.9, 0.9)), TypeError, "betas must be two numbers"),
        (lambda: optim.Adam([leaf()], betas=(0.9, "b")), TypeError, "betas must be a number, got 'b'"),
        (lambda: optim.Adam([leaf()], amsgrad="no"), TypeError, "amsgrad must be True or False, got 'no'"),
        (lambda: optim.SGD([leaf()], nesterov=None), TypeError, "nesterov must be True or False, got None"),
        (lambda: optim.RMSprop([leaf()], centered=1), TypeError, "centered must be True or False, got 1"),
        (lambda: optim.SGD([leaf()], lr="a"), TypeError, "SGD: lr must be a number, got 'a'"),
        (lambda: optim.SGD([leaf()], lr=None), TypeError, "SGD: lr must be a number, got None"),
        (lambda: optim.SGD([leaf()], lr=True), TypeError, "SGD: lr must be a number, got True"),
        (lambda: optim.SGD([leaf()], lr=(0.1, 0.1)), TypeError, "SGD: lr must be a number"),
        (lambda: optim.SGD([leaf()], lr=10**400), ValueError, "SGD: lr must be within"),
        (lambda: optim.SGD([leaf()], dampening=-float("inf")), ValueError, "dampening must be within"),
        (lambda: optim.SGD([{"params": [leaf()], "initial_lr": "a"}]), TypeError, "initial_lr must be a number"),
        (lambda: optim.AdamW([leaf()], eps=-1), ValueError, "AdamW: eps must be"),
        (lambda: optim.NAdam([leaf()], momentum_decay=-1), ValueError, "NAdam: momentum_decay must be"),
        (lambda: optim.RAdam([leaf()], betas=(0.9, 1.0)), ValueError, "RAdam: betas must be"),
        (lambda: optim.RAdam([leaf()], maximize=1), TypeError, "RAdam: maximize must be True or False, got 1"),
        (lambda: trained(optim.SGD).step(1.0), TypeError, "step: closure must be a function .* got float"),
    ],
)
def test_invalid_arguments_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


def test_a_product_that_is_not_a_number_is_refused():
    optimizer = trained(optim.NAdam)
    saved = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"NAdam: 0\.mu_product is invalid: given a str, expected float64 \(\)"):
        optimizer.load_state_dict({**saved, "state": {**saved["state"], "0.mu_product": "x"}})


def test_an_invalid_group_is_not_added():
    shared = leaf()
    optimizer = optim.SGD([shared])
    with pytest.raises(ValueError, match="given twice"):
        optimizer.add_param_group({"params": [leaf(), shared]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("lr", "a", TypeError), ("lr", float("nan"), ValueError), ("betas", 0.9, TypeError), ("amsgrad", 2, TypeError)],
)
def test_an_invalid_setting_stops_the_step_before_it_begins(name, value, error):
    first, second = leaf(2), leaf(3)
    optimizer = optim.Adam([{"params": [first]}, {"params": [second]}])
    first.grad, second.grad = tg.ones(2), tg.ones(3)
    optimizer.param_groups[1][name] = value
    with pytest.raises(error, match=f"Adam: {name} must be"):
        optimizer.step()
    assert first.tolist() == [1, 1]
    assert not optimizer.state


def test_a_gradient_of_a_different_shape_stops_the_step_before_it_begins():
    first, second = leaf(2), leaf(3)
    optimizer = optim.SGD([first, second], lr=0.1)
    first.grad, second.grad = tg.ones(2), tg.ones(2)
    with pytest.raises(RuntimeError, match=r"a parameter of shape \(3,\) on 'cpu' has a gradient of shape \(2,\)"):
        optimizer.step()
    assert first.tolist() == [1, 1]


def test_a_gradient_on_a_different_device_is_refused():
    p = leaf(2)
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = tg.ones(2, device="strict")
    with pytest.raises(RuntimeError, match="on 'strict'; use zero_grad"):
        optimizer.step()


def with_state(name, value):
    saved = trained(optim.Adam).state_dict()
    return {**saved, "state": {**saved["state"], name: value}}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda: {}, "this is not an optimizer's state, it lacks state, param_groups"),
        (lambda: trained(optim.Adam, (2,)).state_dict(), r"of groups of \[1\] parameters, this one has \[2\]"),
        (
            lambda: trained(optim.Adam, (3, 3)).state_dict(),
            r"0\.exp_avg is invalid: given float32 \(3,\), expected float32 \(2,\)",
        ),
        (lambda: trained(optim.RMSprop).state_dict(), "the state's groups lack betas, amsgrad; is it another"),
        (
            lambda: {**trained(optim.Adam).state_dict(), "state": trained(optim.RMSprop).state_dict()["state"]},
            r"unexpected 0\.square_avg, 1\.square_avg",
        ),
        (lambda: with_state("0.exp_avg", None), r"Adam: 0\.exp_avg is invalid: given a NoneType, expected float32"),
        (lambda: with_state("0.exp_avg", [1e300, 1.0]), r"0\.exp_avg is invalid: .* beyond the range of float32"),
        (lambda: with_state("1.step", "x"), r"1\.step is invalid: given a str, expected int64 \(\)"),
        (lambda: with_state("1.step", 1.5), r"1\.step is invalid: given float64"),
        (lambda: with_state("1.step", -1), r"1\.step is a counter, got -1"),
        (
            lambda: {
                **trained(optim.Adam).state_dict(),
                "state": {k: v for k, v in trained(optim.Adam).state_dict()["state"].items() if k != "1.exp_avg"},
            },
            r"the state lacks 1\.exp_avg",
        ),
    ],
)
def test_a_state_of_something_else_is_refused_and_changes_nothing(state, message):
    optimizer = trained(optim.Adam)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state())
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for name, array in before["state"].items():
        np.testing.assert_array_equal(after["state"][name], array)
