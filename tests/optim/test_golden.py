"""Optimizers, schedules and clipping against PyTorch's values."""

import inspect
from typing import Any

import numpy as np
import pytest
from golden.load import load, options

import tinygrad_lstm as tg
from tinygrad_lstm.optim import lr_scheduler

TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}


def made(case: str, parameters: list[tg.Tensor]) -> tg.optim.Optimizer:
    settings = options("optimizers")[case]
    return getattr(tg.optim, settings["class"])(parameters, **settings["given"])


@pytest.mark.parametrize("case", options("optimizers"))
def test_every_step_is_torchs(case, kernels, device):
    arrays = load("optimizers", case)
    names = ("weight", "bias")
    parameters = {name: tg.tensor(arrays[name], device=device, requires_grad=True) for name in names}
    optimizer = made(case, list(parameters.values()))
    steps = len(arrays["weight_grads"])
    assert steps == 20
    for k in range(steps):
        for name, p in parameters.items():
            p.grad = tg.tensor(arrays[f"{name}_grads"][k], device=device)
        with tg.compiled_kernels(kernels):
            optimizer.step()
        for name, p in parameters.items():
            np.testing.assert_allclose(p.detach().cpu(), arrays[f"{name}_steps"][k], **TOLERANCE, err_msg=f"step {k}")
            np.testing.assert_array_equal(p.grad.cpu(), arrays[f"{name}_grads"][k])


@pytest.mark.parametrize("case", options("long_runs"))
def test_a_hundred_steps_of_two_groups_are_torchs(case, device):
    arrays, settings = load("long_runs", case), options("long_runs")[case]
    x, y, noise = (tg.tensor(arrays[name], device=device) for name in ("x", "y", "noise"))
    weight, bias = (tg.tensor(arrays[name], device=device, requires_grad=True) for name in ("weight", "bias"))
    groups = [{"params": [weight]}, {"params": [bias], **settings["second"]}]
    groups = groups if settings["second"] else [weight, bias]
    optimizer = getattr(tg.optim, settings["class"])(groups, **settings["given"])
    losses, kept = [], []

    def closure() -> tg.Tensor:
        optimizer.zero_grad()
        if settings["class"] == "LBFGS":
            all_ = tg.cat([weight.reshape(-1), bias])
            value = ((1 - all_[:-1]) ** 2 + 10 * (all_[1:] - all_[:-1] ** 2) ** 2).sum()
        else:
            error = (x @ weight.T + bias).tanh() - y
            decay = (weight * weight).sum() + (bias * bias).sum()
            value = (error * error).mean() + decay / 10
            value = value + ((noise * step).cos() * (weight.sum(1) + bias)).sum() / 10
        value = -value if settings["given"].get("maximize") else value
        value.backward()
        losses.append(value)
        return value

    for step in range(1, settings["kept"][-1] + 1):
        began = len(losses)
        assert optimizer.step(closure) is losses[began]
        assert len(losses) == began + 1 or settings["class"] == "LBFGS"
        if step in settings["kept"]:
            kept.append((weight.detach().cpu().numpy().copy(), bias.detach().cpu().numpy().copy()))
    for k, (of_weight, of_bias) in enumerate(kept):
        message = f"step {settings['kept'][k]}"
        np.testing.assert_allclose(of_weight, arrays["weight_steps"][k], rtol=1e-9, atol=1e-10, err_msg=message)
        np.testing.assert_allclose(of_bias, arrays["bias_steps"][k], rtol=1e-9, atol=1e-10, err_msg=message)


@pytest.mark.parametrize("case", options("optimizers"))
def test_defaults_are_torchs(case):
    settings = options("optimizers")[case]
    defaults = inspect.signature(getattr(tg.optim, settings["class"])).parameters
    for name, value in settings["hyperparameters"].items():
        if name not in settings["given"]:
            default = defaults[name].default
            assert (list(default) if isinstance(default, tuple) else default) == value, name


