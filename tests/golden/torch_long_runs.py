"""Golden cases of optimizers, schedules and averages over a hundred steps, as PyTorch computes them."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler, swa_utils
from torch_cases import Arrays, Case, Settings, seed

STEPS = 100
KEPT = [1, *range(10, STEPS + 1, 10)]

DECAY = {"weight_decay": 0.1}
CASES: dict[str, tuple[str, Settings]] = {
    "sgd": ("SGD", {"lr": 0.1, "momentum": 0.9, **DECAY}),
    "sgd_maximize": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True, **DECAY}),
    "rmsprop": ("RMSprop", {"momentum": 0.5, **DECAY}),
    "rmsprop_maximize": ("RMSprop", {"centered": True, "maximize": True, **DECAY}),
    "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.01, **DECAY}),
    "adagrad_maximize": ("Adagrad", {"lr": 0.1, "maximize": True, **DECAY}),
    "adam": ("Adam", {"lr": 0.05, **DECAY}),
    "adam_maximize": ("Adam", {"lr": 0.05, "amsgrad": True, "maximize": True, **DECAY}),
    "adamw": ("AdamW", {"lr": 0.05}),
    "adamw_maximize": ("AdamW", {"lr": 0.05, "maximize": True, **DECAY}),
    "nadam": ("NAdam", {}),
    "nadam_weight_decay": ("NAdam", {"lr": 0.05, "momentum_decay": 0.01, **DECAY}),
    "nadam_decoupled": ("NAdam", {"lr": 0.05, "decoupled_weight_decay": True, **DECAY}),
    "nadam_maximize": ("NAdam", {"lr": 0.01, "betas": [0.8, 0.9], "maximize": True, **DECAY}),
    "radam": ("RAdam", {}),
    "radam_weight_decay": ("RAdam", {"lr": 0.05, "eps": 1e-3, **DECAY}),
    "radam_decoupled": ("RAdam", {"lr": 0.05, "decoupled_weight_decay": True, **DECAY}),
    "lbfgs": ("LBFGS", {"lr": 0.1, "max_iter": 2, "history_size": 7}),
    "lbfgs_max_eval": ("LBFGS", {"lr": 0.02, "max_iter": 9, "max_eval": 2, "history_size": 4, "tolerance_change": 0.0}),
    "lbfgs_strong_wolfe": ("LBFGS", {"line_search_fn": "strong_wolfe", "max_iter": 1}),
    "lbfgs_strong_wolfe_history": (
        "LBFGS",
        {"lr": 30.0, "line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 9, "history_size": 2},
    ),
    "radam_maximize": ("RAdam", {"lr": 0.05, "betas": [0.8, 0.9], "maximize": True, **DECAY}),
}


def loss(arrays: Arrays, weight: Tensor, bias: Tensor, step: int) -> Tensor:
    """A regression with weight decay, and a term that is different at each step."""
    error = (arrays["x"] @ weight.T + bias).tanh() - arrays["y"]
    decay = (weight * weight).sum() + (bias * bias).sum()
    noise = ((arrays["noise"] * step).cos() * (weight.sum(1) + bias)).sum()
    return (error * error).mean() + decay / 10 + noise / 10


def valley(weight: Tensor, bias: Tensor) -> Tensor:
    """Rosenbrock's function of all elements, whose minimum is at 1."""
    x = torch.cat([weight.reshape(-1), bias])
    return ((1 - x[:-1]) ** 2 + 10 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def trained(name: str, arrays: Arrays, weight: Tensor, bias: Tensor, optimizer: Any, maximize: bool) -> Arrays:
    """The parameters after the steps of an optimizer that calls a closure."""
    kept: dict[str, list[Tensor]] = {"weight_steps": [], "bias_steps": []}
    for step in range(1, STEPS + 1):

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            value = valley(weight, bias) if name == "LBFGS" else loss(arrays, weight, bias, step)
            value = -value if maximize else value
            value.backward()
            return value

        optimizer.step(closure)
        if step in KEPT:
            kept["weight_steps"].append(weight.detach().clone())
            kept["bias_steps"].append(bias.detach().clone())
    return {name: torch.stack(steps) for name, steps in kept.items()}


def long_runs() -> Iterator[Case]:
    """Runs in which the bias has a group of its own, except those of LBFGS."""
    for case, (name, given) in CASES.items():
        seed("long_runs", case)
        arrays = {"x": torch.randn(8, 2), "y": torch.rand(8, 3) - 0.5, "noise": torch.rand(3)}
        arrays |= {"weight": torch.randn(3, 2), "bias": torch.randn(3)}
        weight, bias = (nn.Parameter(arrays[key].clone()) for key in ("weight", "bias"))
        made: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, name)
        second: Settings = {}
        if name == "LBFGS":
            optimizer = made([weight, bias], **given)
        else:
            second = {"lr": 2 * made([weight], **given).param_groups[0]["lr"], "weight_decay": 0.2}
            optimizer = made([{"params": [weight]}, {"params": [bias], **second}], **given)
        arrays |= trained(name, arrays, weight, bias, optimizer, given.get("maximize", False))
        yield case, arrays, {"class": name, "given": given, "second": second, "kept": KEPT}


