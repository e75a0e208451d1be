"""L-BFGS: minima, its state, devices, and what it refuses. Its steps are PyTorch's in test_golden.py."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from trained_optimizers import leaf, trained

import tinygrad_lstm as tg
from tinygrad_lstm import nn, optim

SETTINGS = {
    "fixed": {"lr": 0.5, "max_iter": 3},
    "strong_wolfe": {"line_search_fn": "strong_wolfe", "max_iter": 3, "history_size": 4},
}


@pytest.fixture(params=SETTINGS)
def settings(request):
    return SETTINGS[request.param]


def model_on(device: str, dtype: str = "float64") -> nn.Module:
    tg.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), tg.tanh, nn.Linear(4, 1)).to(device, dtype)


def train(model: nn.Module, optimizer: optim.LBFGS, steps: int) -> float:
    """Steps towards a fixed function; the last loss."""
    first = next(model.parameters())
    x = tg.tensor(np.linspace(-1, 1, 24).reshape(8, 3) ** 3, dtype=first.dtype, device=first.device)

    def closure() -> tg.Tensor:
        optimizer.zero_grad()
        loss = tg.mse_loss(model(x), x.sum(1, keepdim=True) - 0.5)
        loss.backward()
        return loss

    return min(optimizer.step(closure).item() for _ in range(steps))


def values(model: nn.Module) -> list[np.ndarray]:
    return list(model.state_dict().values())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_loss_falls(settings, device: str, dtype: str) -> None:
    model = model_on(device, dtype)
    optimizer = optim.LBFGS(model.parameters(), **settings)
    arrays = [p.data for p in model.parameters()]
    first = train(model, optimizer, 1)
    assert train(model, optimizer, 15) < 0.1 * first
    assert all(p.data is array and p.dtype == dtype for p, array in zip(model.parameters(), arrays, strict=True))
    kept = optimizer.state_dict()["state"]
    assert kept["0.d"].dtype == ("float64" if dtype == "float64" else "float32")


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_a_quadratic_function_is_minimized(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(size, size))
    curvature, target = tg.tensor(factor @ factor.T + np.eye(size)), tg.tensor(rng.normal(size=size))
    x = tg.zeros(size, dtype="float64", requires_grad=True)
    optimizer = optim.LBFGS([x], max_iter=100, tolerance_grad=1e-9, tolerance_change=0.0, line_search_fn="strong_wolfe")

    def closure() -> tg.Tensor:
        optimizer.zero_grad()
        loss = (x - target) @ curvature @ (x - target)
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(x.detach(), target, atol=1e-7)


def test_a_resumed_run_is_bit_for_bit_the_unbroken_one(settings, device: str) -> None:
    unbroken = model_on(device, "float32")
    optimizer = optim.LBFGS(unbroken.parameters(), **settings)
    train(unbroken, optimizer, 2)
    saved = optimizer.state_dict()
    state = {"state": load(save(saved["state"])), "param_groups": json.loads(json.dumps(saved["param_groups"]))}
    resumed = model_on(device, "float32")
    resumed.load_state_dict(unbroken.state_dict())
    train(unbroken, optimizer, 3)
    again = optim.LBFGS(resumed.parameters())
    again.load_state_dict(state)
    train(resumed, again, 3)
    for mine, expected in zip(values(resumed), values(unbroken), strict=True):
        np.testing.assert_array_equal(mine, expected)
    kept, expected_state = again.state_dict()["state"], optimizer.state_dict()["state"]
    assert kept.keys() == expected_state.keys() and len(kept["0.ro"])
    for name, array in kept.items():
        np.testing.assert_array_equal(array, expected_state[name])


def test_a_state_before_the_first_step_is_saved() -> None:
    p = leaf(2)
    optimizer = optim.LBFGS([p])
    other = optim.LBFGS([leaf(2)])
    other.load_state_dict(optimizer.state_dict())
    assert other.state_dict()["state"] == {}
    optimizer.step(lambda: (p * 0).sum())  # its gradients are None: this is a minimum
    saved = optimizer.state_dict()
    assert saved["state"]["0.old_dirs"].shape == (0, 2)
    other.load_state_dict(saved)
    assert other.state_dict()["state"]["0.func_evals"] == 1


@pytest.mark.parametrize("again", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_model_and_its_optimizer_are_copied_together(settings, again) -> None:
    model = model_on("cpu")
    optimizer = optim.LBFGS(model.parameters(), **settings)
    train(model, optimizer, 2)
    copied, of_copied = again((model, optimizer))
    train(model, optimizer, 2)
    train(copied, of_copied, 2)
    for mine, expected in zip(values(copied), values(model), strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_a_moved_module_can_still_be_trained(settings, device: str) -> None:
    stays, moves = model_on("cpu"), model_on("cpu")
    of_stays, of_moves = (optim.LBFGS(model.parameters(), **settings) for model in (stays, moves))
    train(stays, of_stays, 2)
    train(moves, of_moves, 2)
    moves.to(device)
    train(stays, of_stays, 2)
    train(moves, of_moves, 2)
    for mine, expected in zip(values(moves), values(stays), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-7, atol=1e-9)
    moves.to(dtype="float32")
    train(moves, of_moves, 1)
    assert all(array.dtype == np.float32 for array in values(moves))
    assert of_moves.state_dict()["state"]["0.old_dirs"].dtype == np.float32


def test_maximizing_is_minimizing_the_negative(settings) -> None:
    parameters = [tg.tensor([-1.2, 1.0], dtype="float64", requires_grad=True) for _ in range(2)]
    for sign, x in zip((1.0, -1.0), parameters, strict=True):
        optimizer = optim.LBFGS([x], **{**settings, "lr": 0.1}, maximize=sign < 0)

        def closure(sign: float = sign, x: tg.Tensor = x, optimizer: optim.LBFGS = optimizer) -> tg.Tensor:
            optimizer.zero_grad()
            loss = sign * ((1 - x[0]) ** 2 + (x[1] - x[0] ** 2) ** 2)
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)
    assert parameters[0].tolist() == parameters[1].tolist() != [-1.2, 1.0]


def test_parameters_without_a_gradient_stay(settings) -> None:
    used, unused = leaf(2), leaf(3)
    optimizer = optim.LBFGS([unused, used], **settings)

    def closure() -> tg.Tensor:
        optimizer.zero_grad()
        loss = (used * used * used * used).sum()
        loss.backward()
        return loss

    with tg.no_grad():
        optimizer.step(closure)
    assert unused.tolist() == [1, 1, 1] and used.tolist() != [1, 1]


def test_a_closure_that_raises_in_a_line_search_leaves_the_parameters_where_they_were() -> None:
    x = tg.tensor([-1.2, 1.0], requires_grad=True)
    optimizer, calls = optim.LBFGS([x], line_search_fn="strong_wolfe"), []

    def closure() -> tg.Tensor:
        calls.append(x.tolist())
        if len(calls) == 2:
            raise KeyboardInterrupt
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert calls[0] == x.tolist() != calls[1]


def test_a_line_search_comes_back_from_where_the_loss_is_infinite() -> None:
    x = tg.tensor([3.0], dtype="float64", requires_grad=True)
    optimizer, seen = optim.LBFGS([x], lr=10.0, line_search_fn="strong_wolfe", max_iter=30), []

    def closure() -> tg.Tensor:
        optimizer.zero_grad()
        seen.append(x.item())
        loss = (x - x.log() if x.item() > 0 else math.inf - 0 * x).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert min(seen) < 0
    np.testing.assert_allclose(x.item(), 1.0, atol=1e-4)


def test_a_learning_rate_follows_a_schedule() -> None:
    p = leaf(2)
    optimizer = optim.LBFGS([p], lr=0.5)
    optim.lr_scheduler.StepLR(optimizer, 1, 0.5).step()
    assert optimizer.param_groups[0]["lr"] == 0.25


def with_state(name: str, value: object) -> dict[str, object]:
    optimizer = trained_lbfgs()
    saved = optimizer.state_dict()
    return {**saved, "state": {**saved["state"], name: value}}


def trained_lbfgs() -> optim.LBFGS:
    p = leaf(2)
    optimizer = optim.LBFGS([p], max_iter=2)

    def closure() -> tg.Tensor:
        optimizer.zero_grad()
        loss = (p * p * p * p).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return optimizer


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: optim.LBFGS([{"params": [leaf()]}, {"params": [leaf()]}]), ValueError, "must be in one group"),
        (lambda: optim.LBFGS([leaf()], max_iter=1.5), TypeError, "LBFGS: max_iter must be an integer, got 1.5"),
        (lambda: optim.LBFGS([leaf()], history_size=0), ValueError, "LBFGS: history_size must be 1 or more, got 0"),
        (lambda: optim.LBFGS([leaf()], max_eval=0), ValueError, "LBFGS: max_eval must be 1 or more, got 0"),
        (lambda: optim.LBFGS([leaf()], tolerance_grad=-1), ValueError, "tolerance_grad must be within"),
        (lambda: optim.LBFGS([leaf()], line_search_fn="x"), ValueError, "must be 'strong_wolfe' or None, got 'x'"),
        (lambda: optim.LBFGS([leaf()]).step(), TypeError, "LBFGS: step needs a closure"),
        (
            lambda: optim.LBFGS([leaf(), tg.ones(2, device="strict", requires_grad=True)]).step(lambda: None),
            ValueError,
            "LBFGS: parameters are on cpu, strict; move them to one device",
        ),
        (
            lambda: trained_lbfgs().load_state_dict(
                {**trained_lbfgs().state_dict(), "state": trained(optim.Adam).state_dict()["state"]}
            ),
            ValueError,
            "LBFGS: the state has other names than LBFGS's",
        ),
        (
            lambda: trained_lbfgs().load_state_dict(with_state("0.d", np.ones(3))),
            ValueError,
            r"LBFGS: 0\.d is invalid: given float64 \(3,\), expected float32 \(2,\)",
        ),
        (
            lambda: trained_lbfgs().load_state_dict(with_state("0.old_stps", np.ones((9, 2)))),
            ValueError,
            r"LBFGS: 0\.old_stps is invalid: given float64 \(9, 2\)",
        ),
        (
            lambda: trained_lbfgs().load_state_dict(with_state("0.n_iter", -1)),
            ValueError,
            r"LBFGS: 0\.n_iter is invalid: a counter, got -1",
        ),
    ],
)
def test_invalid_arguments_and_states_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()