@pytest.mark.parametrize("case", options("schedules"))
def test_every_rate_is_torchs(case):
    arrays, settings = load("schedules", case), options("schedules")[case]
    optimizer = tg.optim.SGD([tg.zeros(1, requires_grad=True)], lr=settings["lr"])
    schedule = getattr(lr_scheduler, settings["class"])(optimizer, **settings["kwargs"])
    rates = [optimizer.param_groups[0]["lr"]]
    for k in range(30):
        schedule.step(*[arrays["metric"][k]] if "metric" in arrays else [])
        rates.append(optimizer.param_groups[0]["lr"])
        assert schedule.get_last_lr() == rates[-1:]
    np.testing.assert_allclose(rates, arrays["lr"], **TOLERANCE)


@pytest.mark.parametrize("case", options("long_schedules"))
def test_a_hundred_rates_of_two_groups_are_torchs(case):
    arrays, settings = load("long_schedules", case), options("long_schedules")[case]
    groups = [{"params": [tg.zeros(1, requires_grad=True)], "lr": rate} for rate in settings["lr"]]
    optimizer = getattr(tg.optim, settings["optimizer"])(groups)
    kwargs = dict(settings["kwargs"])
    if decays := kwargs.pop("decays", None):
        functions = [lambda step, decay=decay: 1 / (1 + decay * step) for decay in decays]
        kwargs["lr_lambda"] = functions if len(functions) > 1 else functions[0]
    schedule = getattr(lr_scheduler, settings["class"])(optimizer, **kwargs)
    for k, expected in enumerate(arrays["lr"]):
        if k:
            optimizer.step()
            schedule.step()
        np.testing.assert_allclose(schedule.get_last_lr(), expected, **TOLERANCE, err_msg=f"step {k}")
        if "momentum" in arrays:
            momenta = [group["betas"][0] if "betas" in group else group["momentum"] for group in optimizer.param_groups]
            np.testing.assert_allclose(momenta, arrays["momentum"][k], **TOLERANCE, err_msg=f"step {k}")


def made_schedule(optimizer: tg.optim.Optimizer, name: str, kwargs: dict[str, Any]) -> Any:
    if name == "SequentialLR":
        kwargs = {**kwargs, "schedulers": [made_schedule(optimizer, *own) for own in kwargs["schedulers"]]}
    return getattr(lr_scheduler, name)(optimizer, **kwargs)


@pytest.mark.parametrize("case", options("schedule_pairs"))
def test_two_schedules_and_a_rate_set_by_hand_compose_as_torchs(case):
    expected, settings = load("schedule_pairs", case)["lr"], options("schedule_pairs")[case]
    optimizer = tg.optim.SGD([tg.zeros(1, requires_grad=True)], lr=settings["lr"])
    schedules = [made_schedule(optimizer, *own) for own in settings["schedules"]]
    rates = [optimizer.param_groups[0]["lr"]]
    for step in range(1, len(expected)):
        for schedule in schedules:
            schedule.step(*[settings["metric"]] if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else [])
        if step == settings["by_hand"][0]:
            optimizer.param_groups[0]["lr"] = settings["by_hand"][1]
        rates.append(optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, expected, **TOLERANCE)


@pytest.mark.parametrize("case", options("clipping"))
def test_clipping_is_torchs(case, device):
    arrays, settings = load("clipping", case), options("clipping")[case]
    names = ("weight", "bias")
    parameters = {name: tg.tensor(arrays[f"before_{name}"], device=device, requires_grad=True) for name in names}
    for name, p in parameters.items():
        p.grad = tg.tensor(arrays[f"before_{name}"], device=device)
    total = getattr(tg.optim, settings["function"])(parameters.values(), **settings["kwargs"])
    for name, p in parameters.items():
        np.testing.assert_allclose(p.grad.cpu(), arrays[f"after_{name}"], **TOLERANCE)
    if "total_norm" in arrays:
        assert total.shape == () and total.device == device
        np.testing.assert_allclose(total.cpu(), arrays["total_norm"], **TOLERANCE)
    else:
        assert total is None