RATES = (0.1, 0.02)
SCHEDULES: dict[str, tuple[str, str, Settings]] = {
    "step": ("SGD", "StepLR", {"step_size": 30}),
    "exponential": ("SGD", "ExponentialLR", {"gamma": 0.97}),
    "cosine": ("SGD", "CosineAnnealingLR", {"T_max": 60, "eta_min": 0.001}),
    "warmup": ("SGD", "LinearLR", {"total_iters": 40}),
    "multi_step": ("SGD", "MultiStepLR", {"milestones": [10, 40, 40, 90], "gamma": 0.3}),
    "constant": ("SGD", "ConstantLR", {"factor": 0.5, "total_iters": 30}),
    "lambda": ("SGD", "LambdaLR", {"decays": [0.1]}),
    "lambdas": ("SGD", "LambdaLR", {"decays": [0.1, 0.3]}),
    "restarts": ("SGD", "CosineAnnealingWarmRestarts", {"T_0": 30, "eta_min": 0.001}),
    "restarts_longer": ("SGD", "CosineAnnealingWarmRestarts", {"T_0": 7, "T_mult": 2}),
    "one_cycle": ("SGD", "OneCycleLR", {"max_lr": 0.3, "total_steps": 100}),
    "one_cycle_linear": (
        "Adam",
        "OneCycleLR",
        {"max_lr": [0.3, 0.1], "epochs": 20, "steps_per_epoch": 5, "anneal_strategy": "linear", "pct_start": 0.0},
    ),
    "one_cycle_three_phase": (
        "NAdam",
        "OneCycleLR",
        {
            "max_lr": [0.3, 0.1],
            "total_steps": 130,
            "three_phase": True,
            "base_momentum": [0.8, 0.7],
            "max_momentum": 0.9,
            "div_factor": 5.0,
            "final_div_factor": 50.0,
        },
    ),
    "one_cycle_rate_only": ("Adagrad", "OneCycleLR", {"max_lr": 0.3, "total_steps": 100, "cycle_momentum": False}),
}


def inverse(decay: float) -> Callable[[int], float]:
    """The function of a LambdaLR."""
    return lambda step: 1 / (1 + decay * step)


def long_schedules() -> Iterator[Case]:
    """The rates of two groups, and their momentum or the first of their betas, at first and after each step."""
    for case, (optimizer_name, name, kwargs) in SCHEDULES.items():
        groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in RATES]
        optimizer = getattr(torch.optim, optimizer_name)(groups)
        used = dict(kwargs)
        if decays := used.pop("decays", None):
            functions = [inverse(decay) for decay in decays]
            used["lr_lambda"] = functions if len(functions) > 1 else functions[0]
        scheduler = getattr(lr_scheduler, name)(optimizer, **used)
        history: dict[str, list[list[float]]] = {"lr": [], "momentum": []}
        for step in range(STEPS + 1):
            if step:
                optimizer.step()
                scheduler.step()
            history["lr"].append([group["lr"] for group in optimizer.param_groups])
            if kwargs.get("cycle_momentum", "OneCycle" in name):
                momenta = [group["betas"][0] if "betas" in group else group["momentum"] for group in groups]
                history["momentum"].append(momenta)
        arrays = {key: torch.tensor(values) for key, values in history.items() if values}
        yield case, arrays, {"optimizer": optimizer_name, "class": name, "kwargs": kwargs, "lr": RATES}


AVERAGES: dict[str, Settings] = {"swa": {}, "ema": {"decay": 0.9}}


def averages() -> Iterator[Case]:
    """The average of a weight (3, 2) whose elements are cos(k), cos(2 k), ... cos(6 k) at update k."""
    for case, settings in AVERAGES.items():
        layer = nn.Linear(2, 3, bias=False)
        averaged = swa_utils.AveragedModel(layer, avg_fn=swa_utils.get_ema_avg_fn(**settings) if settings else None)
        kept = []
        for step in range(1, STEPS + 1):
            layer.weight.data = (torch.arange(1.0, 7.0) * step).cos().reshape(3, 2)
            averaged.update_parameters(layer)
            if step in KEPT:
                kept.append(averaged.module.weight.detach().clone())
        yield case, {"average": torch.stack(kept)}, {**settings, "kept": KEPT}
